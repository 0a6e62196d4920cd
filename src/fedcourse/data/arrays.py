"""What a client's arrays must be: images from 0 to 1, and a label each."""

import numpy as np

#: pixels float32 [N, H, W] or [N, H, W, C]; labels int32 [N], or float32 [N] or [N, K]
Arrays = tuple[np.ndarray, np.ndarray]

_DARK = 16  # integers that go no further than this are hardly shades of 0 to 255


def checked(images: np.ndarray, labels: np.ndarray, where: str) -> Arrays:
    """Check a client's arrays.

    Args:
        images: [N, H, W], or [N, H, W, C] where there are channels: integers 0 to 255, floats 0 to
            1, or truth values.
        labels: Integers [N] from 0, the class of each image; or float32, to learn numbers [N], or
            several labels an image, [N, K], 1 where label k applies and 0 where not.
        where: What an error calls them.

    Returns:
        Images as float32 from 0 to 1, labels as int32 or float32, both read-only.

    Raises:
        ValueError: A wrong shape, range or type, or no images.

    Lesson: 01
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ValueError(
            f"{where}: images have shape {images.shape}; "
            "they must be [N, height, width] or [N, height, width, channels]"
        )
    if labels.ndim not in (1, 2) or len(labels) != len(images):
        raise ValueError(
            f"{where}: labels have shape {labels.shape}; {len(images)} images need one label each"
        )
    if not len(labels):
        raise ValueError(f"{where}: no images; leave the client out, or give it at least one")
    return _checked_images(images, where), _checked_labels(labels, where)


def _checked_images(images: np.ndarray, where: str) -> np.ndarray:
    if images.dtype.kind not in "buif":
        raise ValueError(f"{where}: images are {images.dtype}; they must be uint8 or float32")
    whole = images.dtype.kind in "ui"
    top, slack = (255, 0) if whole else (1, 0.001)  # floats may be rounded
    low, high = images.min(), images.max()
    if not (low >= -slack and high <= top + slack):  # also where they are NaN
        raise ValueError(
            f"{where}: {images.dtype} images range from {low} to {high}; "
            "give floats from 0 to 1 (divide by 255, or by 65535 where there are 16 bits), "
            "or integers from 0 to 255"
        )
    if whole and 0 < high <= _DARK:
        raise ValueError(
            f"{where}: {images.dtype} images range from {low} to {high}, and as integers of 0 to "
            f"255 they would be all but black; give floats from 0 to 1 (divide by {high})"
        )
    pixels = (images / np.float32(top)).astype(np.float32, copy=False)
    pixels.flags.writeable = False
    return pixels


def _checked_labels(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.dtype == np.float32:
        if not np.isfinite(labels).all():
            raise ValueError(f"{where}: some labels are missing (NaN) or infinite")
        labels = labels.copy()
    elif labels.dtype.kind not in "ui":
        raise ValueError(
            f"{where}: labels are {labels.dtype}; they must be integers, none missing "
            "(or float32, to learn numbers or several labels an image)"
        )
    elif labels.ndim == 2:
        raise ValueError(
            f"{where}: labels have shape {labels.shape}; where each row has a single 1 "
            "(one-hot) give labels.argmax(1), for several labels an image float32"
        )
    elif labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"{where}: labels go from {labels.min()} to {labels.max()}; they must be int32 from 0"
        )
    else:
        labels = labels.astype(np.int32)
    labels.flags.writeable = False
    return labels
