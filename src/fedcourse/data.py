"""Images by client: where they come from, and how a round gets at them.

Every source gives what TFF's own data sets give: `tff.simulation.datasets.ClientData` whose
elements are OrderedDict(label=int32 [], pixels=float32 [28, 28]) with 1.0 = paper and 0.0 = ink.
"""

import contextlib
import itertools
import os
import pathlib
import sqlite3
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from fedcourse import embedded, emnist
from fedcourse.clients import (
    SIDE,
    Arrays,
    ArraysByClient,
    ClientData,
    checked,
    from_constants,
    sqlite_split,
)


def load(
    source: str | os.PathLike = "auto", cache_dir: str | os.PathLike | None = None
) -> tuple[ClientData, ClientData]:
    """Load federated data: each client's training images, and the same clients' test images.

    Args:
        source: "emnist" for federated EMNIST (3,383 real writers, 170 MB to download once),
            "embedded" for the 5,000 real MNIST digits dealt to 60 simulated writers, "auto" for the
            first of these that this machine can reach (or what the environment variable
            FEDCOURSE_SOURCE says), or the path of an SQLite file in TFF's layout.
        cache_dir: where downloads and prepared data are kept; None for ~/.cache/fedcourse, or what
            the environment variable FEDCOURSE_CACHE says.

    Returns:
        train, test: two `ClientData`.

    Raises:
        ValueError: source is neither one of the words nor an existing file, or is not in TFF's
            layout.
        FileNotFoundError: source is a path where there is no file.
        ConnectionError: source is "emnist" and it can't be downloaded.

    Lesson: 01
    """
    if source == "auto":
        source = os.environ.get("FEDCOURSE_SOURCE", "auto")
    if source == "auto":
        try:
            return from_sqlite(emnist.fetch(cache_dir))
        except OSError:  # no connection, or no room
            print(
                "Federated EMNIST is out of reach here, so these are the embedded digits: 5,000 "
                "real MNIST images, 60 simulated writers. (load('emnist') tells why.)"
            )
            source = "embedded"
    if source == "emnist":
        return from_sqlite(emnist.fetch(cache_dir))
    if source == "embedded":
        return _embedded(cache_dir)
    if isinstance(source, str) and not pathlib.Path(source).suffix and not os.path.exists(source):
        raise ValueError(
            f"source={source!r} is none of 'auto', 'emnist', 'embedded', and no file has that name"
        )
    if os.path.isdir(source):
        raise ValueError(f"source={str(source)!r} is a folder: use fedcourse.data.from_folders")
    return from_sqlite(source)


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
    splits = emnist.split_names(path)
    stems = [name.removesuffix("train") for name in splits if name.endswith("train")]
    pairs = [stem for stem in stems if stem + "test" in splits]
    if not pairs:
        raise ValueError(
            f"path={str(path)!r} has splits {splits}; it needs a pair such as 'train' and 'test'"
        )
    stem = "digits_only_" if "digits_only_" in pairs else pairs[0]
    return sqlite_split(path, stem + "train"), sqlite_split(path, stem + "test")


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

    Lesson: 15
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


def from_folders(path: str | os.PathLike, invert: bool = False) -> ClientData:
    """Make federated data of image files in folders: path/<client>/<label>/<any name>.png or .jpg.

    Images become grey and 28 x 28; transparent parts become paper. Where all label folders have
    whole numbers as names, these are the labels; otherwise a label is the place of its folder's
    name among all label names in alphabetical order, starting from 0.

    Args:
        path: the folder that holds one folder for each client.
        invert: True if the images show bright ink on a dark ground.

    Returns:
        A `ClientData` whose client ids are the names of the folders.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no clients in it, a client without images, or a file that is no image.

    Lesson: 15
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: no such folder")
    folders = {client.name: _visible_folders(client) for client in _visible_folders(root)}
    names = sorted({label.name for labels in folders.values() for label in labels})
    numbers = {
        name: int(name) if all(n.isdecimal() for n in names) else place
        for place, name in enumerate(names)
    }
    clients = {}
    for client, labels in folders.items():
        files = [
            (file, numbers[label.name])
            for label in labels
            for file in sorted(label.iterdir())
            if file.suffix.lower() in (".png", ".jpg", ".jpeg") and not file.name.startswith(".")
        ]
        if not files:
            raise ValueError(
                f"path={str(path)!r}: client {client!r} has no images; "
                "put them in <client>/<label>/*.png or *.jpg, or remove the folder"
            )
        images = np.stack([_read_image(file) for file, _ in files])
        clients[client] = (255 - images if invert else images), np.array([n for _, n in files])
    if not clients:
        raise ValueError(
            f"path={str(path)!r} has no client folders; it needs <client>/<label>/*.png"
        )
    return from_arrays(clients)


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


def split_writers(
    client_ids: Sequence[str], unseen: float = 1 / 6, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Divide the clients into those that train and those that are only ever judged on.

    Args:
        client_ids: all clients, in any order.
        unseen: share of the clients to keep out of training.
        seed: another seed, another division.

    Returns:
        training, unseen: two sorted lists without a client in common, each with at least one.

    Raises:
        ValueError: fewer than two clients, a client twice, or a share not between 0 and 1.

    Lesson: 02
    """
    ids = _distinct(client_ids)
    if not 0 < unseen < 1:
        raise ValueError(f"unseen={unseen!r} must be a share between 0 and 1, such as 1/6")
    if len(ids) < 2:
        raise ValueError(f"client_ids has {len(ids)} client(s); it takes two to keep one unseen")
    count = min(max(1, round(unseen * len(ids))), len(ids) - 1)
    order = _generator(seed=seed).permutation(len(ids))
    return sorted(ids[i] for i in order[count:]), sorted(ids[i] for i in order[:count])


