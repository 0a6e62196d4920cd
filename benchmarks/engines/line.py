"""What every engine shares: the workload, and its line to the driver.

Imports nothing but NumPy, which each engine's own environment has.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

SETTING = "TF_ENABLE_ONEDNN_OPTS"
TUNED = "BENCH_TUNED" in os.environ  # with the best settings that its documents name


class Workload:
    """What `workload.make` wrote: the same arrays, cohorts and first weights for every engine."""

    def __init__(self, path: str):
        with np.load(path) as npz:
            self.pixels = npz["pixels"]  # float32 [clients, images, 28, 28]
            self.labels = npz["labels"]  # int32 [clients, images]
            self.cohorts = npz["cohorts"]  # int32 [rounds, clients of a round]
            self.order = npz["order"]  # int32 [rounds, images]: how a round shuffles them
            # as Keras orders and shapes them
            self.weights = [npz[f"weights_{number}"] for number in range(8)]
            self.batch_size = int(npz["batch_size"])
            self.learning_rate = float(npz["learning_rate"])

    def cohort(self, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return a round's clients: pixels [images, 28, 28, 1] and labels [images], shuffled."""
        return [self.client(which, number) for which in self.cohorts[number]]

    def client(self, which: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one client's images in the order in which it meets them in a round."""
        order = self.order[number]
        return self.pixels[which][order][..., None], self.labels[which][order]


def import_untuned(name: str) -> None:
    """Import a package; take back the setting of TensorFlow with which this course is faster."""
    given = os.environ.get(SETTING)
    importlib.import_module(name)
    if given is None:
        os.environ.pop(SETTING, None)


class Line:
    """An engine's end of the line. Construct it when the engine is ready to run its first round.

    Started by the driver as `python ENGINE.py WORKLOAD SOCKET`, the last being a file descriptor.
    """

    def __init__(self, version: str):
        self._socket = socket.socket(fileno=int(sys.argv[2]))
        self._socket.set_inheritable(False)  # else a worker of the engine would hold it open
        self._file = self._socket.makefile("rw")
        self._seconds: list[float] = []
        self._left, self._number = 0, -1
        self._begun: float | None = None
        self._say({"version": version})

    def next_round(self, weights: Callable[[], Sequence[np.ndarray]]) -> int | None:
        """Say that a round has ended; wait until another may begin, while others have their turn.

        Args:
            weights: Gives the model's weights, as Keras orders and shapes them.

        Returns:
            The number of the round to run, from 0; None when all are done.
        """
        if self._begun is not None:
            self._seconds.append(time.perf_counter() - self._begun)
        if not self._left:
            if self._begun is not None:
                self._say({"seconds": self._seconds})
                self._seconds = []
            asked = self._hear()
            if "save" in asked:
                np.savez(asked["save"], *weights())
                self._say({"saved": asked["save"]})
                return None
            self._left = asked["rounds"]
        self._left -= 1
        self._number += 1
        self._begun = time.perf_counter()
        return self._number

    def _say(self, message: dict) -> None:
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def _hear(self) -> dict:
        line = self._file.readline()
        if not line:  # the driver is gone
            os.killpg(0, signal.SIGKILL)
        return json.loads(line)
