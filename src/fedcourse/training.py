"""Training: a network in one place, Federated Averaging, and runs that can be resumed."""

import concurrent.futures
import contextlib
import json
import math
import os
import pathlib
import queue
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tqdm import tqdm

from fedcourse import data, runtime, worker
from fedcourse.checkpoints import Checkpoints
from fedcourse.wrapping import built, weighted_cross_entropy, wrap

__all__ = [
    "BATCH_SPEC",
    "Best",
    "Round",
    "Trained",
    "federated_averaging",
    "network_of",
    "run",
    "together",
    "train",
    "train_centrally",
    "weighted_cross_entropy",
    "wrap",
]

BATCH_SPEC = (
    tf.TensorSpec([None, 28, 28, 1], tf.float32),
    tf.TensorSpec([None], tf.int32),
)


def train_centrally(
    network: tf.keras.Model,
    pixels: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    epochs: int,
    learning_rate: float,
    seed: int,
) -> tf.keras.Model:
    """Train a network the ordinary way, all images in one place: plain SGD on cross-entropy.

    Batches run on from one epoch to the next: a step from the few images that are left over at an
    epoch's end would be so noisy that accuracy can drop by half.

    Args:
        network: Uncompiled Keras model from images, float32 [N, H, W, C], to logits [N, classes].
        pixels: float32 [N, H, W] or [N, H, W, C].
        labels: int32 [N].
        batch_size: Images in a step; all of them, where there are fewer.
        epochs: Passes through the images.
        learning_rate: Step size of SGD.
        seed: Fixes the order of the images.

    Returns:
        `network`, trained.

    Lesson: 02
    """
    network.compile(
        tf.keras.optimizers.SGD(learning_rate),
        tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batch_size = min(batch_size, len(labels))
    batches = data.batches(pixels, labels, batch_size, epochs, seed)
    steps = len(labels) // batch_size
    network.fit(batches, epochs=epochs, steps_per_epoch=steps, verbose=0)
    return network


def federated_averaging(
    model_fn: Callable[[], object], client_learning_rate: float, server_learning_rate: float = 1.0
) -> tff.learning.templates.LearningProcess:
    """Build Federated Averaging: SGD on every client, averages weighted by images.

    Args:
        model_fn: Makes a TFF model, see `wrap`.
        client_learning_rate: Step size of SGD on the clients.
        server_learning_rate: Step size of SGD on the averaged update; 1.0 is plain averaging.

    Returns:
        The process: `initialize()` gives a state, `next(state, datasets)` runs one round.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, algorithm 1.
    Lesson: 04
    """
    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn,
        client_optimizer_fn=tff.learning.optimizers.build_sgdm(client_learning_rate),
        server_optimizer_fn=tff.learning.optimizers.build_sgdm(server_learning_rate),
        loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
    )


class Round(NamedTuple):
    """What one round of training gave.

    Attributes:
        number: Rounds done so far, from 1.
        seconds: Wall-clock seconds the round took.
        state: The process's state after the round.
        metrics: What the process measures on the cohort's images while it trains, by name.

    Lesson: 04
    """

    number: int
    seconds: float
    state: object
    metrics: dict[str, float]

    @property
    def loss(self) -> float:
        """Mean loss on the cohort's images, while it trained."""
        return self._metric("loss")

    @property
    def accuracy(self) -> float:
        """Accuracy on the cohort's images, while it trained."""
        return self._metric("accuracy")

    def _metric(self, name: str) -> float:
        if name not in self.metrics:
            raise AttributeError(f"this process measures {', '.join(self.metrics)}, and no {name}")
        return self.metrics[name]


def run(
    process: tff.learning.templates.LearningProcess,
    cohort: Callable[[int], Sequence[tf.data.Dataset]],
    rounds: int,
    state: object | None = None,
    start: int = 0,
) -> Iterator[Round]:
    """Run rounds of a learning process, one for each `next()` of the iterator.

    Args:
        process: The algorithm, see `federated_averaging`.
        cohort: Gives the datasets of a round's clients from the round's number, counted from 0.
        rounds: The number of the last round.
        state: Where to go on from; None starts anew.
        start: Rounds that `state` already has behind it.

    Yields:
        One `Round` for each of the rounds `start + 1` to `rounds`.

    Raises:
        ValueError: A cohort is empty, its batches are not what the network takes, or a label has no
            output.

    Lesson: 04
    """
    state = process.initialize() if state is None else state
    for number in range(start, rounds):
        begun = time.perf_counter()
        datasets = list(cohort(number))
        if not datasets:
            raise ValueError(f"cohort({number}) is empty; a round takes at least one client")
        with _named_faults(process):
            output = process.next(state, datasets)
        state = output.state
        metrics = output.metrics["client_work"]["train"]
        scalars = {name: float(value) for name, value in metrics.items() if np.ndim(value) == 0}
        yield Round(number + 1, time.perf_counter() - begun, state, scalars)


