"""The worker process: where it writes, and when it ends."""

from fedcourse import runtime  # isort: skip  (before TensorFlow)

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import tensorflow_federated as tff
from conftest import fresh_environment

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
    until = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not alive(pid)


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


def test_worker_ends_with_its_process_also_without_setpriv(child):
    process, workers = child("import shutil; shutil.which = lambda name: None" + START + ONCE)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    assert ends_within(workers[0], 5)


def test_worker_ends_with_a_process_that_is_killed(child):
    process, workers = child(START + ONCE + "signal.pause()")
    assert len(workers) == 1 and alive(workers[0])
    process.send_signal(signal.SIGKILL)
    begun = time.monotonic()
    process.communicate(timeout=30)
    assert time.monotonic() - begun < 5
    assert ends_within(workers[0], 5)


def test_a_worker_that_dies_is_replaced():
    add = tff.tensorflow.computation(lambda x: x + 1, np.int32)
    assert add(1) == 2
    (worker,) = (p for p in psutil.Process().children() if "worker_binary" in p.name())
    worker.kill()
    assert add(2) == 3
    assert not alive(worker.pid)


@pytest.mark.parametrize("setpriv", [shutil.which("setpriv"), None])
def test_worker_writes_to_a_file_of_its_own(monkeypatch, capfd, setpriv):
    monkeypatch.setattr(shutil, "which", lambda name: setpriv)
    worker = runtime.Worker(
        ["sh", "-c", "echo out; echo err >&2; cat"], stdout=sys.stdout, stderr=None
    )
    assert worker.wait(timeout=10) == 0  # `cat` ends at once: nothing to read
    worker.log.seek(0)
    assert worker.log.read() == b"out\nerr\n"
    assert capfd.readouterr() == ("", "")
