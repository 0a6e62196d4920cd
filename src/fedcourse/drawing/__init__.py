"""Digits drawn with mouse or finger: strokes, the images they become, and boxes to draw in.

A drawing is a list of strokes, a stroke a list of points [x, y] from 0 to 1, x to the right and y
down. Names are imported when they are first used, so that strokes work without widgets.
"""

from fedcourse import lazy

__all__, __getattr__, __dir__ = lazy.names(
    __name__,
    {
        "Boxes": "boxes",
        "image": "strokes",
        "pages": "hand",
        "steps": "strokes",
        "varied": "strokes",
    },
    ("boxes", "hand", "strokes"),
)
