"""Which classes are taken for which: counts that clients can send, and what follows from their sum.

A client counts at home; the server adds the counts up, and needs nothing else for precision,
recall, F1 and top-k accuracy over all images.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedcourse import evaluation
from fedcourse.data.arrays import Arrays


def by_client(model: tf.keras.Model, clients: Mapping[str, Arrays]) -> dict[str, np.ndarray]:
    """Return each client's confusion matrix.

    Args:
        model: Keras model from images, float32 [N, H, W, C], to logits, float32 [N, K].
        clients: Client id -> (pixels, labels int32 [N]); one without images counts nothing.

    Returns:
        Client id -> int64 [K, K]: in row t and column p the client's images of class t that the
        model takes for p. The sum over clients is the matrix of all images.

    Raises:
        ValueError: No client has an image, or a label has no output.

    Lesson: 05
    """
    return {
        client: _counts(labels, logits.argmax(1), logits.shape[1])
        for client, (logits, labels) in _answers(model, clients).items()
    }


def top_k_by_client(
    model: tf.keras.Model, clients: Mapping[str, Arrays], k: int
) -> dict[str, np.ndarray]:
    """Return how many of each client's images have their class among the k most likely.

    Args:
        model: Keras model from images, float32 [N, H, W, C], to logits, float32 [N, K].
        clients: Client id -> (pixels, labels int32 [N]); one without images counts nothing.
        k: From 1 to K.

    Returns:
        Client id -> int64 [2]: images that have, and images. The sum over clients gives the share
        in all images. Of equal logits the higher class comes first, as in scikit-learn; argmax, and
        with it accuracy and `by_client`, takes the lower.

    Raises:
        ValueError: No client has an image, a label has no output, or k is out of its range.

    Lesson: 05
    """
    counts = {}
    for client, (logits, labels) in _answers(model, clients).items():
        if not 1 <= k <= logits.shape[1]:
            raise ValueError(f"k={k!r} must be from 1 to {logits.shape[1]}, the model's outputs")
        likeliest = np.argsort(logits, axis=1, kind="stable")[:, ::-1][:, :k]
        hits = (likeliest == labels[:, np.newaxis]).any(1)
        counts[client] = np.array([hits.sum(), len(hits)])
    return counts


class Scores(NamedTuple):
    """What a confusion matrix says, class by class; 0 where there is nothing to divide by.

    Attributes:
        precision: float64 [K], of what is taken for a class, the share that is of it.
        recall: float64 [K], of a class's images, the share that is taken for it.
        f1: float64 [K], the harmonic mean of the two.
        support: int64 [K], a class's images.
        accuracy: Share of all images that are taken for what they are.
        macro_f1: Mean of f1 over the classes, each counted once.

    Lesson: 05
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    accuracy: float
    macro_f1: float


def scores(matrix: np.ndarray) -> Scores:
    """Return precision, recall and F1 of each class, and what sums them up.

    Args:
        matrix: Integers [K, K], rows the true classes, columns those they are taken for.

    Raises:
        ValueError: Not a square of counts, or all of them 0.

    Lesson: 05
    """
    matrix = np.asarray(matrix)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    counts = square and matrix.dtype.kind in "ui" and matrix.any() and matrix.min() >= 0
    if not counts:
        raise ValueError(
            f"matrix has shape {matrix.shape} and type {matrix.dtype}; it must be a square of "
            "counts, not all of them 0"
        )
    matrix = matrix.astype(np.int64)  # sums of smaller integers wrap
    right, support = np.diag(matrix), matrix.sum(1)
    precision, recall = _share(right, matrix.sum(0)), _share(right, support)
    f1 = _share(2 * right, matrix.sum(0) + support)
    return Scores(
        precision, recall, f1, support, float(right.sum() / matrix.sum()), float(f1.mean())
    )


def _answers(
    model: tf.keras.Model, clients: Mapping[str, Arrays]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return logits and labels by client, [0, K] and [0] for one without images."""
    some = {client: part for client, part in clients.items() if len(part[1])}
    answers = evaluation.predicted(model, some)
    for client, (logits, labels) in answers.items():
        outputs = logits.shape[1]
        if (least := labels.min()) < 0:
            raise ValueError(
                f"an image of {client!r} has the label {least}, and the model has {outputs} "
                f"outputs, for the labels 0 to {outputs - 1}"
            )
    none = np.zeros((0, outputs), np.float32), np.zeros(0, np.int32)
    return {client: answers.get(client, none) for client in clients}


def _counts(labels: np.ndarray, taken_for: np.ndarray, classes: int) -> np.ndarray:
    return np.bincount(labels * classes + taken_for, minlength=classes**2).reshape(classes, classes)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
