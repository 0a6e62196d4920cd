"""The command behind lesson 11's stars: what it trains, and what its stored table says."""

from fedcourse import data, privacy, results  # isort: skip  (before TensorFlow)

import csv
import math
import pathlib

import numpy as np
import pytest
from conftest import benchmark

STORED = pathlib.Path(results.__file__).with_name("privacy.csv")


@pytest.fixture(scope="module")
def command():
    return benchmark("privacy")


def stored():
    lines = STORED.read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return [line for line in lines if line.startswith("#")], rows


def test_stored_table_is_of_the_command_as_it_is(command):
    head, rows = stored()
    said = "\n".join(head)
    assert f"delta {command.DELTA:g}, {command.ROUNDS} rounds, {command.CLIENTS_PER_ROUND}" in said
    assert f"clip norm {command.CLIP_NORM}" in said
    runs = {(float(row["epsilon"]), row["seed"]) for row in rows}
    assert runs == {(target, seed) for target in command.EPSILONS for seed in "012"}
    assert len(rows) == len(runs)


def test_stored_noise_keeps_to_the_epsilon_beside_it(command):
    sampling = command.CLIENTS_PER_ROUND / 447
    for row in stored()[1]:
        noise = float(row["noise_multiplier"])
        spent = privacy.epsilon(noise, sampling, command.ROUNDS, command.DELTA)
        assert spent == pytest.approx(float(row["epsilon"]), rel=0.005)


def test_stored_accuracy_rises_with_epsilon_and_is_good_at_two():
    by_epsilon = {}
    for row in stored()[1]:
        by_epsilon.setdefault(float(row["epsilon"]), []).append(float(row["accuracy"]))
    means = {spent: np.mean(some) for spent, some in sorted(by_epsilon.items())}
    assert all(len(some) >= 3 for some in by_epsilon.values())
    assert means[2.0] > 0.88 and means[2.0] > means[1.0] + 0.05 > means[0.5] + 0.1
    assert means[math.inf] > means[2.0]


def test_a_run_of_the_command_learns_without_noise_and_not_with_much(command):
    both = data.load("embedded")
    writers = {writer: data.images_of(both, writer) for writer in both[0].client_ids[:24]}
    free = command.train(writers, math.inf, seed=0, rounds=6)
    private = command.train(writers, 0.5, seed=0, rounds=6)
    assert free["noise_multiplier"] == "0.0000" and float(private["noise_multiplier"]) > 5
    assert float(free["accuracy"]) > 0.7 > float(private["accuracy"]) + 0.2
    row = {"epsilon": "0.5", "seed": "0"} | private
    assert set(row) == set(command.FIELDS)
