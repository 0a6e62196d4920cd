"""The one workload of all engines, what it costs in arithmetic, and how good a model became."""

import pathlib

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)
import numpy as np

from fedcourse import data, models
from fedcourse.data import digits

CLIENTS, IMAGES, COHORT, BATCH_SIZE, LEARNING_RATE = 50, 80, 10, 10, 0.1


def make(path: pathlib.Path, rounds: int, seed: int = 0) -> None:
    """Write real digits dealt evenly to clients, every round's cohort, and the first weights.

    Args:
        path: The file to write, `.npz`.
        rounds: How many cohorts to draw.
        seed: Fixes the deal, the cohorts and the weights.
    """
    rng = np.random.default_rng(seed)
    images, labels = digits.read()
    deal = rng.permutation(len(labels))
    train, held_out = deal[: CLIENTS * IMAGES], deal[CLIENTS * IMAGES :]
    pixels = ((255 - images) / 255.0).astype(np.float32)
    arrays = {
        "pixels": pixels[train].reshape(CLIENTS, IMAGES, 28, 28),
        "labels": labels[train].reshape(CLIENTS, IMAGES).astype(np.int32),
        "test_pixels": pixels[held_out],
        "test_labels": labels[held_out].astype(np.int32),
        "cohorts": np.stack([rng.permutation(CLIENTS)[:COHORT] for _ in range(rounds)]),
        "order": np.stack([_order(number) for number in range(rounds)]),
        "batch_size": BATCH_SIZE,
        "learning_rate": LEARNING_RATE,
    }
    for number, shape in enumerate(weight.shape for weight in models.mcmahan_cnn().weights):
        arrays[f"weights_{number}"] = _glorot(shape, rng)
    np.savez(path, **arrays)


def _order(number: int) -> np.ndarray:
    """Return how `data.batches` shuffles a client in a round; engines without it do the same."""
    blank, numbers = np.zeros((IMAGES, 28, 28), np.float32), np.arange(IMAGES, dtype=np.int32)
    (batch,) = data.batches(blank, numbers, batch_size=IMAGES, seed=number)
    return batch[1].numpy()


def _glorot(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    fans = np.prod(shape[:-2], dtype=int) * np.array(shape[-2:])
    limit = np.sqrt(6 / fans.sum())
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def flop_of_a_round() -> float:
    """Count a round's floating-point operations: two for each weight at each place it is used.

    The way back costs twice the way forward: the gradients of the weights, and of what came in.
    """
    forward = 0
    for layer in models.mcmahan_cnn().layers:
        if layer.weights:
            places = np.prod(layer.output_shape[1:-1], dtype=int)  # 1 for a dense layer
            forward += 2 * places * np.prod(layer.weights[0].shape, dtype=int)
    return 3.0 * int(forward) * COHORT * IMAGES


def accuracy(path: pathlib.Path, weights: list[np.ndarray]) -> float:
    """Return the share of the held-out images that McMahan's CNN reads right with these weights."""
    network = models.mcmahan_cnn()
    network.set_weights(weights)
    with np.load(path) as npz:
        logits = network.predict(npz["test_pixels"][..., None], batch_size=500, verbose=0)
        return float((logits.argmax(1) == npz["test_labels"]).mean())


def apart(path: pathlib.Path, one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return how far apart two engines' weights are, as a share of the way that training took.

    Not zero: the paper's white makes thousands of equal numbers, and where one of them is at the
    edge of a ReLU, rounding decides for all of them at once.
    """
    with np.load(path) as npz:
        first = [npz[f"weights_{number}"] for number in range(len(one))]

    def distance(a, b):
        return np.sqrt(sum(np.square(x - y).sum() for x, y in zip(a, b, strict=True)))

    return float(distance(one, other) / distance(first, other))
