"""TFF's layout of federated data in an SQLite file: opened, and checked."""

import contextlib
import os
import pathlib
import sqlite3
from collections.abc import Mapping

_COLUMNS = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"split_name", "client_id"},
}


def connect(path: str | os.PathLike) -> contextlib.closing:
    """Open an SQLite file for reading only; a missing file is an error, not a new database.

    Args:
        path: the file.

    Returns:
        A context manager that gives the `sqlite3.Connection` and closes it.

    Lesson: 01
    """
    uri = pathlib.Path(path).resolve().as_uri() + "?mode=ro"
    return contextlib.closing(sqlite3.connect(uri, uri=True))


def split_names(path: str | os.PathLike) -> list[str]:
    """Check that a file is a whole SQLite database in TFF's layout, and list its splits.

    Args:
        path: the file.

    Returns:
        The split names, sorted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not an SQLite database, is cut short, or lacks a table or a column.

    Lesson: 01
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: no such file")
    with path.open("rb") as file:
        header = file.read(100)
    if header[:16] != b"SQLite format 3\0" or len(header) < 100:
        raise ValueError(f"path={str(path)!r} is not an SQLite database: it begins {header[:40]!r}")
    page = int.from_bytes(header[16:18], "big")
    expected = (page if page > 1 else 65536) * int.from_bytes(header[28:32], "big")
    if path.stat().st_size < expected:
        raise ValueError(
            f"path={str(path)!r} is cut short: {path.stat().st_size:,} of {expected:,} bytes. "
            "Delete it and fetch it again."
        )
    try:
        with connect(path) as database:
            for table, needed in _COLUMNS.items():
                columns = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
                if missing := needed - columns:
                    what = f"columns {sorted(missing)}" if columns else "the whole table"
                    raise ValueError(
                        f"path={str(path)!r} is not in TFF's layout: table {table!r} lacks {what}. "
                        "fedcourse.data.write_sqlite writes that layout."
                    )
            return [
                name
                for (name,) in database.execute(
                    "SELECT DISTINCT split_name FROM client_metadata ORDER BY split_name"
                )
            ]
    except sqlite3.DatabaseError as error:
        raise ValueError(f"path={str(path)!r} is not a sound SQLite database: {error}") from error


def verify(path: str | os.PathLike, counts: Mapping[str, tuple[int, int]]) -> None:
    """Check all of a database: its pages, its layout, and how many writers and examples it holds.

    Reads the whole file: about a second per gigabyte, more from a slow disk.

    Args:
        path: an SQLite file in TFF's layout.
        counts: split name -> (writers, examples) that must be there. Other splits are not looked
            at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the database is damaged or does not hold what it should.

    Lesson: 01
    """
    split_names(path)
    try:
        with connect(path) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if answer != "ok":
                raise ValueError(f"path={str(path)!r} is a damaged database: {answer}")
            group = "FROM {} GROUP BY split_name"
            writers = dict(
                database.execute(
                    "SELECT split_name, COUNT(DISTINCT client_id) "
                    + group.format("client_metadata")
                )
            )
            examples = dict(
                database.execute("SELECT split_name, COUNT(*) " + group.format("examples"))
            )
    except sqlite3.DatabaseError as error:
        raise ValueError(f"path={str(path)!r} is not a sound SQLite database: {error}") from error
    for split, expected in counts.items():
        found = writers.get(split, 0), examples.get(split, 0)
        if found != tuple(expected):
            raise ValueError(
                f"path={str(path)!r}: split {split!r} holds {found[0]:,} writers and {found[1]:,} "
                f"examples, not {expected[0]:,} and {expected[1]:,}"
            )
