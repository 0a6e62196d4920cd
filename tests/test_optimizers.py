from fedcourse import models, optimizers, training  # isort: skip  (before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from conftest import weights_gap

from fedcourse import data

SPECS = [tf.TensorSpec([3], tf.float32)]


def test_two_steps_are_the_papers():
    optimizer = optimizers.proximal(learning_rate=0.5, strength=0.25)
    received, gradient = np.array([1.0, -2.0, 0.0], np.float32), np.array([1.0, 1.0, -4.0])
    state, weights = optimizer.initialize(SPECS), [tf.constant(received)]
    expected = received
    for _ in range(2):
        state, weights = optimizer.next(state, weights, [tf.constant(gradient, tf.float32)])
        expected = expected - 0.5 * (gradient + 0.25 * (expected - received))
        assert weights[0].numpy() == pytest.approx(expected)


def test_strength_0_is_plain_averaging_and_more_holds_clients_back():
    generator = np.random.default_rng(0)
    pixels = generator.random((40, 28, 28), np.float32)
    clients = [data.batches(pixels, generator.integers(0, 10, 40), 5, 2, seed=1)]
    start = models.small_cnn(0).get_weights()

    def after_a_round(client_optimizer):
        process = tff.learning.algorithms.build_weighted_fed_avg(
            training.wrap(lambda: models.small_cnn(0)),
            client_optimizer_fn=client_optimizer,
            server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
        )
        state = process.next(process.initialize(), clients).state
        return process.get_model_weights(state).trainable

    def moved(weights):
        return sum(float(((a - b) ** 2).sum()) for a, b in zip(weights, start, strict=True))

    plain = after_a_round(tff.learning.optimizers.build_sgdm(0.05))
    assert weights_gap(plain, after_a_round(optimizers.proximal(0.05, 0.0))) < 1e-6
    assert moved(after_a_round(optimizers.proximal(0.05, 2.0))) < 0.9 * moved(plain)
