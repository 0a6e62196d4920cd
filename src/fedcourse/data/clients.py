"""A client's data behind TFF's `ClientData`: checked arrays, from memory or read when asked for."""

import collections
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedcourse.data.arrays import SIDE, Arrays, checked

ClientData = tff.simulation.datasets.ClientData

ELEMENT = collections.OrderedDict(
    label=tf.TensorSpec((), tf.int32), pixels=tf.TensorSpec((SIDE, SIDE), tf.float32)
)


class ArraysByClient(ClientData):
    """Federated data out of a function that gives a client's arrays.

    Data sets are made from arrays, without a traced function, so reading a client again is quick
    and its memory is given back.

    Args:
        client_ids: all ids.
        read: client id -> (pixels, labels), for use in Python.
        in_graph: client id as a string tensor -> data set of the elements, for use inside TFF
            computations and `tf.data` functions, where no Python runs.

    Lesson: 01
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


def from_arrays(clients: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> ClientData:
    """Make federated data of arrays in memory.

    Args:
        clients: client id -> (images, labels). images: [N, 28, 28], integers 0..255 or floats 0..1,
            as they look on paper: the ground bright, the ink dark (for MNIST's white ink pass `255
            - images`). labels: integers [N], 0 or more.

    Returns:
        A `ClientData`.

    Raises:
        ValueError: an array has the wrong shape, range or type, or a client has no images; names
            it.

    Lesson: 01
    """
    if not clients:
        raise ValueError("clients is empty; it needs at least one id with (images, labels)")
    arrays = {}
    for client_id, pair in clients.items():
        if not isinstance(client_id, str):
            raise ValueError(f"clients has the id {client_id!r}; ids must be strings")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"clients[{client_id!r}] must be a pair (images, labels)")
        arrays[client_id] = checked(*pair, where=f"clients[{client_id!r}]")
    return ArraysByClient(arrays, arrays.__getitem__, from_constants(arrays))


def images_of(clients: ClientData | Sequence[ClientData], client_id: str) -> Arrays:
    """Read all of a client's images as NumPy arrays.

    Args:
        clients: federated data, or several such as the pair (train, test), whose halves are joined.
        client_id: the client.

    Returns:
        pixels: float32 [N, 28, 28], 1.0 = paper.
        labels: int32 [N].

    Raises:
        ValueError: there is no such client in any of them.

    Lesson: 01
    """
    several = [clients] if isinstance(clients, ClientData) else list(clients)
    holders = [one for one in several if client_id in one.client_ids] or several[:1]
    halves = [_arrays_of(one, client_id) for one in holders]
    if len(halves) == 1:
        return halves[0]
    return np.concatenate([h[0] for h in halves]), np.concatenate([h[1] for h in halves])


def _arrays_of(clients: ClientData, client_id: str) -> Arrays:
    if isinstance(clients, ArraysByClient):
        return clients.arrays(client_id)
    elements = list(clients.create_tf_dataset_for_client(client_id).as_numpy_iterator())
    pixels, labels = ([element[key] for element in elements] for key in ("pixels", "label"))
    return np.array(pixels, np.float32), np.array(labels, np.int32)


def from_constants(arrays: Mapping[str, Arrays]) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """Return a function that picks a client's data inside a graph, which then holds all of it.

    Lesson: 01
    """

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
