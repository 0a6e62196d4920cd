"""McMahan's CNN for the engines that take a Keras model, whichever Keras theirs is."""

import tensorflow as tf


def mcmahan_cnn() -> tf.keras.Model:
    """Return the network, 1,663,370 parameters, uncompiled."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.InputLayer((28, 28, 1)),
            layers.Conv2D(32, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(10),
        ]
    )
