"""How many rounds a run took to reach a target accuracy."""

import itertools
import math
from collections.abc import Sequence


def rounds_to_target(rounds: Sequence[float], accuracies: Sequence[float], target: float) -> float:
    """Return where a learning curve crosses a target.

    The curve is first made monotone: each point becomes the best so far. Between two points it is
    a straight line.

    Args:
        rounds: The rounds after which accuracy was measured, rising.
        accuracies: Accuracy at each, 0 to 1.
        target: The accuracy to reach, 0 to 1.

    Returns:
        Rounds, with a fraction; the first of `rounds` where the curve starts at the target or
        above; infinity where it never gets there.

    Raises:
        ValueError: No points, not as many rounds as accuracies, rounds that do not rise, or an
            accuracy or a target that is no share.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, section 3.
    Lesson: 06
    """
    if len(rounds) != len(accuracies) or not len(rounds):
        raise ValueError(
            f"rounds has {len(rounds)} entries, accuracies {len(accuracies)}: "
            "give one accuracy for each round, and at least one"
        )
    if any(b <= a for a, b in itertools.pairwise(rounds)):
        raise ValueError(f"rounds={list(rounds)!r} must rise from each to the next")
    if not all(0 <= accuracy <= 1 for accuracy in accuracies):
        raise ValueError(f"accuracies={list(accuracies)!r} must all be shares, 0 to 1")
    if not 0 < target <= 1:
        raise ValueError(f"target={target!r} must be a share above 0 and at most 1, such as 0.95")
    best = list(itertools.accumulate(accuracies, max))
    place = next((i for i, accuracy in enumerate(best) if accuracy >= target), None)
    if place is None:
        return math.inf
    if place == 0:
        return float(rounds[0])
    way = (target - best[place - 1]) / (best[place] - best[place - 1])
    return float(rounds[place - 1] + way * (rounds[place] - rounds[place - 1]))
