"""The best loop in plain TensorFlow that we know of: what the arithmetic costs on this machine.

A thread for each core, each with a network of its own and one thread an operation; a client's steps
are one graph, without a loop, a data set, metrics or checks.
"""

# ruff: noqa: E402
import concurrent.futures
import os
import sys

os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
from line import Line, Workload, import_untuned

import_untuned("fedcourse")
import tensorflow as tf

from fedcourse import models

CORES = len(os.sched_getaffinity(0))


def make_client(work: Workload):
    """Return a function that trains a client in a network of its own."""
    network = models.mcmahan_cnn()
    variables = network.trainable_variables
    steps = work.pixels.shape[1] // work.batch_size

    @tf.function
    def train(first, pixels, labels):
        for variable, value in zip(variables, first, strict=True):
            variable.assign(value)
        for step in range(steps):
            with tf.GradientTape() as tape:
                logits = network(pixels[step], training=True)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[step], logits)
                loss = tf.reduce_mean(losses)
            for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
                tf.raw_ops.ResourceApplyGradientDescent(
                    var=variable.handle, alpha=work.learning_rate, delta=gradient
                )
        return [variable.read_value() for variable in variables]

    return train


def main() -> None:
    """Run rounds as the driver asks for them."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    work = Workload(sys.argv[1])
    clients = [make_client(work) for _ in range(CORES)]
    weights = work.weights

    def current():
        return weights

    def some(which, mine, first, number):
        """Train every CORES-th client, add up what they come to."""
        total = None
        for client in mine:
            images, labels = work.client(client, number)
            shape = (-1, work.batch_size)
            trained = clients[which](
                first,
                tf.constant(images.reshape(*shape, *images.shape[1:])),
                tf.constant(labels.reshape(shape)),
            )
            total = trained if total is None else list(map(tf.add, total, trained))
        return [part.numpy() for part in total]

    line = Line(f"TensorFlow {tf.__version__}")
    with concurrent.futures.ThreadPoolExecutor(CORES) as pool:
        while (number := line.next_round(current)) is not None:
            first, cohort = [tf.constant(part) for part in weights], work.cohorts[number]
            futures = [
                pool.submit(some, which, cohort[which::CORES], first, number)
                for which in range(CORES)
            ]
            totals = [future.result() for future in futures]
            weights = [sum(parts) / len(cohort) for parts in zip(*totals, strict=True)]


if __name__ == "__main__":
    main()
