"""Differential privacy for clients: clip, add noise, count what it cost, and check the count.

The unit of privacy is a client: results hardly change with a client added or left out.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import dp_accounting
import numpy as np
from dp_accounting import pld
from scipy import optimize
from scipy.stats import beta, norm


def clip(updates: np.ndarray, clip_norm: float) -> np.ndarray:
    """Shorten updates that are longer than `clip_norm` to that length; leave the others.

    Args:
        updates: float [..., entries].
        clip_norm: Largest length (L2 norm) to leave, above 0.

    Returns:
        The same shape.

    Raises:
        ValueError: `clip_norm` is not above 0, or an update is not finite.

    Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models,
        FlatClip.
    Lesson: 10
    """
    _positive(clip_norm=clip_norm)
    lengths = np.linalg.norm(updates, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise ValueError("updates has NaN or infinity: leave these clients out")
    return updates * (clip_norm / np.maximum(lengths, clip_norm))


def private_mean(
    updates: np.ndarray,
    clip_norm: float,
    noise_multiplier: float,
    expected_clients: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Return the mean of a cohort's updates as differential privacy lets it out.

    The sum of the clipped updates gets Gaussian noise of standard deviation `noise_multiplier *
    clip_norm`, and is divided by the expected size of the cohort: the true size is itself private.

    Args:
        updates: float [clients, entries]; no clients at all is a valid cohort.
        clip_norm: Largest length of an update that counts in full.
        noise_multiplier: Standard deviation of the noise over `clip_norm`; 0 is no privacy.
        expected_clients: Mean size of a cohort.
        generator: Where the noise comes from. Who can tell its seed can take the noise off.

    Returns:
        float [entries].

    Raises:
        ValueError: A number is out of range, or an update is not finite.

    Source: McMahan et al. 2018, Learning Differentially Private Recurrent Language Models,
        algorithm 1, with every client's weight 1.
    Lesson: 10
    """
    _positive(expected_clients=expected_clients)
    _not_negative(noise_multiplier=noise_multiplier)
    total = clip(updates, clip_norm).sum(axis=0)
    noise = generator.normal(0, noise_multiplier * clip_norm, total.shape)
    return (total + noise) / expected_clients


def poisson_cohort(
    client_ids: Sequence[str], probability: float, seed: int, round_number: int
) -> list[str]:
    """Draw each client by itself with the same probability: what the accountant counts on.

    Args:
        client_ids: The clients to draw from.
        probability: Of each, 0 to 1.
        seed: The experiment's seed, 0 or more. Whoever can tell it knows the cohorts, and gains
            nothing from the sampling.
        round_number: 0 or more; with `seed` it fixes the draw.

    Returns:
        The ids drawn, in the order of `client_ids`; possibly none.

    Raises:
        ValueError: `probability` is not from 0 to 1.

    Lesson: 10
    """
    _share(probability=probability)
    drawn = np.random.default_rng([seed, round_number]).random(len(client_ids)) < probability
    return [client for client, here in zip(client_ids, drawn, strict=True) if here]


def epsilon(noise_multiplier: float, sampling: float, rounds: int, delta: float) -> float:
    """Return the ε that DP-FedAvg has spent, an upper bound, for adding or removing one client.

    Args:
        noise_multiplier: Standard deviation of the noise over the clip norm; 0 gives infinity.
        sampling: Probability with which a client is in a round, above 0; 1 for everyone always.
        rounds: Number of rounds.
        delta: The δ beside it, well below one over the number of clients.

    Raises:
        ValueError: A number is out of range.

    Source: Koskela et al. 2020, Computing Tight Differential Privacy Guarantees Using FFT;
        Doroshenko et al. 2022, Connect the Dots: Tighter Discrete Approximations of Privacy Loss
        Distributions; as implemented in dp-accounting.
    Lesson: 10
    """
    _not_negative(noise_multiplier=noise_multiplier)
    _check_plan(sampling, rounds, delta)
    if noise_multiplier == 0:
        return math.inf
    event = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling < 1:
        event = dp_accounting.PoissonSampledDpEvent(sampling, event)
    # About a thousandth of what a round may cost: fine enough for three digits, and quick.
    grid = min(300.0, 1e-3 * max(1 / noise_multiplier, 1 / noise_multiplier**2))
    accountant = pld.PLDAccountant(value_discretization_interval=grid)
    return float(accountant.compose(event, int(rounds)).get_epsilon(delta))


