import numpy as np
import pytest

from fedcourse import weights

ARRAYS = [np.arange(6.0).reshape(2, 3), np.array(7.0), np.arange(4.0)]


def test_there_and_back():
    vector = weights.flat(ARRAYS)
    assert vector.tolist() == [0, 1, 2, 3, 4, 5, 7, 0, 1, 2, 3]
    for back, array in zip(weights.shaped(vector, ARRAYS), ARRAYS, strict=True):
        assert back.shape == array.shape and np.array_equal(back, array)


def test_largest_gap():
    other = [array.copy() for array in ARRAYS]
    assert weights.largest_gap(ARRAYS, other) == 0
    other[0][1, 2] -= 0.5
    other[2][0] += 0.25
    assert weights.largest_gap(ARRAYS, other) == 0.5


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: weights.shaped(np.zeros(10), ARRAYS), r"shape \(10,\).*\[11\]"),
        (lambda: weights.shaped(np.zeros((11, 1)), ARRAYS), r"shape \(11, 1\)"),
        (lambda: weights.largest_gap([], []), "not empty"),
        (lambda: weights.largest_gap(ARRAYS, ARRAYS[:2]), "shorter"),
        (lambda: weights.largest_gap([np.zeros(3)], [np.zeros((3, 1))]), "same shapes"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
