"""What a curious server can read out of an update or a trained network.

Images are rebuilt and labels counted from gradients; members are told from strangers by their loss.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import skimage.metrics
import tensorflow as tf
from scipy.optimize import linear_sum_assignment
from scipy.stats import rankdata


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
    Lesson: 08
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
    Lesson: 08
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
    Lesson: 08
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


def _flat(parts: Sequence[np.ndarray | tf.Tensor]) -> tf.Tensor:
    """Return all entries of several arrays, float32, in one row."""
    return tf.concat([tf.reshape(tf.cast(part, tf.float32), [-1]) for part in parts], 0)


def best_match(originals: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Give each original a rebuilt image of its own, with the least squared error in all.

    Args:
        originals: float [N, 28, 28].
        rebuilt: float [K, 28, 28], in any order, K at least N.

    Returns:
        N of the rebuilt images, in the order of the originals.

    Raises:
        ValueError: There are fewer rebuilt images than originals.

    Lesson: 08
    """
    if len(rebuilt) < len(originals):
        raise ValueError(
            f"rebuilt has {len(rebuilt)} images for {len(originals)} originals: "
            "give at least one for each"
        )
    a, b = (np.reshape(x, (len(x), -1)).astype(float) for x in (originals, rebuilt))
    errors = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)
    return np.asarray(rebuilt)[linear_sum_assignment(errors)[1]]


class Likeness(NamedTuple):
    """How like the originals rebuilt images are, image by image.

    Attributes:
        psnr: float [N], peak signal-to-noise ratio in dB: 10 more is a tenth of the squared error.
            150 at most, where float32 ends.
        ssim: float [N], structural similarity: 1 for the same image, about 0 for unrelated ones.

    Source: Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural
        Similarity.
    Lesson: 08
    """

    psnr: np.ndarray
    ssim: np.ndarray


def likeness(originals: np.ndarray, rebuilt: np.ndarray) -> Likeness:
    """Compare images from 0 to 1 pair by pair.

    Args:
        originals: float [N, 28, 28].
        rebuilt: float [N, 28, 28]; clipped to 0 to 1, as an attacker would.

    Raises:
        ValueError: The shapes differ, or there are no images.

    Lesson: 08
    """
    if np.shape(originals) != np.shape(rebuilt) or np.ndim(originals) != 3 or not len(originals):
        raise ValueError(
            f"originals has shape {np.shape(originals)}, rebuilt {np.shape(rebuilt)}: "
            "they must be the same, [N, 28, 28], with N at least 1"
        )
    pairs = list(zip(np.float64(originals), np.clip(np.float64(rebuilt), 0, 1), strict=True))
    psnr = [-10 * np.log10(max(((a - b) ** 2).mean(), 1e-15)) for a, b in pairs]
    ssim = [skimage.metrics.structural_similarity(a, b, data_range=1) for a, b in pairs]
    return Likeness(np.array(psnr), np.array(ssim))


def losses_of(network: tf.keras.Model, pixels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return each image's cross-entropy, exact also where it is nearly 0.

    Args:
        network: From images, float32 [N, 28, 28, 1], to logits, float32 [N, 10].
        pixels: float32 [N, 28, 28].
        labels: int32 [N].

    Returns:
        float64 [N].

    Lesson: 08
    """
    logits = network.predict(pixels[..., np.newaxis], batch_size=500, verbose=0).astype(float)
    over = logits - np.take_along_axis(logits, labels[:, np.newaxis], 1)
    np.put_along_axis(over, labels[:, np.newaxis], -np.inf, 1)
    return np.logaddexp(0, np.logaddexp.reduce(over, axis=1))


class Roc(NamedTuple):
    """How well a threshold on the loss tells members from strangers; intervals are of 95 %.

    Attributes:
        strangers: float [101], share of strangers taken for members: 0, 0.01, … 1.
        members: float [101], share of members found at that price.
        low: float [101], lower end of the band around `members`.
        high: float [101], its upper end.
        auc: Area under the curve: how often a member's loss is below a stranger's. 0.5 is chance.
        auc_low: Lower end of its interval.
        auc_high: Upper end.

    Lesson: 08
    """

    strangers: np.ndarray
    members: np.ndarray
    low: np.ndarray
    high: np.ndarray
    auc: float
    auc_low: float
    auc_high: float


def membership_roc(
    members: Sequence[np.ndarray], strangers: Sequence[np.ndarray], repeats: int, seed: int
) -> Roc:
    """Tell members from strangers by their loss: below a threshold, it is a member.

    The intervals come from drawing the persons anew, with all their images, since the images of
    one person are alike.

    Args:
        members: The losses of each person whose images were trained on, float [N] each.
        strangers: The same of persons whose images were not.
        repeats: Draws for the intervals.
        seed: Fixes the draws.

    Raises:
        ValueError: Nobody among members or strangers, or `repeats` is below 1.

    Source: Yeom et al. 2018, Privacy Risk in Machine Learning, adversary 2; the intervals: the
        percentile bootstrap, Efron 1979, Bootstrap Methods.
    Lesson: 08
    """
    if not len(members) or not len(strangers):
        raise ValueError(
            f"members has {len(members)} persons, strangers {len(strangers)}: each needs one"
        )
    if repeats < 1:
        raise ValueError(f"repeats={repeats!r} must be at least 1")
    generator = np.random.default_rng(seed)
    grid = np.linspace(0, 1, 101)

    def curve(inside, outside):
        inside, outside = np.concatenate(inside), np.concatenate(outside)
        found = np.searchsorted(np.sort(inside), np.quantile(outside, grid)) / len(inside)
        found[-1] = 1  # with no threshold, everyone is taken for a member
        ranks = rankdata(np.concatenate([inside, outside]))[: len(inside)]
        auc = 1 - (ranks.mean() - (len(inside) + 1) / 2) / len(outside)
        return np.append(found, auc)

    def redrawn(people):
        return [people[i] for i in generator.integers(len(people), size=len(people))]

    draws = [curve(redrawn(members), redrawn(strangers)) for _ in range(repeats)]
    (*found, auc), low, high = curve(members, strangers), *np.quantile(draws, [0.025, 0.975], 0)
    return Roc(
        grid, np.array(found), low[:-1], high[:-1], float(auc), float(low[-1]), float(high[-1])
    )
