"""Networks of every kind in TFF: they start with the weights they were given, or are refused."""

from fedcourse import data, models, training  # isort: skip  (before TensorFlow)

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from conftest import weights_gap

pytestmark = pytest.mark.slow  # a process of TFF for almost each

layers = tf.keras.layers
SHAPE = (8, 8, 3)


def seeded(seed=0):
    return tf.keras.initializers.GlorotUniform(seed)


@pytest.fixture(scope="module")
def clients():
    """Two clients with colour images of three classes that differ in brightness."""
    generator = np.random.default_rng(0)

    def client(count):
        labels = np.arange(count) % 3
        return (labels[:, None, None, None] + generator.random((count, *SHAPE))) / 3, labels

    return data.from_arrays({"a": client(12), "b": client(9)}, classes=["dark", "dim", "bright"])


@pytest.fixture(scope="module")
def batches(clients):
    return [data.batches(*data.images_of(clients, c), 4, 4, seed=1) for c in clients.client_ids]


@pytest.fixture(scope="module")
def body():
    """A small convolutional network that was trained somewhere, batch normalisation and all."""
    network = tf.keras.Sequential(
        [
            layers.InputLayer(SHAPE),
            layers.Conv2D(4, 3, kernel_initializer=seeded()),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
        ]
    )
    network.compile("sgd", "mse")
    generator = np.random.default_rng(1)
    network.fit(generator.random((64, *SHAPE)), generator.random((64, 4)), verbose=0)
    return network


def dense():
    return tf.keras.Sequential(
        [layers.InputLayer(SHAPE), layers.Flatten(), layers.Dense(3, kernel_initializer=seeded())]
    )


class Subclassed(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.flat, self.out = layers.Flatten(), layers.Dense(3, kernel_initializer=seeded())

    def call(self, images):
        return self.out(self.flat(images))


def plain_averaging(model_fn):
    return tff.learning.algorithms.build_weighted_fed_avg(
        model_fn, tff.learning.optimizers.build_sgdm(0.1)
    )


def first_weights(model_fn):
    process = plain_averaging(model_fn)
    return process.get_model_weights(process.initialize())


def starts_like(make, like):
    """The largest differences between the first state of an algorithm and the network itself."""
    first, network = first_weights(training.wrap(make, like)), make()
    if not network.built:
        network(np.zeros((1, *SHAPE), np.float32))
    gaps = [weights_gap(first.trainable, [w.numpy() for w in network.trainable_weights])]
    if first.non_trainable:
        frozen = [w.numpy() for w in network.non_trainable_weights]
        gaps.append(weights_gap(first.non_trainable, frozen))
    return max(gaps)


# --- the first state ------------------------------------------------------------------------------


def test_weights_set_where_the_network_is_made(clients):
    trained = [weights + 1 for weights in dense().get_weights()]

    def make():
        network = dense()
        network.set_weights(trained)
        return network

    assert starts_like(make, clients) == 0


def test_weights_loaded_from_a_file(clients, tmp_path):
    network = dense()
    network.set_weights([weights - 1 for weights in network.get_weights()])
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "weights.h5")

    def whole():
        return tf.keras.models.load_model(tmp_path / "network.keras", compile=False)

    def weights_only():
        network = dense()
        network.load_weights(tmp_path / "weights.h5")
        return network

    assert starts_like(whole, clients) == starts_like(weights_only, clients) == 0
    assert weights_gap(first_weights(training.wrap(whole)).trainable, network.get_weights()) == 0


def on_top_of(body):
    body.trainable = False
    return tf.keras.Sequential([body, layers.Dense(3, kernel_initializer=seeded())])


def copied(body):
    copy = tf.keras.models.clone_model(body)
    copy.set_weights(body.get_weights())
    return on_top_of(copy)


