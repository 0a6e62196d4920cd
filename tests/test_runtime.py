"""The worker process: where it writes, and when it ends."""

from fedcourse import runtime  # isort: skip  (before TensorFlow)

import contextlib
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import tensorflow_federated as tff
from conftest import comes_true, fresh_environment, weights_gap
from jupyter_client.manager import start_new_kernel

from fedcourse import data, models, training

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


def alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def ends_within(pid, seconds):
    return comes_true(lambda: not alive(pid), seconds)


@pytest.fixture
def child():
    """Start Python with pipes as a shell or an editor would; leave nothing of it behind."""
    started, workers = [], []

    def start(code):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=fresh_environment(),
        )
        started.append(process)
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        workers.extend(json.loads(line))
        return process, workers

    yield start
    for process in started:
        process.kill()
        process.wait()
    for pid in filter(alive, workers):
        psutil.Process(pid).kill()


def test_a_round_leaves_no_worker_and_no_word(child):
    process, workers = child(START + ROUND)
    _, said = process.communicate(timeout=30)  # ends only when nobody holds the pipes
    assert process.returncode == 0
    assert said == ""
    assert len(workers) == 1
    assert ends_within(workers[0], 5)


def test_worker_ends_with_a_process_that_is_killed(child):
    process, workers = child(START + ONCE + "signal.pause()")
    assert len(workers) == 1 and alive(workers[0])
    process.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert ends_within(workers[0], 5)


# --- it is sealed off -----------------------------------------------------------------------------


@tff.tensorflow.computation(np.int32)
def add_one(x):
    return x + 1


def own_worker():
    """The worker of this process that was started last."""
    children = [p for p in psutil.Process().children() if alive(p.pid)]
    workers = [p for p in children if "worker_binary" in " ".join(p.cmdline())]
    return max(workers, key=lambda worker: worker.create_time())


@pytest.fixture
def new_context():
    """Let the next computation start a worker of its own; put the old one back afterwards."""
    runtime._sealed_binary.cache_clear()
    before = tff.framework.get_context_stack().current
    yield tff.backends.native.set_sync_local_cpp_execution_context
    tff.framework.set_default_context(before)
    runtime._sealed_binary.cache_clear()


def test_worker_listens_on_no_network_and_its_socket_is_private():
    assert add_one(1) == 2
    assert own_worker().net_connections("inet") == []
    folder = pathlib.Path(own_worker().cwd())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_ISSOCK((folder / runtime._PORT).stat().st_mode)


def test_where_it_cannot_be_sealed_it_says_so_and_works(new_context, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEDCOURSE_CACHE", str(tmp_path / "file"))
    new_context()
    with pytest.warns(UserWarning, match="listens on all network interfaces"):
        assert add_one(2) == 3
    listening = [c.laddr.ip for c in own_worker().net_connections("inet") if c.status == "LISTEN"]
    assert listening == ["::"], "what the warning says is true"


# --- it is fast -----------------------------------------------------------------------------------


def test_worker_computes_on_every_core_with_onednn():
    assert add_one(1) == 2
    cores = len(os.sched_getaffinity(0))
    assert f"--max_concurrent_computation_calls={cores}" in own_worker().cmdline()
    environment = own_worker().environ()
    assert environment["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert environment["TF_NUM_INTRAOP_THREADS"] == str(max(1, cores // 10))


def test_a_limit_of_the_callers_own_is_kept():
    before = tff.framework.get_context_stack().current
    try:
        tff.backends.native.set_sync_local_cpp_execution_context(max_concurrent_computation_calls=7)
        assert add_one(1) == 2
        assert "--max_concurrent_computation_calls=7" in own_worker().cmdline()
    finally:
        tff.framework.set_default_context(before)


# --- it cannot start ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script, mode, words",
    [
        ('#!/bin/sh\necho "version \\`GLIBC_2.99\' not found" >&2; exit 1', 0o700, "GLIBC_2.99"),
        ("#!/bin/sh\necho no port >&2; kill -ABRT $$", 0o700, "SIGABRT.*no port"),
        ("#!/bin/sh\nsleep 60", 0o700, "gave no answer within 1 s"),
        ("\x7fELF of another machine", 0o700, "Exec format error"),
        ("#!/bin/sh", 0o600, "Permission denied"),
    ],
)
def test_a_worker_that_cannot_start_says_why(
    new_context, monkeypatch, tmp_path, script, mode, words
):
    binary = tmp_path / "worker"
    binary.write_text(script)
    binary.chmod(mode)
    monkeypatch.setattr(runtime, "_sealed_binary", lambda: (binary, False))
    monkeypatch.setattr(runtime, "START_SECONDS", 1 if "sleep" in script else 20)
    new_context()
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=f"(?s)TFF's worker .*{words}"):
        add_one(1)
    assert time.monotonic() - begun < 5
    monkeypatch.undo()
    assert add_one(1) == 2, "and the next call starts one"


