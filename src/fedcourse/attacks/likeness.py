"""How like the originals rebuilt images are."""

from typing import NamedTuple

import numpy as np
import skimage.metrics
from scipy.optimize import linear_sum_assignment


def best_match(originals: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Give each original a rebuilt image of its own, with the least squared error in all.

    Args:
        originals: float [N, 28, 28].
        rebuilt: float [K, 28, 28], in any order, K at least N.

    Returns:
        N of the rebuilt images, in the order of the originals.

    Raises:
        ValueError: There are fewer rebuilt images than originals.

    Lesson: 09
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
        ssim: float [N], structural similarity: 1 for the same image. Unrelated digits share white
            paper, so that two of them have well over 0.

    Source: Wang et al. 2004, Image Quality Assessment: From Error Visibility to Structural
        Similarity.
    Lesson: 09
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

    Lesson: 09
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
