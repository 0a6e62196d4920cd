from fedcourse import data, evaluation, models, runtime, training  # isort: skip  (before TensorFlow)

import asyncio

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from conftest import weights_gap

from fedcourse.checkpoints import Checkpoints

RATE = 0.1


def tiny(seed=5):
    """A network that is nothing but one dense layer."""
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((28, 28, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10, kernel_initializer=tf.keras.initializers.GlorotUniform(seed)),
        ]
    )


@pytest.fixture(scope="module")
def clients():
    """Images of three clients who have 5, 20 and 13 of them."""
    generator = np.random.default_rng(1)
    return [
        (generator.random((n, 28, 28), np.float32), generator.integers(0, 10, n).astype(np.int32))
        for n in (5, 20, 13)
    ]


@pytest.fixture(scope="module")
def process():
    return training.federated_averaging(training.wrap(tiny), RATE)


def cohort_of(clients):
    """Two of the three clients in each round, their images in an order that the round fixes."""

    def cohort(number):
        chosen = [clients[number % 3], clients[(number + 1) % 3]]
        return [data.batches(*client, batch_size=4, epochs=2, seed=number) for client in chosen]

    return cohort


def trainable(process, state):
    return process.get_model_weights(state).trainable


def by_hand(make_network, datasets, rate):
    """What a round should give: each client's weights, images, loss sum and right answers."""
    results = []
    for dataset in datasets:
        network, images, loss_sum, right = make_network(), 0, 0.0, 0
        for x, y in dataset:
            with tf.GradientTape() as tape:
                logits = network(x, training=True)
                loss = tf.reduce_mean(
                    tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
                )
            gradients = tape.gradient(loss, network.trainable_variables)
            for weights, gradient in zip(network.trainable_variables, gradients, strict=True):
                weights.assign_sub(rate * gradient)
            images += len(y)
            loss_sum += float(loss) * len(y)
            right += int((logits.numpy().argmax(1) == y.numpy()).sum())
        results.append((network.get_weights(), images, loss_sum, right))
    return results


# --- wrap -----------------------------------------------------------------------------------------


def test_wrap_makes_a_new_model_at_each_call():
    model_fn = training.wrap(tiny)
    with tf.Graph().as_default():
        one, other = model_fn(), model_fn()
    assert isinstance(one, tff.learning.models.VariableModel)
    assert one.input_spec == other.input_spec == training.BATCH_SPEC
    assert one.trainable_variables[0] is not other.trainable_variables[0]


def test_wrapped_model_measures_cross_entropy_of_logits_and_accuracy():
    network = tiny()
    model = training.wrap(lambda: network)()
    pixels, labels = np.random.default_rng(0).random((8, 28, 28, 1), np.float32), np.arange(8)
    output = model.forward_pass((pixels, labels.astype(np.int32)), training=False)
    logits = network(pixels).numpy()
    likelihood = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert float(output.loss) == pytest.approx(-np.log(likelihood[range(8), labels]).mean())
    right = (logits.argmax(1) == labels).sum()
    metrics = model.report_local_unfinalized_metrics()
    assert [float(v) for v in metrics["accuracy"]] == [right, 8]


# --- Federated Averaging --------------------------------------------------------------------------


@pytest.mark.parametrize("server_rate", [1.0, 0.25])
def test_a_round_is_the_average_weighted_by_images(clients, server_rate):
    def datasets():
        return [data.batches(*client, batch_size=4, epochs=2, seed=9) for client in clients]

    process = training.federated_averaging(training.wrap(tiny), RATE, server_rate)
    (step,) = training.run(process, lambda number: datasets(), rounds=1)

    results = by_hand(tiny, datasets(), RATE)
    images = [2 * len(labels) for _, labels in clients]
    assert [n for _, n, _, _ in results] == images
    start = tiny().get_weights()
    averages = [
        sum(n * weights[i] for weights, n, _, _ in results) / sum(images) for i in range(len(start))
    ]
    expected = [w + server_rate * (a - w) for w, a in zip(start, averages, strict=True)]
    assert weights_gap(trainable(process, step.state), expected) < 1e-5
    unweighted = [np.mean([r[0][i] for r in results], axis=0) for i in range(len(start))]
    assert weights_gap(unweighted, averages) > 1e-3  # the weighting is seen at this tolerance
    assert step.loss == pytest.approx(sum(r[2] for r in results) / sum(images), abs=1e-4)
    assert step.accuracy == pytest.approx(sum(r[3] for r in results) / sum(images), abs=1e-4)