@pytest.mark.parametrize("make", [on_top_of, copied])
def test_a_trained_body_that_is_frozen(clients, batches, body, make):
    """Also where the layers themselves are taken over, and its batch normalisation."""
    assert starts_like(lambda: make(body), clients) == 0
    process = training.federated_averaging(training.wrap(lambda: make(body), clients), 0.1)
    *_, last = training.run(process, lambda n: batches, 3)
    before, after = (process.get_model_weights(s) for s in (process.initialize(), last.state))
    assert weights_gap(before.non_trainable, after.non_trainable) == 0
    assert weights_gap(before.trainable, after.trainable) > 0.01
    assert len(before.trainable) == 2  # the head's kernel and bias: all that is sent


class Undescribed(layers.Dense):
    def get_config(self):
        raise NotImplementedError


def test_a_layer_that_keras_cannot_describe_is_made_by_calling_again(clients):
    def make():
        last = Undescribed(3, kernel_initializer=seeded())
        return tf.keras.Sequential([layers.InputLayer(SHAPE), layers.Flatten(), last])

    assert starts_like(make, clients) == 0


def test_a_network_of_two_branches(clients):
    def make():
        images = tf.keras.Input(SHAPE)
        branches = [layers.Flatten()(images), layers.GlobalMaxPooling2D()(images)]
        logits = layers.Dense(3, kernel_initializer=seeded())(layers.Concatenate()(branches))
        return tf.keras.Model(images, logits)

    assert starts_like(make, clients) == 0


def test_a_network_without_a_seed_starts_with_what_it_drew(clients):
    drawn = []

    def make():
        network = tf.keras.Sequential([layers.InputLayer(SHAPE), layers.Flatten(), layers.Dense(3)])
        drawn.append(network.get_weights() if tf.executing_eagerly() else None)
        return network

    first = first_weights(training.wrap(make, clients))
    assert weights_gap(first.trainable, drawn[0]) == 0


def test_graphs_hold_a_seed_where_that_gives_the_weights():
    def size(model_fn):
        return plain_averaging(model_fn).initialize.to_compiled_building_block().proto.ByteSize()

    def set_to_one():
        network = models.small_cnn(seed=0)
        network.set_weights([np.ones_like(weights) for weights in network.get_weights()])
        return network

    whole = 4 * models.small_cnn().count_params()
    assert size(training.wrap(set_to_one)) - size(training.wrap(lambda: models.small_cnn(0))) > (
        0.8 * whole
    )


def test_another_network_at_each_call_is_refused(clients):
    made = []

    class Growing(Subclassed):
        def __init__(self):
            super().__init__()
            made.append(1)
            self.out = layers.Dense(2 + len(made))

    def make():
        return Growing()

    with pytest.raises(ValueError, match="must make the same network at each call"):
        training.wrap(make, clients)


# --- what is built, and for what ------------------------------------------------------------------


def test_a_subclassed_network_is_built_and_learns(clients, batches):
    assert starts_like(Subclassed, clients) == 0
    process = training.federated_averaging(training.wrap(Subclassed, clients), 0.1)
    losses = [step.loss for step in training.run(process, lambda n: batches, 6)]
    assert losses[-1] < 0.8 * losses[0]
    network = training.network_of(process, process.initialize(), Subclassed, clients)
    assert network(np.zeros((1, *SHAPE), np.float32)).shape == (1, 3)


def test_what_a_network_is_for_is_its_own_shape_or_the_data(clients):
    own = training.wrap(dense)().input_spec
    assert own == training.wrap(dense, clients)().input_spec
    assert own == (tf.TensorSpec([None, *SHAPE]), tf.TensorSpec([None], tf.int32))
    grey = data.from_arrays({"a": (np.zeros((2, 28, 28)), [0, 9])})
    assert training.wrap(models.small_cnn, grey)().input_spec == training.BATCH_SPEC


def frozen_whole():
    network = dense()
    network.trainable = False
    return network


def by_batch():
    return tf.keras.Sequential(
        [layers.InputLayer(SHAPE), layers.BatchNormalization(name="bn"), *dense().layers]
    )