def together(runs: Mapping[Hashable, Iterator[Round]]) -> Iterator[tuple[Hashable, Round]]:
    """Run several runs at a time, so that one computes while another is being prepared.

    Each comes to the same state as alone, to the last bit where its network draws no random
    numbers. `dict(together(runs))` is the last round of each.

    Args:
        runs: What `run` returns, by any key. Cohorts are asked for in other threads, a round or
            more before you get the round, and must depend on the round's number alone.

    Yields:
        (key, round) as rounds end, those of one run in their order.

    Raises:
        Exception: What a run raises; the others are left where they are.

    Lesson: 07
    """
    if not runs:
        return
    threads = min(len(runs), worker.CORES + 1)
    contexts = queue.SimpleQueue()
    for _ in range(threads):
        contexts.put(runtime.context_beside())

    def advance(steps: Iterator[Round]) -> Round | None:
        context = contexts.get()
        try:
            with tff.framework.get_context_stack().install(context):
                return next(steps, None)
        finally:
            contexts.put(context)

    pool = concurrent.futures.ThreadPoolExecutor(threads, "run")
    try:
        ahead = {pool.submit(advance, steps): key for key, steps in runs.items()}
        while ahead:
            ended, _ = concurrent.futures.wait(ahead, return_when="FIRST_COMPLETED")
            for future in ended:
                key, step = ahead.pop(future), future.result()
                if step is not None:
                    ahead[pool.submit(advance, runs[key])] = key
                    yield key, step
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _named_faults(process: tff.learning.templates.LearningProcess) -> Iterator[None]:
    """Say in a line what TFF's worker says in a page."""
    try:
        yield
    except TypeError as error:
        if "Cannot serialize dataset" not in str(error):
            raise
        given, wanted = re.findall(r"<.*?>(?=\*)", str(error))[:2]
        raise ValueError(f"the cohort's batches are {given}; the process takes {wanted}") from error
    except Exception as error:
        label = re.search(r"label value of (-?\d+) .*?range of \[0, (\d+)\)", str(error))
        if label is None:
            raise
        raise ValueError(
            f"an image has the label {label[1]}, and the network has {label[2]} outputs, for the "
            f"labels 0 to {int(label[2]) - 1}"
        ) from error


class Best(NamedTuple):
    """The state that was judged best.

    Attributes:
        number: Rounds it had behind it.
        score: What it was judged.
        state: The process's state.

    Lesson: 05
    """

    number: int
    score: float
    state: object


class Trained(NamedTuple):
    """What a run has come to.

    Attributes:
        state: The process's state.
        done: Rounds behind it, those of earlier calls included.
        history: The rounds of this call, each `Round` without its state.
        scores: (rounds done, score) of each judgement, those of earlier calls included.
        best: The state with the highest score; None where nothing was judged.

    Lesson: 04
    """

    state: object
    done: int
    history: list[Round]
    scores: list[tuple[int, float]]
    best: Best | None


