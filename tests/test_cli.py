from fedcourse import __main__ as cli  # isort: skip  (before TensorFlow)

import contextlib
import functools
import json
import pathlib
import re
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from conftest import comes_true, fresh_environment, weights_gap

from fedcourse import commands, data, evaluation, models, training
from fedcourse.checkpoints import Checkpoints
from fedcourse.data import emnist

# Three small clients, each through its images once: a third of a second a round.
SMALL = [
    *("train", "--data", "embedded", "--model", "small_cnn"),
    *("--clients-per-round", "3", "--local-epochs", "1", "--batch-size", "20"),
    *("--client-lr", "0.1", "--json"),
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCOURSE_CACHE", str(tmp_path))


@pytest.fixture
def command(capsys):
    """Run the command line in this process; return exit status, stdout, stderr."""

    def run(*arguments):
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def report(command):
    """Run the command line, which must succeed; return what it reports."""

    def run(*arguments):
        status, out, err = command(*arguments)
        assert status == 0, err
        return json.loads(out)

    return run


def saved(folder, model="small_cnn"):
    """The newest weights in a folder of checkpoints, and their round."""
    make_model = functools.partial(getattr(models, model), seed=0)
    process = training.federated_averaging(training.wrap(make_model), 0.1)
    state, number = Checkpoints(folder).load(process.initialize())
    return process.get_model_weights(state).trainable, number


# --- what it prints -------------------------------------------------------------------------------


def test_stdout_is_one_json_object_and_progress_is_on_stderr(python, report):
    arguments = [*SMALL, "--rounds", "2"]
    run = python("-m", "fedcourse", *arguments)
    assert run.status == 0, run.err
    result = json.loads(run.out)
    assert list(result) == ["rounds", "seconds_per_round", "unseen_writers"]
    assert result["rounds"] == 2 and 0 < result["seconds_per_round"] < 60
    unseen = result["unseen_writers"]
    assert list(unseen) == ["count", "mean_accuracy", "median_accuracy", "worst_tenth_accuracy"]
    assert unseen["count"] == 10  # a sixth of 60
    assert 0 <= unseen["worst_tenth_accuracy"] <= unseen["mean_accuracy"] <= 1
    assert re.search(r"rounds: 100%.* 2/2 .*accuracy=0\.\d+, loss=\d", run.err)
    assert not re.search(r"warning|traceback|I0000|E0000", run.err, re.IGNORECASE)
    assert report(*arguments)["unseen_writers"] == unseen  # same seed, another process


def test_what_loading_says_is_on_stderr(command, monkeypatch):
    def unreachable(cache_dir):
        raise ConnectionError

    monkeypatch.delenv("FEDCOURSE_SOURCE", raising=False)
    monkeypatch.setattr(emnist, "fetch", unreachable)
    status, out, err = command(*SMALL, "--rounds", 1, "--data", "auto")
    assert status == 0 and json.loads(out)["rounds"] == 1
    assert "these are the embedded digits" in err


def test_seed_and_knobs_matter(report):
    one, other, longer = (
        report(*SMALL, *more)["unseen_writers"]
        for more in (["--rounds", 1], ["--rounds", 1, "--seed", 1], ["--rounds", 2])
    )
    assert len({json.dumps(result) for result in (one, other, longer)}) == 3


def test_without_json_it_says_the_same_in_words(command):
    status, out, _ = command(*SMALL[:-1], "--rounds", 1)
    assert status == 0
    rounds, accuracy = out.splitlines()
    assert re.fullmatch(r"1 rounds, \d+\.\d\d s each", rounds)
    number = r"[01]\.\d{3}"
    assert re.fullmatch(
        f"accuracy on 10 writers never seen: mean {number}, median {number}, worst tenth {number}",
        accuracy,
    )


def test_report_is_that_of_the_functions(report):
    """The same round written out with the functions that the lessons use."""
    pair = data.load("embedded")
    seen, unseen = data.split_writers(pair[0].client_ids, seed=4)

    def cohort(number):
        return [
            data.batches(*data.images_of(pair[0], writer), 20, epochs=1, seed=number)
            for writer in data.sample_clients(seen, 3, 4, number)
        ]

    make_model = functools.partial(models.small_cnn, seed=4)
    process = training.federated_averaging(training.wrap(make_model), 0.1)
    *_, last = training.run(process, cohort, rounds=2)
    model = make_model()
    process.get_model_weights(last.state).assign_weights_to(model)
    accuracies = evaluation.accuracy_by_writer(
        model, {writer: data.images_of(pair, writer) for writer in unseen}
    )
    said = report(*SMALL, "--rounds", 2, "--seed", 4)["unseen_writers"]
    assert [said[f"{key}_accuracy"] for key in ("mean", "median", "worst_tenth")] == list(
        evaluation.summary(accuracies)
    )


def test_help_names_every_option(command):
    status, out, _ = command("train", "--help")
    assert status == 0
    for option in (
        *("--data", "--model", "--rounds", "--clients-per-round", "--local-epochs"),
        *("--batch-size", "--client-lr", "--seed", "--checkpoint", "--json"),
    ):
        assert re.search(rf"^  {option}\b", out, re.MULTILINE), option


# --- stop and resume ------------------------------------------------------------------------------


def test_stopped_and_resumed_is_as_if_nothing_happened(report, tmp_path):
    whole = report(*SMALL, "--rounds", 3, "--checkpoint", tmp_path / "whole")
    first = report(*SMALL, "--rounds", 1, "--checkpoint", tmp_path / "parts")
    assert first["rounds"] == 1
    rest = report(*SMALL, "--rounds", 3, "--checkpoint", tmp_path / "parts")
    assert rest["rounds"] == 3 and rest["seconds_per_round"] > 0
    assert rest["unseen_writers"] == whole["unseen_writers"]
    (one, number), (other, _) = saved(tmp_path / "whole"), saved(tmp_path / "parts")
    assert number == 3 and weights_gap(one, other) < 1e-6
    again = report(*SMALL, "--rounds", 2, "--checkpoint", tmp_path / "parts")
    assert again == {**rest, "seconds_per_round": None}  # nothing left to do


@pytest.mark.slow
def test_killed_and_started_again_is_as_if_nothing_happened(report, tmp_path):
    endless = [*SMALL, "--rounds", "1000000", "--checkpoint", str(tmp_path / "killed")]
    process = subprocess.Popen(
        [sys.executable, "-m", "fedcourse", *endless],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=fresh_environment(),
    )
    try:
        there = (tmp_path / "killed").glob
        assert comes_true(lambda: process.poll() is not None or list(there("round_*.npz")), 300)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    _, number = saved(tmp_path / "killed")
    assert number >= 1
    arguments = [*SMALL, "--rounds", str(number + 3), "--checkpoint"]
    resumed = report(*arguments, tmp_path / "killed")
    undisturbed = report(*arguments, tmp_path / "undisturbed")
    assert resumed["rounds"] == number + 3
    assert resumed["unseen_writers"] == undisturbed["unseen_writers"]
    (one, first), (other, second) = saved(tmp_path / "killed"), saved(tmp_path / "undisturbed")
    assert first == second == number + 3
    assert weights_gap(one, other) < 1e-6


def remember(folder, *more):
    options = cli.parser().parse_args([*SMALL, "--checkpoint", str(folder), *more])
    Checkpoints(folder).remember(commands.settings_of(options))


@pytest.mark.parametrize(
    ("option", "value", "before"),
    [
        ("--data", "auto", "embedded"),
        ("--model", "mcmahan_cnn", "small_cnn"),
        ("--clients-per-round", "4", 3),
        ("--local-epochs", "2", 1),
        ("--batch-size", "10", 20),
        ("--client-lr", "0.2", 0.1),
        ("--seed", "1", 0),
    ],
)
def test_another_setting_is_refused_and_named(tmp_path, option, value, before):
    remember(tmp_path)
    key = option[2:].replace("-", "_")
    with pytest.raises(ValueError, match=re.escape(f"{{{key!r}: {before!r}}}")):
        remember(tmp_path, option, value)
    remember(tmp_path, "--rounds", "7")  # more rounds are the point of it


def test_another_setting_ends_the_command(command, tmp_path):
    remember(tmp_path)
    status, out, err = command(*SMALL, "--checkpoint", tmp_path, "--seed", 1)
    assert (status, out) == (2, "")
    assert "holds a run with other settings: {'seed': 0}" in err.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["settings.json"]


def test_killed_while_settings_are_written(tmp_path, monkeypatch):
    def open_and_die(path, text):
        path.touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pathlib.Path, "write_text", open_and_die)
        remember(tmp_path)
    remember(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]
    with pytest.raises(ValueError, match="other settings"):
        remember(tmp_path, "--seed", "1")