def sample_clients(
    client_ids: Sequence[str], count: int, seed: int, round_number: int
) -> list[str]:
    """Draw the cohort of a round: a new one each round, the same again if the round is run again.

    Args:
        client_ids: the clients to draw from, in any order.
        count: how many, each at most once.
        seed: the experiment's seed, 0 or more.
        round_number: 0 or more. The draw depends on seed and round_number only, not on earlier
            draws.

    Returns:
        The ids drawn, in the order drawn.

    Raises:
        ValueError: more clients per round than there are, or fewer than one.

    Lesson: 04
    """
    ids = _distinct(client_ids)
    if not 1 <= count <= len(ids):
        raise ValueError(
            f"count={count!r} clients per round can't be drawn from {len(ids)}: "
            f"choose between 1 and {len(ids)}"
        )
    generator = _generator(seed=seed, round_number=round_number)
    return [ids[i] for i in generator.choice(len(ids), size=count, replace=False)]


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


def batches(
    pixels: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    epochs: int = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Make the batches that a client trains on, shuffled anew in each epoch.

    Built of whole arrays: a function mapped over the images would be traced anew for each client in
    each round, which costs more time than the reading.

    Args:
        pixels: float32 [N, 28, 28].
        labels: int32 [N].
        batch_size: images in a batch; the last batch may be smaller.
        epochs: how often each image comes.
        seed: fixes the order of the images; None for another order each time.

    Returns:
        A data set of (float32 [None, 28, 28, 1], int32 [None]).

    Raises:
        ValueError: arrays of the wrong shape, range or type, or a number below 1.

    Lesson: 01
    """
    pixels, labels = checked(pixels, labels, where="pixels, labels")
    for name, value in (("batch_size", batch_size), ("epochs", epochs)):
        if value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    dataset = tf.data.Dataset.from_tensor_slices((pixels[..., None], labels))
    return dataset.shuffle(len(labels), seed=seed).repeat(epochs).batch(batch_size)


def _embedded(cache_dir: str | os.PathLike | None) -> tuple[ClientData, ClientData]:
    images, labels, writer, test = embedded.load(cache_dir)

    def part(chosen: np.ndarray) -> ClientData:
        own = {f"writer_{w:02}": chosen & (writer == w) for w in range(embedded.WRITERS)}
        return from_arrays({name: (255 - images[mask], labels[mask]) for name, mask in own.items()})

    return part(~test), part(test)


def _to_proto(pixels: np.ndarray, label: np.integer) -> bytes:
    example = tf.train.Example()
    example.features.feature["pixels"].float_list.value.extend(pixels.ravel())
    example.features.feature["label"].int64_list.value.append(int(label))
    return example.SerializeToString(deterministic=True)


def _arrays_of(clients: ClientData, client_id: str) -> Arrays:
    if isinstance(clients, ArraysByClient):
        return clients.arrays(client_id)
    elements = list(clients.create_tf_dataset_for_client(client_id).as_numpy_iterator())
    pixels, labels = ([element[key] for element in elements] for key in ("pixels", "label"))
    return np.array(pixels, np.float32), np.array(labels, np.int32)


def _distinct(client_ids: Sequence[str]) -> list[str]:
    ids = sorted(client_ids)
    twice = [a for a, b in itertools.pairwise(ids) if a == b]
    if twice:
        raise ValueError(f"client_ids has {twice[0]!r} twice; each client must come once")
    return ids


def _generator(**seeds: int) -> np.random.Generator:
    for name, value in seeds.items():
        if not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name}={value!r} must be a whole number, 0 or more")
    return np.random.default_rng(list(seeds.values()))


def _visible_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _read_image(file: pathlib.Path) -> np.ndarray:
    """Read an image file as uint8 [28, 28]."""
    import PIL.Image
    import PIL.ImageOps

    try:
        with PIL.Image.open(file) as image:
            image = PIL.ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError) as error:  # the latter from broken PNG files
        raise ValueError(f"{str(file)!r} is not an image that can be read: {error}") from error
    paper = PIL.Image.new("RGBA", image.size, "white")
    grey = PIL.Image.alpha_composite(paper, image).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS))
