"""Run lessons from top to bottom and show how far they are.

python tools/notebooks.py                         runs every lesson, stores its outputs in it
python tools/notebooks.py 04 06 --into build      runs two; copies and figures go to build/
python tools/notebooks.py 04 --settings           quick knobs, then each turned setting on top
"""

import argparse
import base64
import csv
import hashlib
import pathlib
import re
import sys
import time

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
FOLDER, README, TABLE = ROOT / "notebooks", ROOT / "README.md", ROOT / "benchmarks" / "lessons.csv"
NUMBERS = ("two", "three", "four", "five")


def main() -> int:
    """Run the lessons named, a line each as it ends; return 1 where one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("lessons", nargs="*", help="numbers or files; all without")
    parser.add_argument("--into", type=pathlib.Path, help="folder for executed copies and figures")
    parser.add_argument(
        "--settings", action="store_true", help="quick and turned knobs; no storing"
    )
    parser.add_argument("--record", metavar="DATA", help="note time and claims in the table")
    parser.add_argument("--order", action="store_true", help="list the files, longest first")
    options = parser.parse_args()
    paths = find(options.lessons)
    if options.order:
        print(*sorted(paths, key=seconds_of, reverse=True))
        return 0
    print(f"{'lesson':<28} {'seconds':>8}  accuracy on unseen writers")
    if options.settings:
        failed = [path for path in paths if not run_settings(path, options.into)]
    else:
        failed = [path for path in paths if not run_whole(path, options.into, options.record)]
    return len(failed) > 0


def find(named: list[str]) -> list[pathlib.Path]:
    """Return the notebooks named by number, stem or file, in order; all where none is named."""
    everything = sorted(FOLDER.glob("*.ipynb"))
    found = []
    for name in named:
        stem = pathlib.Path(name).stem
        fitting = [path for path in everything if path.stem == stem or path.stem[:2] == stem]
        if not fitting:
            sys.exit(f"No lesson {name!r}; there are {', '.join(p.stem for p in everything)}.")
        found += fitting
    return found or everything


# --- one lesson -----------------------------------------------------------------------------------


def run_whole(path: pathlib.Path, into: pathlib.Path | None, record: str | None) -> bool:
    """Run a lesson with its own knobs; store what it gave; say whether it ran to the end."""
    notebook = nbformat.read(path, as_version=4)
    progress = Progress(path.stem, notebook)
    client = client_of(notebook, path.parent, progress.cell)
    try:
        with client.setup_kernel():
            for index, cell in enumerate(notebook.cells):
                client.execute_cell(cell, index)
            accuracy = ask(client, "unseen_accuracy") or "–"
    except nbclient.exceptions.CellExecutionError as error:
        progress.end("FAILED")
        print(error, file=sys.stderr)
        if into:
            save(notebook, path, into)
        return False
    seconds = round(progress.seconds)
    broken = claims(notebook, "✗")
    progress.end(accuracy + "".join(f"\n    ✗ {sentence}" for sentence in broken))
    if into is None:
        notebook.metadata["fedcourse"] = {"source": source_hash(notebook), "seconds": seconds}
        say_minutes(notebook, path, seconds)
    if record:
        note(path.stem, record, seconds, len(claims(notebook, "✓")), broken)
    save(notebook, path, into)
    return True


def run_settings(path: pathlib.Path, into: pathlib.Path | None) -> bool:
    """Run a lesson with quick knobs, then from its knobs on with each turned setting on top."""
    notebook = nbformat.read(path, as_version=4)
    start, cell = knobs_of(notebook)
    names = ["quick", *map(str, cell.metadata["knobs"]["turned"])]
    good = True
    progress = Progress(path.stem, notebook)
    client = client_of(notebook, path.parent, progress.cell)
    own = cell.source
    with client.setup_kernel():
        for number, (name, knobs) in enumerate(zip(names, settings_of(notebook), strict=True)):
            cell.source = turned(own, knobs)
            progress.begin(f"{path.stem} {name}")
            try:
                for index in range(0 if number == 0 else start, len(notebook.cells)):
                    client.execute_cell(notebook.cells[index], index)
                progress.end(f"{len(claims(notebook, '✓'))} ✓ {len(claims(notebook, '✗'))} ✗")
            except nbclient.exceptions.CellExecutionError as error:
                progress.end("FAILED")
                print(error, file=sys.stderr)
                good = False
            if into:
                save(notebook, path.with_stem(f"{path.stem}-{number}"), into)
    return good


def client_of(
    notebook: nbformat.NotebookNode, folder: pathlib.Path, on_cell_start: object
) -> nbclient.NotebookClient:
    """Return what drives a kernel for a notebook."""
    return nbclient.NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=1800,
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=on_cell_start,
        coalesce_streams=True,
        record_timing=False,
        extra_arguments=["--log-level=40"],  # errors; less would warn of TCP at every start
    )


class Progress:
    """A line that moves while a lesson runs, where there is a terminal, and stays when it ends."""

    def __init__(self, name: str, notebook: nbformat.NotebookNode):
        self.total = sum(cell.cell_type == "code" for cell in notebook.cells)
        self.begin(name)

    def begin(self, name: str) -> None:
        """Start counting anew."""
        self.name, self.done, self.begun = name, 0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def cell(self, cell: nbformat.NotebookNode, cell_index: int) -> None:
        """Show that a cell starts."""
        self.done += cell.cell_type == "code"
        if sys.stdout.isatty():
            said = f"{self.name}: cell {self.done} of {self.total}, {self.seconds:.0f} s"
            print(f"\r\033[K{said}", end="", flush=True)

    def end(self, outcome: str) -> None:
        """Leave the lesson's line."""
        clear = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{clear}{self.name:<28} {self.seconds:>8.0f}  {outcome}", flush=True)


