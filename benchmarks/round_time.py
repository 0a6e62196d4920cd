"""Seconds per round of this course's training against a plain TensorFlow loop, same batches.

python benchmarks/round_time.py [--rounds 10]

Both run McMahan's CNN on the same cohorts of ten embedded writers, one local epoch in batches of
10. They take turns, round by round, so that a busy moment of the machine meets both.
"""

import argparse
import json
import statistics
import time

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)
import numpy as np
import tensorflow as tf

from fedcourse import data, models, training

LEARNING_RATE = 0.1


def main() -> None:
    """Time both; print the medians, their ratio, and how far apart one round's weights are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds

    train, _ = data.load("embedded")
    images = {writer: data.images_of(train, writer) for writer in train.client_ids}

    def cohort(number: int) -> list[tf.data.Dataset]:
        writers = data.sample_clients(train.client_ids, 10, 0, number)
        return [data.batches(*images[writer], batch_size=10, seed=number) for writer in writers]

    def make_network() -> tf.keras.Model:
        return models.mcmahan_cnn(seed=0)

    process = training.federated_averaging(training.wrap(make_network), LEARNING_RATE)
    federated = training.run(process, cohort, rounds + 1)
    plain = plain_rounds(make_network(), cohort)
    seconds = {"fedcourse": [], "plain loop": []}
    for number in range(rounds + 1):  # the first one compiles, and is not counted
        step = next(federated)
        seconds["fedcourse"].append(step.seconds)
        begun = time.perf_counter()
        weights = next(plain)
        seconds["plain loop"].append(time.perf_counter() - begun)
        if number == 0:
            pairs = zip(process.get_model_weights(step.state).trainable, weights, strict=True)
            apart = max(float(np.abs(a - b).max()) for a, b in pairs)
    median = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    report = {
        "rounds": rounds,
        "seconds_per_round": median,
        "ratio": median["fedcourse"] / median["plain loop"],
        "largest_weight_difference_after_one_round": apart,
    }
    print(json.dumps(report, indent=2))


def plain_rounds(network: tf.keras.Model, cohort):
    """Yield the weights after each round of Federated Averaging in a bare `tf.function` loop."""
    loss_of = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function(input_signature=training.BATCH_SPEC)
    def step(pixels, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, network(pixels, training=True))
        gradients = tape.gradient(loss, network.trainable_variables)
        for variable, gradient in zip(network.trainable_variables, gradients, strict=True):
            variable.assign_sub(LEARNING_RATE * gradient)

    weights, number = network.get_weights(), 0
    while True:
        total, count = [np.zeros_like(part) for part in weights], 0
        for dataset in cohort(number):
            network.set_weights(weights)
            images = 0
            for pixels, labels in dataset:
                step(pixels, labels)
                images += len(labels)
            total = [a + images * b for a, b in zip(total, network.get_weights(), strict=True)]
            count += images
        weights, number = [part / count for part in total], number + 1
        yield weights


if __name__ == "__main__":
    main()
