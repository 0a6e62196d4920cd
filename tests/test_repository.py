"""The files around the course: that they agree with each other."""

import ast
import pathlib
import re
import shutil
import subprocess

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "src/fedcourse"
LESSONS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
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
    assert LESSONS
    for lesson in LESSONS:
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
        for path in [*PACKAGE.rglob("*.py"), ROOT / "pyproject.toml"]
        if re.search(r"^_*version_* = \"", path.read_text(), re.MULTILINE)
    ]
    assert found == ["__init__.py"]


# --- `Lesson: NN`, the last line of a docstring ---------------------------------------------------


def public_names():
    """The package's functions and classes, as {"module.name": its node}."""
    return {
        f"{'.'.join(path.relative_to(PACKAGE).with_suffix('').parts)}.{node.name}": node
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_")
    }


def lesson_of(node):
    """What a docstring says last of the lesson, such as "04"; None where it says nothing."""
    said = re.search(r"^Lesson: (.*)\Z", ast.get_docstring(node) or "", re.MULTILINE)
    return said and said[1]


def code_of(lesson):
    """A lesson's code, but for lines that are IPython's."""
    cells = nbformat.read(lesson, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return ast.parse(re.sub(r"^( *)[!%].*", r"\1pass", code, flags=re.MULTILINE))


def identifiers(node):
    """The names and attributes that a piece of code reads."""
    found = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return found | {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}


def reached_from(node):
    """The identifiers of a piece of code, and of all that it needs of the package."""
    modules = [ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")]
    needs = [
        (each.name, identifiers(each))
        for module in modules
        for each in module.body
        if isinstance(each, DEFINITIONS)
    ]
    reached, new = set(), identifiers(node)
    while new:
        reached |= new
        new = set().union(*(uses for name, uses in needs if name in new)) - reached
    return reached


def test_what_a_lesson_imports_says_in_which_lesson():
    imported = {
        alias.name
        for lesson in LESSONS
        for node in ast.walk(code_of(lesson))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "fedcourse"
        for alias in node.names
    }
    shared = {name: node for name, node in public_names().items() if imported & {*name.split(".")}}
    assert len({name.split(".")[0] for name in shared}) >= 5
    silent = [name for name, node in shared.items() if lesson_of(node) is None]
    assert not silent, "\n".join(silent)


def test_the_lesson_named_needs_the_name():
    reached = {path.name[:2]: reached_from(code_of(path)) for path in LESSONS}
    named = {name: lesson_of(node) for name, node in public_names().items() if lesson_of(node)}
    wrong = [
        f"{name} is not in lesson {lesson}"
        for name, lesson in named.items()
        if lesson != "none yet" and name.split(".")[-1] not in reached.get(lesson, ())
    ]
    assert named
    assert not wrong, "\n".join(wrong)


def test_clean_removes_all_that_git_ignores(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    ignored = (ROOT / ".gitignore").read_text().split()
    for name in ignored:
        (tmp_path / "src" / name.replace("*", "fedcourse")).mkdir(parents=True)
        if name not in ("__pycache__/", ".ipynb_checkpoints/", "*.egg-info/"):
            (tmp_path / "src" / name).rename(tmp_path / name)
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)
    assert ignored
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["Makefile", "src"]
