"""Stock TensorFlow Federated, set up as its tutorials do: its own worker, its own defaults.

Tuned, with what it offers itself: as many clients at a time as cores, one thread an operation, and
the loop that iterates in place of the one that reduces.
"""

# ruff: noqa: E402
import collections
import os
import sys
import types

from line import TUNED, Line, Workload, import_untuned

if TUNED:
    os.environ.update(TF_ENABLE_ONEDNN_OPTS="1", TF_NUM_INTRAOP_THREADS="1")
import_untuned("fedcourse")  # without it, TFF does not import any more
sys.modules["fedcourse.runtime"] = types.ModuleType("fedcourse.runtime")  # but TFF's own runtime
import tensorflow as tf
import tensorflow_federated as tff

from fedcourse import models

LOOPS = tff.learning.LoopImplementation
LOOP = LOOPS.DATASET_ITERATOR if TUNED else LOOPS.DATASET_REDUCE


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])
    if TUNED:
        tff.backends.native.set_sync_local_cpp_execution_context(
            max_concurrent_computation_calls=len(os.sched_getaffinity(0))
        )
    clients = tff.simulation.datasets.TestClientData(
        {
            str(number): collections.OrderedDict(label=labels, pixels=pixels)
            for number, (pixels, labels) in enumerate(zip(work.pixels, work.labels, strict=True))
        }
    )

    def batch_format(element):
        return collections.OrderedDict(
            x=tf.reshape(element["pixels"], [-1, 28, 28, 1]), y=element["label"]
        )

    def preprocess(dataset, seed):
        shuffled = dataset.shuffle(work.labels.shape[1], seed=seed)
        return shuffled.batch(work.batch_size).map(batch_format).prefetch(10)

    def cohort(number):
        ids = work.cohorts[number].astype(str)
        return [preprocess(clients.create_tf_dataset_for_client(i), number) for i in ids]

    def model_fn():
        return tff.learning.models.from_keras_model(
            models.mcmahan_cnn(),
            input_spec=cohort(0)[0].element_spec,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy()],
        )

    process = tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(work.learning_rate),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
        loop_implementation=LOOP,
    )
    state = process.set_model_weights(
        process.initialize(), tff.learning.models.ModelWeights(work.weights, [])
    )

    def weights():
        return process.get_model_weights(state).trainable

    line = Line(tff.__version__)
    while (number := line.next_round(weights)) is not None:
        state = process.next(state, cohort(number)).state


if __name__ == "__main__":
    main()
