"""Run lessons from top to bottom and show how far they are.

python tools/notebooks.py notebooks/*.ipynb               stores the outputs in the notebooks
python tools/notebooks.py notebooks/*.ipynb --into build  leaves them alone; copies go there
"""

import argparse
import base64
import pathlib
import sys
import time

import nbclient
import nbformat


def main() -> int:
    """Run each notebook named; print a table; return 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("notebooks", nargs="+", type=pathlib.Path)
    parser.add_argument("--into", type=pathlib.Path, help="folder for executed copies and figures")
    options = parser.parse_args()
    rows = [run(path, options.into) for path in options.notebooks]
    print(f"\n{'lesson':<28} {'seconds':>8}  accuracy on unseen writers")
    for name, seconds, accuracy in rows:
        print(f"{name:<28} {seconds:>8.0f}  {accuracy}")
    return any(accuracy == "FAILED" for *_, accuracy in rows)


def run(path: pathlib.Path, into: pathlib.Path | None) -> tuple[str, float, str]:
    """Execute one notebook; return its name, the seconds it took, and `unseen_accuracy`."""
    notebook = nbformat.read(path, as_version=4)
    total = sum(cell.cell_type == "code" for cell in notebook.cells)
    begun = time.monotonic()
    done = 0

    def show(cell, cell_index):
        nonlocal done
        if cell.cell_type != "code":
            return
        done = min(done + 1, total)
        seconds = time.monotonic() - begun
        print(f"\r{path.stem}: cell {done} of {total}, {seconds:.0f} s ", end="", flush=True)

    client = nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=1800,
        resources={"metadata": {"path": str(path.parent)}},
        on_cell_start=show,
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors; less would warn of TCP at every start
    )
    accuracy = "–"
    try:
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            accuracy = ask(client, "unseen_accuracy") or accuracy
    except nbclient.exceptions.CellExecutionError as error:
        print(f"\n{error}", file=sys.stderr)
        accuracy = "FAILED"
    print()
    if accuracy != "FAILED" or into:
        save(notebook, path, into)
    return path.stem, time.monotonic() - begun, accuracy


def ask(client: nbclient.NotebookClient, name: str) -> str:
    """Return a variable of the kernel as text; nothing where the lesson has none by that name."""
    show = f"if '{name}' in globals(): print(f'{{{name}:.3f}}')"
    cell = nbformat.v4.new_code_cell(show)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    client.nb.cells.pop()
    return "".join(output.get("text", "") for output in cell.outputs).strip()


def save(notebook: nbformat.NotebookNode, path: pathlib.Path, into: pathlib.Path | None) -> None:
    """Write the executed notebook, and what the README shows of it; in `into`, all its figures."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    }
    notebook.metadata["language_info"] = {"name": "python"}
    if into is None:
        nbformat.write(notebook, path)
        for cell in notebook.cells:
            if "readme" in cell.metadata.get("tags", []):
                picture = path.parent.parent / "docs" / f"{path.stem}.png"
                picture.write_bytes(base64.b64decode(pngs(cell)[0]))
        return
    into.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, into / path.name)
    figures = [png for cell in notebook.cells for png in pngs(cell)]
    for number, figure in enumerate(figures, start=1):
        (into / f"{path.stem}_{number:02}.png").write_bytes(base64.b64decode(figure))


def pngs(cell: nbformat.NotebookNode) -> list[str]:
    """Return the figures in a cell's outputs, in base64."""
    data = [output.get("data", {}) for output in cell.get("outputs", [])]
    return [each["image/png"] for each in data if "image/png" in each]


if __name__ == "__main__":
    sys.exit(main())