def ask(client: nbclient.NotebookClient, name: str) -> str:
    """Return a variable of the kernel as text; nothing where the lesson has none by that name."""
    show = f"if '{name}' in globals(): print(f'{{{name}:.3f}}')"
    cell = nbformat.v4.new_code_cell(show)
    client.nb.cells.append(cell)
    client.execute_cell(cell, len(client.nb.cells) - 1)
    client.nb.cells.pop()
    return "".join(output.get("text", "") for output in cell.outputs).strip()


# --- knobs ----------------------------------------------------------------------------------------


def knobs_of(notebook: nbformat.NotebookNode) -> tuple[int, nbformat.NotebookNode]:
    """Return the index of the Knobs cell, and the cell."""
    return next(
        (index, cell)
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.source.startswith("# @title Knobs")
    )


def settings_of(notebook: nbformat.NotebookNode) -> list[dict]:
    """Return the quick knobs, then each turned setting on top of them, from the cell's metadata."""
    knobs = knobs_of(notebook)[1].metadata["knobs"]
    return [knobs["quick"], *(knobs["quick"] | turned for turned in knobs["turned"])]


def turned(source: str, knobs: dict) -> str:
    """Return the Knobs cell's source with other values.

    Raises:
        ValueError: The cell has no such knob.
    """
    for name, value in knobs.items():
        source, found = re.subn(
            rf"^{name} = .*?(  # @param.*)$",
            lambda line, name=name, value=value: f"{name} = {value!r}{line[1]}",
            source,
            flags=re.MULTILINE,
        )
        if not found:
            raise ValueError(f"{name} is no knob of this lesson")
    return source


# --- what is stored -------------------------------------------------------------------------------


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """Return sixteen hex digits of the code: other code, other digits."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def seconds_of(path: pathlib.Path) -> float:
    """Return the seconds that the stored run took."""
    return nbformat.read(path, as_version=4).metadata.get("fedcourse", {}).get("seconds", 0)


def claims(notebook: nbformat.NotebookNode, mark: str) -> list[str]:
    """Return the claims that the outputs show with a mark, ✓ or ✗."""
    texts = [o.get("text", "") for cell in notebook.cells for o in cell.get("outputs", [])]
    lines = [line for text in texts for line in text.splitlines()]
    return [line[2:] for line in lines if line.startswith(f"{mark} ")]


def note(lesson: str, data: str, seconds: int, held: int, broken: list[str]) -> None:
    """Put a run into the table, in place of an earlier one of the same lesson and data."""
    head = ["lesson", "data", "seconds", "claims held", "claims not held"]
    rows = list(csv.reader(TABLE.read_text().splitlines()))[1:] if TABLE.exists() else []
    rows = [row for row in rows if row[:2] != [lesson, data]]
    rows.append([lesson, data, str(seconds), str(held), " | ".join(broken)])
    with TABLE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *sorted(rows)])


def minutes(seconds: float) -> tuple[str, str]:
    """Return how the lesson's box and the README's table say a time."""
    whole = max(1, round(seconds / 60))
    words = "a minute" if whole == 1 else f"{NUMBERS[whole - 2]} minutes"
    return ("under a minute", "<1") if seconds < 50 else (f"about {words}", str(whole))


def say_minutes(notebook: nbformat.NotebookNode, path: pathlib.Path, seconds: float) -> None:
    """Put the measured time where the lesson and the README promise it."""
    words, number = minutes(seconds)
    box = notebook.cells[1]
    box.source = re.sub(r"(\*\*Takes\*\*) .* on two", rf"\1 {words} on two", box.source)
    text = README.read_text()
    row = rf"(\(notebooks/{path.name}\) \|) [<\d]+ \|"
    README.write_text(re.sub(row, rf"\1 {number} |", text))


def save(notebook: nbformat.NotebookNode, path: pathlib.Path, into: pathlib.Path | None) -> None:
    """Write the executed notebook, and what the README shows of it; in `into`, all its figures."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):  # a widget needs its kernel: its text stays
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
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