def ending_in_softmax():
    return tf.keras.Sequential([*dense().layers, layers.Softmax()])


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Subclassed, {"like": None}, r"'subclassed.*not built.*pass like=.*network\.build"),
        (
            lambda: models.small_cnn(0),
            {},
            r"takes images of shape \(28, 28, 1\), and like has \(8, 8",
        ),
        (lambda: models.small_cnn(0, (12, 12, 3), 2), {"like": "12"}, "2 outputs.*3 classes"),
        (frozen_whole, {}, "has nothing to train"),
        (by_batch, {}, "layer 'bn' of .* normalises by batch.*GroupNormalization"),
        (ending_in_softmax, {}, "ends in a softmax.*leave the activation"),
        (dense, {"loss": "mse"}, "loss='mse' must be a Keras loss or a function"),
        (dense, {"metrics": ["accuracy"]}, "metrics has 'accuracy'"),
    ],
)
def test_what_cannot_be_trained_is_refused(clients, make, options, message):
    if options.get("like") == "12":
        larger = {"a": (np.zeros((3, 12, 12, 3)), [0, 1, 2])}
        options = {"like": data.from_arrays(larger, clients.classes)}
    with pytest.raises(ValueError, match=message):
        training.wrap(make, **{"like": clients, **options})


def test_what_is_no_network_of_keras_2_is_refused(clients):
    with pytest.raises(TypeError, match="make_keras_model returned list"):
        training.wrap(list, clients)


# --- losses and metrics ---------------------------------------------------------------------------


def first_round(model_fn, batches, rate=0.1):
    (step,) = training.run(training.federated_averaging(model_fn, rate), lambda n: batches, 1)
    return step


def test_metrics_are_all_there(clients, batches):
    metrics = [
        tf.keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2"),
        tf.keras.metrics.SparseCategoricalCrossentropy("nats", from_logits=True),
    ]
    step = first_round(training.wrap(dense, clients, metrics=metrics), batches)
    assert {"loss", "top_2", "nats"} < step.metrics.keys()
    assert step.metrics["nats"] == pytest.approx(step.loss, rel=1e-5)
    with pytest.raises(AttributeError, match=r"measures .*top_2.*, and no accuracy"):
        _ = step.accuracy
    maker = [lambda: tf.keras.metrics.SparseCategoricalAccuracy("right")]
    assert "right" in first_round(training.wrap(dense, clients, metrics=maker), batches).metrics


def test_classes_that_count_more(clients, batches):
    """Weights of one are plain cross-entropy; a class of weight zero is not learned."""
    plain = first_round(training.wrap(dense, clients), batches)
    ones = training.weighted_cross_entropy([1, 1, 1])
    weighted = first_round(training.wrap(dense, clients, loss=ones), batches)
    assert weighted.loss == pytest.approx(plain.loss, rel=1e-5)
    loss = training.weighted_cross_entropy([0, 2, 0.5])
    labels, logits = np.array([0, 1, 2]), np.zeros((3, 3), np.float32)
    assert float(loss(labels, logits)) == pytest.approx(np.log(3) * 2.5 / 3, rel=1e-6)
    for weights in ([1, -1], [np.nan], [[1]]):
        with pytest.raises(ValueError, match="finite numbers of at least 0"):
            training.weighted_cross_entropy(weights)


def labelled(labels):
    images = np.random.default_rng(0).random((len(labels), *SHAPE))
    clients = data.from_arrays({"a": (images, labels)})
    return clients, [data.batches(*data.images_of(clients, "a"), 4, 8, seed=1)]


def test_several_labels_an_image():
    clients, batches = labelled(np.float32(np.random.default_rng(1).integers(0, 2, (16, 3))))
    with pytest.raises(ValueError, match=r"labels are float32 \[3\].*BinaryCrossentropy"):
        training.wrap(dense, clients)
    model_fn = training.wrap(
        dense,
        clients,
        loss=tf.keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[tf.keras.metrics.BinaryAccuracy("right", threshold=0.0)],
    )
    steps = list(training.run(training.federated_averaging(model_fn, 0.1), lambda n: batches, 5))
    assert steps[-1].loss < steps[0].loss
    assert steps[-1].metrics["right"] > steps[0].metrics["right"]


