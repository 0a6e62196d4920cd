"""Attacks: they recover what they must from gradients made here, and say when they cannot."""

import fedcourse  # noqa: F401  # isort: skip

import numpy as np
import pytest
import skimage.metrics
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcourse import attacks, models


def gradient(network, pixels, labels):
    with tf.GradientTape() as tape:
        logits = network(pixels[..., None])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return [part.numpy() for part in tape.gradient(loss, network.trainable_variables)]


def dense_network(seed=0):
    start = [tf.keras.initializers.GlorotUniform(seed + i) for i in range(2)]
    return tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((28, 28, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(40, activation="relu", kernel_initializer=start[0]),
            tf.keras.layers.Dense(10, kernel_initializer=start[1]),
        ]
    )


def strokes(count, seed=0):
    """Images of a dark bar on paper, each elsewhere, with a label each."""
    generator = np.random.default_rng(seed)
    pixels = np.ones((count, 28, 28), np.float32)
    for image in pixels:
        row, column = generator.integers(2, 18, 2)
        image[row : row + 8, column : column + 3] = 0
    return pixels, generator.integers(0, 10, count).astype(np.int32)


# --- dense layers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_dense_layer_gives_a_single_image_away(seed):
    pixels, labels = strokes(1, seed)
    found = attacks.inputs_of_dense(*gradient(dense_network(seed), pixels, labels)[:2])
    assert found.dtype == np.float32 and found.shape[1] == 784 and 1 <= len(found) <= 40
    np.testing.assert_allclose(found, np.repeat(pixels.reshape(1, 784), len(found), 0), atol=1e-4)


