"""Any Keras network for TFF: built, checked, and started with the weights it was given."""

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

Loss = tf.keras.losses.Loss | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
Metric = tf.keras.metrics.Metric | Callable[[], tf.keras.metrics.Metric]


def wrap(
    make_keras_model: Callable[[], tf.keras.Model],
    like: object | None = None,
    loss: Loss | None = None,
    metrics: Sequence[Metric] | None = None,
) -> Callable[[], object]:
    """Return the function that TFF wants: each call makes a new wrapped model.

    The weights that the network has when it is made, whether drawn, loaded or set, are the first
    state of every algorithm of TFF's that is built on it. What is frozen stays as it was made, and
    is not sent. Losses of regularisers are added to what a client's steps minimise, and are not in
    the loss that is reported. Dropout and layers that augment are active while clients train and
    never in an evaluation; where several clients train at a time, what they draw is not
    reproducible, with a seed neither.

    Args:
        make_keras_model: Makes an uncompiled Keras 2 network from images, float32 [N, H, W, C], to
            logits, float32 [N, K]; the same network at each call.
        like: Federated data whose images and labels the network is for; None where it is for the
            shape it is built for, and labels are classes.
        loss: A Keras loss, or a function of labels and outputs; None for softmax cross-entropy of
            logits.
        metrics: Keras metrics, or functions that make them; None for accuracy.

    Returns:
        A function without arguments that returns a `tff.learning.models.VariableModel`.

    Raises:
        ValueError: The network is not built and nothing says for what images; it does not fit
            `like`; nothing in it can be trained; it ends in a softmax where logits are wanted; or
            it normalises by batch, which averaging weights does not train.

    Lesson: 03
    """
    network = built(make_keras_model(), like)
    spec = _input_spec(network, like)
    _check(network, spec, like, default_loss=loss is None)
    again = functools.partial(_again, network, make_keras_model, like)
    first = _start_of(network, again)
    keras_loss = _keras_loss(loss)
    makers = [_metric_maker(metric) for metric in metrics or ()] or [_accuracy]

    def model_fn():
        with _starting_with(first):
            model = again()
        return tff.learning.models.from_keras_model(
            model, input_spec=spec, loss=keras_loss, metrics=[make() for make in makers]
        )

    return model_fn


