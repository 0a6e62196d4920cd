"""A plain TensorFlow loop: what Federated Averaging costs without any framework."""

# ruff: noqa: E402
import sys

from line import Line, Workload, import_untuned

import_untuned("fedcourse")
import numpy as np
import tensorflow as tf

from fedcourse import data, models, training


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])
    network = models.mcmahan_cnn()
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(input_signature=training.BATCH_SPEC)
    def step(pixels, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, network(pixels, training=True))
        gradients = tape.gradient(loss, network.trainable_variables)
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
            variable.assign_sub(work.learning_rate * gradient)

    weights = work.weights

    def current():
        return weights

    line = Line(f"TensorFlow {tf.__version__}")
    while (number := line.next_round(current)) is not None:
        total, count = [np.zeros_like(part) for part in weights], 0
        for client in work.cohorts[number]:
            network.set_weights(weights)
            pixels, labels = work.pixels[client], work.labels[client]
            for batch in data.batches(pixels, labels, work.batch_size, seed=number):
                step(*batch)
            trained = zip(total, network.get_weights(), strict=True)
            total = [a + len(labels) * b for a, b in trained]
            count += len(labels)
        weights = [part / count for part in total]


if __name__ == "__main__":
    main()
