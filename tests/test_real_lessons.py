"""Every lesson on real writers, with its quick knobs: it runs to the end, whatever they show."""

import nbclient
import nbformat
import pytest
from conftest import tool

notebooks = tool("notebooks")


@pytest.mark.slow
@pytest.mark.parametrize("path", notebooks.find([]), ids=lambda path: path.stem)
def test_lesson_runs_on_real_writers(path, real_writers, monkeypatch):
    monkeypatch.setenv("FEDCOURSE_SOURCE", str(real_writers))
    monkeypatch.delenv("FEDCOURSE_CLAIMS", raising=False)
    notebook = nbformat.read(path, as_version=4)
    _, cell = notebooks.knobs_of(notebook)
    cell.source = notebooks.turned(cell.source, notebooks.settings_of(notebook)[0])
    client = notebooks.client_of(notebook, path.parent, None)
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        pytest.fail(str(error), pytrace=False)
    assert notebooks.claims(notebook, "✓")
