"""A client's data: checked arrays behind TFF's `ClientData`, from memory or from SQLite."""

import collections
import functools
import os
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedcourse import emnist

ClientData = tff.simulation.datasets.ClientData
Arrays = tuple[np.ndarray, np.ndarray]  # pixels float32 [N, 28, 28], labels int32 [N]

SIDE = 28
ELEMENT = collections.OrderedDict(
    label=tf.TensorSpec((), tf.int32), pixels=tf.TensorSpec((SIDE, SIDE), tf.float32)
)

_KEPT_CLIENTS = 512  # read from SQLite and kept in memory, about 0.3 MB each
_QUERY = "SELECT serialized_example_proto FROM examples WHERE split_name = "


class ArraysByClient(ClientData):
    """Federated data out of a function that gives a client's arrays.

    Data sets are made from arrays, without a traced function, so reading a client again is quick
    and its memory is given back.

    Args:
        client_ids: all ids.
        read: client id -> (pixels, labels), for use in Python.
        in_graph: client id as a string tensor -> data set of the elements, for use inside TFF
            computations and `tf.data` functions, where no Python runs.
    """

    def __init__(self, client_ids, read: Callable[[str], Arrays], in_graph: Callable):
        self._client_ids = dict.fromkeys(sorted(client_ids))
        self._read = read
        self._in_graph = in_graph

    @property
    def client_ids(self) -> list[str]:
        """All client ids, sorted."""
        return list(self._client_ids)

    @property
    def element_type_structure(self):
        """The structure of one example: see `ELEMENT`."""
        return ELEMENT

    def arrays(self, client_id: str) -> Arrays:
        """Return a client's (pixels, labels).

        Raises:
            ValueError: There is no such client.
        """
        if client_id not in self._client_ids:
            some = ", ".join(map(repr, self.client_ids[:3]))
            raise ValueError(
                f"client_id={client_id!r} is none of the {len(self._client_ids)} clients: {some}, …"
            )
        return self._read(client_id)

    def create_tf_dataset_for_client(self, client_id: str) -> tf.data.Dataset:
        """Return a data set of a client's examples."""
        pixels, labels = self.arrays(client_id)
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(label=labels, pixels=pixels)
        )

    @property
    def serializable_dataset_fn(self):
        """A function from a client id to its data set that TFF can serialise."""
        return self._dataset

    def _dataset(self, client_id):
        if tf.is_symbolic_tensor(client_id):
            return self._in_graph(client_id)
        if tf.is_tensor(client_id):
            client_id = client_id.numpy().decode()
        return self.create_tf_dataset_for_client(client_id)


def checked(images: np.ndarray, labels: np.ndarray, where: str) -> Arrays:
    """Check a client's arrays; return them as read-only float32 from 0 to 1, and int32."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{where}: images have shape {images.shape}; they must be [N, 28, 28]")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where}: labels have shape {labels.shape}; {len(images)} images need one label each"
        )
    if not len(labels):
        raise ValueError(f"{where}: no images; leave the client out, or give it at least one")
    if labels.dtype.kind not in "ui":
        raise ValueError(f"{where}: labels are {labels.dtype}; they must be integers, none missing")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"{where}: labels go from {labels.min()} to {labels.max()}; they must be int32 from 0"
        )
    if images.dtype.kind not in "uif":
        raise ValueError(f"{where}: images are {images.dtype}; they must be uint8 or float32")
    top, slack = (1, 0.001) if images.dtype.kind == "f" else (255, 0)  # floats may be rounded
    low, high = images.min(), images.max()
    if not (low >= -slack and high <= top + slack):  # also where they are NaN
        raise ValueError(
            f"{where}: {images.dtype} images range from {low} to {high}; "
            "give floats from 0 to 1 (divide by 255), or integers from 0 to 255"
        )
    pixels = (images / np.float32(top)).astype(np.float32, copy=False)
    labels = labels.astype(np.int32)
    pixels.flags.writeable = labels.flags.writeable = False
    return pixels, labels


def from_constants(arrays: Mapping[str, Arrays]) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function that picks a client's data inside a graph, which then holds all of it."""

    def in_graph(client_id: tf.Tensor) -> tf.data.Dataset:
        ends = np.cumsum([len(labels) for _, labels in arrays.values()])
        here = tf.equal(tf.constant(list(arrays)), client_id)
        known = tf.debugging.Assert(tf.reduce_any(here), ["no such client:", client_id])
        with tf.control_dependencies([known] if known is not None else []):
            place = tf.argmax(tf.cast(here, tf.int32))
        own = slice(
            tf.gather(np.concatenate([[0], ends[:-1]]), place), tf.gather(np.array(ends), place)
        )
        pixels, labels = (np.concatenate(part) for part in zip(*arrays.values(), strict=True))
        return tf.data.Dataset.from_tensor_slices(
            collections.OrderedDict(label=tf.constant(labels)[own], pixels=tf.constant(pixels)[own])
        )

    return in_graph


def sqlite_split(path: str | os.PathLike, split: str) -> ClientData:
    """Return one split of an SQLite file; a client is read when asked for, the last 512 kept."""
    file = str(pathlib.Path(path).resolve())
    with emnist.connect(file) as database:
        query = "SELECT DISTINCT client_id FROM client_metadata WHERE split_name = ?"
        client_ids = [client_id for (client_id,) in database.execute(query, (split,))]

    @functools.lru_cache(maxsize=_KEPT_CLIENTS)
    def read(client_id: str) -> Arrays:
        where = f"client {client_id!r} in split {split!r} of {file!r}"
        with emnist.connect(file) as database:
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
