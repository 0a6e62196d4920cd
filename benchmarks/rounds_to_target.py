"""Rounds to a target accuracy by E, B and C on real writers, after McMahan et al. 2017, table 2.

python benchmarks/rounds_to_target.py [--data FILE] [--out FILE] [--target 0.9] [--seeds 0 1 2]

Each finished run is a row of the CSV file; started again, the command does only those that are
missing. The network is the paper's 2NN, small enough to train hundreds of times. A round is
computed in NumPy: the arithmetic of `training.federated_averaging` (the tests compare them), since
handing batches to TFF's worker takes longer than so small a network's training on them.
"""

import argparse
import functools
import itertools
import math
import os
import pathlib
import platform
import time
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # matrices this small gain nothing from two

import fedcourse  # isort: skip  (before TensorFlow)
import numpy as np
import tensorflow as tf
import tqdm
from table import STORED, Table, read

from fedcourse import data, evaluation
from fedcourse.data import partition

CLIENTS = 100
WHOLE = 0  # as a batch size: all of a client's images, the paper's B = infinity
TUNED = 10  # the cohort that learning rates are searched with
LINES = [  # E, B, C, and the rounds after which a run is given up; a tenth of them is a trial
    *((1, WHOLE, TUNED, 400), (5, 10, TUNED, 60), (1, 10, TUNED, 150), (1, 50, TUNED, 250)),
    *((5, 50, TUNED, 100), (5, WHOLE, TUNED, 200), (20, 10, TUNED, 30)),
    *((5, 10, 2, 200), (5, 10, 40, 30)),
    *((20, 50, TUNED, 60), (20, WHOLE, TUNED, 100)),
]
DEALS = {"even": partition.iid, "uneven": partition.shards}
FIRST_RATE = 0.4  # where the search for FedSGD's learning rate starts; it goes by factors of two
FIELDS = [
    *("deal", "epochs", "batch", "cohort", "client_lr", "seed"),
    *("rounds", "ended", "rounds_run", "best_accuracy", "seconds"),
]


class Cell(NamedTuple):
    """A line of the table: who holds what, E, B, C, and after how many rounds a run is given up."""

    deal: str
    epochs: int
    batch: int
    cohort: int
    cap: int

    def row(self, rate: float, seed: int) -> dict[str, str]:
        """Return the first columns of a run."""
        own = (self.deal, self.epochs, self.batch or "all", self.cohort, f"{rate:g}", seed)
        return dict(zip(FIELDS, map(str, own), strict=False))


def main() -> None:
    """Run what is missing in the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--data", default=os.environ.get("FEDCOURSE_REAL_WRITERS"), help=".npz or SQLite file")
    add("--out", type=pathlib.Path, default=STORED / "rounds_to_target.csv")
    add("--target", type=float, default=0.9)
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    writers = read(options.data)
    table = Table(options.out, header(options, writers), FIELDS)
    prepared = functools.lru_cache(maxsize=3)(functools.partial(prepare, writers))

    def run(cell, rate, seed, rounds):
        stored = table.find(cell.row(rate, seed), lambda row: enough(row, rounds))
        return stored or table.add(
            train(*prepared(cell.deal, seed), cell, rate, seed, rounds, options.target)
        )

    tuned, start = {}, {(deal, WHOLE): FIRST_RATE for deal in DEALS}
    for line, deal in itertools.product(LINES, DEALS):
        cell = Cell(deal, *line)
        print(f"{deal}: E {cell.epochs}, B {cell.batch or 'all'}, {cell.cohort} clients a round")
        key = deal, cell.epochs, cell.batch
        if cell.cohort == TUNED:
            trial = functools.partial(run, cell, seed=options.seeds[0], rounds=cell.cap // 10)
            near = start.get((deal, cell.batch), start[deal, WHOLE])
            start[deal, cell.batch] = tuned[key] = best_rate(trial, near)
        for seed in options.seeds:
            row = run(cell, tuned[key], seed, cell.cap)
            print(f"  seed {seed}, lr {tuned[key]:g}: {row['rounds'] or '> ' + row['rounds_run']}")


def header(options: argparse.Namespace, writers: dict) -> str:
    """Return the comment lines of the CSV file: what the rows below depend on."""
    training, unseen = data.split_writers(list(writers), seed=0)
    images = sum(len(labels) for _, labels in writers.values())
    lines = [
        f"Rounds to {options.target} accuracy on unseen writers' images, after McMahan et al. 2017",
        "command: make rounds-to-target",
        f"seeds: {' '.join(map(str, options.seeds))} (weights, unseen writers, deal, cohorts)",
        f"data: {pathlib.Path(options.data).name}, {images} images of {len(writers)} writers: "
        f"{len(training)} writers' dealt to {CLIENTS} clients, {len(unseen)} writers unseen",
        f"versions: Python {platform.python_version()}, NumPy {np.__version__}, "
        f"TensorFlow {tf.__version__}, fedcourse {fedcourse.__version__}",
        "client_lr: the best of trials with the first seed, going by factors of two; "
        f"other cohorts take the one of cohort {TUNED}",
        "rounds: where the curve, made monotone, crosses the target; empty if it does not",
        "ended: reached; cap: not within rounds_run; trial: a trial, a tenth of the cap; diverged",
    ]
    return "".join(f"# {line}\n" for line in lines)


def enough(row: dict[str, str], rounds: int) -> bool:
    """Say whether a stored run ended by itself or ran `rounds`."""
    return row["ended"] in ("reached", "diverged") or int(row["rounds_run"]) >= rounds


def best_rate(trial, start: float) -> float:
    """Climb from `start` by factors of two, up and else down, while trials get better."""

    def badness(row):
        return float(row["rounds"] or "inf"), -float(row["best_accuracy"])

    best = trial(start)
    for factor in (2, 0.5):
        rate = start * factor
        while badness(row := trial(rate)) < badness(best):
            best, rate = row, rate * factor
        if float(best["client_lr"]) != start:
            break
    return float(best["client_lr"])


def prepare(writers: dict, deal: str, seed: int) -> tuple[list, tuple]:
    """Return the clients' (ink, labels) and those of the unseen writers, all in one."""
    training, unseen = data.split_writers(list(writers), seed=seed)

    def join(some):
        return (np.concatenate(part) for part in zip(*map(writers.get, some), strict=True))

    clients = DEALS[deal](*join(training), CLIENTS, seed=seed).values()
    judged = partition.iid(*join(unseen), clients=1)["client_0"]
    return [flat(*client) for client in clients], flat(*judged)