def test_numbers_to_learn():
    clients, batches = labelled(np.linspace(-1, 1, 16, dtype=np.float32))

    def make():
        return tf.keras.Sequential(
            [*dense().layers, layers.Dense(1, kernel_initializer=seeded()), layers.Reshape(())]
        )

    model_fn = training.wrap(
        make,
        clients,
        loss=tf.keras.losses.MeanSquaredError(),
        metrics=[tf.keras.metrics.MeanAbsoluteError("off")],
    )
    steps = list(training.run(training.federated_averaging(model_fn, 0.02), lambda n: batches, 8))
    assert steps[-1].loss < 0.8 * steps[0].loss and "off" in steps[0].metrics


def test_a_loss_that_is_a_function(clients, batches):
    def own(labels, logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.reshape(labels, [-1]), logits)

    own = first_round(training.wrap(dense, clients, loss=own), batches)
    assert own.loss == pytest.approx(first_round(training.wrap(dense, clients), batches).loss)


# --- what TFF does with the rest ------------------------------------------------------------------


def test_regularisers_are_kept(clients, batches):
    """A client's steps shrink the kernel as those of plain Keras do."""

    def make(strength):
        penalty = tf.keras.regularizers.L2(strength)
        kernel = layers.Dense(3, kernel_initializer=seeded(), kernel_regularizer=penalty)
        return tf.keras.Sequential([layers.InputLayer(SHAPE), layers.Flatten(), kernel])

    def norm(strength):
        process = training.federated_averaging(training.wrap(lambda: make(strength), clients), 0.1)
        (step,) = training.run(process, lambda n: batches[:1], 1)
        return np.linalg.norm(process.get_model_weights(step.state).trainable[0])

    network = make(0.5)
    optimizer = tf.keras.optimizers.SGD(0.1)
    network.compile(optimizer, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    for images, labels in batches[0]:
        network.train_on_batch(images, labels)
    assert norm(0.5) == pytest.approx(np.linalg.norm(network.get_weights()[0]), rel=1e-4)
    assert norm(0.5) < 0.7 * norm(0.0)


def test_dropout_is_for_training_alone(clients, batches):
    def make():
        return tf.keras.Sequential(
            [*dense().layers[:-1], layers.Dropout(0.9, seed=1), dense().layers[-1]]
        )

    def plain_loss(model_fn):
        evaluate = tff.learning.algorithms.build_fed_eval(model_fn)
        weights = evaluate.set_model_weights(
            evaluate.initialize(), first_weights(training.wrap(dense, clients))
        )
        return evaluate.next(weights, batches).metrics["client_work"]["eval"][
            "current_round_metrics"
        ]["loss"]

    dropped, plain = training.wrap(make, clients), training.wrap(dense, clients)
    assert plain_loss(dropped) == pytest.approx(plain_loss(plain), rel=1e-5)
    assert first_round(dropped, batches, 1e-9).loss > 1.2 * first_round(plain, batches, 1e-9).loss


# --- what goes wrong in a round -------------------------------------------------------------------


def test_a_label_without_an_output_is_named(clients):
    wrong = [data.batches(np.zeros((4, *SHAPE)), np.array([0, 1, 2, 3]), 4)]
    process = training.federated_averaging(training.wrap(dense, clients), 0.1)
    with pytest.raises(
        ValueError, match="has the label 3, and the network has 3 outputs"
    ) as caught:
        list(training.run(process, lambda n: wrong, 1))
    assert len(str(caught.value)) < 200


def test_batches_of_another_kind_are_named(clients, batches):
    process = training.federated_averaging(training.wrap(dense, clients), 0.1)
    grey = [data.batches(np.zeros((4, 8, 8)), np.zeros(4, int), 4)]
    with pytest.raises(
        ValueError, match=r"batches are <float32\[\?,8,8,1\].*takes <float32\[\?,8,8,3\]"
    ):
        list(training.run(process, lambda n: grey, 1))
    with pytest.raises(ValueError, match=r"cohort\(1\) is empty"):
        list(training.run(process, lambda n: batches if n == 0 else [], 2))
