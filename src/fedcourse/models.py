"""The two networks of the course, as plain Keras models without a softmax at the end."""

import tensorflow as tf


def mcmahan_cnn(seed: int | None = None) -> tf.keras.Model:
    """Return the CNN of the Federated Averaging paper, 1,663,370 parameters.

    Args:
        seed: Seed of the initial weights; None draws new ones each time.

    Returns:
        An uncompiled model from images, float32 [N, 28, 28, 1], to logits, float32 [N, 10].

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, section 3.
    Lesson: 02
    """
    return _cnn((32, 64), kernel=5, padding="same", hidden=512, seed=seed)


def small_cnn(seed: int | None = None) -> tf.keras.Model:
    """Return a CNN of 12,810 parameters that is quick enough to train again and again.

    Args:
        seed: Seed of the initial weights; None draws new ones each time.

    Returns:
        An uncompiled model from images, float32 [N, 28, 28, 1], to logits, float32 [N, 10].

    Lesson: 02
    """
    return _cnn((16, 32), kernel=3, padding="valid", hidden=None, seed=seed)


def _cnn(filters, kernel, padding, hidden, seed):
    seeds = iter(range(seed, seed + 4)) if seed is not None else iter([None] * 4)

    def start():
        return tf.keras.initializers.GlorotUniform(next(seeds))

    layers = [tf.keras.layers.InputLayer((28, 28, 1))]
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
    layers += [tf.keras.layers.Dense(10, kernel_initializer=start())]
    return tf.keras.Sequential(layers)
