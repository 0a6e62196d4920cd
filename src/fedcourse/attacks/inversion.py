"""Images and labels read out of gradients."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf


def gradient(network: tf.keras.Model, pixels: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Return the gradient of the mean cross-entropy, as a client sends it in its plainest form.

    Args:
        network: From images, float32 [N, 28, 28, 1], to logits [N, 10].
        pixels: float32 [N, 28, 28].
        labels: int32 [N].

    Returns:
        An array for each of the network's trainable weights.

    Lesson: 09
    """
    with tf.GradientTape() as tape:
        logits = network(pixels[..., np.newaxis])
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return [part.numpy() for part in tape.gradient(loss, network.trainable_variables)]


def inputs_of_dense(kernel_gradient: np.ndarray, bias_gradient: np.ndarray) -> np.ndarray:
    """Return what each unit of a dense layer saw: its kernel's gradient over its bias's.

    With a single image behind the gradient, each row is that image's input to the layer. With
    several, each row is a mixture of those that the unit fired for.

    Args:
        kernel_gradient: float [inputs, units].
        bias_gradient: float [units].

    Returns:
        float32 [K, inputs]: a row for each of the K units whose bias has a gradient, the largest
        such gradient first.

    Raises:
        ValueError: The shapes are not those of a dense layer, or no bias has a gradient.

    Source: Phong et al. 2018, Privacy-Preserving Deep Learning via Additively Homomorphic
        Encryption, section III; Geiping et al. 2020, Inverting Gradients, proposition 3.1.
    Lesson: 09
    """
    kernel, bias = np.asarray(kernel_gradient, float), np.asarray(bias_gradient, float)
    if kernel.ndim != 2 or bias.shape != kernel.shape[1:]:
        raise ValueError(
            f"kernel_gradient has shape {kernel.shape}, bias_gradient {bias.shape}: "
            "they must be [inputs, units] and [units]"
        )
    order = np.argsort(-np.abs(bias), kind="stable")
    fired = order[bias[order] != 0]
    if not len(fired):
        raise ValueError("bias_gradient is 0 everywhere: no unit fired, nothing can be recovered")
    return (kernel[:, fired] / bias[fired]).T.astype(np.float32)


