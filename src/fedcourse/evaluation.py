"""Judging: accuracy writer by writer, its summary, and the rounds to a target."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from fedcourse.data.arrays import Arrays


def predicted(
    model: tf.keras.Model, writers: Mapping[str, Arrays]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return what a model says of each writer's images, beside their labels.

    Args:
        model: Keras model from images, float32 [N, H, W, C], to logits, float32 [N, K].
        writers: For each writer id, pixels float32 [N, H, W] or [N, H, W, C] and labels int32 [N].

    Returns:
        Writer id -> (logits float32 [N, K], labels int32 [N]), in the order of `writers`.

    Raises:
        ValueError: `writers` is empty, or a label has no output.

    Lesson: 05
    """
    if not writers:
        raise ValueError("writers is empty: give at least one writer to judge the model on.")
    sizes = [len(labels) for _, labels in writers.values()]
    pixels = np.concatenate([pixels for pixels, _ in writers.values()])
    pixels = pixels[..., np.newaxis] if pixels.ndim == 3 else pixels
    logits = model.predict(pixels, batch_size=500, verbose=0)
    for writer, (_, labels) in writers.items():
        if (top := int(np.max(labels))) >= logits.shape[1]:
            raise ValueError(
                f"an image of {writer!r} has the label {top}, and the model has {logits.shape[1]} "
                f"outputs, for the labels 0 to {logits.shape[1] - 1}"
            )
    parts = np.split(logits, np.cumsum(sizes)[:-1])
    return {
        writer: (part, np.asarray(labels))
        for part, (writer, (_, labels)) in zip(parts, writers.items(), strict=True)
    }


def accuracy_by_writer(model: tf.keras.Model, writers: Mapping[str, Arrays]) -> dict[str, float]:
    """Return each writer's share of images the model reads correctly.

    Args:
        model: Keras model from images, float32 [N, H, W, C], to logits, float32 [N, K].
        writers: For each writer id, pixels float32 [N, H, W] or [N, H, W, C] and labels int32 [N].

    Returns:
        Accuracy, 0 to 1, by writer id, in the order of `writers`.

    Raises:
        ValueError: `writers` is empty, or a label has no output.

    Lesson: 02
    """
    return {
        writer: float((logits.argmax(1) == labels).mean())
        for writer, (logits, labels) in predicted(model, writers).items()
    }


class Summary(NamedTuple):
    """Accuracy over writers, each writer counted once whatever the number of their images.

    Attributes:
        mean: Mean over writers.
        median: Median over writers.
        worst_tenth: Mean over the tenth of writers (at least one) who are served worst.

    Lesson: 02
    """

    mean: float
    median: float
    worst_tenth: float


def summary(accuracies: Mapping[str, float]) -> Summary:
    """Summarise accuracies by writer, see `accuracy_by_writer`.

    Raises:
        ValueError: `accuracies` is empty.

    Lesson: 02
    """
    if not accuracies:
        raise ValueError("accuracies is empty: give the accuracy of at least one writer.")
    values = np.sort(list(accuracies.values()))
    worst = values[: math.ceil(len(values) / 10)]
    return Summary(float(values.mean()), float(np.median(values)), float(worst.mean()))


def mean_accuracy(model: tf.keras.Model, writers: Mapping[str, Arrays]) -> float:
    """Return the mean over writers of `accuracy_by_writer`.

    Lesson: 02
    """
    return summary(accuracy_by_writer(model, writers)).mean


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
    Lesson: 07
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
