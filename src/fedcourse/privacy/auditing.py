"""Put the promise to the test: an ε from below, out of many trainings with and without a client."""

import math
from typing import NamedTuple

import numpy as np
from scipy import optimize
from scipy.stats import beta, norm

from fedcourse.privacy.checks import check_share


class Audit(NamedTuple):
    """What an attack on repeated trainings proves about ε.

    Attributes:
        lower: ε is at least this, at the confidence asked for, whatever the mechanism; 0 or more.
        lower_if_normal: The same, taken by itself, for a mechanism known to add normal noise
            without sampling: then more can be said of the rare events that δ is about.
        found: Share of the counted trainings with the canary that `lower`'s threshold finds.
        accused: Share of the counted trainings without it that are taken for one with it.

    Lesson: 11
    """

    lower: float
    lower_if_normal: float
    found: float
    accused: float


def audit(
    with_canary: np.ndarray, without: np.ndarray, delta: float, confidence: float = 0.95
) -> Audit:
    """Bound ε from below by how well a score tells trainings with a canary from those without.

    The first half of the trainings chooses the threshold, the second is counted, so the choice
    cannot flatter the result. For (ε, δ)-differential privacy, found ≤ e^ε accused + δ; each share
    is replaced by the end of its Clopper-Pearson interval that weakens the claim.

    Args:
        with_canary: float [trainings], the attack's score of each, higher where it suspects it.
        without: float [trainings], the same of trainings without the canary.
        delta: The δ of the claim.
        confidence: Probability, at least, that either bound holds, taken by itself; 0 to 1.

    Raises:
        ValueError: Fewer than four trainings of a kind, a score that is NaN, or a number that is
            not from 0 to 1.

    Source: Jagielski et al. 2020, Auditing Differentially Private Machine Learning: How Private Is
        Private SGD?; if normal: Nasr et al. 2023, Tight Auditing of Differentially Private Machine
        Learning, with Dong et al. 2022, Gaussian Differential Privacy, corollary 1; the intervals:
        Clopper and Pearson 1934, The Use of Confidence or Fiducial Limits Illustrated in the Case
        of the Binomial.
    Lesson: 11
    """
    check_share(delta=delta, confidence=confidence)
    scores = [np.asarray(part, float) for part in (with_canary, without)]
    for name, part in zip(("with_canary", "without"), scores, strict=True):
        if part.ndim != 1 or len(part) < 4 or np.isnan(part).any():
            raise ValueError(
                f"{name} must be at least 4 numbers in a row, no NaN; it has shape {part.shape} "
                f"and {np.isnan(part).sum()} NaN"
            )
    first, second = ([part[half::2] for part in scores] for half in (0, 1))
    thresholds = np.unique(np.concatenate(first))

    def proven(measure):
        best = measure(*_shares(thresholds, *first, confidence)).argmax()
        (value,) = measure(*_shares(thresholds[[best]], *second, confidence))
        return thresholds[best], max(0.0, float(value))

    threshold, lower = proven(lambda least, most: np.log(np.maximum(least - delta, most) / most))
    _, distance = proven(lambda least, most: norm.ppf(least) - norm.ppf(most))
    found, accused = (float((part > threshold).mean()) for part in second)
    return Audit(lower, _epsilon_of_normals(distance, delta), found, accused)


def _epsilon_of_normals(distance: float, delta: float) -> float:
    """Return the exact ε of two normal distributions some standard deviations apart.

    Source: Balle and Wang 2018, Improving the Gaussian Mechanism for Differential Privacy:
        Analytical Calibration and Optimal Denoising, theorem 8.
    """
    if distance == 0:
        return 0.0
    if delta == 0:
        return math.inf

    def excess(e: float) -> float:
        far = norm.logcdf(-distance / 2 - e / distance)
        return norm.cdf(distance / 2 - e / distance) - math.exp(e + far) - delta

    top = distance**2 / 2 - distance * norm.ppf(delta)  # where the first term alone is delta
    return float(optimize.brentq(excess, 0, top)) if excess(0) > 0 else 0.0


def _shares(
    thresholds: np.ndarray, with_canary: np.ndarray, without: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the least share found and the most accused that scores above thresholds allow."""
    (found, trainings), (accused, others) = (
        (len(part) - np.searchsorted(np.sort(part), thresholds, "right"), len(part))
        for part in (with_canary, without)
    )
    miss = (1 - confidence) / 2
    least = np.nan_to_num(beta.ppf(miss, found, trainings - found + 1))  # NaN: none was found
    most = np.nan_to_num(beta.ppf(1 - miss, accused + 1, others - accused), nan=1.0)  # NaN: all
    return least, most
