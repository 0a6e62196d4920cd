"""Compare the versions pinned here with those Colab has today.

python tools/drift.py              with the list that Colab publishes
python tools/drift.py LIST         with another one, a file or an address
python tools/drift.py --write      and bring tests/colab/requirements.txt to the list's versions

The status is 1 where a package of the stack moved, 2 where there is no list to compare with.
"""

import argparse
import pathlib
import re
import sys
import urllib.request

ROOT = pathlib.Path(__file__).parents[1]
REPLICA = ROOT / "tests/colab/requirements.txt"
COLAB = "https://raw.githubusercontent.com/googlecolab/backend-info/main/pip-freeze.txt"


def main(arguments: list[str] | None = None) -> int:
    """Print a table of what moved; return the status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("list", nargs="?", default=COLAB, help="what `pip freeze` says on Colab")
    parser.add_argument("--write", action="store_true", help="write Colab's versions down")
    options = parser.parse_args(arguments)
    try:
        theirs = versions(read(options.list))
    except (OSError, ValueError) as error:
        print(f"{options.list} cannot be read: {error}", file=sys.stderr)
        return 2
    if not theirs:
        print(f"{options.list} holds no line like numpy==2.1.3", file=sys.stderr)
        return 2
    stack = stack_of((ROOT / "requirements.txt").read_text())
    ours = versions(REPLICA.read_text()) | stack
    moved = {name: theirs.get(name, "gone") for name in ours if ours[name] != theirs.get(name)}
    for name in sorted(moved, key=lambda name: (name not in stack, name)):
        kind = "stack" if name in stack else ""
        print(f"{kind:<6} {name:<32} {ours[name]:<16} {moved[name]}")
    print(f"{len(moved)} of {len(ours)} moved, {len(moved.keys() & stack)} of them in the stack")
    if options.write:
        REPLICA.write_text(moved_to(theirs, REPLICA.read_text()))
    return int(bool(moved.keys() & stack))


def read(where: str) -> str:
    """Return the text of a file or an address."""
    if "://" not in where:
        return pathlib.Path(where).read_text()
    with urllib.request.urlopen(where, timeout=60) as answer:
        return answer.read().decode()


def versions(text: str) -> dict[str, str]:
    """Return {package: version} of a list that `pip freeze` wrote, or of pins; or its address."""
    lines = re.findall(r"^([\w.-]+) ?(?:==|@ )(\S+)", text, re.MULTILINE)
    return {normal(name): version for name, version in lines}


def stack_of(requirements: str) -> dict[str, str]:
    """Return the pins whose versions decide how a lesson behaves: the first section's."""
    return versions(re.search(r"^# The stack\b.*\n((?:.+\n)+)", requirements, re.MULTILINE)[1])


def moved_to(theirs: dict[str, str], pins: str) -> str:
    """Return pins, comments and order as they are, at the versions that another list has."""

    def newer(pin: re.Match) -> str:
        version = theirs.get(normal(pin[1]), pin[2])
        return pin[0] if ":" in version else f"{pin[1]}=={version}"  # not an address

    return re.sub(r"^([\w.-]+)==(\S+)", newer, pins, flags=re.MULTILINE)


def normal(name: str) -> str:
    """Return a package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