def test_a_missing_worker_says_what_to_do(new_context, monkeypatch, tmp_path):
    monkeypatch.setattr(runtime, "_BINARY", tmp_path / "worker_binary")
    new_context()
    with pytest.raises(RuntimeError, match=r"missing.*Install tensorflow-federated again"):
        add_one(1)


# --- it gives memory back -------------------------------------------------------------------------

VECTOR = np.zeros(2**16, np.float32)  # a quarter of a megabyte


@tff.federated_computation(tff.FederatedType(tff.TensorType(np.float32, VECTOR.shape), tff.CLIENTS))
def add_up(vectors):
    return tff.federated_sum(vectors)


def test_memory_does_not_grow_where_cohorts_vary_in_size(new_context):
    """Two more passes over 24 sizes, 8 MB a cohort: 384 MB, if the worker kept them all."""
    new_context()

    def megabytes_after_a_pass():
        for size in range(20, 44):
            add_up([VECTOR] * size)
        return own_worker().memory_info().rss / 2**20

    before = megabytes_after_a_pass()
    megabytes_after_a_pass()
    assert megabytes_after_a_pass() < before + 150


# --- it dies, or is interrupted, in the middle ----------------------------------------------------


@pytest.mark.filterwarnings("ignore:TFF's worker died")
def test_killed_in_ten_rounds_the_weights_are_as_undisturbed(new_context):
    new_context()
    process = training.federated_averaging(training.wrap(lambda: models.small_cnn(seed=0)), 0.05)
    random = np.random.default_rng(0)
    clients = [
        data.batches(random.random((60, 28, 28)), random.integers(0, 10, 60), 5, 4, seed=n)
        for n in range(4)
    ]
    *_, calm = training.run(process, lambda number: clients, rounds=10)
    disturbed = training.run(process, lambda number: clients, rounds=10)
    killed = set()
    for _ in range(10):
        victim = own_worker()
        timer = threading.Timer(calm.seconds / 2, victim.kill)
        timer.start()
        step = next(disturbed)
        timer.join()
        if not alive(victim.pid):
            killed.add(victim.pid)
        add_one(1)
    weights = [process.get_model_weights(s.state).trainable for s in (calm, step)]
    assert len(killed) == 10
    assert weights_gap(*weights) < 1e-6


SETUP = """
import fedcourse, psutil
import numpy as np
from fedcourse import data, models, training
process = training.federated_averaging(training.wrap(models.small_cnn), 0.01)
def clients(epochs):
    pixels, labels = np.ones((50, 28, 28)), np.zeros(50, int)
    return [data.batches(pixels, labels, 10, epochs, seed=0) for _ in range(4)]
(step,) = training.run(process, lambda number: clients(1), rounds=1)
print(*[child.pid for child in psutil.Process().children()])
"""


BRIEF = """
import fedcourse, psutil
import tensorflow_federated as tff
tff.tensorflow.computation(lambda: 1)()
print(*[child.pid for child in psutil.Process().children()])
"""


@pytest.fixture
def kernel():
    """A Jupyter kernel, and a function that runs code in it."""
    manager, client = start_new_kernel(extra_arguments=["--log-level=40"], env=fresh_environment())

    def run(code, interrupt_after=None):
        said = []
        if interrupt_after:
            timer = threading.Timer(interrupt_after, manager.interrupt_kernel)
            timer.start()
        reply = client.execute_interactive(
            code,
            timeout=120,
            output_hook=lambda m: said.append(m["content"].get("text", "")),
        )
        return reply["content"], "".join(said)

    yield manager, run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_round_interrupted_ten_times_runs_the_eleventh(kernel):
    _, run = kernel
    _, worker = run(SETUP)
    for _ in range(10):
        reply, _ = run("list(training.run(process, lambda n: clients(100), 1))", interrupt_after=1)
        assert reply.get("ename") == "KeyboardInterrupt"
        reply, _ = run("(step,) = training.run(process, lambda n: clients(1), 1)")
        assert reply["status"] == "ok"
    assert run("print(*[c.pid for c in psutil.Process().children()])")[1] == worker


@pytest.mark.slow
def test_no_kernel_leaves_a_worker_behind(kernel):
    manager, run = kernel
    seen = set()
    ends = [
        lambda: manager.restart_kernel(now=False),
        lambda: manager.restart_kernel(now=True),
        lambda: (
            os.kill(manager.provisioner.pid, signal.SIGKILL) or manager.restart_kernel(now=True)
        ),
        lambda: (run("exit()"), manager.restart_kernel(now=True)),
    ]
    for number in range(20):
        _, workers = run(SETUP if number < 4 else BRIEF)
        pids = [int(pid) for pid in workers.split()]
        assert len(pids) == 1 and alive(pids[0])
        seen.add(pids[0])
        ends[number % 4]()
        assert ends_within(pids[0], 5)
    assert len(seen) == 20
