# ruff: noqa: E402
"""The benchmark: its workload, its turns, its report; the engines are tried by `make bench`."""

import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import json
import os
import signal
import socket
import subprocess

import bench
import numpy as np
import psutil
import pytest
import report
import workload
from conftest import comes_true, fresh_environment
from engine import Engine, EngineError, environment, python_for

CANNED = {
    "engines": {
        name: {
            "version": "1.0",
            "seconds_per_round": median,
            "quartiles": [0.9 * median, 1.2 * median],
            "cpu_seconds_per_round": 1.7 * median,
            "peak_gb": 0.7,
            "accuracy": 0.9,
        }
        for name, median in {
            "unrolled": 0.4,
            "floor": 1.0,
            "fedcourse": 0.5,
            "fedjax": 0.8,
        }.items()
    },
    "failed": {"flower": "ended with status 1. Its last words:\nboom"},
    "arithmetic_limit": {
        "gflop_per_round": 58.9,
        "gflop_per_second": 250.0,
        "seconds_per_round": 0.2356,
    },
    "machine": {"cores": 2},
}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "workload.npz"
    workload.make(path, rounds=3)
    return path


def test_workload_is_real_digits_dealt_evenly(work):
    with np.load(work) as npz:
        assert npz["pixels"].shape == (50, 80, 28, 28)
        assert npz["pixels"].dtype == np.float32
        assert (npz["pixels"].min(), npz["pixels"].max()) == (0, 1)
        assert np.median(npz["pixels"]) == 1.0  # paper
        assert npz["test_pixels"].shape == (1000, 28, 28)
        together = np.concatenate(
            [npz["pixels"].reshape(-1, 784), npz["test_pixels"].reshape(-1, 784)]
        )
        assert len(np.unique(together, axis=0)) > 4990  # none is in both parts
        assert (
            sorted(np.bincount(npz["labels"].ravel()) + np.bincount(npz["test_labels"]))
            == [500] * 10
        )
        assert npz["cohorts"].shape == (3, 10)
        assert all(len(set(row)) == 10 for row in npz["cohorts"])
        assert [sorted(row) for row in npz["order"]] == [list(range(80))] * 3
        assert sum(npz[f"weights_{n}"].size for n in range(8)) == 1_663_370


def test_workload_is_the_same_each_time(work, tmp_path):
    workload.make(tmp_path / "again.npz", rounds=3)
    with np.load(work) as one, np.load(tmp_path / "again.npz") as other:
        assert one.files == other.files
        assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_order_is_that_of_the_course(work):
    from fedcourse import data

    with np.load(work) as npz:
        pixels, labels, order = npz["pixels"][7], npz["labels"][7], npz["order"][2]
    batches = list(data.batches(pixels, labels, 10, seed=2))
    assert np.array_equal(np.concatenate([b[1] for b in batches]), labels[order])
    assert np.array_equal(np.concatenate([b[0] for b in batches])[..., 0], pixels[order])


def test_a_round_is_58_9_gflop():
    assert workload.flop_of_a_round() == pytest.approx(58.9e9, rel=1e-3)


def test_accuracy_of_chance(work):
    with np.load(work) as npz:
        weights = [np.zeros_like(npz[f"weights_{n}"]) for n in range(8)]
        share = float((npz["test_labels"] == 0).mean())
    assert workload.accuracy(work, weights) == pytest.approx(share)


def test_apart_is_a_share_of_the_way(work):
    with np.load(work) as npz:
        first = [npz[f"weights_{n}"] for n in range(8)]
    there, further = [w + 1 for w in first], [w + 1.5 for w in first]
    assert workload.apart(work, there, there) == 0
    assert workload.apart(work, further, there) == pytest.approx(0.5)


def test_summary():
    got = report.summary("2.0", [3.0, 1.0, 2.0, 5.0, 4.0], 25.0, 2 * 10**9, accuracy=0.5)
    assert got == {
        "version": "2.0",
        "seconds_per_round": 3.0,
        "quartiles": [2.0, 4.0],
        "cpu_seconds_per_round": 5.0,
        "peak_gb": 2.0,
        "accuracy": 0.5,
    }


