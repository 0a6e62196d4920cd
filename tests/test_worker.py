"""The worker process: where it writes, how fast it may be, and when it ends."""

from fedcourse import worker  # isort: skip  (before TensorFlow)

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import pytest
from conftest import LONG, fresh_environment
from workers import add_one, alive, ends, new_context, own_worker

from fedcourse.sealing import SOCKET

START = """
import json, signal
import fedcourse
import numpy as np, psutil
import tensorflow_federated as tff

def tell_workers():
    print(json.dumps([child.pid for child in psutil.Process().children()]), flush=True)
"""
ROUND = """
from fedcourse import data, models, training
process = training.federated_averaging(training.wrap(models.small_cnn), 0.1)
clients = [data.batches(np.ones((6, 28, 28)), np.arange(6), batch_size=3) for _ in range(2)]
(step,) = training.run(process, lambda number: clients, rounds=1)
tell_workers()
"""
ONCE = """
assert tff.tensorflow.computation(lambda: 1)() == 1
tell_workers()
"""


@pytest.fixture
def child():
    """Start Python with pipes as a shell or an editor would; leave nothing of it behind."""
    started, workers = [], []

    def start(code, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=fresh_environment(**environment),
        )
        started.append(process)
        line = process.stdout.readline()
        assert line, process.communicate(timeout=LONG)[1]
        workers.extend(json.loads(line))
        return process, workers

    yield start
    for process in started:
        process.kill()
        process.wait()
    for pid in filter(alive, workers):
        os.kill(pid, signal.SIGKILL)


# --- it ends, and says nothing --------------------------------------------------------------------


@pytest.mark.slow
def test_a_round_leaves_no_worker_no_folder_and_no_word(child, tmp_path):
    process, workers = child(START + ROUND, TMPDIR=str(tmp_path))
    _, said = process.communicate(timeout=LONG)  # ends only when nobody holds the pipes
    assert process.returncode == 0
    assert said == ""
    assert len(workers) == 1 and ends(workers[0])
    assert list(tmp_path.iterdir()) == []


def test_worker_ends_with_a_process_that_is_killed_and_the_next_one_tidies_up(
    child, tmp_path, monkeypatch
):
    process, workers = child(START + ONCE + "signal.pause()", TMPDIR=str(tmp_path))
    assert len(workers) == 1 and alive(workers[0])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=LONG)  # ends only when nobody holds the pipes
    assert ends(workers[0])
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with new_context():
        assert add_one(1) == 2
        assert list(tmp_path.iterdir()) == [pathlib.Path(own_worker().cwd())]