def flat(pixels: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ink, float32 [N, 784] with 1.0 = ink, as the network's first layers make it."""
    return 1 - pixels.reshape(len(pixels), -1), labels


def two_nn(seed: int | None = None) -> tf.keras.Model:
    """Return the paper's 2NN, 199,210 parameters, from images [N, 28, 28, 1] to logits [N, 10]."""
    seeds = iter(range(seed, seed + 3)) if seed is not None else iter([None] * 3)
    layers = [
        tf.keras.layers.InputLayer((28, 28, 1)),
        tf.keras.layers.Rescaling(-1, 1),  # ink is 1 and paper 0, so that most inputs are 0
        tf.keras.layers.Flatten(),
    ]
    for units, activation in ((200, "relu"), (200, "relu"), (10, None)):
        start = tf.keras.initializers.GlorotUniform(next(seeds))
        layers.append(tf.keras.layers.Dense(units, activation, kernel_initializer=start))
    return tf.keras.Sequential(layers)


def forward(weights: list[np.ndarray], ink: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return both hidden layers and the logits."""
    first = np.maximum(ink @ weights[0] + weights[1], 0)
    second = np.maximum(first @ weights[2] + weights[3], 0)
    return first, second, second @ weights[4] + weights[5]


def gradients(weights: list[np.ndarray], ink: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the gradient of the mean cross-entropy for each of the six weights."""
    first, second, logits = forward(weights, ink)
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(labels)), labels] -= 1
    error /= np.float32(len(labels))
    at_second = error @ weights[4].T * (second > 0)
    at_first = at_second @ weights[2].T * (first > 0)
    pairs = ((ink, at_first), (first, at_second), (second, error))
    return [part for x, e in pairs for part in (x.T @ e, e.sum(axis=0))]


def one_round(weights: list[np.ndarray], cohort: list[tuple], rate: float) -> list[np.ndarray]:
    """Return the weights after a round of Federated Averaging.

    Args:
        weights: The server's.
        cohort: For each client its ink, its labels, and its batches: arrays of places in them.
        rate: The client learning rate.
    """
    total, images = [np.zeros_like(part) for part in weights], 0
    for ink, labels, batches in cohort:
        inked = ink.any(axis=0)  # the weights of pixels that are paper all over do not change
        ink, own = ink[:, inked], [weights[0][inked], *(part.copy() for part in weights[1:])]
        for batch in batches:
            for part, slope in zip(own, gradients(own, ink[batch], labels[batch]), strict=True):
                part -= np.multiply(slope, np.float32(rate), out=slope)
        own[0], moved = weights[0].copy(), own[0]
        own[0][inked] = moved
        for part, mine in zip(total, own, strict=True):
            part += np.float32(len(labels)) * mine
        images += len(labels)
    return [part / np.float32(images) for part in total]


def batches_of(images: int, epochs: int, batch: int, generator: np.random.Generator) -> list:
    """Return the places of each batch's images: shuffled anew each epoch, as `data.batches`."""
    order = np.concatenate([generator.permutation(images) for _ in range(epochs)])
    return np.split(order, range(batch or images, len(order), batch or images))


def train(
    clients: list, judged: tuple, cell: Cell, rate: float, seed: int, most: int, target: float
) -> dict[str, object]:
    """Train until the target is reached or `most` rounds are run; return a row of the file."""
    begun, weights = time.perf_counter(), two_nn(seed).get_weights()
    rounds, accuracies, ended = [], [], "cap" if most >= cell.cap else "trial"
    progress = tqdm.tqdm(range(1, most + 1), f"  lr {rate:g}, seed {seed}", leave=False)
    for number in progress:
        generator = np.random.default_rng([seed, number])
        chosen = generator.choice(len(clients), cell.cohort, replace=False)
        cohort = [
            (ink, labels, batches_of(len(labels), cell.epochs, cell.batch, generator))
            for ink, labels in map(clients.__getitem__, chosen)
        ]
        with np.errstate(all="ignore"):  # a rate too high is noticed below
            weights = one_round(weights, cohort, rate)
        if not np.isfinite(weights[-1]).all():
            ended = "diverged"
            break
        if not rounds or number >= 1.1 * rounds[-1] or number == most:
            rounds.append(number)
            answers = forward(weights, judged[0])[-1].argmax(axis=1)
            accuracies.append(float((answers == judged[1]).mean()))
            progress.set_postfix(accuracy=f"{accuracies[-1]:.3f}")
            if accuracies[-1] >= target:
                ended = "reached"
                break
    reached = evaluation.rounds_to_target(rounds, accuracies, target) if rounds else math.inf
    return {
        **cell.row(rate, seed),
        "rounds": f"{reached:.1f}" if ended == "reached" else "",
        "ended": ended,
        "rounds_run": number,
        "best_accuracy": f"{max(accuracies, default=0):.4f}",
        "seconds": f"{time.perf_counter() - begun:.0f}",
    }


if __name__ == "__main__":
    main()
