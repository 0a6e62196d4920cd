"""The command that runs the lessons: knobs put in, what is noted of a run."""

import csv

import nbformat
import pytest
from conftest import tool

notebooks = tool("notebooks")

KNOBS = """# @title Knobs: change one, run from here down
SOURCE = "auto"  # @param ["auto", "emnist", "embedded"]
ROUNDS = 24  # @param {type:"integer"}
SIZES = [1, 4]  # @param {type:"raw"}"""


def lesson(*sources, outputs=()):
    cells = [nbformat.v4.new_markdown_cell("# A"), nbformat.v4.new_markdown_cell("**Takes** x.")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    cells[-1]["outputs"] = [
        nbformat.v4.new_output("stream", name="stdout", text=text) for text in outputs
    ]
    return nbformat.v4.new_notebook(cells=cells)


def test_knobs_are_put_in_and_stay_form_fields():
    lines = notebooks.turned(KNOBS, {"ROUNDS": 3, "SIZES": [16], "SOURCE": "x.sqlite"}).splitlines()
    assert lines[1:] == [
        'SOURCE = \'x.sqlite\'  # @param ["auto", "emnist", "embedded"]',
        'ROUNDS = 3  # @param {type:"integer"}',
        'SIZES = [16]  # @param {type:"raw"}',
    ]
    assert notebooks.turned(KNOBS, {}) == KNOBS
    with pytest.raises(ValueError, match="ROUND is no knob"):
        notebooks.turned(KNOBS, {"ROUND": 3})


def test_turned_settings_come_on_top_of_quick_ones():
    notebook = lesson("import this", KNOBS)
    turned = [{"SIZES": [16]}, {"ROUNDS": 1}]
    notebook.cells[3].metadata["knobs"] = {"quick": {"ROUNDS": 2}, "turned": turned}
    assert notebooks.knobs_of(notebook)[0] == 3
    assert notebooks.settings_of(notebook) == [
        {"ROUNDS": 2},
        {"ROUNDS": 2, "SIZES": [16]},
        {"ROUNDS": 1},
    ]


def test_the_hash_is_of_the_code_alone():
    one, other = lesson("a = 1", "b = 2"), lesson("a = 1", "b = 2", outputs=["3"])
    other.cells[0].source = "# B"
    assert notebooks.source_hash(one) == notebooks.source_hash(other)
    assert notebooks.source_hash(one) != notebooks.source_hash(lesson("a = 1", "b = 3"))


def test_claims_are_read_from_the_outputs():
    notebook = lesson("x", outputs=["✓ One.\n✗ Two.\n    seen: ✓ 3\n", "✓ Four.\n"])
    assert notebooks.claims(notebook, "✓") == ["One.", "Four."]
    assert notebooks.claims(notebook, "✗") == ["Two."]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (12, ("under a minute", "<1")),
        (55, ("about a minute", "1")),
        (89, ("about a minute", "1")),
        (91, ("about two minutes", "2")),
        (150, ("about two minutes", "2")),
        (200, ("about three minutes", "3")),
    ],
)
def test_seconds_in_words(seconds, said):
    assert notebooks.minutes(seconds) == said


def test_a_run_takes_the_place_of_an_earlier_one_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "TABLE", tmp_path / "lessons.csv")
    notebooks.note("02_b", "real", 70, 5, ["It grows, and grows.", "It falls."])
    notebooks.note("01_a", "real", 10, 7, [])
    notebooks.note("02_b", "embedded", 60, 7, [])
    notebooks.note("02_b", "real", 71, 6, ["It falls."])
    head, *rows = csv.reader((tmp_path / "lessons.csv").read_text().splitlines())
    assert head == ["lesson", "data", "seconds", "claims held", "claims not held"]
    assert rows == [
        ["01_a", "real", "10", "7", ""],
        ["02_b", "embedded", "60", "7", ""],
        ["02_b", "real", "71", "6", "It falls."],
    ]


def test_lessons_are_named_by_number_stem_or_file():
    stems = [
        path.stem for path in notebooks.find(["03", "01_federated_data", "x/02_keras_cnn.ipynb"])
    ]
    assert stems == ["03_wrap_for_tff", "01_federated_data", "02_keras_cnn"]
    assert len(notebooks.find([])) >= 10
    with pytest.raises(SystemExit, match="No lesson '99'; there are 01_federated_data, "):
        notebooks.find(["99"])
