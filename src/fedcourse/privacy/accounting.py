"""Count what training spends: ε from noise, sampling and rounds, and the way back."""

import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting import pld

from fedcourse.privacy.checks import check_share, not_negative, positive


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
    Lesson: 11
    """
    not_negative(noise_multiplier=noise_multiplier)
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

    Lesson: none yet
    """
    _check_plan(sampling, rounds, delta)
    if target == math.inf or 1 - (1 - sampling) ** rounds <= delta:  # δ covers being seen at all
        return 0.0
    positive(target=target)
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
    Lesson: 11
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


def _check_plan(sampling: float, rounds: int, delta: float) -> None:
    check_share(sampling=sampling, delta=delta)
    positive(sampling=sampling, delta=delta, rounds=rounds)
    if rounds != int(rounds):
        raise ValueError(f"rounds={rounds!r} must be a whole number")
