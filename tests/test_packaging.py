"""The package as pip sees it, its release, and the files around both."""

import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import yaml
from conftest import missing
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_repository import requirements, targets

import fedcourse
from fedcourse.__main__ import main

ROOT = pathlib.Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
PYTHONS = ["3.11", "3.12", "3.13"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package, built from this checkout with what this environment has."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", folder, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("fedcourse-*.whl")
    with zipfile.ZipFile(path) as wheel:
        yield wheel


@pytest.fixture(scope="module")
def metadata(wheel):
    return email.message_from_bytes(read(wheel, "METADATA"))


def read(wheel, name):
    return wheel.read(f"fedcourse-{fedcourse.__version__}.dist-info/{name}")


def test_wheel_has_every_file_of_the_package(wheel):
    source = ROOT / "src"
    files = [path for path in (source / "fedcourse").rglob("*") if path.is_file()]
    ours = {str(path.relative_to(source)) for path in files if "__pycache__" not in path.parts}
    assert {name for name in wheel.namelist() if name.startswith("fedcourse/")} == ours
    assert {pathlib.Path(name).suffix for name in ours} >= {".py", ".csv", ".npz"}


def test_wheel_brings_the_command(wheel):
    assert read(wheel, "entry_points.txt").decode().split() == [
        "[console_scripts]",
        "fedcourse=fedcourse.__main__:main",
    ]
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0


def test_licence_is_said_as_it_will_still_be_read(wheel, metadata):
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert read(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "License" not in metadata
    assert [c for c in metadata.get_all("Classifier") if c.startswith("License")] == []


def test_build_backend_has_bounds():
    for text in PYPROJECT["build-system"]["requires"]:
        assert {s.operator for s in Requirement(text).specifier} == {">=", "<"}
        assert text in EXTRAS["test"]


# --- what the package needs -----------------------------------------------------------------------


def declared():
    """{package: what is said of its version} of all that pyproject.toml asks for."""
    lists = [PROJECT["dependencies"], *EXTRAS.values()]
    found = [Requirement(text) for texts in lists for text in texts]
    return {canonicalize_name(r.name): r.specifier for r in found if r.name != "fedcourse"}


@pytest.mark.parametrize(
    "name", ["requirements.txt", "requirements-tff.txt", "tests/colab/requirements.txt"]
)
def test_what_is_declared_admits_what_is_pinned(name):
    pinned = requirements(name)
    assert pinned.keys() & declared().keys()
    refused = {
        package: f"{pinned[package]}, not {range_}"
        for package, range_ in declared().items()
        if package in pinned and pinned[package].removeprefix("==") not in range_
    }
    assert refused == {}


def test_what_is_pinned_is_declared():
    assert requirements("requirements.txt").keys() <= declared().keys()


def test_what_pip_cannot_resolve_is_not_declared():
    apart = requirements("requirements-tff.txt").keys() & declared().keys()
    assert apart == {"dp-accounting"}  # by itself, pip can


def test_extras_build_on_each_other():
    assert "fedcourse[tensorflow]" in EXTRAS["notebooks"]
    assert "fedcourse[notebooks]" in EXTRAS["test"]


# --- one version everywhere -----------------------------------------------------------------------


def test_changelog_and_citation_are_of_this_version():
    entry = re.search(r"^## \[(\d\S*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert entry.groups() == (fedcourse.__version__, str(citation["date-released"]))
    assert citation["version"] == fedcourse.__version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]


def test_every_version_in_the_changelog_has_a_link():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## \[(\d\S*)\]", text, re.M)
    links = re.findall(r"^\[(\S+)\]: (\S+)/releases/tag/v(\S+)$", text, re.M)
    assert links == [(v, PROJECT["urls"]["Source"], v) for v in versions]


def test_pythons_are_the_same_everywhere():
    classifier = "Programming Language :: Python :: "
    said = [c.removeprefix(classifier) for c in PROJECT["classifiers"] if classifier in c]
    matrix = workflow("tests")["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert said == matrix == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert "(3, 11) <= v <= (3, 13)" in (ROOT / "Makefile").read_text()


def test_ruff_before_a_commit_is_ruff_in_the_tests():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["rev"] == requirements("requirements.txt")["ruff"].replace("==", "v")


# --- GitHub ---------------------------------------------------------------------------------------


def workflow(name):
    return yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())


def test_workflows_make_what_there_is():
    made = [name for path in WORKFLOWS for name in re.findall(r"run: make (\S+)", path.read_text())]
    assert {"test", "test-colab", "site"} <= set(made) <= set(targets())


def test_workflows_run_tools_that_are_there():
    tools = [name for path in WORKFLOWS for name in re.findall(r"tools/\S+", path.read_text())]
    assert tools
    assert [name for name in tools if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_refer_to_what_they_have(path):
    jobs = workflow(path.stem)["jobs"]
    assert {job["needs"] for job in jobs.values() if "needs" in job} <= jobs.keys()
    for job in jobs.values():
        text = yaml.safe_dump(job)
        matrix = job.get("strategy", {}).get("matrix", {})
        assert set(re.findall(r"\bmatrix\.(\w+)", text)) <= matrix.keys()
        steps = {step.get("id") for step in job["steps"]}
        assert set(re.findall(r"\bsteps\.(\w+)", text)) <= steps


def test_dependabot_leaves_the_stack_alone():
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    (pip,) = [each for each in updates if each["package-ecosystem"] == "pip"]
    allowed = {each["dependency-name"] for each in pip["allow"]}
    stack = set(PROJECT["dependencies"]) | set(EXTRAS["tensorflow"])
    assert allowed
    assert allowed <= requirements("requirements.txt").keys()
    assert not allowed & {canonicalize_name(Requirement(text).name) for text in stack}


# --- make release ---------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path):
    """A clean checkout of main with what `make release` reads, at version 1.2.3."""
    if not shutil.which("git"):
        missing("releases are tags, and this machine has no git")
    for name in ("Makefile", "tools/release.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "src/fedcourse").mkdir(parents=True)
    (tmp_path / "src/fedcourse/__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - 2026-01-31\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit(tmp_path)
    return tmp_path


def git(folder, *arguments):
    return run(folder, "git", *arguments, check=True).stdout.strip()


def commit(folder):
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "All of it")


def release(folder):
    return run(folder, "make", "--no-print-directory", "release", f"PYTHON={sys.executable}")


def run(folder, *command, check=False):
    """Run a command with no settings of git's but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    person = {f"GIT_{who}_NAME": "test" for who in ("AUTHOR", "COMMITTER")}
    person |= {f"GIT_{who}_EMAIL": "test@localhost" for who in ("AUTHOR", "COMMITTER")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        command, cwd=folder, env=kept | person | alone, capture_output=True, text=True, check=check
    )


def test_release_tags_the_version(checkout):
    done = release(checkout)
    assert done.returncode == 0, done.stderr
    assert git(checkout, "cat-file", "-t", "v1.2.3") == "tag"  # annotated
    assert git(checkout, "rev-parse", "v1.2.3^{}") == git(checkout, "rev-parse", "HEAD")
    assert "git push origin main v1.2.3" in done.stdout


def changed(checkout):
    (checkout / "new.txt").write_text("not committed")


def branched(checkout):
    git(checkout, "switch", "--quiet", "--create", "feature")


def detached(checkout):
    git(checkout, "switch", "--quiet", "--detach")


def unwritten(checkout):
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.30] - 2026-01-31\n")
    commit(checkout)


def undated(checkout):
    (checkout / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - soon\n")
    commit(checkout)


@pytest.mark.parametrize(
    ("hinder", "reason"),
    [
        (changed, "not committed"),
        (branched, "this is feature"),
        (detached, "this is no branch"),
        (unwritten, "no line '## [1.2.3] - YYYY-MM-DD'"),
        (undated, "no line '## [1.2.3] - YYYY-MM-DD'"),
    ],
)
def test_release_says_why_not(checkout, hinder, reason):
    hinder(checkout)
    done = release(checkout)
    assert done.returncode != 0
    assert reason in done.stderr
    assert git(checkout, "tag") == ""


def test_release_is_made_once(checkout):
    assert release(checkout).returncode == 0
    before = git(checkout, "rev-parse", "v1.2.3")
    again = release(checkout)
    assert again.returncode != 0
    assert "v1.2.3 exists" in again.stderr
    assert git(checkout, "rev-parse", "v1.2.3") == before
