"""The lessons as a reader meets them: their anatomy, and the outputs stored in them."""

import ast
import csv
import pathlib
import re
import subprocess

import nbformat
import pytest
from conftest import missing, tool

import fedcourse

ROOT = pathlib.Path(__file__).parents[1]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OWNER_AND_NAME = fedcourse.REPOSITORY.removeprefix("https://github.com/")
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}

pytestmark = pytest.mark.skipif(not PATHS, reason="no notebooks here")


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def cells(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook.cells


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def titled(cells, pattern):
    return [cell for cell in code(cells) if re.match(rf"# @title {pattern}", cell.source)]


def python(cell):
    """The cell as Python: what IPython adds becomes `pass`; `await` may stand at the top."""
    source = re.sub(r"^( *)[!%].*$", r"\1pass", cell.source, flags=re.MULTILINE)
    return ast.parse(source)


def calls(cells, name):
    """The calls of a function, named as the cells name it."""
    return [
        node
        for cell in cells
        for node in ast.walk(python(cell))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name
    ]


def knobs_of(cells):
    """The Knobs cell's values, and the choices of its dropdowns."""
    (cell,) = titled(cells, r"Knobs\b")
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in python(cell).body}
    choices = re.findall(r"^([A-Z_]+) = .*@param (\[.*\])", cell.source, re.MULTILINE)
    return values, {name: ast.literal_eval(several) for name, several in choices}


# --- names and addresses --------------------------------------------------------------------------


def test_lessons_are_numbered_from_one():
    assert [path.stem[:2] for path in PATHS] == [f"{n:02}" for n in range(1, len(PATHS) + 1)]
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem) for path in PATHS)


def test_badge_opens_this_very_notebook(path, cells):
    badge = (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"(https://colab.research.google.com/github/{OWNER_AND_NAME}/blob/main/notebooks/"
        f"{path.name})"
    )
    assert cells[0].source.split("\n\n")[1] == badge


def test_setup_is_the_same_everywhere(cells):
    """But for the standard library's modules, of which each lesson imports what it needs."""

    def setup(cells):
        (cell,) = titled(cells, "Setup")
        standard = re.compile(r"^import (?!importlib)(functools|pathlib|sys|tempfile|time)\n", re.M)
        return standard.sub("", cell.source)

    assert setup(cells) == setup(nbformat.read(PATHS[0], as_version=4).cells)


def test_setup_installs_the_course_from_its_repository(cells):
    (setup,) = titled(cells, "Setup")
    assert f'COURSE = "{fedcourse.REPOSITORY}"\n' in setup.source
    tagged = f"!git clone -q --depth 1 -b v{fedcourse.__version__} $COURSE course"
    assert f"{tagged} 2>&- || git clone -q --depth 1 $COURSE course\n" in setup.source
    assert cells.index(setup) == 2
    command = re.search(r"^# Install with: pip install (.*) -r requirements-tff.txt$", tff_file())
    assert f"%pip install --quiet {command[1]} -r course/requirements-tff.txt ./course\n" in (
        setup.source
    )


def tff_file():
    return (ROOT / "requirements-tff.txt").read_text().splitlines()[0]


def test_fedcourse_comes_before_tensorflow(cells):
    (setup,) = titled(cells, "Setup")
    imports = [
        alias.name
        for node in python(setup).body
        if isinstance(node, ast.Import)
        for alias in node.names
    ]
    assert imports.index("fedcourse") < imports.index("tensorflow")
    assert imports.index("tensorflow") < imports.index("tensorflow_federated")


def test_repository_is_spelled_one_way_only():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        missing("not a git checkout")
    name = OWNER_AND_NAME.split("/")[1]
    strange = []
    for file in map(ROOT.joinpath, listed.stdout.splitlines()):
        text = file.read_bytes().decode(errors="replace") if file.is_file() else ""
        for found in re.finditer(re.escape(name), text, re.IGNORECASE):
            before, after = text[: found.start()][-60:], text[found.end() :][:4]
            owner = OWNER_AND_NAME.removesuffix(name)
            if not (
                found[0] == name
                and re.search(rf"https://(github\.com|colab\S*/github)/{owner}$", before)
                and not re.match(r"[\w-]|\.git", after)
            ):
                strange.append((str(file.relative_to(ROOT)), before[-30:] + found[0] + after))
    assert strange == []


def test_links_lead_somewhere(path, cells):
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not (path.parent / link.split("#")[0]).exists()]
    assert missing == []
    following = PATHS[PATHS.index(path) + 1 :][:1]
    assert all(lesson.name in links for lesson in following)