def weighted_cross_entropy(weights: Sequence[float]) -> tf.keras.losses.Loss:
    """Return softmax cross-entropy of logits in which some classes count more than others.

    Args:
        weights: A factor for each class, such as 1 / (its share of all images).

    Raises:
        ValueError: A weight is negative or not finite.

    Lesson: 05
    """
    factors = np.asarray(weights, np.float32)
    if factors.ndim != 1 or not (np.isfinite(factors).all() and (factors >= 0).all()):
        raise ValueError(f"weights={weights!r} must be finite numbers of at least 0, a class each")

    def loss(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        labels = tf.reshape(tf.cast(labels, tf.int32), [-1])
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return each * tf.gather(factors, labels)

    return _keras_loss(loss)


# --- what the network starts with -----------------------------------------------------------------


def _again(network: tf.keras.Model, make: Callable, like: object | None) -> tf.keras.Model:
    """Make a network once more, with other weights.

    From its layers' own descriptions where it has them, so that it may hold layers that were made,
    trained or loaded elsewhere; where it has not, by calling `make`.
    """
    if isinstance(network, tf.keras.Sequential) or hasattr(network, "_nodes_by_depth"):
        with contextlib.suppress(NotImplementedError):  # a layer without get_config
            return tf.keras.models.clone_model(network)
    return built(make(), like)


class _Start(NamedTuple):
    """What a weight starts with; None where its own initializer gives it."""

    shape: tf.TensorShape
    dtype: tf.DType
    value: np.ndarray | None


def _start_of(network: tf.keras.Model, again: Callable[[], tf.keras.Model]) -> list[_Start]:
    """List the values of a network's weights in the order in which `again` makes them.

    A value is None where the weight's own initializer gives it: a graph then holds a seed in place
    of megabytes.
    """
    made = []

    def remember(next_creator, **options):
        variable = next_creator(**options)
        made.append((variable, options.get("initial_value")))
        return variable

    with tf.variable_creator_scope(remember):
        twin = again()
    if [w.shape for w in twin.weights] != [w.shape for w in network.weights]:
        raise ValueError("make_keras_model must make the same network at each call")
    values = {id(w): own.numpy() for w, own in zip(twin.weights, network.weights, strict=True)}
    return [
        _Start(variable.shape, variable.dtype, None if _gives(initial, value) else value)
        for variable, initial in made
        if (value := values.get(id(variable))) is not None  # and not what Keras counts with
    ]


def _gives(initial: object, value: np.ndarray) -> bool:
    """Tell whether an initializer gives a value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of initializers that are asked twice
        return np.array_equal(value, np.asarray(initial() if callable(initial) else initial))


@contextlib.contextmanager
def _starting_with(first: list[_Start]) -> Iterator[None]:
    """Make variables that start with these values, in the order they are made."""
    left = list(first)

    def start(next_creator, **options):
        kind = tf.TensorShape(options.get("shape")), options.get("dtype")
        if left and kind == (left[0].shape, left[0].dtype):
            value = left.pop(0).value
            if value is not None:
                options["initial_value"] = value
        return next_creator(**options)

    with tf.variable_creator_scope(start):
        yield
    if left:
        raise ValueError("make_keras_model must make the same network at each call")


def built(network: tf.keras.Model, like: object | None) -> tf.keras.Model:
    """Return a network that has its weights, built for the images of `like` if it was not yet.

    Raises:
        TypeError: It is no network of Keras 2.
        ValueError: It is not built, and `like` is None.

    Lesson: none yet
    """
    if not isinstance(network, tf.keras.Model):
        raise TypeError(
            f"make_keras_model returned {type(network).__name__}; it must return a tf.keras.Model "
            "(of Keras 2, as `import fedcourse` sets it up)"
        )
    if network.built:
        return network
    if like is None:
        raise ValueError(
            f"the network {network.name!r} is not built, so it has no weights yet: pass like=, "
            "the federated data it is for, or call network.build((None, height, width, channels)) "
            "where it is made"
        )
    network(tf.zeros([1, *_image_shape(like)]))
    return network


# --- what it is for -------------------------------------------------------------------------------


def _image_shape(like: object) -> tuple[int, ...]:
    shape = tuple(like.element_type_structure["pixels"].shape)
    return (*shape, 1) if len(shape) == 2 else shape


def _input_spec(network: tf.keras.Model, like: object | None) -> tuple[tf.TensorSpec, ...]:
    if like is None:
        shape, label = _own_shape(network), tf.TensorSpec((), tf.int32)
    else:
        shape, label = _image_shape(like), like.element_type_structure["label"]
    return (
        tf.TensorSpec([None, *shape], tf.float32),
        tf.TensorSpec([None, *label.shape], label.dtype),
    )


def _own_shape(network: tf.keras.Model) -> tuple[int | None, ...]:
    shape = getattr(network, "input_shape", None) or getattr(network, "_build_input_shape", None)
    if not isinstance(shape, tuple | tf.TensorShape) or len(shape) != 4:
        raise ValueError(
            f"the network {network.name!r} takes {shape}; it must take images, "
            "(None, height, width, channels), or be given like="
        )
    return tuple(shape)[1:]


def _check(
    network: tf.keras.Model, spec: tuple[tf.TensorSpec, ...], like: object, default_loss: bool
) -> None:
    name = f"the network {network.name!r}"
    if not network.trainable_variables:
        raise ValueError(f"{name} has nothing to train: all its layers are frozen, or it has none")
    for layer in network.submodules:
        if isinstance(layer, tf.keras.layers.BatchNormalization) and layer.trainable:
            raise ValueError(
                f"layer {layer.name!r} of {name} normalises by batch: its moving averages never "
                "leave a client, so the averaged network would be judged with those it began "
                "with. Freeze it (layer.trainable = False), or use GroupNormalization"
            )
    shape = [1, *(side or 32 for side in spec[0].shape[1:])]
    try:
        outputs = network(tf.random.stateless_uniform(shape, [0, 0]), training=False)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        own = getattr(network, "input_shape", None)
        raise ValueError(
            f"{name} takes images of shape {own and own[1:]}, and like has {tuple(shape[1:])}"
        ) from error
    if not default_loss:
        return
    if spec[1].dtype != tf.int32:
        raise ValueError(
            f"labels are float32 {spec[1].shape.as_list()[1:]}, and the default loss takes "
            "classes: pass loss=, such as tf.keras.losses.BinaryCrossentropy(from_logits=True) for "
            "several labels an image, MeanSquaredError() for numbers"
        )
    first = outputs.numpy()[0]
    if first.min() >= 0 and abs(first.sum() - 1) < 1e-4 and first.size > 1:
        raise ValueError(
            f"{name} ends in a softmax, and the default loss takes logits: leave the activation "
            "of the last layer out, or pass loss=tf.keras.losses.SparseCategoricalCrossentropy()"
        )
    classes = getattr(like, "classes", ())
    if len(classes) > first.shape[-1]:
        raise ValueError(
            f"{name} has {first.shape[-1]} outputs, and there are {len(classes)} classes, "
            f"{classes[0]!r} to {classes[-1]!r}"
        )


# --- what it minimises and reports ----------------------------------------------------------------


class _Function(tf.keras.losses.Loss):
    """A function as a Keras loss."""

    def __init__(self, function: Callable):
        super().__init__(name=getattr(function, "__name__", "loss"))
        self._function = function

    def call(self, labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        return self._function(labels, outputs)


def _keras_loss(loss: Loss | None) -> tf.keras.losses.Loss:
    if loss is None:
        return tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if isinstance(loss, tf.keras.losses.Loss):
        return loss
    if not callable(loss):
        raise ValueError(f"loss={loss!r} must be a Keras loss or a function of labels and outputs")
    return _Function(loss)


def _accuracy() -> tf.keras.metrics.Metric:
    return tf.keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def _metric_maker(metric: Metric) -> Callable[[], tf.keras.metrics.Metric]:
    """Return what makes a metric anew in each of TFF's graphs."""
    if isinstance(metric, tf.keras.metrics.Metric):
        return functools.partial(type(metric).from_config, metric.get_config())
    if not callable(metric):
        raise ValueError(f"metrics has {metric!r}; each must be a Keras metric or make one")
    return metric
