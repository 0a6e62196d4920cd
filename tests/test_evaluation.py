import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcourse import evaluation

shares = st.floats(0, 1)
curves = st.lists(shares, min_size=1, max_size=30)


def test_crossing_is_interpolated_on_a_straight_line():
    assert evaluation.rounds_to_target([1, 2, 3], [0.2, 0.4, 0.8], 0.5) == pytest.approx(2.25)
    assert evaluation.rounds_to_target([10, 20], [0.5, 0.9], 0.9) == 20
    assert evaluation.rounds_to_target([0, 100], [0.1, 0.9], 0.3) == pytest.approx(25)


def test_a_dip_does_not_count():
    """Monotone first: the line to the crossing starts from the best so far, not from the dip."""
    assert evaluation.rounds_to_target([1, 2, 3], [0.6, 0.1, 0.8], 0.7) == pytest.approx(2.5)


def test_first_crossing_counts_though_the_curve_falls_again():
    assert evaluation.rounds_to_target([1, 2, 3, 4], [0.2, 0.9, 0.1, 0.95], 0.9) == 2


def test_the_ends():
    assert evaluation.rounds_to_target([5, 6], [0.9, 0.95], 0.8) == 5
    assert evaluation.rounds_to_target([5, 6], [0.1, 0.2], 0.8) == math.inf


@given(curves, st.floats(0.01, 1))
def test_reached_exactly_if_some_point_is_there(curve, target):
    rounds = range(1, len(curve) + 1)
    reached = evaluation.rounds_to_target(rounds, curve, target)
    if max(curve) < target:
        assert reached == math.inf
    else:
        first = next(n for n, share in zip(rounds, curve, strict=True) if share >= target)
        assert max(1, first - 1) <= reached <= first


@given(curves, st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_higher_target_never_comes_earlier(curve, one, other):
    rounds = range(1, len(curve) + 1)
    low, high = (
        evaluation.rounds_to_target(rounds, curve, target) for target in sorted((one, other))
    )
    assert low <= high + 1e-9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([], [], 0.5), "at least one"),
        (([1, 2], [0.5], 0.5), "rounds has 2 entries, accuracies 1"),
        (([1, 1], [0.5, 0.6], 0.5), "must rise"),
        (([1], [math.nan], 0.5), "accuracies=.*0 to 1"),
        (([1], [97.0], 0.5), "accuracies=.*0 to 1"),
        (([1], [0.5], 95), "target=95"),
        (([1], [0.5], 0), "target=0"),
    ],
)
def test_bad_input_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        evaluation.rounds_to_target(*arguments)


def test_mean_accuracy_counts_each_writer_once():
    class ReadsOnes:
        def predict(self, pixels, batch_size, verbose):
            return np.eye(10)[np.ones(len(pixels), int)]

    writers = {
        "a": (np.zeros((1, 28, 28)), np.array([1])),
        "b": (np.zeros((4, 28, 28)), np.array([1, 2, 3, 4])),
    }
    assert evaluation.mean_accuracy(ReadsOnes(), writers) == pytest.approx((1 + 0.25) / 2)
