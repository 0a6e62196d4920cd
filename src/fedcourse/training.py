"""Training: a network in one place, Federated Averaging, and runs that can be resumed."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tqdm import tqdm

from fedcourse import data
from fedcourse.checkpoints import Checkpoints

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
        network: Uncompiled Keras model from images, float32 [N, 28, 28, 1], to logits [N, 10].
        pixels: float32 [N, 28, 28].
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


def wrap(make_keras_model: Callable[[], tf.keras.Model]) -> Callable[[], object]:
    """Return the function that TFF wants: each call makes a new wrapped model.

    Args:
        make_keras_model: Makes an uncompiled Keras model from images, float32 [N, 28, 28, 1], to
            logits, float32 [N, 10].

    Returns:
        A function without arguments that returns a `tff.learning.models.VariableModel` with
        softmax cross-entropy as loss and accuracy as metric.

    Lesson: 03
    """

    def model_fn():
        return tff.learning.models.from_keras_model(
            make_keras_model(),
            input_spec=BATCH_SPEC,
            loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        )

    return model_fn


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
        loss: Mean loss on the cohort's images, while it trained.
        accuracy: Accuracy on the cohort's images, while it trained.

    Lesson: 04
    """

    number: int
    seconds: float
    state: object
    loss: float
    accuracy: float


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

    Lesson: 04
    """
    state = process.initialize() if state is None else state
    for number in range(start, rounds):
        begun = time.perf_counter()
        output = process.next(state, list(cohort(number)))
        state = output.state
        metrics = output.metrics["client_work"]["train"]
        yield Round(
            number + 1,
            time.perf_counter() - begun,
            state,
            float(metrics["loss"]),
            float(metrics["accuracy"]),
        )


class Trained(NamedTuple):
    """What a run has come to.

    Attributes:
        state: The process's state.
        done: Rounds behind it, those of earlier calls included.
        history: The rounds of this call, each `Round` without its state.

    Lesson: 04
    """

    state: object
    done: int
    history: list[Round]


def train(
    process: tff.learning.templates.LearningProcess,
    cohort: Callable[[int], Sequence[tf.data.Dataset]],
    rounds: int,
    folder: str | os.PathLike | None = None,
    settings: Mapping[str, object] | None = None,
) -> Trained:
    """Run rounds with a progress bar; with a folder, save each and go on from what is there.

    Stopped at any moment and called again, it comes to the weights of a run without a break, where
    `cohort` depends on the round's number alone.

    Args:
        process: The algorithm, see `federated_averaging`.
        cohort: As for `run`.
        rounds: Rounds in all, those already done included.
        folder: Where the states are kept, see `Checkpoints`; None keeps none.
        settings: What the run was started with, in JSON's types. A folder that holds a run with
            other settings is refused.

    Raises:
        ValueError: The folder holds a run with other settings.
        OSError: The folder cannot be written to.

    Lesson: 04
    """
    state, done, history = process.initialize(), 0, []
    checkpoints = Checkpoints(folder) if folder else None
    if checkpoints:
        checkpoints.remember(settings or {})
        state, done = checkpoints.load(state)
    steps = run(process, cohort, rounds, state, done)
    with tqdm(
        steps, desc="rounds", total=rounds, initial=min(done, rounds), file=sys.stdout
    ) as bar:
        for step in bar:
            state, done = step.state, step.number
            if checkpoints:
                checkpoints.save(state, done)
            history.append(step._replace(state=None))
            bar.set_postfix(accuracy=f"{step.accuracy:.3f}", loss=f"{step.loss:.3f}")
    return Trained(state, done, history)


def network_of(
    process: tff.learning.templates.LearningProcess,
    state: object,
    make_network: Callable[[], tf.keras.Model],
) -> tf.keras.Model:
    """Return a new network with the weights of a process's state.

    Lesson: 04
    """
    network = make_network()
    process.get_model_weights(state).assign_weights_to(network)
    return network
