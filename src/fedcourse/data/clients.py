"""A client's data behind TFF's `ClientData`: checked arrays, from memory or read when asked for."""

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from fedcourse.data import classes as class_names
from fedcourse.data.arrays import Arrays, checked

ClientData = tff.simulation.datasets.ClientData


class ArraysByClient(ClientData):
    """Federated data out of a function that gives a client's arrays.

    Data sets are made from arrays, without a traced function, so reading a client again is quick
    and its memory is given back.

    Args:
        client_ids: all ids.
        read: client id -> (pixels, labels), for use in Python.
        in_graph: client id as a string tensor -> data set of the elements, for use inside TFF
            computations and `tf.data` functions, where no Python runs.
        image_shape: of one image, (H, W) or (H, W, C).
        classes: the names of all classes, in the order of their numbers; none where the labels
            are float32.
        label_shape: of one label that is float32: () or (K,); None where labels are classes.

    Attributes:
        image_shape: as given.
        classes: as given.

    Lesson: 01
    """

    def __init__(
        self,
        client_ids: Iterable[str],
        read: Callable[[str], Arrays],
        in_graph: Callable,
        image_shape: tuple[int, ...] = (28, 28),
        classes: Sequence[str] = class_names.DIGITS,
        label_shape: tuple[int, ...] | None = None,
    ):
        self._client_ids = dict.fromkeys(sorted(client_ids))
        self._read = read
        self._in_graph = in_graph
        self.image_shape, self.classes = tuple(image_shape), tuple(classes)
        self._element = collections.OrderedDict(
            label=tf.TensorSpec((), tf.int32)
            if label_shape is None
            else tf.TensorSpec(label_shape, tf.float32),
            pixels=tf.TensorSpec(self.image_shape, tf.float32),
        )

    @property
    def client_ids(self) -> list[str]:
        """All client ids, sorted."""
        return list(self._client_ids)

    @property
    def element_type_structure(self):
        """The structure of one example: OrderedDict(label=…, pixels=…) of `tf.TensorSpec`s."""
        return self._element

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


def from_arrays(
    clients: Mapping[str, tuple[np.ndarray, np.ndarray]], classes: Sequence[str] | None = None
) -> ClientData:
    """Make federated data of arrays in memory.

    Args:
        clients: client id -> (images, labels). images: [N, H, W] or [N, H, W, C], all clients'
            alike in shape; integers 0 to 255 or floats 0 to 1. For the course's digits as they look
            on paper: the ground bright, the ink dark (of MNIST's white ink pass `255 - images`).
            labels: integers [N] from 0, or names [N]; or float32 [N] to learn numbers, float32
            [N, K] for several labels an image.
        classes: The names of all classes, in the order of their numbers. Without them they are the
            labels' numbers, 0 to the largest, or all names in alphabetical order. Give them where
            data sets that are read apart must agree.

    Returns:
        A `ClientData` with `image_shape` and `classes`.

    Raises:
        ValueError: an array has the wrong shape, range or type, a client has no images, or a label
            is none of the classes; names it.

    Lesson: 01
    """
    if not clients:
        raise ValueError("clients is empty; it needs at least one id with (images, labels)")
    pairs = {}
    for client_id, pair in clients.items():
        if not isinstance(client_id, str):
            raise ValueError(f"clients has the id {client_id!r}; ids must be strings")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(f"clients[{client_id!r}] must be a pair (images, labels)")
        pairs[client_id] = pair[0], np.asarray(pair[1])
    worded = all(labels.dtype.kind == "U" for _, labels in pairs.values())
    if worded:
        names = {name for _, labels in pairs.values() for name in labels.ravel().tolist()}
        classes = class_names.given(classes) if classes else class_names.named(names, "clients")
    arrays = {}
    for client_id, (images, labels) in pairs.items():
        where = f"clients[{client_id!r}]"
        if worded and labels.ndim == 1:
            labels = class_names.numbers_of(labels.tolist(), classes, where)
        arrays[client_id] = checked(images, labels, where)
    image_shape, label_shape = _shapes(arrays)
    if label_shape is None:
        classes = _classes_of(arrays, classes)
    return ArraysByClient(
        *(arrays, arrays.__getitem__, from_constants(arrays), image_shape, classes or ()),
        label_shape=label_shape,
    )


