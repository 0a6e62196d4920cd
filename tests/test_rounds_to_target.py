"""The command that computes the table of lesson 07: its arithmetic, its search, its file."""

from fedcourse import results, training  # isort: skip  (before TensorFlow)

import csv
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from conftest import benchmark, weights_gap

from fedcourse.data import partition

STORED = pathlib.Path(results.__file__).with_name("rounds_to_target.csv")


@pytest.fixture(scope="module")
def command():
    return benchmark("rounds_to_target")


@pytest.fixture(scope="module")
def clients():
    generator = np.random.default_rng(1)
    pixels = generator.random((60, 28, 28), np.float32)
    return partition.quantity(pixels, generator.integers(0, 10, 60), clients=3, beta=5.0)


def test_one_round_gives_the_weights_of_tff(command, clients):
    process = training.federated_averaging(training.wrap(lambda: command.two_nn(0)), 0.3)
    state = process.initialize()
    weights = process.get_model_weights(state).trainable
    orders = [
        command.batches_of(len(labels), 2, 7, np.random.default_rng(2))
        for _, labels in clients.values()
    ]
    datasets = [
        tf.data.Dataset.from_tensor_slices(
            (pixels[np.concatenate(order)][..., None], labels[np.concatenate(order)])
        ).batch(7)
        for (pixels, labels), order in zip(clients.values(), orders, strict=True)
    ]
    state = process.next(state, datasets).state
    cohort = [
        (*command.flat(*client), order)
        for client, order in zip(clients.values(), orders, strict=True)
    ]
    ours = command.one_round(list(weights), cohort, 0.3)
    theirs = process.get_model_weights(state).trainable
    assert weights_gap(weights, theirs) > 1e-3
    assert weights_gap(ours, theirs) < 1e-6


def test_batches_cover_each_epoch(command):
    generator = np.random.default_rng(0)
    batches = command.batches_of(10, 3, 4, generator)
    assert [len(batch) for batch in batches] == [4] * 7 + [2]
    order = np.concatenate(batches).reshape(3, 10)
    assert (np.sort(order) == np.arange(10)).all() and (order[0] != order[1]).any()
    assert [len(batch) for batch in command.batches_of(10, 2, command.WHOLE, generator)] == [10] * 2


@pytest.mark.parametrize(("start", "fastest"), [(0.8, 0.8), (0.8, 0.1), (0.1, 0.4)])
def test_search_climbs_to_the_fastest_rate(command, start, fastest):
    asked = []

    def trial(rate):
        asked.append(rate)
        rounds = 10 * (1 + abs(np.log2(rate / fastest)))
        row = {"client_lr": str(rate), "best_accuracy": "0.9"}
        return row | {"rounds": f"{rounds:.1f}" if rounds <= 100 else ""}

    assert command.best_rate(trial, start) == pytest.approx(fastest)
    assert len(asked) == len(set(asked))


def test_search_goes_by_accuracy_where_no_rate_gets_there(command):
    def trial(rate):
        return {"client_lr": str(rate), "best_accuracy": str(1 - abs(rate - 0.2)), "rounds": ""}

    assert command.best_rate(trial, 0.8) == pytest.approx(0.2)


def row(command, seed, **more):
    empty = dict.fromkeys(command.FIELDS, "1")
    return empty | command.Cell("even", 5, command.WHOLE, 10, 99).row(0.4, seed) | more


def test_finished_runs_are_found_again_and_half_a_row_is_dropped(command, tmp_path):
    file = tmp_path / "table.csv"
    table = command.Table(file, "# one\n", command.FIELDS)
    table.add(row(command, 0, rounds="12.5", ended="reached", rounds_run=13))
    table.add(row(command, 1, ended="trial", rounds_run=9))
    file.write_text(file.read_text() + "even,5,all,10,0.4,2,")
    again = command.Table(file, "# one\n", command.FIELDS)
    cell = command.Cell("even", 5, command.WHOLE, 10, 99)

    def find(rate, seed, rounds):
        return again.find(cell.row(rate, seed), lambda row: command.enough(row, rounds))

    assert find(0.4, 0, 99)["rounds"] == "12.5"
    assert find(0.4, 2, 9) is None and find(0.2, 0, 9) is None
    assert find(0.4, 1, 9) and find(0.4, 1, 99) is None
    assert file.read_text().endswith("\n")
    with pytest.raises(SystemExit, match="other settings"):
        command.Table(file, "# another\n", command.FIELDS)


def test_a_run_reaches_its_target_or_says_why_not(command):
    labels = np.arange(100) % 10
    pixels = np.ones((100, 28, 28), np.float32)
    pixels[np.arange(100), labels] = 0  # a line whose height is the label
    clients = [command.flat(*pair) for pair in partition.iid(pixels, labels, 5).values()]
    cell = command.Cell("even", 1, 10, 2, cap=12)

    def train(rate, most):
        return command.train(clients, command.flat(pixels, labels), cell, rate, 0, most, 0.9)

    good = train(0.5, 12)
    assert good["ended"] == "reached" and 0 < float(good["rounds"]) <= good["rounds_run"]
    assert train(0.5, 12) | {"seconds": 0} == good | {"seconds": 0}
    assert train(1e-6, 1)["ended"] == "trial" and train(1e-6, 12)["ended"] == "cap"
    assert train(1e30, 2)["ended"] == "diverged"


def stored_rows():
    with open(STORED) as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def test_stored_table_shows_what_lesson_06_says_of_it(command):
    lines = {}
    for run in stored_rows():
        assert list(run) == command.FIELDS
        assert (run["ended"] == "reached") == bool(run["rounds"])
        if run["ended"] != "trial":
            key = run["deal"], run["epochs"], run["batch"], run["cohort"]
            rates = lines.setdefault(key, {}).setdefault(run["client_lr"], {})
            rates[run["seed"]] = float(run["rounds"] or "inf")
    seeds = {key: max(rates.values(), key=len) for key, rates in lines.items()}
    median = {key: np.median(list(s.values())) for key, s in seeds.items() if len(s) >= 3}
    known = {
        (deal, str(epochs), str(batch or "all"), str(cohort))
        for deal in command.DEALS
        for epochs, batch, cohort, _ in command.LINES
    }
    assert median.keys() == known
    saved = {
        deal: max(
            median[deal, "1", "all", "10"] / rounds
            for (of, *_, cohort), rounds in median.items()
            if of == deal and cohort == "10"
        )
        for deal in command.DEALS
    }
    assert saved["even"] >= 10 and saved["even"] > 2 * saved["uneven"] > 2
