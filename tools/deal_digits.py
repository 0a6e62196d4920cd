"""Deal the embedded digits to simulated writers by style.

`python tools/deal_digits.py` writes src/fedcourse/data/deal.npz, which the package reads. It is
shipped, since another machine's last bits could deal a few images otherwise.
"""

import pathlib

import numpy as np

from fedcourse.data import digits
from fedcourse.data.handwriting import minus_group_means, style

SMALLEST, TYPICAL, LARGEST = 20, 80, 150  # images of one writer
NOISE = 0.9  # standard deviations: how loosely a writer keeps to their taste
TEST_SHARE = 0.107  # of each writer's images, as in federated EMNIST
DEAL = pathlib.Path(digits.__file__).with_name("deal.npz")


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

    """
    from scipy.optimize import linear_sum_assignment  # slow to import, needed once

    rng = np.random.default_rng(seed)
    sizes = _sizes(rng, len(images))
    tastes = rng.normal(size=(digits.WRITERS, 2))
    features = [minus_group_means(feature, labels) for feature in style(images)]
    # Rounding hides the last bits, in which one machine's sums may differ from another's.
    styles = np.stack([np.round(f / f.std(), 6) for f in features], axis=1)

    writer = np.empty(len(images), dtype=np.int64)
    for digit, quota in enumerate(_quotas(sizes).T):
        of_digit = np.flatnonzero(labels == digit)
        wanted = styles[of_digit] + NOISE * rng.normal(size=(len(of_digit), 2))
        seats = np.repeat(np.arange(digits.WRITERS), quota)
        cost = ((wanted[:, None] - tastes[seats][None]) ** 2).sum(-1)
        image, seat = linear_sum_assignment(cost)
        writer[of_digit[image]] = seats[seat]

    test = np.zeros(len(images), dtype=bool)
    for number in range(digits.WRITERS):
        own = rng.permutation(np.flatnonzero(writer == number))
        test[own[: max(1, round(TEST_SHARE * len(own)))]] = True
    return writer, test


def _sizes(rng: np.random.Generator, total: int) -> np.ndarray:
    """Draw how many images each writer has: lognormal, within the bounds, summing to `total`."""
    sizes = rng.lognormal(np.log(TYPICAL), 0.5, digits.WRITERS).round()
    sizes = np.clip(sizes, SMALLEST, LARGEST).astype(int)
    while gap := total - sizes.sum():
        chosen = rng.integers(digits.WRITERS)
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


if __name__ == "__main__":
    writer, test = deal(*digits.read())
    np.savez_compressed(DEAL, writer=writer.astype(np.uint8), test=test)
