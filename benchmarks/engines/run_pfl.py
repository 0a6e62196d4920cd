"""pfl-research with TensorFlow: its simulated backend, set up as in its own benchmarks.

Tuned: oneDNN on any processor, and one operation at a time, on all cores.
"""

import os
import sys
from importlib.metadata import version

from line import TUNED, Line, Workload

if TUNED:
    os.environ.update(TF_ENABLE_ONEDNN_OPTS="1", TF_NUM_INTEROP_THREADS="1")
os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Keras 3 calls every kernel "kernel": pfl mixes them up
import tensorflow as tf
from network import mcmahan_cnn
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm import FederatedAveraging, NNAlgorithmParams
from pfl.callback.base import TrainingProcessCallback
from pfl.data import FederatedDataset
from pfl.data.tensorflow import TFTensorDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.tensorflow import TFModel


class Pause(TrainingProcessCallback):
    """Lets a round begin when it is this engine's turn."""

    def __init__(self, line: Line, network: tf.keras.Model):
        self._line, self._network = line, network

    def on_train_begin(self, *, model):
        """Wait for the first round."""
        self._line.next_round(self._network.get_weights)
        return Metrics()

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Wait for the next round; stop after the last."""
        return self._line.next_round(self._network.get_weights) is None, Metrics()


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])
    network = mcmahan_cnn()
    network.set_weights(work.weights)
    network.compile(
        tf.keras.optimizers.SGD(work.learning_rate),
        loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    turns = iter([(number, who) for number, row in enumerate(work.cohorts) for who in row])

    def make_dataset(turn):
        number, client = turn
        pixels, labels = work.client(client, number)
        return TFTensorDataset(tf.constant(pixels), tf.constant(labels), user_id=str(client))

    clients = FederatedDataset(make_dataset, user_sampler=lambda: next(turns))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=len(work.cohorts),
            evaluation_frequency=len(work.cohorts) + 1,
            train_cohort_size=work.cohorts.shape[1],
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(clients, clients, postprocessors=[WeightByDatapoints()]),
        model=TFModel(network, metrics={}, central_optimizer=tf.keras.optimizers.SGD(1.0)),
        model_train_params=NNTrainHyperParams(
            local_learning_rate=work.learning_rate,
            local_num_epochs=1,
            local_batch_size=work.batch_size,
        ),
        callbacks=[Pause(Line(version("pfl")), network)],
    )


if __name__ == "__main__":
    main()