def test_a_round_of_a_convolutional_network_is_the_average_too(clients):
    def make():
        return models.small_cnn(seed=2)

    def datasets():
        return [data.batches(*client, batch_size=10, seed=3) for client in clients]

    process = training.federated_averaging(training.wrap(make), RATE)
    (step,) = training.run(process, lambda number: datasets(), rounds=1)
    results = by_hand(make, datasets(), RATE)
    images = sum(n for _, n, _, _ in results)
    expected = [sum(n * w[i] for w, n, _, _ in results) / images for i in range(6)]
    assert weights_gap(trainable(process, step.state), expected) < 1e-5
    assert weights_gap(make().get_weights(), expected) > 1e-2  # and it moved


def test_one_client_alone_is_plain_sgd_over_rounds(clients, process):
    """Three rounds of one client: its own training, with nothing lost in between."""
    steps = training.run(
        process, lambda number: [data.batches(*clients[1], batch_size=5, seed=number)], rounds=3
    )
    *_, last = steps
    network = tiny()
    for number in range(3):
        weights = network.get_weights()

        def go_on(weights=weights):
            again = tiny()
            again.set_weights(weights)
            return again

        batches = data.batches(*clients[1], batch_size=5, seed=number)
        ((after, *_),) = by_hand(go_on, [batches], RATE)
        network.set_weights(after)
    assert weights_gap(trainable(process, last.state), network.get_weights()) < 1e-5


def test_clients_use_no_momentum_and_servers_neither(process):
    state = process.initialize()
    assert set(state.finalizer) == {"learning_rate"}


# --- run, stop, resume ----------------------------------------------------------------------------


def test_run_asks_for_each_cohort_when_its_round_comes(process, clients):
    asked = []

    def cohort(number):
        asked.append(number)
        return cohort_of(clients)(number)

    steps = training.run(process, cohort, rounds=3)
    assert asked == []
    first = next(steps)
    assert asked == [0] and first.number == 1
    assert [step.number for step in steps] == [2, 3] and asked == [0, 1, 2]
    assert 0 < first.seconds < 60 and first.loss > 0 and 0 <= first.accuracy <= 1


def test_runs_together_come_to_what_each_comes_to_alone(process, clients):
    cohorts = {
        "two": cohort_of(clients),
        "three": lambda n: [data.batches(*each, 5, seed=n) for each in clients],
        "two again": cohort_of(clients[::-1]),
        "one": lambda n: [data.batches(*clients[n % 3], 5, seed=n)],
    }
    rounds = {name: number for number, name in enumerate(cohorts, 3)}
    alone = {
        name: list(training.run(process, cohort, rounds[name])) for name, cohort in cohorts.items()
    }
    both = {name: [] for name in cohorts}
    for name, step in training.together(
        {name: training.run(process, cohort, rounds[name]) for name, cohort in cohorts.items()}
    ):
        training.network_of(process, step.state, tiny)(np.zeros((1, 28, 28, 1)))  # meanwhile
        both[name].append(step)
    for name, steps in alone.items():
        assert [step.number for step in both[name]] == [step.number for step in steps]
        weights = [trainable(process, each[-1].state) for each in (steps, both[name])]
        assert weights_gap(*weights) == 0


def test_no_runs_together(process):
    assert dict(training.together({})) == {}


def test_one_of_the_runs_together_fails(process, clients):
    def fails(number):
        if number == 2:
            raise OSError("this client's disk is full")
        return cohort_of(clients)(number)

    runs = {
        name: training.run(process, cohort, 50)
        for name, cohort in {"good": cohort_of(clients), "bad": fails}.items()
    }
    seen = []
    with pytest.raises(OSError, match="disk is full"):
        seen.extend(training.together(runs))
    (step,) = training.run(process, cohort_of(clients), 1)  # and rounds run on
    assert step.number == 1


