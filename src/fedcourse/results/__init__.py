"""Stored tables of experiments that take longer than a lesson, and a way to read them.

Each is a CSV file whose first lines, after `#`, say what was measured and how.
"""

import csv
import importlib.resources


def read(name: str) -> tuple[str, list[dict[str, str]]]:
    """Read a stored table.

    Args:
        name: The file's name without .csv, such as "privacy".

    Returns:
        about: What the table says of itself.
        rows: A dictionary for each row, all values as text.

    Raises:
        ValueError: There is no such table.

    Lesson: 07
    """
    folder = importlib.resources.files(__name__)
    file = folder / f"{name}.csv"
    if not file.is_file():
        there = sorted(f.name.removesuffix(".csv") for f in folder.iterdir() if ".csv" in f.name)
        raise ValueError(f"name={name!r} is none of the stored tables: {', '.join(there)}")
    lines = file.read_text().splitlines()
    about = "\n".join(line[2:] for line in lines if line.startswith("#"))
    return about, list(csv.DictReader(line for line in lines if not line.startswith("#")))