def train(
    process: tff.learning.templates.LearningProcess,
    cohort: Callable[[int], Sequence[tf.data.Dataset]],
    rounds: int,
    folder: str | os.PathLike | None = None,
    settings: Mapping[str, object] | None = None,
    validate: Callable[[object], float] | None = None,
    every: int = 5,
    patience: int | None = None,
) -> Trained:
    """Run rounds with a progress bar; with a folder, save each and go on from what is there.

    Stopped at any moment and called again, it comes to the weights of a run without a break, where
    `cohort` depends on the round's number alone, and to the same best state.

    Args:
        process: The algorithm, see `federated_averaging`.
        cohort: As for `run`.
        rounds: Rounds in all, those already done included.
        folder: Where the states are kept, see `Checkpoints`; None keeps none.
        settings: What the run was started with, in JSON's types. A folder that holds a run with
            other settings is refused.
        validate: Judges a state, the higher the better, by clients that neither train nor are the
            ones that the final judgement is left to.
        every: Rounds between judgements; the last round is judged as well.
        patience: Stops after so many judgements without a new best; None never stops early.

    Raises:
        ValueError: The folder holds a run with other settings, or `every` or `patience` is below 1;
            and what `run` raises.
        OSError: The folder cannot be written to.

    Lesson: 04
    """
    for name, value in {"every": every, "patience": patience}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value!r} must be at least 1")
    state, done, history = process.initialize(), 0, []
    checkpoints = Checkpoints(folder) if folder else None
    if checkpoints:
        checkpoints.remember(settings or {})
        state, done = checkpoints.load(state)
    judge = _Judge(validate, every, patience, folder, state, done)
    steps = run(process, cohort, rounds, state, done)
    if judge.has_seen_enough():
        steps = iter(())
    with tqdm(
        steps, desc="rounds", total=rounds, initial=min(done, rounds), file=sys.stdout
    ) as bar:
        for step in bar:
            state, done = step.state, step.number
            judge.see(state, done, last=done == rounds)  # before the round counts as done
            if checkpoints:
                checkpoints.save(state, done)
            history.append(step._replace(state=None))
            shown = {n: f"{v:.3f}" for n, v in step.metrics.items() if not n.startswith("num_")}
            bar.set_postfix(**dict(sorted(shown.items())))
            if judge.has_seen_enough():
                break
    return Trained(state, done, history, judge.scores, judge.best)


class _Judge:
    """Judges states on their way, and remembers the best, in a folder where there is one."""

    def __init__(self, validate, every, patience, folder, state, done):
        self._validate, self._every, self._patience = validate, every, patience
        self.scores, self.best = [], None
        self._folder = pathlib.Path(folder) / "best" if folder and validate else None
        if self._folder and (self._folder / "scores.json").exists():
            kept = json.loads((self._folder / "scores.json").read_text())
            self.scores = [(number, score) for number, score in kept if number <= done]
        if self.scores:
            number, score = max(self.scores, key=lambda pair: pair[1])
            found, at = Checkpoints(self._folder / f"{number}").load(state)
            if at == number:
                self.best = Best(number, score, found)
            else:  # somebody removed it, or damaged the checkpoints after it
                warnings.warn(
                    f"{self._folder} has lost the best state, of round {number}. "
                    "Judging begins anew.",
                    stacklevel=3,
                )
                self.scores = []

    def see(self, state: object, done: int, last: bool) -> None:
        """Judge a state if its turn has come."""
        if self._validate is None or not (last or done % self._every == 0):
            return
        score = float(self._validate(state))
        if math.isnan(score):
            score = -math.inf
        if self._folder:
            self._forget_old()  # killed before this round is saved, the best so far is still there
        self.scores.append((done, score))
        if self.best is None or score > self.best.score:
            self.best = Best(done, score, state)
            if self._folder:
                Checkpoints(self._folder / f"{done}", keep=1).save(state, done)
        if self._folder:
            written = self._folder / "scores.tmp"
            written.write_text(json.dumps(self.scores))
            written.replace(self._folder / "scores.json")

    def has_seen_enough(self) -> bool:
        """Tell whether so many judgements in a row as `patience` says brought no new best."""
        if self._patience is None or self.best is None:
            return False
        return sum(number > self.best.number for number, _ in self.scores) >= self._patience

    def _forget_old(self) -> None:
        """Remove the states that were best once."""
        kept = None if self.best is None else f"{self.best.number}"
        for place in self._folder.glob("[0-9]*"):
            if place.name != kept:
                shutil.rmtree(place)


def network_of(
    process: tff.learning.templates.LearningProcess,
    state: object,
    make_network: Callable[[], tf.keras.Model],
    like: object | None = None,
) -> tf.keras.Model:
    """Return a new network with the weights of a process's state.

    Args:
        process: The algorithm.
        state: One of its states.
        make_network: Makes the network that was wrapped.
        like: Federated data to build it for, where it is not built when it is made.

    Lesson: 04
    """
    network = built(make_network(), like)
    process.get_model_weights(state).assign_weights_to(network)
    return network