def labels_of(bias_gradient: np.ndarray, images: int, probabilities: np.ndarray) -> np.ndarray:
    """Read the labels of a batch out of the gradient of the last layer's bias.

    In it each image leaves its probabilities, less one at its label. So a negative entry betrays a
    label. By how much the entries fall short of the probabilities says how often each comes; what
    rounding leaves over goes where most is missing.

    Args:
        bias_gradient: float [classes], the gradient of the mean cross-entropy.
        images: Size of the batch.
        probabilities: float [classes], the network's mean output, guessed from other images.

    Returns:
        int32 [images], sorted.

    Raises:
        ValueError: The shapes differ, or `images` is below 1.

    Source: Zhao et al. 2020, iDLG, for one image; Wainakh et al. 2022, User-Level Label Leakage
        from Gradients in Federated Learning, for batches.
    Lesson: 09
    """
    gradient, share = np.asarray(bias_gradient, float), np.asarray(probabilities, float)
    if gradient.ndim != 1 or share.shape != gradient.shape:
        raise ValueError(
            f"bias_gradient has shape {gradient.shape}, probabilities {share.shape}: "
            "give one number for each class in both"
        )
    if images < 1:
        raise ValueError(f"images={images!r} must be at least 1")
    lowest = np.argsort(gradient)[:images]
    counts = np.bincount(lowest[gradient[lowest] < 0], minlength=len(gradient))
    while counts.sum() < images:
        counts[(images * (share - gradient) - counts).argmax()] += 1
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def match_gradients(
    network: tf.keras.Model,
    gradients: Sequence[np.ndarray],
    labels: np.ndarray,
    steps: int,
    learning_rate: float,
    smoothness: float,
    seed: int,
) -> np.ndarray:
    """Search for images whose gradient points where the given one does.

    Args:
        network: From images, float32 [N, 28, 28, 1], to logits [N, 10], with the weights at which
            the gradients were taken.
        gradients: One array for each of the network's trainable weights; their scale is ignored.
        labels: int32 [N], the labels of the images to look for.
        steps: Steps of Adam, on the sign of the derivative.
        learning_rate: Of the first step, in pixel values; falls to 0 along half a cosine.
        smoothness: Weight of the images' total variation.
        seed: Fixes the noise that the search begins with.

    Returns:
        float32 [N, 28, 28], 0 to 1, in the order of `labels`.

    Raises:
        ValueError: The gradients do not fit the network, there are no labels, or `steps` is
            below 1.

    Source: Zhu et al. 2019, Deep Leakage from Gradients; the distance, total variation and signs:
        Geiping et al. 2020, Inverting Gradients, section 4.
    Lesson: 09
    """
    shapes = [tuple(weight.shape) for weight in network.trainable_variables]
    if [np.shape(gradient) for gradient in gradients] != shapes:
        raise ValueError(
            f"gradients have shapes {[np.shape(g) for g in gradients]}; this network's are {shapes}"
        )
    if not len(labels):
        raise ValueError("labels is empty: give one for each image to look for")
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    target = _flat(gradients)
    target /= tf.norm(target) + 1e-20
    labels = tf.constant(np.asarray(labels, np.int32))
    optimizer = tf.keras.optimizers.Adam(
        tf.keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    )
    start = np.random.default_rng(seed).random((len(labels), 28, 28, 1), np.float32)
    images = tf.Variable(start, constraint=lambda x: tf.clip_by_value(x, 0.0, 1.0))

    @tf.function
    def search():
        for _ in tf.range(steps):
            with tf.GradientTape(watch_accessed_variables=False) as outer:
                outer.watch(images)
                with tf.GradientTape() as inner:
                    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, network(images))
                    loss = tf.reduce_mean(losses)
                found = _flat(inner.gradient(loss, network.trainable_variables))
                distance = 1 - tf.reduce_sum(found * target) / (tf.norm(found) + 1e-20)
                roughness = tf.reduce_mean(tf.image.total_variation(images)) / 784
                goal = distance + smoothness * roughness
            derivative = outer.gradient(goal, images)
            optimizer.apply_gradients([(tf.sign(derivative), images)])

    optimizer.build([images])
    search()
    return images.numpy()[..., 0]


def match_features(
    front: tf.keras.Model, features: np.ndarray, steps: int, learning_rate: float
) -> np.ndarray:
    """Search for images that the front of a network turns into given features.

    Args:
        front: From images, float32 [N, 28, 28, 1], to features [N, F]: a network's layers before
            the dense one whose inputs are known, see `inputs_of_dense`.
        features: float32 [N, F], of an image each.
        steps: Steps of Adam.
        learning_rate: Of the first step, in pixel values; falls to 0 along half a cosine.

    Returns:
        float32 [N, 28, 28], 0 to 1. Of features that no image has, an image with others.

    Raises:
        ValueError: The features do not fit, or `steps` is below 1.

    Source: Mahendran and Vedaldi 2015, Understanding Deep Image Representations by Inverting Them.
    Lesson: 09
    """
    size = front.output_shape[-1]
    if np.ndim(features) != 2 or np.shape(features)[1] != size or not len(features):
        raise ValueError(
            f"features has shape {np.shape(features)}; needs [N, {size}], N at least 1"
        )
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be at least 1")
    features = tf.constant(features, tf.float32)
    optimizer = tf.keras.optimizers.Adam(
        tf.keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    )
    paper = tf.ones((len(features), 28, 28, 1))
    images = tf.Variable(paper, constraint=lambda x: tf.clip_by_value(x, 0.0, 1.0))

    @tf.function
    def search():
        for _ in tf.range(steps):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(images)
                goal = tf.reduce_sum((front(images) - features) ** 2)
            optimizer.apply_gradients([(tape.gradient(goal, images), images)])

    optimizer.build([images])
    search()
    return images.numpy()[..., 0]


def _flat(parts: Sequence[np.ndarray | tf.Tensor]) -> tf.Tensor:
    """Return all entries of several arrays, float32, in one row."""
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], 0)
