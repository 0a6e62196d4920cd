"""What the commands share that run many trainings on real writers: the writers, and a CSV file."""

import csv
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fedcourse import data, results

STORED = pathlib.Path(results.__file__).parent  # where the package keeps its tables


def read(path: str | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return all images of each writer, from an .npz or an SQLite file."""
    if not path:
        sys.exit("Which writers? Name a file: --data FILE, or FEDCOURSE_REAL_WRITERS=FILE.")
    if not path.endswith(".npz"):
        both = data.load(path)
        return {writer: data.images_of(both, writer) for writer in both[0].client_ids}
    with np.load(path) as npz:
        images, labels, writer = npz["images"], npz["labels"], npz["writer"]
    return {f"{w:04}": (255 - images[writer == w], labels[writer == w]) for w in np.unique(writer)}


class Table:
    """A CSV file with a row for each finished run: rows that are there, rows that are added.

    Args:
        path: The file; made where it is not there.
        head: Comment lines that say what the rows depend on. A file with another head is refused.
        fields: The columns.
    """

    def __init__(self, path: pathlib.Path, head: str, fields: Sequence[str]):
        if not path.exists():
            path.write_text(head + ",".join(fields) + "\n")
        text = path.read_text()
        if not text.startswith(head):
            sys.exit(f"{path} holds rows of other settings; move it away, or give another --out.")
        whole = text[: text.rfind("\n") + 1]  # a command that was killed may leave half a row
        if whole != text:
            path.write_text(whole)
        self._path = path
        self._fields = fields
        self._rows = list(csv.DictReader(whole.removeprefix(head).splitlines()))

    def find(
        self, run: Mapping[str, str], enough: Callable[[dict], bool] = lambda row: True
    ) -> dict[str, str] | None:
        """Return the first row that begins like `run` and is `enough`; None if there is none."""
        fitting = (row for row in self._rows if run.items() <= row.items() and enough(row))
        return next(fitting, None)

    def add(self, row: Mapping[str, object]) -> dict[str, str]:
        """Append a row to the file."""
        row = {name: str(row[name]) for name in self._fields}
        with open(self._path, "a") as file:
            file.write(",".join(row.values()) + "\n")
        self._rows.append(row)
        return row
