"""Images by client: where they come from, and how a round gets at them.

Every source gives what TFF's own data sets give: `tff.simulation.datasets.ClientData` whose
elements are OrderedDict(label=int32 [], pixels=float32 [H, W] or [H, W, C] from 0 to 1), with
`image_shape` and the names of all `classes`. The digits are [28, 28], 1.0 = paper and 0.0 = ink.
Names are imported when they are first used, so that `fedcourse.data.partition` works without TFF.
"""

import importlib

_HOME = {
    "batches": "cohorts",
    "cohort": "cohorts",
    "from_arrays": "clients",
    "from_folders": "folders",
    "from_sqlite": "sqlite",
    "from_table": "tables",
    "hold_out": "clients",
    "images_of": "clients",
    "load": "sources",
    "load_writers": "sources",
    "sample_clients": "cohorts",
    "split_writers": "cohorts",
    "style": "handwriting",
    "variance_explained": "handwriting",
    "write_sqlite": "sqlite",
}
_MODULES = (
    *("arrays", "classes", "clients", "cohorts", "digits", "emnist", "folders", "handwriting"),
    *("layout", "partition", "photographs", "pictures", "sources", "sqlite", "tables"),
)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> object:
    if name in _HOME:
        found = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        found = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