# --- anatomy --------------------------------------------------------------------------------------


def test_begins_with_title_badge_sentence_and_box(cells):
    opening, box = cells[0], cells[1]
    assert opening.cell_type == box.cell_type == "markdown"
    title, _, sentence = opening.source.split("\n\n")
    assert re.fullmatch(r"# \w.*[^.!]", title)
    assert sentence.startswith("At the end") and sentence.endswith(".")
    assert len(re.findall(r"[.!?](?:\s|$)", sentence)) == 1
    everything = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert len(re.findall(r"^# ", everything, re.MULTILINE)) == 1
    will, needs = box.source.split("\n\n")
    assert re.fullmatch(r"\*\*You will\*\*\n(- .+\n){2}- .+", will)
    assert re.fullmatch(r"\*\*Needs\*\* .+\. \*\*Takes\*\* .+ on two cores\.", needs)


def test_knobs_are_form_fields_and_nothing_else(cells):
    (knobs,) = titled(cells, r"Knobs\b")
    assert cells.index(knobs) == 3
    fields = knobs.source.splitlines()[1:]
    assert len(fields) >= 2
    for field in fields:
        assert re.fullmatch(r"[A-Z][A-Z_]+ = \S.*  # @param [\[{].*[\]}]", field), field
        ast.literal_eval(field.split(" = ", 1)[1].split("  # @param")[0])
        choices = re.search(r"@param (\[.*\])", field)
        if choices:
            value = ast.literal_eval(field.split(" = ", 1)[1].split("  #")[0])
            assert value in ast.literal_eval(choices[1])


def test_knobs_are_all_used_and_set_nowhere_else(cells):
    (knobs,) = titled(cells, r"Knobs\b")
    names = {node.targets[0].id for node in python(knobs).body}
    used, changed = set(), set()
    for cell in code(cells):
        for node in ast.walk(python(cell)):
            if isinstance(node, ast.Name) and node.id in names and cell is not knobs:
                (used if isinstance(node.ctx, ast.Load) else changed).add(node.id)
    assert used == names
    assert changed == set()


def test_knobs_are_checked_in_the_next_cell(cells):
    (check,) = titled(cells, "Check the knobs")
    assert cells.index(check) == 4
    values, choices = knobs_of(cells)
    named = {
        keyword.arg
        for node in ast.walk(python(check))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
    }
    ranged = {name for name, value in values.items() if not isinstance(value, str)}
    assert ranged <= named
    assert choices.keys() - {"SOURCE"} <= named


def test_knobs_have_settings_that_the_tests_run(cells):
    """Quick ones, and at least three turned, every other choice of a dropdown among them."""
    (cell,) = titled(cells, r"Knobs\b")
    values, choices = knobs_of(cells)
    quick, several = cell.metadata["knobs"]["quick"], cell.metadata["knobs"]["turned"]
    assert len(several) >= 3
    assert all(setting and setting.keys() <= values.keys() for setting in [quick, *several])
    for name, those in choices.items():
        if name != "SOURCE":  # the others want the network
            tried = {(quick | setting).get(name, values[name]) for setting in several}
            assert tried | {quick.get(name, values[name])} == set(those)
    for setting in several:
        assert all(quick.get(name, values[name]) != value for name, value in setting.items())


def test_check_lists_what_was_said(cells):
    (check,) = titled(cells, r"Check\n")
    assert cells[cells.index(check) - 1].source.startswith("## Check")
    (call,) = calls([check], "claims.check")
    assert len(call.args) >= 3
    for claim in call.args:
        assert isinstance(claim, ast.Tuple) and len(claim.elts) == 3, ast.unparse(claim)
    found = [node for cell in code(cells) for node in ast.walk(python(cell))]
    assert not [ast.unparse(node) for node in found if isinstance(node, ast.Assert)]


def test_exercises_have_a_folded_solution_each(cells):
    solutions = titled(cells, r"Solution \d")
    assert 2 <= len(solutions) <= 3
    (check,) = titled(cells, r"Check\n")
    for number, solution in enumerate(solutions, start=1):
        assert solution.source.startswith(f"# @title Solution {number}\n")
        assert cells.index(solution) > cells.index(check)
        task = cells[cells.index(solution) - 1]
        assert task.cell_type == "markdown"
        assert re.search(rf"^\*\*{number}\.\*\* ", task.source, re.MULTILINE)
        assert task.source.startswith("## Exercises\n") == (number == 1)


def test_ends_with_what_was_learned_and_further_reading(cells):
    last = cells[-1].source
    assert cells[-1].cell_type == "markdown"
    assert re.match(r"\*\*In this lesson you\*\*\n(- .+\n){2}- .+\n\n", last)
    assert re.search(r"^\*\*Further reading\.\*\* .*\b(19|20)\d\d, \*", last, re.MULTILINE)


