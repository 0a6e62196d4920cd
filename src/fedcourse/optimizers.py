"""Client optimizers that TFF lacks, or has wrong."""

import tensorflow as tf
import tensorflow_federated as tff


def proximal(learning_rate: float, strength: float) -> tff.learning.optimizers.Optimizer:
    """Return SGD with FedProx's proximal term, for `client_optimizer_fn`.

    The gradient of strength / 2 · ‖w − w_t‖² is added, where w_t are the weights the client
    received: it is pulled back to them. (`build_weighted_fed_prox` of TFF 0.87.0 has the term's
    sign turned, and pushes clients away.)

    Args:
        learning_rate: Step size.
        strength: The paper's μ, 0 or more; 0 is plain SGD.

    Source: Li et al. 2020, Federated Optimization in Heterogeneous Networks, equation 2.
    Lesson: 07
    """
    return _Proximal(learning_rate, strength)


class _Proximal(tff.learning.optimizers.Optimizer):
    """Its state: the weights received, and whether they are known. TFF makes it on each client."""

    def __init__(self, learning_rate: float, strength: float):
        self._rate, self._strength = learning_rate, strength

    def initialize(self, specs):
        return tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), specs), tf.constant(
            False
        )

    def next(self, state, weights, gradients):
        received, known = state
        received = tf.nest.map_structure(lambda r, w: tf.where(known, r, w), received, weights)

        def step(w, r, g):
            return w - self._rate * (g + self._strength * (w - r))

        new_weights = tf.nest.map_structure(step, weights, received, gradients)
        return (received, tf.constant(True)), new_weights