def _shapes(arrays: Mapping[str, Arrays]) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the shape of an image and of a float label (None: classes), which all must share."""
    first, found = None, None
    for client_id, (pixels, labels) in arrays.items():
        own = pixels.shape[1:], None if labels.dtype == np.int32 else labels.shape[1:]
        if first is None:
            first, found = client_id, own
        if own[0] != found[0]:
            raise ValueError(
                f"clients[{client_id!r}] has images of shape {own[0]}, clients[{first!r}] of "
                f"shape {found[0]}; all must be alike"
            )
        if own[1] != found[1]:
            raise ValueError(
                f"clients[{client_id!r}] and clients[{first!r}] have labels of different kinds"
            )
    return found


def _classes_of(arrays: Mapping[str, Arrays], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of classes, checked against the numbers that are there."""
    holder = max(arrays, key=lambda client_id: arrays[client_id][1].max())
    top = int(arrays[holder][1].max())
    if classes is None:
        return class_names.counted(top, f"clients[{holder!r}]")
    classes = class_names.given(classes)
    if top >= len(classes):
        raise ValueError(
            f"clients[{holder!r}] has the label {top}, but there are {len(classes)} classes, "
            f"numbered from 0: {', '.join(map(repr, classes[:5]))}, …"
        )
    return classes


def hold_out(
    clients: ClientData, share: float = 1 / 6, seed: int = 0
) -> tuple[ClientData, ClientData]:
    """Divide each client's images into those to train on and those to test on.

    A client with a single image keeps it for training, and is then not in the test data.

    Args:
        clients: federated data.
        share: of each client's images to test on, rounded, at least one where there are two.
        seed: another seed, another division.

    Returns:
        train, test: two `ClientData` with the same classes.

    Raises:
        ValueError: a share not between 0 and 1, or no client with two images.

    Lesson: none yet
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r} must be between 0 and 1, such as 1/6")
    generator = np.random.default_rng(seed)
    train, test = {}, {}
    for client_id in clients.client_ids:
        pixels, labels = images_of(clients, client_id)
        order = generator.permutation(len(labels))
        count = min(max(1, round(share * len(labels))), len(labels) - 1)
        train[client_id] = pixels[order[count:]], labels[order[count:]]
        if count:
            test[client_id] = pixels[order[:count]], labels[order[:count]]
    if not test:
        raise ValueError("clients: none has two images, so none can be kept for a test")
    classes = getattr(clients, "classes", None) or None
    return from_arrays(train, classes), from_arrays(test, classes)


def images_of(clients: ClientData | Sequence[ClientData], client_id: str) -> Arrays:
    """Read all of a client's images as NumPy arrays.

    Args:
        clients: federated data, or several such as the pair (train, test), whose halves are joined.
        client_id: the client.

    Returns:
        pixels: float32 [N, H, W] or [N, H, W, C]; of the course's digits 1.0 = paper.
        labels: int32 [N], or float32 [N] or [N, K].

    Raises:
        ValueError: there is no such client in any of them, or their classes or shapes disagree.

    Lesson: 01
    """
    several = [clients] if isinstance(clients, ClientData) else list(clients)
    if len(several) > 1:
        check_alike(several)
    holders = [one for one in several if client_id in one.client_ids] or several[:1]
    halves = [_arrays_of(one, client_id) for one in holders]
    if len(halves) == 1:
        return halves[0]
    return np.concatenate([h[0] for h in halves]), np.concatenate([h[1] for h in halves])


def check_alike(several: Sequence[ClientData]) -> None:
    """Check that data sets can be used together.

    Raises:
        ValueError: Their images have different shapes, or a number is another class in each.

    Lesson: none yet
    """
    shapes = {tuple(one.element_type_structure["pixels"].shape) for one in several}
    if len(shapes) > 1:
        raise ValueError(
            f"data sets with images of shapes {sorted(shapes)} cannot be joined: "
            "read both with the same size= and colour="
        )
    named = [one.classes for one in several if getattr(one, "classes", None)]
    if named:
        class_names.agreed(named)


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
