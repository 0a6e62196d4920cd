"""Images by client: where they come from, and how a round gets at them.

Every source gives what TFF's own data sets give: `tff.simulation.datasets.ClientData` whose
elements are OrderedDict(label=int32 [], pixels=float32 [H, W] or [H, W, C] from 0 to 1), with
`image_shape` and the names of all `classes`. The digits are [28, 28], 1.0 = paper and 0.0 = ink.
Names are imported when they are first used, so that `fedcourse.data.partition` works without TFF.
"""

from fedcourse import lazy

__all__, __getattr__, __dir__ = lazy.names(
    __name__,
    {
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
    },
    (
        *("arrays", "classes", "clients", "cohorts", "digits", "emnist", "folders", "handwriting"),
        *("layout", "partition", "photographs", "pictures", "sources", "sqlite", "tables"),
    ),
)
