from fedcourse import models  # isort: skip  (before TensorFlow)

import numpy as np
import pytest
from conftest import weights_gap

BOTH = pytest.mark.parametrize("make", [models.mcmahan_cnn, models.small_cnn])


@pytest.mark.parametrize(
    ("make", "parameters"), [(models.mcmahan_cnn, 1_663_370), (models.small_cnn, 12_810)]
)
def test_parameters(make, parameters):
    assert make().count_params() == parameters


@BOTH
def test_images_become_logits(make):
    network = make(seed=0)
    assert network.input_shape == (None, 28, 28, 1)
    images = np.random.default_rng(0).random((3, 28, 28, 1), np.float32)
    logits = network(images).numpy()
    assert logits.shape == (3, 10) and logits.dtype == np.float32
    assert logits.min() < 0 and not np.allclose(logits.sum(1), 1)  # no softmax


@BOTH
def test_not_compiled(make):
    assert getattr(make(), "optimizer", None) is None  # TFF refuses compiled networks


@BOTH
def test_seed_fixes_the_weights(make):
    one, again, other, free, freer = (make(seed).get_weights() for seed in (3, 3, 4, None, None))
    assert weights_gap(one, again) == 0
    kernels = [i for i, weights in enumerate(one) if weights.ndim > 1]
    for unequal in ((one, other), (free, freer)):
        left, right = unequal
        assert all((left[i] != right[i]).mean() > 0.9 for i in kernels)


@BOTH
def test_layers_start_from_numbers_of_their_own(make):
    """With one seed for all layers, their kernels would begin with the same draws."""
    kernels = [w.ravel()[:50] for w in make(seed=0).get_weights() if w.ndim > 1]
    scaled = [kernel / np.abs(kernel).max() for kernel in kernels]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(scaled) for b in scaled[:i])


@BOTH
@pytest.mark.parametrize(
    ("shape", "input_shape"), [((32, 40, 3), (32, 40, 3)), ((12, 12), (12, 12, 1))]
)
def test_any_images_and_classes(make, shape, input_shape):
    network = make(0, shape, 62)
    assert network.input_shape == (None, *input_shape) and network.output_shape == (None, 62)


@BOTH
@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [
        ((3, 3), 10, "image_shape=.*at least"),
        ((28,), 10, "image_shape="),
        ((28, 28), 0, "classes=0"),
    ],
)
def test_images_that_do_not_fit_are_named(make, shape, classes, message):
    with pytest.raises(ValueError, match=message):
        make(0, shape, classes)
