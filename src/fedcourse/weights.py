"""A network's weights or its update: a list of arrays, as one vector and back, and compared."""

from collections.abc import Sequence

import numpy as np


def flat(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays of any shape into one vector, [size of all of them].

    Lesson: 08
    """
    return np.concatenate([np.ravel(array) for array in arrays])


def shaped(vector: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Cut a vector into arrays of the shapes of `like`: the inverse of `flat`.

    Raises:
        ValueError: The vector has another size than `like` has in all.

    Lesson: 10
    """
    sizes = [int(np.size(array)) for array in like]
    if np.shape(vector) != (sum(sizes),):
        raise ValueError(f"vector has shape {np.shape(vector)}; `like` needs [{sum(sizes)}]")
    parts = np.split(vector, np.cumsum(sizes)[:-1])
    return [part.reshape(np.shape(array)) for part, array in zip(parts, like, strict=True)]


def largest_gap(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Return the largest difference between entries of two lists of arrays of the same shapes.

    Raises:
        ValueError: The lists are empty, or differ in length or in a shape.

    Lesson: 03
    """
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(one, other, strict=True)]
    if not pairs or any(a.shape != b.shape for a, b in pairs):
        raise ValueError("one and other must be lists of arrays of the same shapes, not empty")
    return max(float(np.abs(a - b).max()) for a, b in pairs)
