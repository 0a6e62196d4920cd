"""Tag this checkout's version as a release, or say why not.

The version is `__version__` of src/fedcourse/__init__.py; CHANGELOG.md has its dated entry.
"""

import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]


def main() -> int:
    """Tag the release and say how to publish it; return 1 where something is in the way."""
    package = (ROOT / "src/fedcourse/__init__.py").read_text()
    version = re.search(r'^__version__ = "(.+)"$', package, re.MULTILINE)[1]
    reasons = list(reasons_against(version))
    if reasons:
        print(f"No release of {version}:", *reasons, sep="\n  ", file=sys.stderr)
        return 1
    git("tag", "--annotate", f"v{version}", "--message", f"fedcourse {version}")
    print(f"Tagged v{version}. Publish it with: git push origin main v{version}")
    return 0


def reasons_against(version: str) -> Iterator[str]:
    """Say all that keeps a version from being tagged here and now."""
    if git("tag", "--list", f"v{version}"):
        yield f"the tag v{version} exists; raise __version__ in src/fedcourse/__init__.py"
    branch = git("branch", "--show-current")
    if branch != "main":
        yield f"releases are made on main, and this is {branch or 'no branch'}"
    if git("status", "--porcelain"):
        yield "there are changes that are not committed; see git status"
    entry = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(entry, (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE):
        yield f"CHANGELOG.md has no line '## [{version}] - YYYY-MM-DD'"


def git(*arguments: str) -> str:
    """Run git in this checkout; return what it prints, stripped."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
