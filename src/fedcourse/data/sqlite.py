"""Federated data in an SQLite file, in the layout of TFF's federated EMNIST."""

import collections
import contextlib
import functools
import os
import pathlib
import sqlite3
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from fedcourse.data.arrays import SIDE, Arrays, checked
from fedcourse.data.clients import ArraysByClient, ClientData, images_of

_COLUMNS = {
    "examples": {"split_name", "client_id", "serialized_example_proto"},
    "client_metadata": {"split_name", "client_id"},
}
_KEPT_CLIENTS = 512  # read from SQLite and kept in memory, about 0.3 MB each
_QUERY = "SELECT serialized_example_proto FROM examples WHERE split_name = "


def from_sqlite(path: str | os.PathLike) -> tuple[ClientData, ClientData]:
    """Open an SQLite file in TFF's layout. A client's images are read when they are asked for.

    Args:
        path: the file. Of its splits, 'digits_only_train' and 'digits_only_test' are taken, or else
            the first pair of names that end in 'train' and 'test'.

    Returns:
        train, test: two `ClientData`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a database in TFF's layout, or has no such pair of splits.

    Lesson: 01
    """
    splits = split_names(path)
    stems = [name.removesuffix("train") for name in splits if name.endswith("train")]
    pairs = [stem for stem in stems if stem + "test" in splits]
    if not pairs:
        raise ValueError(
            f"path={str(path)!r} has splits {splits}; it needs a pair such as 'train' and 'test'"
        )
    stem = "digits_only_" if "digits_only_" in pairs else pairs[0]
    return sqlite_split(path, stem + "train"), sqlite_split(path, stem + "test")


def write_sqlite(path: str | os.PathLike, train: ClientData, test: ClientData) -> None:
    """Write federated data to an SQLite file in the layout of TFF's federated EMNIST file.

    Args:
        path: the file to write; one that exists is replaced, in one step at the end.
        train: becomes the split 'digits_only_train'.
        test: becomes the split 'digits_only_test'.

    Lesson: 15
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(temporary)) as database:
            database.executescript(
                "CREATE TABLE examples (split_name TEXT NOT NULL, client_id TEXT NOT NULL,"
                " serialized_example_proto BLOB NOT NULL);"
                "CREATE TABLE client_metadata (client_id TEXT NOT NULL, split_name TEXT NOT NULL,"
                " num_examples INTEGER NOT NULL);"
                "CREATE INDEX examples_by_client ON examples (client_id);"
            )
            for split, clients in (("digits_only_train", train), ("digits_only_test", test)):
                for client_id in clients.client_ids:
                    pixels, labels = images_of(clients, client_id)
                    database.executemany(
                        "INSERT INTO examples VALUES (?, ?, ?)",
                        (
                            (split, client_id, _to_proto(*one))
                            for one in zip(pixels, labels, strict=True)
                        ),
                    )
                    database.execute(
                        "INSERT INTO client_metadata VALUES (?, ?, ?)",
                        (client_id, split, len(labels)),
                    )
            database.commit()
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def sqlite_split(path: str | os.PathLike, split: str) -> ClientData:
    """Return one split of an SQLite file; a client is read when asked for, the last 512 kept."""
    file = str(pathlib.Path(path).resolve())
    with connect(file) as database:
        query = "SELECT DISTINCT client_id FROM client_metadata WHERE split_name = ?"
        client_ids = [client_id for (client_id,) in database.execute(query, (split,))]

    @functools.lru_cache(maxsize=_KEPT_CLIENTS)
    def read(client_id: str) -> Arrays:
        where = f"client {client_id!r} in split {split!r} of {file!r}"
        with connect(file) as database:
            query = _QUERY + "? AND client_id = ? ORDER BY rowid"
            rows = database.execute(query, (split, client_id)).fetchall()
        if not rows:
            raise ValueError(f"{where} has no examples, though client_metadata lists it")
        try:
            element = _parse(tf.constant([proto for (proto,) in rows]))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"{where}: each example needs 'label' (one int64) and 'pixels' (784 floats). "
                f"TensorFlow says: {error.message}"
            ) from error
        return checked(element["pixels"].numpy(), element["label"].numpy(), where)

    def in_graph(client_id: tf.Tensor) -> tf.data.Dataset:
        own_split = "'" + split.replace("'", "''") + "'"
        own_client = tf.strings.join(["'", tf.strings.regex_replace(client_id, "'", "''"), "'"])
        query = [_QUERY, own_split, " AND client_id = ", own_client, " ORDER BY rowid"]
        return tf.data.experimental.SqlDataset(
            "sqlite", file, tf.strings.join(query), tf.string
        ).map(_parse)

    return ArraysByClient(client_ids, read, in_graph)


def _parse(protos: tf.Tensor) -> collections.OrderedDict:
    """Parse serialized `tf.train.Example`s, one or many."""
    features = {
        "label": tf.io.FixedLenFeature((), tf.int64),
        "pixels": tf.io.FixedLenFeature((SIDE, SIDE), tf.float32),
    }
    parsed = tf.io.parse_example(protos, features)
    return collections.OrderedDict(
        label=tf.cast(parsed["label"], tf.int32), pixels=parsed["pixels"]
    )


def _to_proto(pixels: np.ndarray, label: np.integer) -> bytes:
    example = tf.train.Example()
    example.features.feature["pixels"].float_list.value.extend(pixels.ravel())
    example.features.feature["label"].int64_list.value.append(int(label))
    return example.SerializeToString(deterministic=True)