def test_runs_together_in_another_context_of_tffs(process, clients):
    with runtime.simulated_secure_sums():
        last = dict(
            training.together({n: training.run(process, cohort_of(clients), 2) for n in range(3)})
        )
    assert [last[n].number for n in range(3)] == [2, 2, 2]


def test_run_goes_on_from_a_state(process, clients):
    cohort = cohort_of(clients)
    whole = list(training.run(process, cohort, rounds=4))
    rest = list(training.run(process, cohort, rounds=4, state=whole[1].state, start=2))
    assert [step.number for step in rest] == [3, 4]
    for one, other in zip(whole[2:], rest, strict=True):
        assert weights_gap(trainable(process, one.state), trainable(process, other.state)) < 1e-6
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
    assert list(training.run(process, cohort, rounds=4, state=rest[-1].state, start=4)) == []


def test_cohort_may_be_any_sequence(process, clients):
    (step,) = training.run(process, lambda number: tuple(cohort_of(clients)(0)), rounds=1)
    (same,) = training.run(process, cohort_of(clients), rounds=1)
    assert weights_gap(trainable(process, step.state), trainable(process, same.state)) < 1e-6


def test_resuming_from_a_checkpoint_is_as_if_nothing_happened(process, clients, tmp_path):
    cohort = cohort_of(clients)
    *_, undisturbed = training.run(process, cohort, rounds=5)
    for step in training.run(process, cohort, rounds=3):
        Checkpoints(tmp_path).save(step.state, step.number)

    state, done = Checkpoints(tmp_path).load(process.initialize())
    assert done == 3
    assert weights_gap(trainable(process, state), trainable(process, step.state)) == 0
    *_, resumed = training.run(process, cohort, 5, state, done)
    gap = weights_gap(trainable(process, undisturbed.state), trainable(process, resumed.state))
    assert gap < 1e-6
    assert weights_gap(trainable(process, state), trainable(process, resumed.state)) > 1e-3


def test_train_saves_each_round_and_goes_on_from_it(process, clients, tmp_path, capsys):
    whole = training.train(process, cohort_of(clients), 4)
    first = training.train(process, cohort_of(clients), 2, tmp_path, {"rate": RATE})
    assert (first.done, [step.number for step in first.history]) == (2, [1, 2])
    rest = training.train(process, cohort_of(clients), 4, tmp_path, {"rate": RATE})
    assert (rest.done, [step.number for step in rest.history]) == (4, [3, 4])
    assert all(step.state is None for step in rest.history)
    pair = [trainable(process, trained.state) for trained in (whole, rest)]
    assert weights_gap(*pair) < 1e-6
    nothing = training.train(process, cohort_of(clients), 3, tmp_path, {"rate": RATE})
    assert (nothing.done, nothing.history) == (4, [])
    assert weights_gap(trainable(process, nothing.state), pair[1]) == 0
    assert "rounds: 100%" in capsys.readouterr().out


def test_train_refuses_a_folder_of_other_settings(process, clients, tmp_path):
    training.train(process, cohort_of(clients), 1, tmp_path, {"rate": RATE})
    with pytest.raises(ValueError, match=r"other settings: \{'rate': 0\.1\}"):
        training.train(process, cohort_of(clients), 2, tmp_path, {"rate": 0.2})


def test_network_of_a_state(process):
    state = process.initialize()
    network = training.network_of(process, state, tiny)
    assert weights_gap(network.get_weights(), trainable(process, state)) == 0


def test_a_round_runs_inside_a_running_event_loop(process, clients):
    async def cell():
        (step,) = training.run(process, cohort_of(clients), rounds=1)
        return step.state

    (outside,) = training.run(process, cohort_of(clients), rounds=1)
    inside = asyncio.run(cell())
    assert weights_gap(trainable(process, inside), trainable(process, outside.state)) < 1e-6


# --- in one place ---------------------------------------------------------------------------------


