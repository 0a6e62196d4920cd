"""Who trains, who is never seen, who is in a round, and the batches they train on."""

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from fedcourse.data.arrays import Arrays, checked

AT_ONCE = 2**21  # bytes of images, all epochs counted, up to which a client's batches are cut here

# What TensorFlow does to make a long pipeline quick costs a short one more than it gains.
_PLAIN = tf.data.Options()
_PLAIN.autotune.enabled = False
_PLAIN.experimental_optimization.apply_default_optimizations = False


def split_writers(
    client_ids: Sequence[str], unseen: float = 1 / 6, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Divide the clients into those that train and those that are only ever judged on.

    Args:
        client_ids: all clients, in any order.
        unseen: share of the clients to keep out of training.
        seed: another seed, another division.

    Returns:
        training, unseen: two sorted lists without a client in common, each with at least one.

    Raises:
        ValueError: fewer than two clients, a client twice, or a share not between 0 and 1.

    Lesson: 02
    """
    ids = _distinct(client_ids)
    if not 0 < unseen < 1:
        raise ValueError(f"unseen={unseen!r} must be a share between 0 and 1, such as 1/6")
    if len(ids) < 2:
        raise ValueError(f"client_ids has {len(ids)} client(s); it takes two to keep one unseen")
    count = min(max(1, round(unseen * len(ids))), len(ids) - 1)
    order = _generator(seed=seed).permutation(len(ids))
    return sorted(ids[i] for i in order[count:]), sorted(ids[i] for i in order[:count])


def sample_clients(
    client_ids: Sequence[str], count: int, seed: int, round_number: int
) -> list[str]:
    """Draw the cohort of a round: a new one each round, the same again if the round is run again.

    Args:
        client_ids: the clients to draw from, in any order.
        count: how many, each at most once.
        seed: the experiment's seed, 0 or more.
        round_number: 0 or more. The draw depends on seed and round_number only, not on earlier
            draws.

    Returns:
        The ids drawn, in the order drawn.

    Raises:
        ValueError: more clients per round than there are, or fewer than one.

    Lesson: 04
    """
    ids = _distinct(client_ids)
    if not 1 <= count <= len(ids):
        raise ValueError(
            f"count={count!r} clients per round can't be drawn from {len(ids)}: "
            f"choose between 1 and {len(ids)}"
        )
    generator = _generator(seed=seed, round_number=round_number)
    return [ids[i] for i in generator.choice(len(ids), size=count, replace=False)]


def batches(
    pixels: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    epochs: int = 1,
    seed: int | None = None,
) -> tf.data.Dataset:
    """Make the batches that a client trains on, shuffled anew in each epoch.

    A few images are shuffled and cut here, so that what reads them only hands out batches, in the
    same order each time it is asked; many are shuffled while they are read. With a seed, the first
    pass through either is the same.

    Args:
        pixels: float32 [N, H, W] or [N, H, W, C].
        labels: int32 [N], or float32 [N] or [N, K].
        batch_size: images in a batch; the last batch may be smaller.
        epochs: how often each image comes; 0 for a client that has nothing to do.
        seed: fixes the order of the images; None for another order each time.

    Returns:
        A data set of (float32 [None, H, W, C], labels [None] or [None, K]), with one channel where
        `pixels` have none.

    Raises:
        ValueError: arrays of the wrong shape, range or type, batch_size below 1, epochs below 0.

    Lesson: 01
    """
    pixels, labels = checked(pixels, labels, where="pixels, labels")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size!r} must be at least 1")
    if epochs < 0:
        raise ValueError(f"epochs={epochs!r} must be at least 0")
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if 0 < epochs * pixels.nbytes <= AT_ONCE:
        seed = np.random.default_rng().integers(2**31) if seed is None else seed
        order = _shuffled(len(labels), epochs, int(seed))
        return _cut(pixels[order], labels[order], batch_size)
    dataset = tf.data.Dataset.from_tensor_slices((pixels, labels)).with_options(_PLAIN)
    ready = dataset.shuffle(len(labels), seed=seed).repeat(max(epochs, 1)).batch(batch_size)
    return ready if epochs else ready.take(0)


def _cut(pixels: np.ndarray, labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Make batches of images in their order, as one tensor of full batches and one of the rest."""
    full = len(labels) // batch_size * batch_size
    spec = tuple(tf.TensorSpec((None, *a.shape[1:]), a.dtype) for a in (pixels, labels))
    parts = []
    for start, stop, size in ((0, full, batch_size), (full, len(labels), len(labels) - full)):
        if start < stop:
            blocks = [a[start:stop].reshape(-1, size, *a.shape[1:]) for a in (pixels, labels)]
            shapes = [block.shape[1:] for block in blocks]
            part = tf.raw_ops.TensorSliceDataset(components=blocks, output_shapes=shapes)
            parts.append(tf.data.experimental.from_variant(part, spec))
    return functools.reduce(tf.data.Dataset.concatenate, parts).with_options(_PLAIN)


@functools.lru_cache(maxsize=4096)
def _shuffled(count: int, epochs: int, seed: int) -> np.ndarray:
    """Return the order in which `Dataset.shuffle(count, seed).repeat(epochs)` gives elements."""
    return _order(count, epochs, seed % (2**31 - 1)).numpy()


@tf.function(input_signature=[tf.TensorSpec([], tf.int64)] * 3)
def _order(count: tf.Tensor, epochs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    numbers = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.range(count)),
        buffer_size=count,
        seed=87654321,  # TensorFlow's own, where no seed is set for the whole program
        seed2=seed,
        output_types=[tf.int64],
        output_shapes=[[]],
    )
    mixed = tf.data.experimental.from_variant(numbers, tf.TensorSpec([], tf.int64))
    return mixed.repeat(epochs).batch(count * epochs).with_options(_PLAIN).get_single_element()


def cohort(
    images: Mapping[str, Arrays],
    count: int,
    batch_size: int,
    epochs: int,
    seed: int,
    round_number: int,
) -> list[tf.data.Dataset]:
    """Draw a round's clients and make their batches: `sample_clients`, then `batches` for each.

    Args:
        images: Client id -> (pixels, labels).
        count: Clients in the round.
        batch_size: Images in a batch.
        epochs: Local epochs.
        seed: The experiment's seed.
        round_number: 0 or more; with the seed it fixes who comes and in what order images do.

    Returns:
        A data set for each client drawn.

    Raises:
        ValueError: As `sample_clients` and `batches` do.

    Lesson: 04
    """
    return [
        batches(*images[client], batch_size, epochs, seed=round_number)
        for client in sample_clients(list(images), count, seed, round_number)
    ]


def _distinct(client_ids: Sequence[str]) -> list[str]:
    ids = sorted(client_ids)
    twice = [a for a, b in itertools.pairwise(ids) if a == b]
    if twice:
        raise ValueError(f"client_ids has {twice[0]!r} twice; each client must come once")
    return ids


def _generator(**seeds: int) -> np.random.Generator:
    for name, value in seeds.items():
        if not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name}={value!r} must be a whole number, 0 or more")
    return np.random.default_rng(list(seeds.values()))
