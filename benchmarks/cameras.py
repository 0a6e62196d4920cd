"""The search behind lesson 05's settings: federated, in one place, and one camera alone.

python benchmarks/cameras.py

On deals of the photographs that the lesson does not use. Accuracy on cameras never seen, mean over
the seeds, goes to cameras.csv beside this file.
"""

from fedcourse import data, evaluation, models, training  # isort: skip  (before TensorFlow)

import collections
import csv
import functools
import pathlib

import numpy as np
import tqdm

from fedcourse.data import photographs

SEEDS = (10, 11, 12, 13)
FILE = pathlib.Path(__file__).with_suffix(".csv")
HEAD = ["way", "learning rate", "batch size", "local epochs", "passes or rounds", "mean", "each"]


def main() -> None:
    """Search each of the three ways on each seed; write the table, the best of each way first."""
    found = collections.defaultdict(list)
    for seed in tqdm.tqdm(SEEDS, desc="seeds"):
        cameras = photographs.cameras(seed=seed)
        training_ids, unseen_ids = data.split_writers(list(cameras), seed=seed)
        own = {camera: cameras[camera] for camera in training_ids}
        others = {camera: cameras[camera] for camera in unseen_ids}
        for ways in (in_one_place(own, others, seed), federated(own, others, seed)):
            for setting, accuracy in ways:
                found[setting].append(accuracy)
    rows = [
        [*setting, f"{np.mean(each):.3f}", " ".join(f"{accuracy:.3f}" for accuracy in each)]
        for setting, each in found.items()
    ]
    rows.sort(key=lambda row: (row[0], -float(row[-2])))
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *rows])


def make(seed: int) -> functools.partial:
    """Return what makes the lesson's network."""
    shape = (photographs.SIDE, photographs.SIDE, 3)
    return functools.partial(models.small_cnn, seed, shape, len(photographs.FILES))


def in_one_place(own, others, seed):
    """Yield settings and accuracies of all pictures in one place, and of two cameras alone."""
    pixels, labels = (np.concatenate(part) for part in zip(*own.values(), strict=True))
    for rate in (0.01, 0.03, 0.1):
        for batch in (8, 32):
            yield from passes("in one place", [(pixels, labels)], others, seed, rate, batch)
        yield from passes("one camera alone", list(own.values())[:2], others, seed, rate, 8)


def passes(way, several, others, seed, rate, batch):
    """Yield the mean accuracy after 15, 30 and 60 passes over each of several sets of images."""
    networks = [make(seed)() for _ in several]
    done = 0
    for more in (15, 15, 30):
        for network, (pixels, labels) in zip(networks, several, strict=True):
            training.train_centrally(network, pixels, labels, batch, more, rate, seed + done)
        done += more
        means = [evaluation.mean_accuracy(network, others) for network in networks]
        yield (way, rate, batch, "", done), float(np.mean(means))


def federated(own, others, seed):
    """Yield settings and accuracies of Federated Averaging after 15, 30 and 45 rounds."""
    like = data.from_arrays(own, list(photographs.FILES))
    for rate in (0.03, 0.05, 0.1):
        for epochs in (1, 2, 4):
            process = training.federated_averaging(training.wrap(make(seed), like), rate)
            draw = functools.partial(data.cohort, own, 10, 8, epochs, seed)
            for step in training.run(process, draw, 45):
                if step.number % 15 == 0:
                    network = training.network_of(process, step.state, make(seed))
                    accuracy = evaluation.mean_accuracy(network, others)
                    yield ("federated", rate, 8, epochs, step.number), accuracy


if __name__ == "__main__":
    main()
