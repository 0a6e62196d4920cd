"""Packages whose names are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence


def names(
    package: str, home: Mapping[str, str], modules: Sequence[str]
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """Return a package's `__all__`, `__getattr__` and `__dir__`.

    Args:
        package: its `__name__`.
        home: name -> the module of the package that holds it.
        modules: the package's modules.

    Lesson: none yet
    """
    everything = sorted({*home, *modules})

    def find(name: str) -> object:
        if name in home:
            found = getattr(importlib.import_module(f"{package}.{home[name]}"), name)
        elif name in modules:
            found = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, found)
        return found

    return everything, find, lambda: everything