def test_dense_layer_mixes_several_images_by_weight():
    inputs = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    errors = np.array([[2.0, 0.0, 1.0, 0.0], [0.0, -3.0, 3.0, 0.0]])  # image, unit
    found = attacks.inputs_of_dense(inputs.T @ errors, errors.sum(0))
    # Units by their bias: 2 has 4, 1 has -3, 0 has 2, and 3 did not fire.
    np.testing.assert_allclose(found, [[0.25, 0.75, 0], [0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize("kernel, bias", [((3, 4), (3,)), ((3,), (3,)), ((2, 3, 4), (4,))])
def test_dense_layer_of_wrong_shape(kernel, bias):
    with pytest.raises(ValueError, match=r"must be \[inputs, units\]"):
        attacks.inputs_of_dense(np.ones(kernel), np.ones(bias))


def test_dense_layer_that_did_not_fire():
    with pytest.raises(ValueError, match="no unit fired"):
        attacks.inputs_of_dense(np.zeros((3, 4)), np.zeros(4))


# --- labels ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    raw=st.lists(st.floats(0.1, 1), min_size=10, max_size=10),
)
def test_labels_are_exact_where_all_images_look_alike(labels, raw):
    probabilities = np.array(raw) / sum(raw)
    bias_gradient = probabilities - np.bincount(labels, minlength=10) / len(labels)
    found = attacks.labels_of(bias_gradient, len(labels), probabilities)
    assert found.dtype == np.int32 and found.tolist() == sorted(labels)


@given(label=st.integers(0, 9), logits=st.lists(st.floats(-9, 9), min_size=10, max_size=10))
def test_label_of_one_image_needs_no_good_guess(label, logits):
    own = np.exp(logits) / np.exp(logits).sum()
    found = attacks.labels_of(own - np.eye(10)[label], 1, np.full(10, 0.1))
    assert found.tolist() == [label]


@pytest.mark.parametrize("gradient, images", [(np.ones(9), 1), (np.ones((2, 5)), 1)])
def test_labels_of_wrong_shape(gradient, images):
    with pytest.raises(ValueError, match="probabilities"):
        attacks.labels_of(gradient, images, np.full(10, 0.1))


def test_labels_of_no_images():
    with pytest.raises(ValueError, match="images=0"):
        attacks.labels_of(np.ones(10), 0, np.full(10, 0.1))


# --- gradient matching ----------------------------------------------------------------------------


def matched(network, gradients, labels, steps=60, **more):
    settings = {"learning_rate": 0.1, "smoothness": 0.1, "seed": 0} | more
    return attacks.match_gradients(network, gradients, labels, steps, **settings)


def test_matching_finds_the_bar_and_not_another():
    network = dense_network()
    pixels, labels = strokes(2)
    true = gradient(network, pixels[:1], labels[:1])
    found = matched(network, true, labels[:1])
    assert found.shape == (1, 28, 28) and found.min() >= 0 and found.max() <= 1
    bars = [found[0][bar == 0].mean() for bar in pixels]
    assert bars[0] < found[0][pixels[0] == 1].mean() - 0.3 and bars[0] < bars[1] - 0.3
    scaled = [7 * part for part in true]
    np.testing.assert_allclose(matched(network, scaled, labels[:1]), found, atol=0.2)


def test_matching_leaves_the_network_alone_and_repeats():
    network = models.small_cnn(seed=0)
    before = network.get_weights()
    pixels, labels = strokes(2)
    true = gradient(network, pixels, labels)
    one, other = (matched(network, true, labels, steps=3) for _ in range(2))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert all((a == b).all() for a, b in zip(before, network.get_weights(), strict=True))
    assert not np.allclose(one, matched(network, true, labels, steps=3, seed=1), atol=0.1)


def test_matching_refuses_what_does_not_fit():
    network = models.small_cnn(seed=0)
    pixels, labels = strokes(1)
    true = gradient(network, pixels, labels)
    with pytest.raises(ValueError, match="gradients have shapes"):
        matched(network, true[1:], labels)
    with pytest.raises(ValueError, match="labels is empty"):
        matched(network, true, labels[:0])
    with pytest.raises(ValueError, match="steps=0"):
        matched(network, true, labels, steps=0)


# --- features -------------------------------------------------------------------------------------


def front_of(network):
    """The layers before the first dense one, and that one's place among the gradients."""
    dense = next(layer for layer in network.layers if isinstance(layer, tf.keras.layers.Dense))
    front = tf.keras.Model(network.input, dense.input)
    return front, len(front.trainable_variables)


@pytest.mark.parametrize("seed", range(2))
def test_a_dense_layer_behind_convolutions_gives_images_away(seed):
    network = models.mcmahan_cnn(seed=seed)
    front, first = front_of(network)
    pixels, labels = strokes(8, seed)
    features = [
        attacks.inputs_of_dense(*gradient(network, pixels[n, None], labels[n, None])[first:][:2])[0]
        for n in range(8)
    ]
    np.testing.assert_allclose(features, front(pixels[..., None]), atol=1e-3)
    found = attacks.match_features(front, np.array(features), 300, 0.5)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    psnr = attacks.likeness(pixels, found).psnr
    assert np.sum(psnr > 60) >= 6, "a few searches end in a hollow of their own"


def test_features_that_do_not_fit_are_refused():
    front, _ = front_of(models.small_cnn(seed=0))
    for shape in ((1, 799), (800,), (0, 800)):
        with pytest.raises(ValueError, match=r"needs \[N, 800\]"):
            attacks.match_features(front, np.zeros(shape), 1, 0.3)
    with pytest.raises(ValueError, match="steps=0"):
        attacks.match_features(front, np.zeros((1, 800)), 0, 0.3)


# --- how like the originals -----------------------------------------------------------------------


@given(order=st.permutations(range(6)))
def test_best_match_undoes_any_order(order):
    pixels = np.random.default_rng(0).random((6, 28, 28))
    found = attacks.best_match(pixels[:4], pixels[list(order)])
    np.testing.assert_array_equal(found, pixels[:4])


def test_best_match_gives_no_image_twice():
    pixels = np.stack([np.zeros((28, 28)), np.full((28, 28), 0.1)])
    rebuilt = np.stack([np.zeros((28, 28)), np.ones((28, 28))])
    assert attacks.best_match(pixels, rebuilt).mean() == 0.5
    with pytest.raises(ValueError, match="rebuilt has 1 images for 2"):
        attacks.best_match(pixels, rebuilt[:1])


def test_likeness_of_known_errors():
    pixels, _ = strokes(3)
    rebuilt = pixels * 0.9
    rebuilt[1] = pixels[1] + 5  # is clipped to white paper
    rebuilt[2] = pixels[2]
    psnr, ssim = attacks.likeness(pixels, rebuilt)
    white = 10 * np.log10(784 / 24)
    np.testing.assert_allclose(
        psnr[:2], [10 * np.log10(1 / (0.01 * (1 - 24 / 784))), white], rtol=1e-5
    )
    assert psnr[2] == 150 and ssim[2] == pytest.approx(1)
    own = skimage.metrics.peak_signal_noise_ratio(pixels[0], rebuilt[0], data_range=1)
    assert psnr[0] == pytest.approx(own, abs=1e-4)
    own = skimage.metrics.structural_similarity(pixels[0], rebuilt[0], data_range=1)
    assert ssim[0] == pytest.approx(own, abs=1e-5)
    with pytest.raises(ValueError, match="must be the same"):
        attacks.likeness(pixels, rebuilt[:2])


# --- membership -----------------------------------------------------------------------------------


def test_losses_are_those_of_keras_and_keep_their_digits():
    network = models.small_cnn(seed=0)
    pixels, labels = strokes(20)
    logits = network.predict(pixels[..., None], verbose=0)
    keras = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits).numpy()
    np.testing.assert_allclose(attacks.losses_of(network, pixels, labels), keras, rtol=1e-4)
    sure = tf.keras.Sequential(
        [
            tf.keras.layers.InputLayer((28, 28, 1)),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(10, "linear", bias_initializer=tf.constant_initializer(0)),
        ]
    )
    sure.set_weights([np.zeros((784, 10)), np.array([60.0] + [0.0] * 9)])
    loss = attacks.losses_of(sure, pixels[:1], np.zeros(1, np.int32))
    np.testing.assert_allclose(loss, 9 * np.exp(-60.0), rtol=1e-6)


def test_roc_of_those_who_cannot_be_told_and_of_those_who_can():
    generator = np.random.default_rng(1)
    people = [generator.random(50) for _ in range(40)]
    same = attacks.membership_roc(people[:20], people[20:], repeats=100, seed=0)
    assert same.auc_low < 0.5 < same.auc_high and abs(same.auc - 0.5) < 0.05
    np.testing.assert_allclose(same.members, same.strangers, atol=0.1)
    apart = attacks.membership_roc(people[:20], [p + 1 for p in people[20:]], 10, seed=0)
    assert apart.auc == apart.auc_low == 1 and (apart.members == 1).all()
    turned = attacks.membership_roc([p + 1 for p in people[20:]], people[:20], 10, seed=0)
    assert turned.auc == 0 and (turned.members[:100] == 0).all()


@given(
    members=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    strangers=st.lists(st.integers(0, 5), min_size=1, max_size=20),
)
@settings(deadline=None)
def test_auc_counts_pairs_ties_by_half(members, strangers):
    a, b = np.array(members, float), np.array(strangers, float)
    pairs = (a[:, None] < b).mean() + 0.5 * (a[:, None] == b).mean()
    roc = attacks.membership_roc([a], [b], repeats=1, seed=0)
    assert roc.auc == pytest.approx(pairs)
    assert (np.diff(roc.members) >= 0).all() and roc.members[-1] == 1


def test_roc_interval_counts_persons_and_not_images():
    """Two persons a side: however many images, they say little about others."""
    generator = np.random.default_rng(0)
    people = [generator.normal(centre, 0.1, 1000) for centre in (0, 2, 1, 3)]
    roc = attacks.membership_roc(people[:2], people[2:], repeats=200, seed=0)
    assert roc.auc_low < roc.auc < roc.auc_high and roc.auc_high - roc.auc_low > 0.3
    assert (roc.low <= roc.high).all()


def test_roc_refuses_what_it_cannot_count():
    some = [np.ones(3)]
    with pytest.raises(ValueError, match="members has 0"):
        attacks.membership_roc([], some, 10, 0)
    with pytest.raises(ValueError, match="repeats=0"):
        attacks.membership_roc(some, some, 0, 0)
