"""An invented hand: digits for where nobody can draw, on purpose unlike most of MNIST's.

It leans to the left, writes a 1 with a long upstroke, crosses its 7, leaves its 4 open, puts a
stroke through its 0, and a loop into its 2. The authors of the course made it up.
"""

import numpy as np
from scipy.interpolate import CubicSpline

# For each digit its strokes, for each stroke the points x,y in hundredths that a line goes through:
# a smooth line, or after "corner" one with corners.
_DIGITS = {
    0: [
        "50,5 25,20 18,50 28,85 52,95 75,80 82,50 74,18 50,5",
        "corner 20,90 82,12",
    ],
    1: [
        "corner 15,60 62,5 60,95",
    ],
    2: [
        "20,30 35,8 68,10 72,35 50,65 25,88 18,78 30,74 50,90 72,95 88,84",
    ],
    3: [
        "corner 20,8 75,8 42,42",
        "42,42 70,48 80,70 65,92 35,96 15,82",
    ],
    4: [
        "corner 40,5 18,60 85,60",
        "corner 68,30 62,97",
    ],
    5: [
        "30,8 26,42 50,38 76,55 70,85 42,96 18,85",
        "corner 30,8 85,2",
    ],
    6: [
        "75,5 45,25 24,60 32,90 58,95 74,76 62,58 40,62 26,76",
    ],
    7: [
        "corner 14,24 16,8 84,10 42,96",
        "corner 30,54 82,48",
    ],
    8: [
        "50,48 28,30 36,8 62,8 70,26 50,48 24,68 30,92 62,96 76,74 50,48",
    ],
    9: [
        "74,18 50,5 26,18 28,42 54,50 74,20 76,60 62,92 36,96 22,84",
    ],
}

_LEAN = 0.4  # columns to the right per row that goes down


def pages(count: int = 2, seed: int = 0) -> list[list[list[list[list[float]]]]]:
    """Return pages of ten drawings each, the digits 0 to 9, by the invented hand.

    Args:
        count: How many pages; each is drawn anew.
        seed: Another seed, other pages.

    Returns:
        For each page ten drawings, see `fedcourse.drawing`.

    Raises:
        ValueError: A count below 0.

    Lesson: 05
    """
    if count < 0:
        raise ValueError(f"count={count!r} must be at least 0")
    generator = np.random.default_rng(seed)
    return [[_written(_DIGITS[digit], generator) for digit in range(10)] for _ in range(count)]


def _written(strokes: list[str], generator: np.random.Generator) -> list[list[list[float]]]:
    lean = _LEAN + generator.normal(0, 0.05)
    size = 0.62 * np.exp(generator.normal(0, [0.1, 0.05]))
    drawn = []
    for stroke in strokes:
        pairs = stroke.removeprefix("corner ").split()
        points = np.array([pair.split(",") for pair in pairs], np.float64) / 100
        points = points + generator.normal(0, 0.018, points.shape)
        along = np.arange(len(points))
        fine = np.linspace(0, along[-1], 8 * along[-1] + 1)
        if stroke.startswith("corner "):
            line = np.stack([np.interp(fine, along, axis) for axis in points.T], 1)
        else:
            line = CubicSpline(along, points)(fine)
        line = (line - 0.5) * size
        line[:, 0] += lean * line[:, 1]
        drawn.append((line + 0.5).clip(0, 1).round(3).tolist())
    return drawn