def test_training_in_one_place_is_plain_sgd(clients):
    pixels, labels = clients[1]
    network = tiny()
    assert training.train_centrally(network, pixels, labels, 5, 2, RATE, seed=7) is network
    batches = data.batches(pixels, labels, 5, 2, seed=7)
    ((expected, *_),) = by_hand(tiny, [batches], RATE)
    assert weights_gap(network.get_weights(), expected) < 1e-5


def test_batches_run_on_over_the_end_of_an_epoch(clients):
    """13 images three times in batches of 5: six whole batches, and no step from three images."""
    pixels, labels = clients[2]
    network = training.train_centrally(tiny(), pixels, labels, 5, 3, RATE, seed=7)
    batches = data.batches(pixels, labels, 5, 3, seed=7).take(6)
    assert [len(y) for _, y in batches] == [5] * 6
    ((expected, *_),) = by_hand(tiny, [data.batches(pixels, labels, 5, 3, seed=7).take(6)], RATE)
    assert weights_gap(network.get_weights(), expected) < 1e-5


@pytest.mark.filterwarnings("error")  # such as Keras's, that it ran out of data
@pytest.mark.parametrize("batch_size", [5, 8, 50])
def test_fewer_images_than_a_batch_are_one_step_in_each_epoch(clients, batch_size):
    pixels, labels = clients[0]
    network = training.train_centrally(tiny(), pixels, labels, batch_size, 3, RATE, seed=7)
    ((expected, *_),) = by_hand(tiny, [data.batches(pixels, labels, 5, 3, seed=7)], RATE)
    assert weights_gap(network.get_weights(), expected) < 1e-5


def test_training_in_one_place_follows_the_seed(clients):
    one, again, other = (
        training.train_centrally(tiny(), *clients[1], 5, 1, RATE, seed).get_weights()
        for seed in (1, 1, 2)
    )
    assert weights_gap(one, again) < 1e-6 < 1e-4 < weights_gap(one, other)


# --- judging --------------------------------------------------------------------------------------


class Reads:
    """Stands in for a network: says of each image what its top left pixel holds."""

    def predict(self, pixels, batch_size, verbose):
        assert pixels.shape[1:] == (28, 28, 1)
        return np.eye(10)[(pixels[:, 0, 0, 0] * 10).round().astype(int)]


def shown(answers):
    pixels = np.zeros((len(answers), 28, 28), np.float32)
    pixels[:, 0, 0] = np.array(answers) / 10
    return pixels


def test_accuracy_by_writer_counted_by_hand():
    writers = {
        "zoe": (shown([1, 2, 3, 4]), np.int32([1, 2, 0, 0])),
        "ann": (shown([5]), np.int32([5])),
        "bob": (shown([7, 7, 7]), np.int32([7, 0, 0])),
    }
    accuracies = evaluation.accuracy_by_writer(Reads(), writers)
    assert list(accuracies.items()) == [("zoe", 0.5), ("ann", 1.0), ("bob", pytest.approx(1 / 3))]


def test_accuracy_by_writer_of_a_network(clients):
    network = models.small_cnn(seed=0)
    writers = {str(i): client for i, client in enumerate(clients)}
    for writer, accuracy in evaluation.accuracy_by_writer(network, writers).items():
        pixels, labels = writers[writer]
        right = [int(network(p[None, ..., None]).numpy().argmax()) for p in pixels] == labels
        assert accuracy == pytest.approx(right.mean())


def test_no_writers_is_an_error():
    with pytest.raises(ValueError, match="writers is empty"):
        evaluation.accuracy_by_writer(Reads(), {})


def test_no_accuracies_is_an_error():
    with pytest.raises(ValueError, match="accuracies is empty"):
        evaluation.summary({})


@pytest.mark.parametrize(
    ("count", "worst"), [(1, [0]), (9, [0]), (10, [0]), (11, [0, 1]), (20, [0, 1]), (21, [0, 1, 2])]
)
def test_summary(count, worst):
    values = np.arange(count) / 100
    mixed = np.random.default_rng(0).permutation(values)
    summary = evaluation.summary({str(i): value for i, value in enumerate(mixed)})
    assert summary.mean == pytest.approx(values.mean())
    assert summary.median == pytest.approx(np.median(values))
    assert summary.worst_tenth == pytest.approx(np.mean(worst) / 100)
    assert all(type(value) is float for value in summary)


