"""The files around the course: that they agree with each other."""

import ast
import pathlib
import re
import subprocess

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()


def targets():
    return re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE)


def requirements(name):
    """The packages of a requirements file with what is said of their version."""
    lines = [line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines()]
    packages = [re.match(r"([\w.-]+)\s*(.*)", line) for line in lines if line[:1].isalnum()]
    return {package[1].lower().replace("_", "-"): package[2] for package in packages}


def test_help_lists_every_target():
    said = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    listed = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", said, re.MULTILINE))
    assert list(listed) == list(dict.fromkeys(targets()))
    assert {"run", "test", "lab", "help", "quick", "test-colab"} <= set(listed)
    assert len(said.splitlines()) == len(listed)


def test_every_target_is_phony():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    assert sorted(phony) == sorted(set(targets()))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_in_the_text_exist(name):
    text = (ROOT / name).read_text()
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    blocks = "\n".join(re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)).splitlines()
    commands = [line.split("#")[0].strip() for line in spans + blocks]
    named = [c.split()[1] for c in commands if re.match(r"make [a-z]", c)]
    assert named
    assert set(named) <= set(targets())


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_links_in_the_text_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text())
    local = [link.split("#")[0] for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_readme_leads_to_every_lesson():
    text = (ROOT / "README.md").read_text()
    lessons = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert lessons
    for lesson in lessons:
        assert f"(notebooks/{lesson.name})" in text
        assert re.search(rf"\(https://colab\S+/notebooks/{lesson.name}\)", text)


def test_readme_installs_as_the_makefile_does():
    text = (ROOT / "README.md").read_text()
    pip = re.findall(r"^pip install (.*)$", text, re.MULTILINE)
    done = re.findall(r"pip install --disable-pip-version-check (.*?)(?: \|.*)?$", MAKEFILE, re.M)
    long = [re.sub("--quiet |--no-build-isolation ", "", line) for line in done]
    assert [line.replace("-e .", "--editable .") for line in pip] == long


@pytest.mark.parametrize(
    "name",
    ["requirements.txt", "requirements-tff.txt", "constraints.txt", "tests/colab/requirements.txt"],
)
def test_pins_are_exact(name):
    packages = requirements(name)
    assert packages
    assert [p for p, pin in packages.items() if not re.fullmatch(r"==[\w.+!]+", pin)] == []


def test_requirements_are_what_was_last_locked():
    locked = requirements("constraints.txt")
    assert requirements("requirements.txt").items() <= locked.items()


def test_stack_is_that_of_colab():
    """The packages whose version decides how a lesson behaves; tools may differ."""
    text = (ROOT / "requirements.txt").read_text()
    section = re.search(r"^# The stack, at the versions Colab has\n(.*?)\n\n", text, re.M | re.S)[1]
    names = re.findall(r"^([\w-]+)==", section, re.MULTILINE)
    ours, colab = requirements("requirements.txt"), requirements("tests/colab/requirements.txt")
    names = [name.lower().replace("_", "-") for name in names]
    assert {"tensorflow", "tf-keras", "numpy", "protobuf"} <= set(names)
    assert {n: ours[n] for n in names} == {n: colab.get(n) for n in names}


def test_colab_has_not_what_setup_brings():
    assert not requirements("requirements-tff.txt").keys() & requirements(
        "tests/colab/requirements.txt"
    )


def test_ci_runs_the_tests():
    script = ROOT / ".ci" / "run"
    lines = script.read_text().splitlines()
    assert script.stat().st_mode & 0o111
    assert "make test" in lines
    assert any(re.match(r"set -\w*e", line) for line in lines)
    assert all(line.split()[1] in targets() for line in lines if line.startswith("make "))


def test_version_is_said_once():
    found = [
        path.name
        for path in [*ROOT.glob("src/fedcourse/*.py"), ROOT / "pyproject.toml"]
        if re.search(r"^_*version_* = \"", path.read_text(), re.MULTILINE)
    ]
    assert found == ["__init__.py"]


def test_what_lessons_import_says_in_which_lesson():
    first = nbformat.read(min((ROOT / "notebooks").glob("*.ipynb")), as_version=4)
    source = "\n".join(cell.source for cell in first.cells)
    modules = re.search(r"^from fedcourse import (.*)$", source, re.MULTILINE)[1].split(", ")
    assert len(modules) >= 5
    missing = [
        f"{module}.{node.name}"
        for module in modules
        for node in ast.parse((ROOT / f"src/fedcourse/{module}.py").read_text()).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not re.search(r"\n *Lesson: \d\d\s*$", ast.get_docstring(node) or "")
    ]
    assert missing == []