def test_titled_cells_are_folded_but_for_the_knobs(cells):
    for cell in code(cells):
        title = re.match(r"# @title (\w+)", cell.source)
        folded = {key: cell.metadata[key] for key in FOLDED if key in cell.metadata}
        assert folded == (FOLDED if title and title[1] != "Knobs" else {}), cell.source[:60]


def test_cells_are_short(cells):
    """But for the Check, which is a list of sentences, folded."""
    (check,) = titled(cells, r"Check\n")
    long = [
        (lines, cell.source.splitlines()[0])
        for cell in code(cells)
        if cell is not check
        and (lines := sum(bool(line.strip()) for line in cell.source.splitlines())) > 25
    ]
    assert long == []


def test_cells_have_distinct_ids_and_no_leftovers(path, cells):
    assert len({cell.id for cell in cells}) == len(cells)
    assert all(cell.source.strip() for cell in cells)
    metadata = nbformat.read(path, as_version=4).metadata
    assert metadata.kernelspec.name == "python3"
    assert "widgets" not in metadata


# --- stored outputs -------------------------------------------------------------------------------


def texts(cell):
    """Everything a reader can read in a cell's outputs."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from (str(data) for kind, data in output.get("data", {}).items() if "text" in kind)


def test_cells_were_run_in_order_from_the_first(cells):
    counts = [cell.execution_count for cell in code(cells)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_hold_no_errors_and_no_warnings(cells):
    for cell in code(cells):
        for output in cell.outputs:
            assert output.output_type != "error", output.get("ename")
            assert output.get("name") != "stderr", output.text[:200]
        for text in texts(cell):
            assert not re.search(r"Warning|WARNING|\b[IWEF]0000\b|Traceback \(", text), text[:300]


def test_outputs_hold_no_paths_of_a_machine(cells):
    for cell in code(cells):
        for text in texts(cell):
            found = re.search(r"(?<![\w.])/(tmp|work|root|home|Users|usr)/[\w./-]*", text)
            assert not found, found


def test_outputs_hold_no_widgets_which_need_their_kernel(cells):
    data = [output.get("data", {}) for cell in code(cells) for output in cell.outputs]
    assert not [kind for each in data for kind in each if "widget" in kind]


DRAWS = r"plots\.(digits|writers_dots|one_round|LiveCurve)\(|plt\.subplots\("


def test_cells_that_draw_hold_their_picture(cells):
    for cell in code(cells):
        defines = all(isinstance(node, ast.FunctionDef) for node in python(cell).body)
        if re.search(DRAWS, cell.source) and not defines:
            assert any("image/png" in output.get("data", {}) for output in cell.outputs), (
                cell.source
            )


def test_setup_is_silent_and_every_claim_holds(cells):
    (setup,) = titled(cells, "Setup")
    assert setup.outputs == []
    said = [line for cell in code(cells) for text in texts(cell) for line in text.splitlines()]
    assert [line for line in said if line.startswith(("✗", "–  ", "– "))] == []
    (check,) = titled(cells, r"Check\n")
    (call,) = calls([check], "claims.check")
    shown = [line for text in texts(check) for line in text.splitlines()]
    assert len(shown) == len(call.args)


def test_outputs_are_those_of_this_source_and_came_in_time(path):
    notebook = nbformat.read(path, as_version=4)
    notebooks = tool("notebooks")
    stored = notebook.metadata["fedcourse"]
    assert stored["source"] == notebooks.source_hash(notebook), "run: make notebooks"
    assert stored["seconds"] <= 150
    words, number = notebooks.minutes(stored["seconds"])
    assert notebook.cells[1].source.endswith(f"**Takes** {words} on two cores.")
    assert f"(notebooks/{path.name}) | {number} |" in (ROOT / "README.md").read_text()


def test_the_table_of_runs_has_each_lesson_on_digits_of_both_kinds():
    rows = list(csv.DictReader((ROOT / "benchmarks" / "lessons.csv").read_text().splitlines()))
    runs = {(row["lesson"], row["data"]) for row in rows}
    assert runs == {(path.stem, data) for path in PATHS for data in ("embedded", "real")}
    for row in rows:
        if row["data"] == "embedded":
            path = ROOT / "notebooks" / f"{row['lesson']}.ipynb"
            stored = nbformat.read(path, as_version=4).metadata["fedcourse"]
            assert (int(row["seconds"]), row["claims not held"]) == (stored["seconds"], "")
