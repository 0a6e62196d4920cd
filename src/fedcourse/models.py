"""The two networks of the course, as plain Keras models without a softmax at the end."""

from collections.abc import Sequence

import tensorflow as tf


def mcmahan_cnn(
    seed: int | None = None, image_shape: Sequence[int] = (28, 28), classes: int = 10
) -> tf.keras.Model:
    """Return the CNN of the Federated Averaging paper, for its digits 1,663,370 parameters.

    Args:
        seed: Seed of the initial weights; None draws new ones each time.
        image_shape: (H, W) or (H, W, C), as federated data have it.
        classes: Outputs.

    Returns:
        An uncompiled model from images, float32 [N, H, W, C], to logits, float32 [N, classes].

    Raises:
        ValueError: Images too small for two rounds of pooling, or no classes.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, section 3.
    Lesson: 02
    """
    return _cnn(
        (32, 64),
        kernel=5,
        padding="same",
        hidden=512,
        seed=seed,
        image_shape=image_shape,
        classes=classes,
    )


def small_cnn(
    seed: int | None = None, image_shape: Sequence[int] = (28, 28), classes: int = 10
) -> tf.keras.Model:
    """Return a CNN quick enough to train again and again, for digits 12,810 parameters.

    Args:
        seed: Seed of the initial weights; None draws new ones each time.
        image_shape: (H, W) or (H, W, C), as federated data have it.
        classes: Outputs.

    Returns:
        An uncompiled model from images, float32 [N, H, W, C], to logits, float32 [N, classes].

    Raises:
        ValueError: Images too small for two rounds of pooling, or no classes.

    Lesson: 02
    """
    return _cnn(
        (16, 32),
        kernel=3,
        padding="valid",
        hidden=None,
        seed=seed,
        image_shape=image_shape,
        classes=classes,
    )


def _cnn(filters, kernel, padding, hidden, seed, image_shape, classes):
    shape = tuple(image_shape) if len(image_shape) == 3 else (*image_shape, 1)
    least = 4 if padding == "same" else 10
    if len(shape) != 3 or min(shape[:2]) < least:
        raise ValueError(
            f"image_shape={image_shape!r} must be (height, width) or (height, width, channels), "
            f"for this network at least {least} x {least}"
        )
    if classes < 1:
        raise ValueError(f"classes={classes!r} must be at least 1")
    seeds = iter(range(seed, seed + 4)) if seed is not None else iter([None] * 4)

    def start():
        return tf.keras.initializers.GlorotUniform(next(seeds))

    layers = [tf.keras.layers.InputLayer(shape)]
    for count in filters:
        layers += [
            tf.keras.layers.Conv2D(
                count, kernel, padding=padding, activation="relu", kernel_initializer=start()
            ),
            tf.keras.layers.MaxPooling2D(),
        ]
    layers += [tf.keras.layers.Flatten()]
    if hidden:
        layers += [tf.keras.layers.Dense(hidden, activation="relu", kernel_initializer=start())]
    layers += [tf.keras.layers.Dense(classes, kernel_initializer=start())]
    return tf.keras.Sequential(layers)
