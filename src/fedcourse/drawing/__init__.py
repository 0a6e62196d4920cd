"""Digits drawn with mouse or finger: strokes, the images they become, and boxes to draw in.

A drawing is a list of strokes, a stroke a list of points [x, y] from 0 to 1, x to the right and y
down. Names are imported when they are first used, so that strokes work without widgets.
"""

import importlib

_HOME = {
    "Boxes": "boxes",
    "image": "strokes",
    "pages": "hand",
    "steps": "strokes",
    "varied": "strokes",
}

__all__ = sorted([*_HOME, "boxes", "hand", "strokes"])


def __getattr__(name: str) -> object:
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in __all__:
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
