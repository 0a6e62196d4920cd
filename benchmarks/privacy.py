"""Accuracy against ε on real writers: DP-FedAvg in TFF, the accountant's ε, three seeds.

python benchmarks/privacy.py [--data FILE] [--out FILE] [--seeds 0 1 2]

For each ε the accountant gives the noise that a run may do with; everything else stays the same.
Each finished run is a row of the CSV file; started again, the command does only those that are
missing.
"""

import argparse
import functools
import math
import os
import pathlib
import platform
import time
from importlib.metadata import version

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)
import tensorflow as tf
import tensorflow_federated as tff
import tqdm
from table import STORED, Table, read

from fedcourse import data, evaluation, models, privacy, training
from fedcourse.data import arrays

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0, math.inf)
DELTA = 1e-5
ROUNDS = 30
CLIENTS_PER_ROUND = 60  # expected
CLIP_NORM = 0.5
CLIENT_LEARNING_RATE = 0.2
SERVER_LEARNING_RATE = 2.0
LOCAL_EPOCHS = 2
BATCH_SIZE = 20
FIELDS = ("epsilon", "seed", "noise_multiplier", "accuracy", "worst_tenth", "seconds")


def main() -> None:
    """Run what is missing in the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("FEDCOURSE_REAL_WRITERS"), help=".npz or SQLite file")
    add("--out", type=pathlib.Path, default=STORED / "privacy.csv")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    writers = {w: arrays.checked(*pair, where=w) for w, pair in read(options.data).items()}
    table = Table(options.out, header(options, writers), FIELDS)
    for target in EPSILONS:
        for seed in options.seeds:
            run = {"epsilon": f"{target:g}", "seed": str(seed)}
            row = table.find(run) or table.add(run | train(writers, target, seed, ROUNDS))
            print(f"epsilon {row['epsilon']}, seed {seed}: accuracy {row['accuracy']}")


def header(options: argparse.Namespace, writers: dict) -> str:
    """Return the comment lines of the CSV file: what the rows below depend on."""
    seen, unseen = data.split_writers(list(writers), seed=0)
    lines = [
        "Accuracy on unseen writers against epsilon, for adding or removing one writer",
        "command: make privacy",
        f"data: {pathlib.Path(options.data).name}, {len(seen)} writers train, {len(unseen)} unseen",
        f"versions: Python {platform.python_version()}, TensorFlow {tf.__version__}, "
        f"TFF {tff.__version__}, dp-accounting {version('dp-accounting')}",
        f"delta {DELTA:g}, {ROUNDS} rounds, {CLIENTS_PER_ROUND} clients a round expected, each "
        f"drawn by itself; clip norm {CLIP_NORM}, client and server learning rate "
        f"{CLIENT_LEARNING_RATE} and {SERVER_LEARNING_RATE}, {LOCAL_EPOCHS} local epochs, "
        f"batches of {BATCH_SIZE}",
        "seed: weights, unseen writers and cohorts; the noise has none",
        "accuracy, worst_tenth: over unseen writers, after the last round",
    ]
    return "".join(f"# {line}\n" for line in lines)


def train(writers: dict, target: float, seed: int, rounds: int) -> dict[str, object]:
    """Train with the noise that `target` asks for; return the rest of a row."""
    seen, unseen = data.split_writers(list(writers), seed=seed)
    sampling = min(1.0, CLIENTS_PER_ROUND / len(seen))
    noise = privacy.noise_for(target, sampling, rounds, DELTA)
    make_network = functools.partial(models.small_cnn, seed=seed)
    process = tff.learning.algorithms.build_unweighted_fed_avg(
        training.wrap(make_network),
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(CLIENT_LEARNING_RATE),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(SERVER_LEARNING_RATE),
        model_aggregator=tff.aggregators.DifferentiallyPrivateFactory.gaussian_fixed(
            noise, float(CLIENTS_PER_ROUND), CLIP_NORM
        ),
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )

    def cohort(number):
        return [
            data.batches(*writers[writer], BATCH_SIZE, LOCAL_EPOCHS, seed=number)
            for writer in privacy.poisson_cohort(seen, sampling, seed, number)
        ]

    begun = time.perf_counter()
    steps = training.run(process, cohort, rounds)
    *_, last = tqdm.tqdm(steps, f"epsilon {target:g}, seed {seed}", rounds, leave=False)
    network = make_network()
    process.get_model_weights(last.state).assign_weights_to(network)
    unseen_images = {writer: writers[writer] for writer in unseen}
    result = evaluation.summary(evaluation.accuracy_by_writer(network, unseen_images))
    return {
        "noise_multiplier": f"{noise:.4f}",
        "accuracy": f"{result.mean:.4f}",
        "worst_tenth": f"{result.worst_tenth:.4f}",
        "seconds": f"{time.perf_counter() - begun:.0f}",
    }


if __name__ == "__main__":
    main()