def test_table_puts_the_fastest_first_and_names_the_failed():
    lines = report.table(CANNED).splitlines()
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "the best plain TensorFlow loop",
        "this course",
        "FedJAX",
        "plain tf.function loop",
    ]
    assert "1.60" in lines[3]  # FedJAX over this course
    assert "2.00" in lines[3]  # FedJAX over the best loop
    assert "1.36  0.70" in lines[3]  # processor seconds, gigabytes
    assert "FAILED" in lines[5]
    assert "boom" in "\n".join(lines)
    assert "This course: 2.1 times that." in lines[-1]


def test_table_without_the_course_or_the_floor():
    some = CANNED | {"engines": {"fedjax": CANNED["engines"]["fedjax"]}, "failed": {}}
    assert "–" in report.table(some)
    assert report.title(some) == "Seconds a round of Federated Averaging"


def test_title_says_the_answer():
    assert "1.6 times as fast as in the next framework, FedJAX" in report.title(CANNED)
    slow = json.loads(json.dumps(CANNED))
    slow["engines"]["fedcourse"]["seconds_per_round"] = 2.0
    assert "2.5 times as long as the fastest, FedJAX" in report.title(slow)


def test_plot(tmp_path):
    report.plot(CANNED, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"


def test_matrix_product_is_counted():
    assert 1 < bench.matrix_product(size=256, times=2) < 1e5


def test_environment_is_without_what_the_import_adds():
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
    assert environment()["PATH"] == os.environ["PATH"]
    script = "import fedcourse, engine; print('TF_USE_LEGACY_KERAS' in engine.environment())"
    said = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT / "benchmarks",
        env=fresh_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said == "False\n"


# --- engines --------------------------------------------------------------------------------------

ENGINES = str(ROOT / "benchmarks" / "engines")
SLEEP = f"1000.{os.getpid()}"  # seconds that nobody else on this machine sleeps
ECHO = """
import subprocess, sys, time
sys.path.insert(0, {engines!r})
from line import Line, Workload
work = Workload(sys.argv[1])
child = subprocess.Popen(["sleep", {sleep!r}], start_new_session={apart})
line = Line("3.1")
while (number := line.next_round(lambda: work.weights)) is not None:
    time.sleep(0.01)
    if number == {dies}:
        sys.exit("cannot go on")
"""


@pytest.fixture
def engine(work, tmp_path, monkeypatch):
    """Start an engine that only sleeps; it is ended after the test."""
    started = []

    def start(dies=-1, apart=False):
        script = ECHO.format(
            engines=str(ROOT / "benchmarks" / "engines"), sleep=SLEEP, dies=dies, apart=apart
        )
        (tmp_path / "run_echo.py").write_text(script)
        monkeypatch.setattr("engine.SCRIPTS", tmp_path)
        engine = Engine("echo", sys.executable, work, environment(), tmp_path / "log")
        started.append(engine)
        return engine

    yield start
    for each in started:
        each.end()


def sleepers():
    """The processes that test engines have started."""
    return [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", SLEEP]]


def sleepers_become(count):
    return comes_true(lambda: len(sleepers()) == count)


def stands_still(engine):
    return comes_true(lambda: engine._process.status() == psutil.STATUS_STOPPED)


def test_engine_runs_rounds_in_blocks_and_saves(engine, work, tmp_path):
    echo = engine()
    assert echo.version(300) == "3.1"
    assert len(echo.run(2, 300)) == 2
    assert len(echo.run(1, 300)) == 1
    echo.save(tmp_path / "weights.npz", 300)
    with np.load(tmp_path / "weights.npz") as saved, np.load(work) as npz:
        assert np.array_equal(saved["arr_4"], npz["weights_4"])


@pytest.mark.parametrize("apart", [False, True])
def test_nothing_is_left_when_an_engine_ends(engine, apart):
    before = len(sleepers())
    echo = engine(apart=apart)
    echo.version(300)
    assert sleepers_become(before + 1)
    echo.end()
    assert sleepers_become(before)


def test_memory_is_that_of_all_processes_at_their_peak(engine):
    echo = engine()
    echo.version(300)
    peak = echo.peak_memory()
    assert 10**7 < peak < 10**9  # Python with NumPy, and sleep
    echo.end()
    assert echo.peak_memory() == peak


def test_tuned_engines_are_told_so(work, tmp_path, monkeypatch):
    (tmp_path / "run_any.py").write_text(
        f"import sys; sys.path.insert(0, {ENGINES!r})\nimport line\nline.Line(str(line.TUNED))"
    )
    monkeypatch.setattr("engine.SCRIPTS", tmp_path)
    for name, said in {"any": "False", "any-tuned": "True"}.items():
        one = Engine(name, python_for(name, tmp_path), work, environment(), tmp_path / "log")
        assert one.version(300) == said
        one.end()


def test_halted_engine_stands_still_and_goes_on(engine):
    echo = engine()
    echo.version(300)
    echo.halt()
    assert stands_still(echo)
    with echo.awake():
        assert len(echo.run(2, 300)) == 2
    assert stands_still(echo)


def test_engine_ends_with_its_driver(engine):
    before = len(sleepers())
    echo = engine()
    echo.version(300)
    echo._line.shutdown(socket.SHUT_RDWR)  # as Linux does when the driver is killed
    assert echo._process.wait(300) == -signal.SIGKILL
    assert sleepers_become(before)


def test_environment_that_pip_cannot_make_is_reported(tmp_path, monkeypatch):
    (tmp_path / "echo.txt").write_text("./nowhere\n")
    monkeypatch.setattr("engine.SCRIPTS", tmp_path)
    with pytest.raises(EngineError, match=r"pip could not(.|\n)*nowhere"):
        python_for("echo", tmp_path)
    assert not (tmp_path / "echo" / "ready").exists()


def test_dead_engine_says_its_last_words(engine):
    echo = engine(dies=1)
    echo.version(300)
    with pytest.raises(EngineError, match=r"status 1(.|\n)*cannot go on"):
        echo.run(3, 300)


def test_silent_engine_is_given_up(engine):
    echo = engine()
    echo.version(300)
    echo.halt()
    with pytest.raises(EngineError, match="no answer in"):
        echo.run(1, timeout=0.2)


def test_engine_that_fails_is_reported_and_the_others_go_on(work, tmp_path, monkeypatch, capsys):
    for name, dies in (("fedjax", 2), ("pfl", -1)):
        script = ECHO.format(
            engines=str(ROOT / "benchmarks" / "engines"), sleep=SLEEP, dies=dies, apart=False
        )
        (tmp_path / f"run_{name}.py").write_text(script)
    monkeypatch.setattr("engine.SCRIPTS", tmp_path)
    monkeypatch.setattr(bench, "BUILD", tmp_path)
    monkeypatch.setattr(bench, "matrix_product", lambda: 100.0)
    results = bench.measure(["fedjax", "pfl"], 3, tmp_path)
    assert list(results["engines"]) == ["pfl"]
    assert "cannot go on" in results["failed"]["fedjax"]
    assert "cannot go on" in capsys.readouterr().out
    assert results["arithmetic_limit"]["seconds_per_round"] == pytest.approx(0.589, abs=1e-3)
    json.dumps(results)


@pytest.mark.slow
def test_course_and_plain_loop_train_alike(work, tmp_path):
    """After one round: further on, rounding that tips a ReLU over has grown into other weights."""
    weights = {}
    for name in ("floor", "fedcourse"):
        engine = Engine(name, sys.executable, work, environment(), tmp_path / "log")
        try:
            engine.version(300)
            engine.run(1, 300)
            engine.save(tmp_path / "weights.npz", 60)
        finally:
            engine.end()
        with np.load(tmp_path / "weights.npz") as saved:
            weights[name] = list(saved.values())
    assert workload.apart(work, weights["fedcourse"], weights["floor"]) < 0.05


@pytest.mark.slow
def test_command_measures_and_reports(tmp_path):
    said = subprocess.run(
        [
            *(sys.executable, ROOT / "benchmarks" / "bench.py", "--engines", "floor,fedcourse"),
            *("--rounds", "2", "--into", tmp_path),
        ],
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    floor, course = results["engines"]["floor"], results["engines"]["fedcourse"]
    assert course["accuracy"] == pytest.approx(floor["accuracy"], abs=0.05)
    assert course["accuracy"] > 0.3  # it has learned
    assert 0 < course["seconds_per_round"] < 60
    assert (tmp_path / "results.png").exists()
