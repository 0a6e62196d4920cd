"""Federated data in an SQLite file, in the layout of TFF's federated EMNIST."""

import collections
import contextlib
import functools
import json
import math
import os
import pathlib
import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedcourse.data import classes as class_names
from fedcourse.data.arrays import Arrays, checked
from fedcourse.data.clients import ArraysByClient, ClientData, check_alike, images_of
from fedcourse.data.layout import connect, split_names

_KEPT_CLIENTS = 512  # read from SQLite and kept in memory, about 0.3 MB each
_TABLE = "fedcourse"
_QUERY = "SELECT serialized_example_proto FROM examples WHERE split_name = "


class _About(NamedTuple):
    """What a file says of its images, in a table that TFF does not look at; or what TFF's has."""

    image_shape: tuple[int, ...]
    classes: tuple[str, ...]
    label_shape: tuple[int, ...] | None = None


def from_sqlite(
    path: str | os.PathLike, splits: str | None = None, classes: Sequence[str] | None = None
) -> tuple[ClientData, ClientData]:
    """Open an SQLite file in TFF's layout. A client's images are read when they are asked for.

    Args:
        path: the file.
        splits: what its pair of splits is called before "_train" and "_test": TFF's file has
            "digits_only" and "all", digits and letters. None for digits_only, or else the first
            pair of names that end in 'train' and 'test'.
        classes: the names of all classes, where the file was not written by `write_sqlite` and is
            not TFF's.

    Returns:
        train, test: two `ClientData` with `image_shape` and `classes`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a database in TFF's layout, or has no such pair of splits.

    Lesson: 01
    """
    names = split_names(path)
    stems = [name.removesuffix("train") for name in names if name.endswith("train")]
    pairs = [stem for stem in stems if stem + "test" in names]
    if not pairs:
        raise ValueError(
            f"path={str(path)!r} has splits {names}; it needs a pair such as 'train' and 'test'"
        )
    stem = "digits_only_" if "digits_only_" in pairs else pairs[0]
    if splits is not None:
        stem = f"{splits}_"
        if stem not in pairs:
            raise ValueError(f"splits={splits!r}: path={str(path)!r} has splits {names}")
    about = _read_about(path, stem)
    if classes is not None:
        about = about._replace(classes=class_names.given(classes))
    return sqlite_split(path, stem + "train", about), sqlite_split(path, stem + "test", about)


def write_sqlite(path: str | os.PathLike, train: ClientData, test: ClientData) -> None:
    """Write federated data to an SQLite file in the layout of TFF's federated EMNIST file.

    The splits are 'digits_only_train' and 'digits_only_test' where these are digits of 28 x 28,
    'all_train' and 'all_test' where they are digits and letters, as in TFF's, and else 'train' and
    'test'. The shape of images and the names of classes stand in a table of their own.

    Args:
        path: the file to write; one that exists is replaced, in one step at the end.
        train: each client's training images.
        test: the same clients' test images.

    Raises:
        ValueError: their classes or shapes disagree.

    Lesson: none yet
    """
    path = pathlib.Path(path)
    check_alike((train, test))
    about = _about(train, test)
    stem = _stem(about)
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
                f"CREATE TABLE {_TABLE} (about TEXT NOT NULL);"
            )
            database.execute(f"INSERT INTO {_TABLE} VALUES (?)", (json.dumps(about._asdict()),))
            for split, clients in ((stem + "train", train), (stem + "test", test)):
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


def _about(train: ClientData, test: ClientData) -> _About:
    """Say what two halves hold."""
    element = train.element_type_structure
    label = element["label"]
    named = [one.classes for one in (train, test) if hasattr(one, "classes")]
    return _About(
        tuple(element["pixels"].shape),
        class_names.agreed(named) if named else class_names.DIGITS,
        None if label.dtype == tf.int32 else tuple(label.shape),
    )


def _stem(about: _About) -> str:
    if about.image_shape == (28, 28) and about.label_shape is None:
        if set(about.classes) <= set(class_names.DIGITS):
            return "digits_only_"
        if about.classes == class_names.LETTERS_TOO:
            return "all_"
    return ""


def _read_about(path: str | os.PathLike, stem: str) -> _About:
    with connect(path) as database:
        if database.execute(f"PRAGMA table_info({_TABLE})").fetchall():
            (text,) = database.execute(f"SELECT about FROM {_TABLE}").fetchone()
            shape, classes, label = (json.loads(text)[field] for field in _About._fields)
            return _About(tuple(shape), tuple(classes), label if label is None else tuple(label))
    letters = stem == "all_"
    return _About((28, 28), class_names.LETTERS_TOO if letters else class_names.DIGITS)


def sqlite_split(path: str | os.PathLike, split: str, about: _About) -> ClientData:
    """Return one split of an SQLite file; a client is read when asked for, the last 512 kept.

    Lesson: 01
    """
    file = str(pathlib.Path(path).resolve())
    with connect(file) as database:
        query = "SELECT DISTINCT client_id FROM client_metadata WHERE split_name = ?"
        client_ids = [client_id for (client_id,) in database.execute(query, (split,))]

    parse = functools.partial(_parse, about=about)

    @functools.lru_cache(maxsize=_KEPT_CLIENTS)
    def read(client_id: str) -> Arrays:
        where = f"client {client_id!r} in split {split!r} of {file!r}"
        with connect(file) as database:
            query = _QUERY + "? AND client_id = ? ORDER BY rowid"
            rows = database.execute(query, (split, client_id)).fetchall()
        if not rows:
            raise ValueError(f"{where} has no examples, though client_metadata lists it")
        try:
            element = parse(tf.constant([proto for (proto,) in rows]))
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(
                f"{where}: each example needs 'label' (one int64) and 'pixels' "
                f"({math.prod(about.image_shape)} floats). "
                f"TensorFlow says: {error.message}"
            ) from error
        return checked(element["pixels"].numpy(), element["label"].numpy(), where)

    def in_graph(client_id: tf.Tensor) -> tf.data.Dataset:
        own_split = "'" + split.replace("'", "''") + "'"
        own_client = tf.strings.join(["'", tf.strings.regex_replace(client_id, "'", "''"), "'"])
        query = [_QUERY, own_split, " AND client_id = ", own_client, " ORDER BY rowid"]
        return tf.data.experimental.SqlDataset(
            "sqlite", file, tf.strings.join(query), tf.string
        ).map(parse)

    return ArraysByClient(client_ids, read, in_graph, *about)


def _parse(protos: tf.Tensor, about: _About) -> collections.OrderedDict:
    """Parse serialized `tf.train.Example`s, one or many."""
    whole = about.label_shape is None
    features = {
        "label": tf.io.FixedLenFeature(
            *((), tf.int64) if whole else (about.label_shape, tf.float32)
        ),
        "pixels": tf.io.FixedLenFeature(about.image_shape, tf.float32),
    }
    parsed = tf.io.parse_example(protos, features)
    label = tf.cast(parsed["label"], tf.int32) if whole else parsed["label"]
    return collections.OrderedDict(label=label, pixels=parsed["pixels"])


def _to_proto(pixels: np.ndarray, label: np.ndarray) -> bytes:
    example = tf.train.Example()
    example.features.feature["pixels"].float_list.value.extend(pixels.ravel())
    feature = example.features.feature["label"]
    if label.dtype == np.int32:
        feature.int64_list.value.append(int(label))
    else:
        feature.float_list.value.extend(label.ravel())
    return example.SerializeToString(deterministic=True)
