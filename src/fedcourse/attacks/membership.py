"""Was somebody's image trained on? Members told from strangers by their loss."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.stats import rankdata


def losses_of(network: tf.keras.Model, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each image's cross-entropy, exact also where it is nearly 0.

    Args:
        network: From images, float32 [N, 28, 28, 1], to logits, float32 [N, 10].
        pixels: float32 [N, 28, 28].
        labels: int32 [N].

    Returns:
        float64 [N].

    Lesson: 09
    """
    logits = network.predict(pixels[..., np.newaxis], batch_size=500, verbose=0).astype(float)
    over = logits - np.take_along_axis(logits, labels[:, np.newaxis], 1)
    np.put_along_axis(over, labels[:, np.newaxis], -np.inf, 1)
    return np.logaddexp(0, np.logaddexp.reduce(over, axis=1))


class Roc(NamedTuple):
    """How well a threshold on the loss tells members from strangers; intervals are of 95 %.

    Attributes:
        strangers: float [101], share of strangers taken for members: 0, 0.01, … 1.
        members: float [101], share of members found at that price.
        low: float [101], lower end of the band around `members`.
        high: float [101], its upper end.
        auc: Area under the curve: how often a member's loss is below a stranger's. 0.5 is chance.
        auc_low: Lower end of its interval.
        auc_high: Upper end.

    Lesson: 09
    """

    strangers: np.ndarray
    members: np.ndarray
    low: np.ndarray
    high: np.ndarray
    auc: float
    auc_low: float
    auc_high: float


def membership_roc(
    members: Sequence[np.ndarray], strangers: Sequence[np.ndarray], repeats: int, seed: int
) -> Roc:
    """Tell members from strangers by their loss: below a threshold, it is a member.

    The intervals come from drawing the persons anew, with all their images, since the images of
    one person are alike.

    Args:
        members: The losses of each person whose images were trained on, float [N] each.
        strangers: The same of persons whose images were not.
        repeats: Draws for the intervals.
        seed: Fixes the draws.

    Raises:
        ValueError: Nobody among members or strangers, or `repeats` is below 1.

    Source: Yeom et al. 2018, Privacy Risk in Machine Learning, adversary 2; the intervals: the
        percentile bootstrap, Efron 1979, Bootstrap Methods.
    Lesson: 09
    """
    if not len(members) or not len(strangers):
        raise ValueError(
            f"members has {len(members)} persons, strangers {len(strangers)}: each needs one"
        )
    if repeats < 1:
        raise ValueError(f"repeats={repeats!r} must be at least 1")
    generator = np.random.default_rng(seed)
    grid = np.linspace(0, 1, 101)

    def curve(inside, outside):
        inside, outside = np.concatenate(inside), np.concatenate(outside)
        found = np.searchsorted(np.sort(inside), np.quantile(outside, grid)) / len(inside)
        found[-1] = 1  # with no threshold, everyone is taken for a member
        ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
        auc = 1 - (ranks.mean() - (len(inside) + 1) / 2) / len(outside)
        return np.append(found, auc)

    def redrawn(people):
        return [people[i] for i in generator.integers(len(people), size=len(people))]

    draws = [curve(redrawn(members), redrawn(strangers)) for _ in range(repeats)]
    (*found, auc), low, high = curve(members, strangers), *np.quantile(draws, [0.025, 0.975], 0)
    return Roc(
        grid, np.array(found), low[:-1], high[:-1], float(auc), float(low[-1]), float(high[-1])
    )
