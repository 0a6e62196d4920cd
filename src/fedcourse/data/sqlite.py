"""Federated data in an SQLite file, in the layout of TFF's federated EMNIST."""

import collections
import contextlib
import functools
import os
import pathlib
import sqlite3

import numpy as np
import tensorflow as tf

from fedcourse.data.arrays import SIDE, Arrays, checked
from fedcourse.data.clients import ArraysByClient, ClientData, images_of
from fedcourse.data.layout import connect, split_names

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

    Lesson: none yet
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


def sqlite_split(path: str | os.PathLike, split: str) -> ClientData:
    """Return one split of an SQLite file; a client is read when asked for, the last 512 kept.

    Lesson: 01
    """
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