# --- the best round, and when to stop -------------------------------------------------------------

SCORES = {2: 0.5, 4: 0.9, 6: 0.7, 8: 0.8, 10: 0.6, 11: 0.1}


class Judge:
    """Gives made-up scores by the round; remembers what it was shown."""

    def __init__(self, process, states):
        self.process, self.states, self.seen = process, states, []

    def __call__(self, state):
        weights = trainable(self.process, state)
        (number,) = [n for n, known in self.states.items() if weights_gap(known, weights) == 0]
        self.seen.append(number)
        return SCORES[number]


@pytest.fixture(scope="module")
def states(process, clients):
    """The weights after each round of an undisturbed run."""
    steps = training.run(process, cohort_of(clients), 11)
    return {step.number: trainable(process, step.state) for step in steps}


def judged(process, clients, states, rounds=11, folder=None, cohort=None, **options):
    judge = Judge(process, states)
    return training.train(
        process, cohort or cohort_of(clients), rounds, folder, validate=judge, every=2, **options
    ), judge


def test_the_best_round_is_kept(process, clients, states):
    trained, judge = judged(process, clients, states)
    assert judge.seen == [2, 4, 6, 8, 10, 11]
    assert trained.scores == list(SCORES.items()) and trained.done == 11
    assert (trained.best.number, trained.best.score) == (4, 0.9)
    assert weights_gap(trainable(process, trained.best.state), states[4]) == 0
    assert weights_gap(trainable(process, trained.state), states[11]) == 0


@pytest.mark.parametrize(("patience", "end"), [(1, 6), (3, 10), (9, 11)])
def test_patience_ends_a_run(process, clients, states, patience, end):
    trained, _ = judged(process, clients, states, patience=patience)
    assert trained.done == end and trained.best.number == 4


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("at", range(1, 11))
def test_stopped_anywhere_it_comes_to_the_same_best(process, clients, states, tmp_path, at):
    """Stopped while a cohort is made, while a state is judged, and between two files."""
    whole, _ = judged(process, clients, states, patience=3)
    usual = cohort_of(clients)

    def stops(number):
        if number == at:
            raise Stopped
        return usual(number)

    save, fail = Checkpoints.save, [True]

    def fails_once(self, state, number):
        if number == at + 1 and fail and "best" not in str(self._folder):
            fail.clear()
            raise Stopped  # the judgement of this round is on disk, the round itself is not
        save(self, state, number)

    for cohort, saver in ((stops, save), (usual, fails_once), (usual, save)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "save", saver)
            try:
                trained, _ = judged(
                    process, clients, states, folder=tmp_path, cohort=cohort, patience=3
                )
            except Stopped:
                continue
    assert trained.done == whole.done and trained.scores == whole.scores
    assert trained.best.number == whole.best.number
    assert weights_gap(trainable(process, trained.best.state), states[4]) == 0
    again, judge = judged(process, clients, states, folder=tmp_path, patience=3)
    assert again.history == judge.seen == [] and again.best.number == 4


def test_a_best_state_that_was_removed_is_said(process, clients, states, tmp_path):
    judged(process, clients, states, rounds=6, folder=tmp_path)
    (kept,) = (tmp_path / "best/4").iterdir()
    kept.unlink()
    with pytest.warns(UserWarning, match="has lost the best state, of round 4"):
        trained, _ = judged(process, clients, states, rounds=8, folder=tmp_path)
    assert trained.best.number == 8


def test_a_score_that_is_no_number_is_never_the_best(process, clients):
    scores = iter([float("nan"), 0.1])
    trained = training.train(
        process, cohort_of(clients), 2, validate=lambda state: next(scores), every=1
    )
    assert trained.best.number == 2


@pytest.mark.parametrize("options", [{"every": 0}, {"patience": 0}])
def test_bad_intervals_are_named(process, clients, options):
    with pytest.raises(ValueError, match="=0 must be at least 1"):
        training.train(process, cohort_of(clients), 1, validate=lambda state: 1.0, **options)
