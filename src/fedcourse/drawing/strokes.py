"""Strokes become images of 28 x 28, in the steps by which MNIST's digits did."""

import math
from collections.abc import Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw

Drawing = Sequence[Sequence[Sequence[float]]]

SIDE, BOX = 28, 20  # pixels: of an image, and of the box that the ink is fitted into
PEN = 2.3  # pixels
_FINE = 8  # so many times finer is drawn, and then averaged


def image(drawing: Drawing, pen: float = PEN) -> np.ndarray:
    """Return the image of a drawing, as MNIST's were made: fitted into 20 x 20, centred by mass.

    Args:
        drawing: Strokes, lists of points [x, y]. What lies outside 0 to 1 is cut to the edge.
        pen: Width of the line in pixels, less than the 20 of the box.

    Returns:
        float32 [28, 28], 1.0 = paper and 0.0 = ink.

    Raises:
        ValueError: No points, one that is no pair of numbers, or a pen that cannot draw.

    Source: LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document
        recognition, section III.A: size normalised to fit in a 20 x 20 box with its aspect ratio
        kept, then translated so that its centre of mass is the image's centre.
    Lesson: 05
    """
    return list(steps(drawing, pen).values())[-1]


def steps(drawing: Drawing, pen: float = PEN) -> dict[str, np.ndarray]:
    """Return the pictures on the way from a drawing to its image.

    Args:
        drawing: As for `image`.
        pen: As for `image`.

    Returns:
        Name -> float32, 1.0 = paper: the drawing as it is [224, 224], fitted into the box
        [224, 224], and the image itself [28, 28].

    Raises:
        ValueError: As `image` does.

    Lesson: 05
    """
    strokes = checked(drawing)
    if not 0 < pen < BOX:
        raise ValueError(f"pen={pen!r} must be more than 0 and less than {BOX} pixels")
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = (BOX - pen) / max((high - low).max(), 1e-3)  # a dot stays a dot
    fitted = [(stroke - (low + high) / 2) * scale + SIDE / 2 for stroke in strokes]
    fine = _drawn(fitted, pen)
    middle = _centre_of_mass(fine)
    centred = _drawn([stroke + SIDE / 2 - middle for stroke in fitted], pen)
    small = centred.reshape(SIDE, _FINE, SIDE, _FINE).mean((1, 3))
    return {
        "as drawn": 1 - _drawn([stroke * SIDE for stroke in strokes], pen),
        "fitted into a box": 1 - fine,
        "centred by mass, 28 × 28": (1 - small).astype(np.float32),
    }


def varied(drawing: Drawing, count: int, seed: int) -> np.ndarray:
    """Return images of a drawing as the same hand might have drawn it again.

    Turned by about 5 degrees, slanted, stretched, each stroke moved a little, with another pen.

    Args:
        drawing: As for `image`.
        count: How many.
        seed: Another seed, other variations.

    Returns:
        float32 [count, 28, 28], 1.0 = paper.

    Raises:
        ValueError: As `image` does, or a count below 0.

    Lesson: 05
    """
    if count < 0:
        raise ValueError(f"count={count!r} must be at least 0")
    strokes, generator = checked(drawing), np.random.default_rng(seed)
    images = []
    for _ in range(count):
        turn, slant, stretch, wider = generator.normal(0, [0.09, 0.08, 0.08, 0.12])
        turned = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        shaped = turned @ np.array([[math.exp(stretch), slant], [0, 1]])
        moved = [
            (stroke - 0.5) @ shaped.T * 0.6 + 0.5 + generator.normal(0, 0.012, 2)
            for stroke in strokes
        ]
        images.append(image(moved, PEN * math.exp(wider)))
    return np.array(images, np.float32).reshape(-1, SIDE, SIDE)


def checked(drawing: Drawing) -> list[np.ndarray]:
    """Return the strokes as float64 [N, 2] each, cut to 0 to 1; strokes without points left out.

    Raises:
        ValueError: No points, or one that is no pair of finite numbers.

    Lesson: none yet
    """
    if not np.iterable(drawing):
        raise ValueError(f"drawing={drawing!r} must be a list of strokes")
    strokes = []
    for number, stroke in enumerate(drawing):
        try:
            points = np.asarray(stroke, np.float64)
        except (TypeError, ValueError):
            points = np.array(np.nan)
        if points.shape == (0,):
            continue
        if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
            raise ValueError(f"drawing: stroke {number} must be a list of points [x, y], 0 to 1")
        strokes.append(points.clip(0, 1))
    if not strokes:
        raise ValueError("drawing is empty: it needs at least one stroke with a point")
    return strokes


def _drawn(strokes: list[np.ndarray], pen: float) -> np.ndarray:
    """Draw strokes, points in pixels, with a round pen; float32 [224, 224], 1.0 = ink."""
    canvas = PIL.Image.new("L", (SIDE * _FINE,) * 2)
    pencil, radius = PIL.ImageDraw.Draw(canvas), round(pen * _FINE / 2)
    for stroke in strokes:
        points = stroke * _FINE
        parts = np.ceil(np.hypot(*np.diff(points, axis=0).T) / 2).clip(1)
        ends = np.append(0, np.cumsum(parts))
        along = np.arange(ends[-1] + 1)  # so close that circles make a line
        dense = np.stack([np.interp(along, ends, axis) for axis in points.T], 1)
        # On the grid all circles are alike, and many points are few.
        for x, y in np.unique(np.rint(dense), axis=0):
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(canvas, np.float32) / 255


def _centre_of_mass(ink: np.ndarray) -> np.ndarray:
    """Return (x, y) in pixels of the small image."""
    places = (np.arange(len(ink)) + 0.5) / _FINE
    return np.array([ink.sum(0) @ places, ink.sum(1) @ places]) / max(ink.sum(), 1e-9)