def noise_for(target: float, sampling: float, rounds: int, delta: float) -> float:
    """Return the least noise multiplier, to a thousandth of it, whose ε is at most `target`.

    Args:
        target: The ε to stay within, above 0; infinity gives 0.
        sampling: As for `epsilon`.
        rounds: As for `epsilon`.
        delta: As for `epsilon`.

    Raises:
        ValueError: A number is out of range.

    Lesson: 10
    """
    _check_plan(sampling, rounds, delta)
    if target == math.inf or 1 - (1 - sampling) ** rounds <= delta:  # δ covers being seen at all
        return 0.0
    _positive(target=target)
    low = high = 1.0
    while epsilon(high, sampling, rounds, delta) > target:
        low, high = high, 2 * high
    while low == high or epsilon(low, sampling, rounds, delta) <= target:
        low, high = low / 2, low
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        if epsilon(middle, sampling, rounds, delta) > target:
            low = middle
        else:
            high = middle
    return high


def tree_sensitivity(rounds: int, taking_part: Sequence[int]) -> float:
    """Return how far one client can move all nodes of DP-FTRL's tree together, in clip norms.

    A node sums 2^k rounds that follow each other; only whole ones are ever used. A client adds at
    most one clip norm to a node for each of its rounds in it; in its neighbour these rounds go on
    without it. Noise of standard deviation z clip norms in each node is as private as one Gaussian
    with noise multiplier z over the result.

    Args:
        rounds: Rounds of training, all in one tree.
        taking_part: The rounds, counted from 0, that the client takes part in.

    Raises:
        ValueError: A round that is not one of `rounds`, or twice.

    Source: Kairouz et al. 2021, Practical and Private (Deep) Learning without Sampling or
        Shuffling, appendix D.2 (one tree, no restart), here counted node by node.
    Lesson: 10
    """
    counts = np.zeros(rounds)
    for number in taking_part:
        if not 0 <= number < rounds or counts[number]:
            raise ValueError(f"taking_part has {number}: each must be from 0 to {rounds - 1}, once")
        counts[number] = 1
    squares = 0.0
    while len(counts):
        squares += (counts**2).sum()
        counts = counts[: len(counts) // 2 * 2].reshape(-1, 2).sum(axis=1)
    return math.sqrt(squares)


class Audit(NamedTuple):
    """What an attack on repeated trainings proves about ε.

    Attributes:
        lower: ε is at least this, at the confidence asked for, whatever the mechanism; 0 or more.
        lower_if_normal: The same, taken by itself, for a mechanism known to add normal noise
            without sampling: then more can be said of the rare events that δ is about.
        found: Share of the counted trainings with the canary that `lower`'s threshold finds.
        accused: Share of the counted trainings without it that are taken for one with it.

    Lesson: 10
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
    Lesson: 10
    """
    _share(delta=delta, confidence=confidence)
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


def _check_plan(sampling: float, rounds: int, delta: float) -> None:
    _share(sampling=sampling, delta=delta)
    _positive(sampling=sampling, delta=delta, rounds=rounds)
    if rounds != int(rounds):
        raise ValueError(f"rounds={rounds!r} must be a whole number")


def _positive(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name}={number!r} must be above 0, and finite")


def _not_negative(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name}={number!r} must be 0 or more, and finite")


def _share(**numbers: float) -> None:
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name}={number!r} must be from 0 to 1")
