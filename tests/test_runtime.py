"""TFF in workers of its own: rounds that are interrupted or lose their worker, memory, contexts."""

from fedcourse import runtime  # isort: skip  (before TensorFlow)

import concurrent.futures
import gc
import os
import pathlib
import signal

import numpy as np
import pytest
import tensorflow_federated as tff
from conftest import LONG, comes_true, fresh_environment, weights_gap
from jupyter_client.manager import start_new_kernel
from workers import Gate, add_one, alive, ends, new_context, own_worker

from fedcourse import data, models, training

# --- it gives memory back -------------------------------------------------------------------------

VECTOR = np.zeros(2**16, np.float32)  # a quarter of a megabyte


@tff.federated_computation(tff.FederatedType(tff.TensorType(np.float32, VECTOR.shape), tff.CLIENTS))
def add_up(vectors):
    return tff.federated_sum(vectors)


@pytest.mark.slow
def test_memory_does_not_grow_where_cohorts_vary_in_size():
    """Two more passes over 24 sizes, 8 MB a cohort: 384 MB, if the worker kept them all."""

    def megabytes_after_a_pass():
        for size in range(20, 44):
            add_up([VECTOR] * size)
        gc.collect()  # executors that TFF has dropped hold each other until then
        return own_worker().memory_info().rss / 2**20

    with new_context():
        before = megabytes_after_a_pass()
        megabytes_after_a_pass()
        assert megabytes_after_a_pass() < before + 150


# --- it dies, or is interrupted, in the middle ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:TFF's worker died")
def test_killed_in_ten_rounds_the_weights_are_as_undisturbed(tmp_path):
    gate = Gate(tmp_path)
    random = np.random.default_rng(0)
    clients = [
        data.batches(random.random((20, 28, 28)), random.integers(0, 10, 20), 5, 2, seed=n).map(
            lambda images, labels: (gate.pass_through(images), labels)
        )
        for n in range(4)
    ]
    process = training.federated_averaging(training.wrap(lambda: models.small_cnn(seed=0)), 0.05)

    def kill_in_mid_round():
        gate.wait()  # the worker cannot end the round while the gate is shut
        victim = own_worker().pid
        os.kill(victim, signal.SIGKILL)
        assert ends(victim)
        gate.open()
        return victim

    with new_context(), concurrent.futures.ThreadPoolExecutor(1) as pool:
        *_, calm = training.run(process, lambda number: clients, rounds=10)
        disturbed = training.run(process, lambda number: clients, rounds=10)
        killed = set()
        for _ in range(10):
            gate.shut()
            killing = pool.submit(kill_in_mid_round)
            step = next(disturbed)
            killed.add(killing.result())
    weights = [process.get_model_weights(s.state).trainable for s in (calm, step)]
    assert len(killed) == 10
    assert weights_gap(*weights) < 1e-6


SETUP = """
import fedcourse, psutil
import numpy as np
from fedcourse import data, models, training
from workers import Gate
gate = Gate({folder!r})
process = training.federated_averaging(training.wrap(models.small_cnn), 0.01)
pixels, labels = np.ones((10, 28, 28)), np.zeros(10, int)
clients = [data.batches(pixels, labels, 10, seed=0) for _ in range(4)]
clients = [each.map(lambda x, y: (gate.pass_through(x), y)) for each in clients]
"""
BRIEF = """
import fedcourse, psutil
import tensorflow_federated as tff
tff.tensorflow.computation(lambda: 1)()
"""
WORKERS = "print(*[child.pid for child in psutil.Process().children()])"


@pytest.fixture
def kernel():
    """A Jupyter kernel, and a function that runs code in it."""
    environment = fresh_environment(PYTHONPATH=str(pathlib.Path(__file__).parent))
    manager, client = start_new_kernel(extra_arguments=["--log-level=40"], env=environment)

    def run(code):
        said = []
        reply = client.execute_interactive(
            code, timeout=LONG, output_hook=lambda m: said.append(m["content"].get("text", ""))
        )
        return reply["content"], "".join(said)

    yield manager, run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.slow
def test_a_round_interrupted_ten_times_runs_the_eleventh(kernel, tmp_path):
    manager, run = kernel
    gate = Gate(tmp_path)
    a_round = "(step,) = training.run(process, lambda n: clients, 1)"

    def interrupt_in_mid_round():
        gate.wait()  # the worker cannot end the round while the gate is shut
        manager.interrupt_kernel()

    reply, _ = run(SETUP.format(folder=str(tmp_path)) + a_round)
    assert reply["status"] == "ok", reply
    _, worker = run(WORKERS)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        for _ in range(10):
            gate.shut()
            interrupting = pool.submit(interrupt_in_mid_round)
            reply, _ = run(a_round)
            interrupting.result()
            assert reply.get("ename") == "KeyboardInterrupt"
            gate.open()
            reply, _ = run(a_round)
            assert reply["status"] == "ok", reply
    assert run(WORKERS)[1] == worker


def kill(manager):
    os.kill(manager.provisioner.pid, signal.SIGKILL)
    assert comes_true(lambda: not alive(manager.provisioner.pid))


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        lambda manager, run: manager.restart_kernel(now=False),
        lambda manager, run: manager.restart_kernel(now=True),
        lambda manager, run: kill(manager),
        lambda manager, run: run("exit()"),
    ],
    ids=["restart", "restart at once", "kill", "exit"],
)
def test_no_kernel_leaves_a_worker_behind(kernel, end):
    manager, run = kernel
    reply, _ = run(BRIEF)
    assert reply["status"] == "ok", reply
    (worker,) = map(int, run(WORKERS)[1].split())
    assert alive(worker)
    end(manager, run)
    assert ends(worker)


# --- secure sums, simulated -----------------------------------------------------------------------


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def add_securely(numbers):
    return tff.federated_secure_sum(numbers, 100)


def current():
    return tff.framework.get_context_stack().current


def test_secure_sums_are_computed_within_and_refused_outside():
    before = current()
    with pytest.raises(Exception, match="Cannot embed a federated value"):
        add_securely([1, 2])
    with runtime.simulated_secure_sums():
        assert add_securely([1, 2, 3]) == 6
        within = current()
        assert within is not before
        with runtime.simulated_secure_sums():
            assert current() is not within
            assert add_securely([4, 5]) == 9
        assert current() is within
        assert add_securely([1, 2]) == 3
    assert current() is before
    assert add_one(1) == 2


def test_after_an_error_the_context_is_the_one_from_before():
    with new_context():
        before = current()
        with pytest.raises(ValueError, match="in the middle"), runtime.simulated_secure_sums():
            raise ValueError("in the middle")
        assert current() is before
        assert add_one(1) == 2


def test_the_worker_of_secure_sums_ends_with_them():
    with new_context():
        assert add_one(1) == 2
        usual = own_worker()
        with runtime.simulated_secure_sums():
            assert add_securely([1, 2]) == 3
            another = own_worker()
            assert another != usual
        gc.collect()
        assert ends(another.pid)
        assert own_worker() == usual
        assert add_one(1) == 2