def test_settings_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "settings.json").write_text("")
    with pytest.raises(ValueError, match=r"settings\.json"):
        remember(tmp_path)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rounds 0", "argument --rounds: '0' is not a whole number of at least 1"),
        ("--rounds -3", "argument --rounds: '-3' is not a whole number"),
        ("--rounds 2.5", "argument --rounds: '2.5' is not a whole number"),
        ("--clients-per-round 0", "argument --clients-per-round: '0' is not"),
        ("--local-epochs none", "argument --local-epochs: 'none' is not a whole number"),
        ("--batch-size 0", "argument --batch-size: '0' is not"),
        ("--client-lr -0.1", "argument --client-lr: '-0.1' is not a number above 0"),
        ("--client-lr 0", "argument --client-lr: '0' is not a number above 0"),
        ("--client-lr nan", "argument --client-lr: 'nan' is not a number above 0"),
        ("--client-lr inf", "argument --client-lr: 'inf' is not a number above 0"),
        ("--client-lr fast", "argument --client-lr: 'fast' is not a number above 0"),
        ("--seed -1", "seed"),
        ("--seed 99999999999999999999", "seed"),
        ("--model resnet", "--model: 'resnet' is none of mcmahan_cnn, small_cnn"),
        ("--model no.such:thing", "--model no.such:thing: No module named 'no'"),
        ("--model fedcourse.models:thing", "has no attribute 'thing'"),
        ("--validation 1", "argument --validation: '1' is not a share between 0 and 1"),
        ("--save network.h5", "ends in '.h5'; it must end in .keras or .tflite"),
        (
            "--save nowhere/network.keras",
            "--save nowhere/network.keras: there is no folder nowhere",
        ),
        ("--report nowhere/page.html", "--report nowhere/page.html: there is no folder nowhere"),
        ("--report .", "--report . is a folder"),
        ("--clients-per-round 51", "--clients-per-round is 51, but there are only 50"),
        ("--data emnsit", "'emnsit' is none of 'auto', 'emnist', 'emnist62', 'embedded'"),
        ("--data nowhere.sqlite", "'nowhere.sqlite': no such file"),
        ("--data src", "path='src' has no pictures at <client>/<label>/<picture>"),
        ("--data nowhere.csv", "table='nowhere.csv': no such file"),
        ("--nothing x", "unrecognized arguments: --nothing x"),
    ],
)
def test_bad_input_is_exit_status_2_and_one_clear_line(command, arguments, message):
    status, out, err = command(*SMALL, "--rounds", 1, *arguments.split())
    assert (status, out) == (2, "")
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith(("fedcourse: ", "python -m fedcourse")) and message in last


