"""Sums of clients' counts say what scikit-learn says of all images together."""

from fedcourse import confusion, evaluation  # isort: skip  (before TensorFlow)

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from hypothesis import strategies as st
from sklearn import metrics


class Says:
    """A model whose logits stand in the images."""

    def predict(self, images, batch_size, verbose):
        return images[:, 0, :, 0]


@st.composite
def answers(draw):
    """Clients' images that are logits, some of them equal, and labels; some classes never come."""
    classes = draw(st.integers(2, 7))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any))
    different = draw(st.integers(1, 9))
    clients = {
        f"client {number}": (
            np.float32(generator.integers(0, different, (size, 1, classes))),
            generator.integers(0, draw(st.integers(1, classes)), size).astype(np.int32),
        )
        for number, size in enumerate(sizes)
    }
    return classes, clients


@hypothesis.settings(deadline=None)
@hypothesis.given(case=answers(), k=st.integers(1, 7))
def test_sums_over_clients_are_what_scikit_learn_says_of_pooled_images(case, k):
    classes, clients = case
    logits = np.concatenate([images[:, 0] for images, _ in clients.values()])
    labels = np.concatenate([labels for _, labels in clients.values()])
    numbers = np.arange(classes)
    matrix = sum(confusion.by_client(Says(), clients).values())
    assert np.array_equal(
        matrix, metrics.confusion_matrix(labels, logits.argmax(1), labels=numbers)
    )
    expected = metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=numbers, zero_division=0
    )
    found = confusion.scores(matrix)
    for own, theirs in zip(found[:4], expected, strict=True):
        assert np.allclose(own, theirs, atol=1e-12)
    assert found.accuracy == pytest.approx(metrics.accuracy_score(labels, logits.argmax(1)))
    macro = metrics.f1_score(
        labels, logits.argmax(1), labels=numbers, average="macro", zero_division=0
    )
    assert found.macro_f1 == pytest.approx(macro)
    if k < classes and classes > 2:  # for two classes scikit-learn takes another kind of scores
        hits, images = sum(confusion.top_k_by_client(Says(), clients, k).values())
        share = metrics.top_k_accuracy_score(labels, logits, k=k, labels=numbers)
        assert hits / images == pytest.approx(share)


def test_the_sum_that_tff_takes_is_the_same():
    generator = np.random.default_rng(0)
    clients = {
        name: (
            generator.random((9, 1, 4), np.float32),
            generator.integers(0, 4, 9).astype(np.int32),
        )
        for name in "abc"
    }
    matrices = confusion.by_client(Says(), clients)
    spec = tff.TensorType(np.int64, [4, 4])

    @tff.federated_computation(tff.FederatedType(spec, tff.CLIENTS))
    def add_up(counts):
        return tff.federated_sum(counts)

    assert np.array_equal(add_up(list(matrices.values())), sum(matrices.values()))


def test_accuracy_by_writer_is_on_the_diagonal():
    clients = {"a": (np.eye(3, dtype=np.float32)[:, None], np.int32([0, 1, 1]))}
    matrix = confusion.by_client(Says(), clients)["a"]
    assert np.trace(matrix) / matrix.sum() == evaluation.accuracy_by_writer(Says(), clients)["a"]
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


def test_a_client_without_images_counts_nothing():
    images = np.zeros((2, 1, 3), np.float32)
    clients = {"none": (images[:0], np.int32([])), "ann": (images, np.int32([0, 2]))}
    assert [*confusion.by_client(Says(), clients)] == ["none", "ann"]
    assert confusion.by_client(Says(), clients)["none"].tolist() == np.zeros((3, 3)).tolist()
    assert confusion.top_k_by_client(Says(), clients, 1)["none"].tolist() == [0, 0]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, np.uint64, np.int64])
def test_counts_in_small_integers_do_not_wrap(kind):
    matrix = np.array([[200, 0], [100, 200]]) * (1 if kind == np.uint8 else 10**7)
    found, wanted = confusion.scores(matrix.astype(kind)), confusion.scores(matrix)
    assert wanted.f1 == pytest.approx([0.8, 0.8])
    for own, right in zip(found, wanted, strict=True):
        assert np.array_equal(own, right)
    assert found.support.dtype == np.int64


def test_bad_input_is_named():
    images = np.zeros((2, 1, 3), np.float32)
    with pytest.raises(ValueError, match="writers is empty"):
        confusion.by_client(Says(), {})
    wrong = {"ann": (images, np.int32([0, 3]))}
    for count in (confusion.by_client, evaluation.accuracy_by_writer):
        with pytest.raises(ValueError, match="image of 'ann' has the label 3, and the model has 3"):
            count(Says(), wrong)
    below = {"ann": (images, np.int32([0, -1]))}
    with pytest.raises(ValueError, match="image of 'ann' has the label -1, and the model has 3"):
        confusion.by_client(Says(), below)
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k} must be from 1 to 3"):
            confusion.top_k_by_client(Says(), {"ann": (images, np.int32([0, 1]))}, k)
    for matrix in (
        np.ones((2, 3), int),
        np.ones((2, 2)),
        np.zeros((2, 2), int),
        np.zeros((0, 0), int),
        -np.eye(2, dtype=int),
    ):
        with pytest.raises(ValueError, match="square of counts"):
            confusion.scores(matrix)


def test_colour_images_go_to_a_network_as_they_are():
    network = tf.keras.Sequential(
        [tf.keras.layers.InputLayer((4, 4, 3)), tf.keras.layers.Flatten(), tf.keras.layers.Dense(2)]
    )
    clients = {
        "a": (np.random.default_rng(0).random((5, 4, 4, 3), np.float32), np.int32([0, 1] * 2 + [0]))
    }
    assert confusion.by_client(network, clients)["a"].sum() == 5
