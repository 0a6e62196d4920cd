"""Handwriting style in two numbers, and how much of it is the writer."""

import numpy as np


def style(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measure two features of handwriting: how much ink, and how slanted.

    Args:
        images: [N, 28, 28], uint8 0..255 or float 0..1, bright ink on a dark ground. For the
            `pixels` of a `ClientData` (1.0 = paper) pass `1.0 - pixels`.

    Returns:
        ink: float64 [N], the sum of all pixels where a fully inked one counts 1.
        slant: float64 [N], the covariance of ink in x and y over its variance in y: columns that
            the stroke moves to the right per row that it goes down, so 0 is upright and a forward
            slant negative.

    Raises:
        ValueError: images have another shape.

    Lesson: 01
    """
    images = np.asarray(images)
    if images.ndim != 3:
        raise ValueError(f"images has shape {images.shape}; it must be [N, height, width]")
    # Moments of whole numbers are exact, so every machine finds the same features to the last bit.
    weight = images if images.dtype.kind in "ui" else np.rint(images * 255.0)
    weight = weight.astype(np.int64)
    rows, columns = weight.sum(2), weight.sum(1)
    y, x = np.arange(images.shape[1]), np.arange(images.shape[2])
    total, sum_y, sum_x = weight.sum((1, 2)), rows @ y, columns @ x
    covariance = total * np.einsum("nyx,y,x->n", weight, y, x) - sum_x * sum_y
    variance = total * (rows @ y**2) - sum_y**2
    return total / 255.0, covariance / np.maximum(variance, 1)


def variance_explained(feature: np.ndarray, labels: np.ndarray, writers: np.ndarray) -> float:
    """Share of a feature's variance that lies between writers, once each digit's mean is out.

    Args:
        feature: float [N], one number per image.
        labels: integer [N], the digit of each image.
        writers: [N], who wrote each image: numbers or names.

    Returns:
        A share from 0 to 1 (eta squared): 0 if all writers are alike, 1 if each is always the same.

    Raises:
        ValueError: the three have different lengths, or the feature does not vary.

    Lesson: 01
    """
    feature = np.asarray(feature, dtype=np.float64)
    if not feature.shape == np.shape(labels) == np.shape(writers):
        raise ValueError(
            f"feature, labels and writers have shapes {feature.shape}, {np.shape(labels)} and "
            f"{np.shape(writers)}; all must be [N]"
        )
    own = minus_group_means(feature, labels)
    if not own.any():
        raise ValueError("feature is the same for all images of a digit: nothing to explain")
    return 1.0 - float(np.sum(minus_group_means(own, writers) ** 2) / np.sum(own**2))


def minus_group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Take from each value the mean of its group. All [N].

    Lesson: 01
    """
    _, group = np.unique(groups, return_inverse=True)
    return values - (np.bincount(group, values) / np.bincount(group))[group]
