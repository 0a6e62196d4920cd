"""Where the lessons' digits come from."""

import os
import pathlib

import numpy as np

from fedcourse.data import digits, emnist
from fedcourse.data.arrays import Arrays
from fedcourse.data.classes import DIGITS
from fedcourse.data.clients import ClientData, from_arrays, images_of
from fedcourse.data.cohorts import split_writers
from fedcourse.data.sqlite import from_sqlite


def load(
    source: str | os.PathLike = "auto", cache_dir: str | os.PathLike | None = None
) -> tuple[ClientData, ClientData]:
    """Load federated data: each client's training images, and the same clients' test images.

    Args:
        source: "emnist" for federated EMNIST (3,383 real writers, 170 MB to download once),
            "emnist62" for its letters, too (62 classes, 3,400 writers, the same file), "embedded"
            for the 5,000 real MNIST digits dealt to 60 simulated writers, "auto" for the first of
            "emnist" and "embedded" that this machine can reach (or what the environment variable
            FEDCOURSE_SOURCE says), or the path of an SQLite file in TFF's layout.
        cache_dir: where the download is kept; None for ~/.cache/fedcourse, or what
            the environment variable FEDCOURSE_CACHE says.

    Returns:
        train, test: two `ClientData`.

    Raises:
        ValueError: source is neither one of the words nor an existing file, or is not in TFF's
            layout.
        FileNotFoundError: source is a path where there is no file.
        ConnectionError: source is "emnist" or "emnist62" and it can't be downloaded.

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
    if source in ("emnist", "emnist62"):
        return from_sqlite(
            emnist.fetch(cache_dir), "all" if source == "emnist62" else "digits_only"
        )
    if source == "embedded":
        return _embedded()
    if isinstance(source, str) and not pathlib.Path(source).suffix and not os.path.exists(source):
        raise ValueError(
            f"source={source!r} is none of 'auto', 'emnist', 'emnist62', 'embedded', "
            "and no file has that name"
        )
    if os.path.isdir(source):
        raise ValueError(f"source={str(source)!r} is a folder: use fedcourse.data.from_folders")
    return from_sqlite(source)


def load_writers(
    source: str | os.PathLike, count: int, seed: int
) -> tuple[dict[str, Arrays], dict[str, Arrays]]:
    """Load the first writers, and keep a sixth of them out of training.

    Args:
        source: As for `load`.
        count: How many writers to take; all of them, said so, where there are fewer.
        seed: Who is kept out, see `split_writers`.

    Returns:
        images: The training images of the writers that train, (pixels, labels) by id.
        unseen: All images, training and test, of those that are never seen.

    Raises:
        ValueError: As `load` and `split_writers` do.

    Lesson: 02
    """
    train, test = load(source)
    writers = train.client_ids[:count]
    if len(writers) < count:
        print(f"{count} writers are asked for, and {len(writers)} are there: all are taken.")
    training_writers, unseen_writers = split_writers(writers, seed=seed)
    images = {writer: images_of(train, writer) for writer in training_writers}
    return images, {writer: images_of((train, test), writer) for writer in unseen_writers}


def _embedded() -> tuple[ClientData, ClientData]:
    images, labels, writer, test = digits.load()

    def part(chosen: np.ndarray) -> ClientData:
        own = {f"writer_{w:02}": chosen & (writer == w) for w in range(digits.WRITERS)}
        return from_arrays(
            {name: (255 - images[mask], labels[mask]) for name, mask in own.items()}, DIGITS
        )

    return part(~test), part(test)
