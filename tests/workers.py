"""What the tests of worker processes share."""

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)

import contextlib
import pathlib

import numpy as np
import psutil
import tensorflow as tf
import tensorflow_federated as tff
from conftest import comes_true


@tff.tensorflow.computation(np.int32)
def add_one(x):
    return x + 1


def alive(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def ends(pid):
    return comes_true(lambda: not alive(pid))


def own_workers():
    """The workers of this process, the one that was started last at the end."""
    children = [p for p in psutil.Process().children() if alive(p.pid)]
    workers = [p for p in children if any("worker_binary" in word for word in p.cmdline()[:1])]
    return sorted(workers, key=lambda worker: worker.create_time())


def own_worker():
    return own_workers()[-1]


@contextlib.contextmanager
def new_context(**options):
    """Compute in a worker that is started at the first computation."""
    context = tff.backends.native.create_sync_local_cpp_execution_context(**options)
    with tff.framework.get_context_stack().install(context):
        yield


class Gate:
    """A place in a computation where it waits, in the worker, for as long as the gate is shut."""

    def __init__(self, folder):
        self._reached, self._shut = pathlib.Path(folder, "reached"), pathlib.Path(folder, "shut")

    def pass_through(self, value):
        """In a TensorFlow graph: give `value` back when the gate is open."""
        with tf.control_dependencies([tf.io.write_file(str(self._reached), "")]):
            waited = tf.while_loop(
                lambda turns: tf.size(tf.io.matching_files(str(self._shut))) > 0,
                lambda turns: [turns + 1],
                [0],
            )
        with tf.control_dependencies(waited):
            return tf.identity(value)

    def shut(self):
        self._reached.unlink(missing_ok=True)
        self._shut.touch()

    def wait(self):
        """Wait until the worker stands at the gate."""
        assert comes_true(self._reached.exists)

    def open(self):
        self._shut.unlink()
