"""What a client's arrays must be: images from 0 to 1, and a label each."""

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray]  # pixels float32 [N, 28, 28], labels int32 [N]

SIDE = 28


def checked(images: np.ndarray, labels: np.ndarray, where: str) -> Arrays:
    """Check a client's arrays.

    Args:
        images: [N, 28, 28], integers 0 to 255 or floats 0 to 1.
        labels: Integers [N], 0 or more.
        where: What an error calls them.

    Returns:
        The same as float32 from 0 to 1 and int32, both read-only.

    Raises:
        ValueError: A wrong shape, range or type, or no images.

    Lesson: 01
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"{where}: images have shape {images.shape}; they must be [N, 28, 28]")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{where}: labels have shape {labels.shape}; {len(images)} images need one label each"
        )
    if not len(labels):
        raise ValueError(f"{where}: no images; leave the client out, or give it at least one")
    if labels.dtype.kind not in "ui":
        raise ValueError(f"{where}: labels are {labels.dtype}; they must be integers, none missing")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise ValueError(
            f"{where}: labels go from {labels.min()} to {labels.max()}; they must be int32 from 0"
        )
    if images.dtype.kind not in "uif":
        raise ValueError(f"{where}: images are {images.dtype}; they must be uint8 or float32")
    top, slack = (1, 0.001) if images.dtype.kind == "f" else (255, 0)  # floats may be rounded
    low, high = images.min(), images.max()
    if not (low >= -slack and high <= top + slack):  # also where they are NaN
        raise ValueError(
            f"{where}: {images.dtype} images range from {low} to {high}; "
            "give floats from 0 to 1 (divide by 255), or integers from 0 to 255"
        )
    pixels = (images / np.float32(top)).astype(np.float32, copy=False)
    labels = labels.astype(np.int32)
    pixels.flags.writeable = labels.flags.writeable = False
    return pixels, labels