def test_missing_packages_are_named(command, monkeypatch):
    monkeypatch.setitem(cli.environment.TFF_PINS, "tensorflow-nowhere", "1")
    status, out, err = command(*SMALL)
    assert (status, out) == (2, "")
    assert "Not installed here: tensorflow-nowhere." in err


def test_no_command_is_exit_status_2(command):
    status, out, err = command()
    assert (status, out) == (2, "") and "COMMAND" in err


def test_labels_the_networks_do_not_know_are_named(command, tmp_path):
    """As in a file in TFF's layout that was not written here, and does not say its classes."""
    generator = np.random.default_rng(0)
    letters = data.from_arrays(
        {name: (generator.random((4, 28, 28)), np.full(4, 10)) for name in "abcdef"}
    )
    data.write_sqlite(tmp_path / "letters.sqlite", letters, letters)
    with contextlib.closing(sqlite3.connect(tmp_path / "letters.sqlite")) as database:
        database.execute("DROP TABLE fedcourse")
        database.commit()
    arguments = [*SMALL, "--rounds", 1, "--data", tmp_path / "letters.sqlite"]
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert re.search(r"label 10\b.*0 to 9", err.splitlines()[-1])


# --- pictures of one's own ------------------------------------------------------------------------

OWN = [
    *("train", "--model", "small_cnn", "--rounds", 4, "--clients-per-round", 3),
    *("--batch-size", 4, "--local-epochs", 3, "--json"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight clients with coloured pictures of three classes, each bright in a place of its own."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for client in range(8):
        places = {"hell": np.s_[:7], "trüb": np.s_[7:], "<b>dunkel": np.s_[:, :6]}
        for name, place in places.items():
            (root / f"client {client}" / name).mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 60, (14, 12, 3)).astype(np.uint8)
                pixels[place] += 180
                picture = PIL.Image.fromarray(pixels)
                picture.save(root / f"client {client}" / name / f"{number}.png")
    return root


def test_a_folder_becomes_a_network_that_reads_pictures(command, report, folder, tmp_path):
    network, page = tmp_path / "network.keras", tmp_path / "page.html"
    told = report(
        *(*OWN, "--data", folder, "--validation", 0.2, "--client-lr", 0.2),
        *("--save", network, "--report", page),
    )
    assert told["unseen_writers"]["count"] == 1 and told["best_round"]["round"] == 4
    assert told["unseen_writers"]["mean_accuracy"] > 0.9
    shown = [folder / "client 0" / name / "0.png" for name in ("hell", "trüb", "<b>dunkel")]
    status, out, _ = command("predict", network, *shown)
    assert status == 0
    for line, name in zip(out.splitlines(), ("hell", "trüb", "<b>dunkel"), strict=True):
        assert re.fullmatch(rf"{name} +[01]\.\d{{3}}  .*0\.png", line)
    status, out, _ = command("predict", "--json", network, shown[0])
    (found,) = json.loads(out)
    assert found["class"] == "hell" and 1 / 3 < found["probability"] <= 1
    text = page.read_text()
    assert "&lt;b&gt;dunkel" in text and "<b>dunkel" not in text
    assert not re.search(r"""(src|href)=["'](?!data:)""", text)
    assert text.count("<img alt=") == 3 and "client-lr" not in text and "client_lr" in text


def test_a_table_of_pictures_that_nobody_owns_is_dealt(report, command, folder, tmp_path):
    lines = [
        f"{picture.relative_to(folder)},{picture.parent.name}" for picture in folder.rglob("*.png")
    ]
    (folder / "all.csv").write_text("\n".join(["picture,kind", *lines]))
    table = ["--data", folder / "all.csv", "--label", "kind", "--file", "picture"]
    told = report(*OWN, *table, "--deal", 6)
    assert told["unseen_writers"]["count"] == 1
    status, out, err = command(*OWN, *table)
    assert (status, out) == (2, "") and "--deal 50 deals" in err.splitlines()[-1]


def test_a_network_of_ones_own(report, folder, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import tensorflow as tf\n"
        "def make(image_shape, classes):\n"
        "    layers = tf.keras.layers\n"
        "    return tf.keras.Sequential([layers.InputLayer(image_shape), layers.Flatten(),"
        " layers.Dense(classes)])\n"
    )
    monkeypatch.chdir(tmp_path)
    told = report(*OWN, "--data", folder, "--model", "mine:make", "--save", "mine")
    assert told["rounds"] == 4
    assert (tmp_path / "mine" / "saved_model.pb").exists()


def test_pictures_that_cannot_be_read_are_named(command, folder, tmp_path):
    status, out, err = command("predict", tmp_path / "x.keras", "a.png")
    assert (status, out) == (2, "") and "x.keras': no such file" in err.splitlines()[-1]


# --- real writers ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_writers_through_sqlite(report, real_writers):
    """Measured with seeds 0, 1, 2: mean 0.919, 0.921, 0.896, worst tenth 0.76, 0.79, 0.71."""
    result = report(
        *("train", "--data", real_writers, "--model", "small_cnn", "--rounds", 20, "--json"),
        *("--clients-per-round", 10, "--local-epochs", 1, "--batch-size", 10),
        *("--client-lr", 0.1),
    )
    unseen = result["unseen_writers"]
    assert unseen["count"] == 89  # a sixth of 536
    assert unseen["mean_accuracy"] > 0.88
    assert unseen["worst_tenth_accuracy"] > 0.68
