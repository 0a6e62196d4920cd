"""Federated data out of a table: a row for each image, columns that say whose it is and what."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from fedcourse.data import classes as class_names
from fedcourse.data import pictures
from fedcourse.data.clients import ClientData, from_arrays
from fedcourse.data.folders import EVERYBODY, from_rows

Table = str | os.PathLike | pd.DataFrame | Iterable[Mapping[str, object]]


def from_table(
    table: Table,
    label: str | Sequence[str],
    client: str | None = None,
    file: str | None = None,
    pixels: str | Sequence[str] | None = None,
    folder: str | os.PathLike | None = None,
    size: int | tuple[int, int] | None = None,
    colour: bool | None = None,
    classes: Sequence[str] | None = None,
    image_shape: tuple[int, ...] | None = None,
    invert: bool = False,
) -> ClientData:
    """Make federated data of a table with a row for each image.

    The image is a file that one column names, or stands in the row itself: 784 columns for one of
    28 x 28, or one column with all its numbers. Labels keep their spelling: "01" is not "1".

    Args:
        table: a CSV file (commas, semicolons or tabs), a `pandas.DataFrame`, or rows as mappings.
        label: the column of the label; or a list of columns of 0 and 1, a class each. They become
            one label an image where every row has exactly one 1, and several otherwise.
        client: the column that says whose the image is; None for one client, "everybody", which
            `data.partition` deals to several.
        file: the column that names the picture, with or without its ending.
        pixels: where no column is `file`: the columns of an image's pixels in order, row by row;
            or one column with numbers between spaces; None for all columns that are left.
        folder: where the pictures are; None for the folder of the CSV file.
        size: as for `from_folders`; of pictures only.
        colour: as for `from_folders`; of pictures only.
        classes: the names of all classes, in the order of their numbers; without it, the labels
            that are there: numbers mean themselves, names are numbered in alphabetical order.
        image_shape: of one row's pixels, (H, W) or (H, W, C); None for a square.
        invert: True if the images show bright ink on a dark ground, and digits on paper are wanted.

    Returns:
        A `ClientData` with `image_shape` and `classes`.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no such column, a label, client or picture that is missing, names with the rows
            they stand in; or what `from_folders` and `from_arrays` refuse.

    Lesson: 05
    """
    frame, where, beside = _read(table, label, client, file)
    labels = [label] if isinstance(label, str) else list(label)
    columns = [*labels, *([client] if client else []), *([file] if file else [])]
    if unknown := [name for name in columns if name not in frame.columns]:
        there = ", ".join(map(repr, frame.columns[:12])) + (", …" if frame.shape[1] > 12 else "")
        raise ValueError(f"{where} has no column {unknown[0]!r}; it has {there}")
    if not len(frame):
        raise ValueError(f"{where} has no rows")
    for name in columns:
        _refuse_missing(frame[name], name, where)
    owners = [_text(value) for value in frame[client]] if client else [EVERYBODY] * len(frame)
    marks, classes = _labels(frame, label, classes, where)
    if file:
        if marks.dtype == np.float32:
            raise ValueError(f"label={label!r}: several labels an image need pixels, not files")
        found = _find(frame[file], pathlib.Path(folder) if folder else beside, file, where)
        names = [classes[number] for number in marks]
        rows = list(zip(owners, names, found, strict=True))
        return from_rows(rows, size, colour, classes, invert, where)
    images = _pixels(frame, pixels, columns, image_shape, where)
    if invert:
        images = images.max(initial=255 if images.dtype.kind in "ui" else 1) - images
    rows = pd.Series(range(len(frame))).groupby(owners).indices
    return from_arrays(
        {str(owner): (images[own], marks[own]) for owner, own in rows.items()}, classes
    )


def _read(table: Table, label, client, file) -> tuple[pd.DataFrame, str, pathlib.Path]:
    """Return the table, what errors call it, and the folder it lies in."""
    if isinstance(table, pd.DataFrame):
        return table, "table", pathlib.Path()
    if not isinstance(table, str | os.PathLike):
        return pd.DataFrame(list(table)), "table", pathlib.Path()
    path = pathlib.Path(table)
    where = f"table={str(path)!r}"
    if not path.is_file():
        raise FileNotFoundError(f"{where}: no such file")
    try:
        with path.open(encoding="utf-8-sig") as lines:
            head = lines.readline()
        separator = max(",;\t", key=head.count)
        as_text = [label] if isinstance(label, str) else []
        frame = pd.read_csv(
            path,
            sep=separator,
            encoding="utf-8-sig",
            dtype=dict.fromkeys([*as_text, *filter(None, (client, file))], str),
            keep_default_na=False,
            na_values={name: [""] for name in (*as_text, client, file) if name},
            skipinitialspace=True,
        )
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{where} is not a CSV table in UTF-8: {error}") from error
    return frame, where, path.parent


def _text(value: object) -> str:
    """Return a cell as a name; 3.0, as pandas makes of 3 beside a missing cell, is "3"."""
    return class_names.tidy(
        int(value) if isinstance(value, float) and value.is_integer() else value
    )


def _refuse_missing(column: pd.Series, name: str, where: str) -> None:
    absent = np.flatnonzero(column.isna() | (column.astype(str).str.strip() == ""))
    if len(absent):
        raise ValueError(
            f"{where}: column {name!r} is empty in {len(absent)} of {len(column)} rows, the first "
            f"is row {absent[0] + 1}; fill them, or leave these rows out"
        )


def _labels(
    frame: pd.DataFrame, label: str | Sequence[str], classes: Sequence[str] | None, where: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Return the labels as numbers, int32 [N] or float32 [N, K], and the names of classes."""
    if isinstance(label, str):
        names = [_text(value) for value in frame[label]]
        if classes is None:
            classes = class_names.named(names, where)
        classes = class_names.given(classes)
        return class_names.numbers_of(names, classes, where), classes
    marks = frame[list(label)].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    if not np.isin(marks, (0, 1)).all():
        held = _cell(frame[list(label)], ~np.isin(marks, (0, 1)))
        raise ValueError(f"{where}: {held}; a list of label columns holds 0 and 1 only")
    if (marks.sum(1) == 1).all():
        return marks.argmax(1).astype(np.int32), class_names.given(label)
    return marks, None