# --- its folder, among those of others ------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, of a name that can be chosen."""

    def use(name="tmp"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        return folder

    return use


def folder_with(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    os.utime(folder, (1, 1))  # many years old
    return folder


def test_folders_of_workers_that_are_gone_are_removed_and_no_others(temporary):
    root = temporary()
    gone = folder_with(root / "fedcourse-worker-12345678", "log", SOCKET)
    kept = [
        folder_with(root / "fedcourse-my-experiments", "log"),
        folder_with(root / "fedcourse-worker-notes", "log", "notes.txt"),
        folder_with(root / "fedcourse-worker-empty"),
        folder_with(root / "elsewhere", "log"),
    ]
    (root / "fedcourse-worker-link").symlink_to(root / "elsewhere")
    (root / "fedcourse-worker-file").touch()
    worker._remove_abandoned()
    assert not gone.exists()
    assert all(folder.exists() for folder in kept)
    assert (root / "elsewhere/log").exists() and (root / "fedcourse-worker-link").exists()
    assert (root / "fedcourse-worker-notes/log").exists()
    assert (root / "fedcourse-worker-file").exists()


def test_a_folder_is_kept_while_its_worker_or_its_python_has_the_log_open(temporary, python):
    """In another container with the same temporary folder no process of it can be seen."""
    root = temporary()
    with new_context():
        assert add_one(1) == 2
        folder = pathlib.Path(own_worker().cwd())
        os.utime(folder, (1, 1))
        with open(folder / "log", "r+b") as log, pytest.raises(BlockingIOError):
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        code = "import fedcourse, tensorflow_federated; from fedcourse import worker\n"
        run = python("-c", f"{code}worker._remove_abandoned()", TMPDIR=str(root))
        assert run.status == 0, run.err
        assert {path.name for path in folder.iterdir()} == {"log", SOCKET}
        assert add_one(2) == 3


@pytest.mark.parametrize(
    "name",
    [
        "50%41",
        "a#b",
        "what?x=1&y=2",
        "a space",
        "unix:abstract",
        "Übung – 数字",
        "/".join(["a name of thirty-two characters."] * 30),
    ],
    ids=lambda name: name[:10],
)
def test_any_temporary_folder_will_do(temporary, name):
    root = temporary(name)
    with new_context():
        assert add_one(1) == 2
        assert pathlib.Path(own_worker().cwd()).parent == root
        assert own_worker().net_connections("inet") == []


@pytest.mark.parametrize("name", ["/proc", "/no/such/folder"])
def test_where_nothing_can_be_written_another_temporary_folder_is_taken(monkeypatch, name):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", name)
    with new_context():
        assert add_one(1) == 2
        assert not own_worker().cwd().startswith(name)


def test_a_temporary_folder_that_is_gone_is_named(temporary):
    root = temporary()
    root.rmdir()
    with new_context():
        with pytest.raises(RuntimeError, match=f"cannot be started.*{root}"):
            add_one(1)
        root.mkdir()
        assert add_one(1) == 2


# --- it is fast -----------------------------------------------------------------------------------


def test_worker_computes_on_every_core_and_with_onednn_where_this_process_does():
    with new_context():
        assert add_one(1) == 2
        assert f"--max_concurrent_computation_calls={worker.CORES}" in own_worker().cmdline()
        environment = own_worker().environ()
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == os.environ["TF_ENABLE_ONEDNN_OPTS"]
    assert environment["TF_NUM_INTRAOP_THREADS"] == str(max(1, worker.CORES // 10))


def test_a_limit_of_the_callers_own_is_kept():
    with new_context(max_concurrent_computation_calls=7):
        assert add_one(1) == 2
        assert "--max_concurrent_computation_calls=7" in own_worker().cmdline()


# --- it cannot start ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:TFF's worker listens")  # none of these can be sealed
@pytest.mark.parametrize(
    ("script", "mode", "words"),
    [
        ('#!/bin/sh\necho "version \\`GLIBC_2.99\' not found" >&2; exit 1', 0o700, "GLIBC_2.99"),
        ("#!/bin/sh\necho no port >&2; kill -ABRT $$", 0o700, "SIGABRT.*no port"),
        ("#!/bin/sh\nexec tail -f /dev/null", 0o700, "gave no answer within 1 s"),
        ("\x7fELF of another machine", 0o700, "Exec format error"),
        ("", 0o700, "Exec format error"),
        ("#!/bin/sh", 0o600, "Permission denied"),
    ],
)
def test_a_worker_that_cannot_start_says_why(monkeypatch, tmp_path, script, mode, words):
    program = tmp_path / "worker_binary"
    program.write_text(script)
    program.chmod(mode)
    with new_context():
        with monkeypatch.context() as patch:
            patch.setattr(worker, "_PROGRAM", program)
            if "no answer" in words:
                patch.setattr(worker, "START_SECONDS", 1)
            with pytest.raises(RuntimeError, match=f"(?s)TFF's worker .*{words}"):
                add_one(1)
        assert add_one(1) == 2, "and the next call starts one"


def test_a_missing_worker_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "_PROGRAM", tmp_path / "worker_binary")
    with (
        new_context(),
        pytest.raises(RuntimeError, match=r"missing.*Install tensorflow-federated again"),
    ):
        add_one(1)


# --- a forked process has none --------------------------------------------------------------------

FORK = """
import gc, multiprocessing, os, pathlib, sys
import fedcourse, psutil
import tensorflow as tf, tensorflow_federated as tff

def compute(x):
    return float(tff.tensorflow.computation(lambda: tf.constant(float(x)))())

def refused():
    try:
        compute(1)
    except RuntimeError as error:
        assert "get_context('spawn')" in str(error), error
        return True

def forked(action):
    pid = os.fork()
    if pid == 0:
        action()
        sys.exit(7)  # with all that Python does at the end
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
"""
BEFORE_USE = """
assert forked(lambda: refused() or os._exit(1))
assert compute(2) == 2
"""
AFTER_USE = """
assert compute(2) == 2
(worker,) = psutil.Process().children()
folder = pathlib.Path(worker.cwd())
assert forked(lambda: refused() or os._exit(1))

def try_again():
    tff.backends.native.set_sync_local_cpp_execution_context()  # drops the parent's
    gc.collect()
    refused() or os._exit(1)
    with tff.framework.get_context_stack().install(
        tff.backends.native.create_sync_local_cpp_execution_context()
    ):
        refused() or os._exit(1)

assert forked(try_again)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.starmap(refused, [(), ()]) == [True, True]
    try:
        pool.map(compute, [2, 3])
    except RuntimeError as error:
        assert "spawn" in str(error)
    else:
        raise AssertionError("it computed")
assert folder.exists() and (folder / "log").exists()
assert compute(3) == 3
assert psutil.Process().children() == [worker], "the parent's worker lives"
"""


@pytest.mark.parametrize("when", [BEFORE_USE, AFTER_USE], ids=["before use", "after use"])
@pytest.mark.slow
def test_a_forked_process_is_told_to_spawn_and_the_parent_goes_on(python, when):
    run = python("-c", FORK + when)
    assert run.status == 0, run.err


@pytest.mark.slow
def test_spawned_processes_compute(python, tmp_path):
    script = tmp_path / "spawned.py"
    script.write_text(
        FORK
        + "if __name__ == '__main__':\n"
        + "    print(multiprocessing.get_context('spawn').Pool(1).map(compute, [2, 3]))\n"
    )
    run = python(str(script))
    assert (run.status, run.out) == (0, "[2.0, 3.0]\n"), run.err
