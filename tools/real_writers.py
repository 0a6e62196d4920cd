"""Write real writers as an SQLite file that the lessons read.

`python tools/real_writers.py FILE [FROM TO]` takes the file that FEDCOURSE_REAL_WRITERS names, with
NumPy arrays: `images` uint8 [N, 28, 28], white on black, `labels`, `writer`, and `fed_test`, which
images of each writer are held back.
"""

import os
import pathlib
import sys

import numpy as np

from fedcourse import data


def write(path: str | os.PathLike, source: str, first: int = 0, last: int | None = None) -> None:
    """Write the writers from `first` to before `last`, in the order of their numbers."""
    with np.load(source) as npz:
        parts = (npz[name] for name in ("images", "labels", "writer", "fed_test"))
        images, labels, writer, test = parts

    def half(chosen):
        return data.from_arrays(
            {
                f"{number:04}": (255 - images[own], labels[own])
                for number in np.unique(writer)[first:last]
                if (own := chosen & (writer == number)).any()
            }
        )

    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    data.write_sqlite(path, half(~test), half(test))


if __name__ == "__main__":
    where = os.environ.get("FEDCOURSE_REAL_WRITERS") or sys.exit(
        "Which writers? Name a file: FEDCOURSE_REAL_WRITERS=FILE."
    )
    write(sys.argv[1], where, *map(int, sys.argv[2:]))
