"""This course's runtime, as lesson 04 uses it."""

import sys

import fedcourse  # isort: skip  (before TensorFlow)
import tensorflow_federated as tff
from line import Line, Workload

from fedcourse import data, models, training


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])

    def cohort(number):
        return [
            data.batches(work.pixels[client], work.labels[client], work.batch_size, seed=number)
            for client in work.cohorts[number]
        ]

    process = training.federated_averaging(
        training.wrap(models.mcmahan_cnn), client_learning_rate=work.learning_rate
    )
    state = process.set_model_weights(
        process.initialize(), tff.learning.models.ModelWeights(work.weights, [])
    )
    rounds = training.run(process, cohort, len(work.cohorts), state)

    def weights():
        return process.get_model_weights(state).trainable

    line = Line(fedcourse.__version__)
    while line.next_round(weights) is not None:
        state = next(rounds).state


if __name__ == "__main__":
    main()