def _cell(frame: pd.DataFrame, faulty: np.ndarray) -> str:
    """Say what the first faulty cell holds."""
    row, column = np.argwhere(faulty)[0]
    return f"column {frame.columns[column]!r} holds {frame.iloc[row, column]!r} in row {row + 1}"


def _find(names: pd.Series, folder: pathlib.Path, column: str, where: str) -> list[pathlib.Path]:
    """Return the files that a column names, with or without their endings."""
    known = pictures.endings()
    found, lost = [], []
    listings = {}
    for row, name in enumerate((str(name).strip() for name in names), start=1):
        path = folder / name
        if not path.is_file():
            if path.parent not in listings:
                there = path.parent.iterdir() if path.parent.is_dir() else ()
                listings[path.parent] = {
                    f.stem: f for f in sorted(there) if f.suffix.lower() in known
                }
            path = listings[path.parent].get(path.name)
        if path is None:
            lost.append((row, name))
        found.append(path)
    if lost:
        row, name = lost[0]
        raise ValueError(
            f"{where}: {len(lost)} of {len(found)} pictures of column {column!r} are not in "
            f"folder={str(folder)!r}; the first is {name!r} in row {row}"
        )
    return found


def _pixels(
    frame: pd.DataFrame,
    pixels: str | Sequence[str] | None,
    taken: Sequence[str],
    image_shape: tuple[int, ...] | None,
    where: str,
) -> np.ndarray:
    """Return the images that stand in the rows, [N, H, W] or [N, H, W, C]."""
    if isinstance(pixels, str):
        rows = [np.array(str(cell).split(), np.float64) for cell in frame[pixels]]
        sizes = sorted({len(row) for row in rows})
        if len(sizes) > 1:
            raise ValueError(
                f"{where}: column {pixels!r} holds from {sizes[0]} to {sizes[-1]} numbers"
            )
        flat = np.stack(rows)
    else:
        names = list(pixels) if pixels is not None else [c for c in frame if c not in taken]
        flat = frame[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        if not flat.size:
            raise ValueError(
                f"{where} has no columns left for pixels; name the one of files, file="
            )
        if np.isnan(flat).any():
            raise ValueError(
                f"{where}: pixel {_cell(frame[names], np.isnan(flat))}; name the pixels' columns "
                "with pixels=, or the one of files with file="
            )
    side = round(flat.shape[1] ** 0.5)
    shape = image_shape or ((side, side) if side**2 == flat.shape[1] else None)
    if shape is None or np.prod(shape) != flat.shape[1]:
        raise ValueError(
            f"{where} has {flat.shape[1]} pixels a row, and image_shape={image_shape!r} has not; "
            "give (height, width) or (height, width, channels)"
        )
    whole = (flat == np.rint(flat)).all() and flat.max() > 1
    return flat.astype(np.int64 if whole else np.float32).reshape(-1, *shape)
