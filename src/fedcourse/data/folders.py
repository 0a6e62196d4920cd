"""Federated data out of folders of pictures."""

import os
import pathlib
import sys
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from fedcourse.data import classes as class_names
from fedcourse.data import pictures
from fedcourse.data.clients import ClientData, from_arrays

EVERYBODY = "everybody"  # the client of pictures that nobody is said to own

_PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
_LAYOUTS = ("client/label", "label/client", "label")

Row = tuple[str, str, pathlib.Path]  # client, label, file


def from_folders(
    path: str | os.PathLike,
    size: int | tuple[int, int] | None = None,
    colour: bool | None = None,
    layout: str = "client/label",
    classes: Sequence[str] | None = None,
    invert: bool = False,
) -> ClientData:
    """Make federated data of picture files in folders: path/<client>/<label>/<any name>.

    Every file that Pillow reads is taken; which others lie there is said. Where all label folders
    have whole numbers as names, these are the labels; other names are numbered in alphabetical
    order. In a folder called "train", "test" or "validation" the label folders of its neighbours of
    such names count as well, so that a name has one number in all of them.

    Args:
        path: the folder that holds one folder for each client.
        size: pixels to stretch or shrink each picture to, (height, width) or one number for both;
            None for pictures that all have the same size.
        colour: True for red, green and blue, False for grey; None for colour if any picture has it.
        layout: "client/label"; "label/client" where labels come first; "label" where nobody says
            whose the pictures are: they become those of one client, "everybody", which
            `data.partition` deals to several.
        classes: the names of all classes, in the order of their numbers, where the label folders
            here may not be all.
        invert: True if the pictures show bright ink on a dark ground, and digits on paper are
            wanted.

    Returns:
        A `ClientData` with `image_shape` and `classes`, whose client ids are the names of folders.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no pictures at that depth, a file that is no picture, pictures of several sizes
            and no size given, or a label that is none of the classes.

    Lesson: 05
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: no such folder")
    if layout not in _LAYOUTS:
        raise ValueError(f"layout={layout!r} is none of {', '.join(map(repr, _LAYOUTS))}")
    top = [folder.name for folder in sorted(root.iterdir()) if _is_visible(folder)]
    if top and all(name.lower() in _PARTS for name in top):
        raise ValueError(
            f"path={str(path)!r} holds the folders {', '.join(top)}: parts of the data rather than "
            "clients or labels. Read each by itself; they agree about the classes"
        )
    rows = _rows(root, layout, top)
    if classes is None:
        words = {label for _, label, _ in rows} | _labels_beside(root, layout)
        classes = class_names.named(words, f"path={str(path)!r}")
    return from_rows(rows, size, colour, classes, invert, where=f"path={str(path)!r}")


def from_rows(
    rows: Sequence[Row],
    size: int | tuple[int, int] | None,
    colour: bool | None,
    classes: Sequence[str],
    invert: bool,
    where: str,
) -> ClientData:
    """Read the pictures of a list of (client, label, file).

    Raises:
        ValueError: See `from_folders`.

    Lesson: 05
    """
    numbers = class_names.numbers_of([label for _, label, _ in rows], classes, where)
    shape, colour = _common_shape([file for *_, file in rows], size, colour, where)
    clients = {}
    shown = tqdm(rows, desc="reading pictures", delay=2, file=sys.stdout)
    for (client, _, file), number in zip(shown, numbers, strict=True):
        pixels = pictures.read(file, shape, colour)
        clients.setdefault(client, ([], []))
        clients[client][0].append(1 - pixels if invert else pixels)
        clients[client][1].append(number)
    return from_arrays({c: (np.stack(x), np.array(y)) for c, (x, y) in clients.items()}, classes)


def _common_shape(
    files: Sequence[pathlib.Path],
    size: int | tuple[int, int] | None,
    colour: bool | None,
    where: str,
) -> tuple[tuple[int, int], bool]:
    """Return the (height, width) that all pictures get, and whether they get colour."""
    pair = (size, size) if isinstance(size, int | np.integer) else size
    if pair is not None and not (
        isinstance(pair, tuple | list) and len(pair) == 2 and all(side >= 1 for side in pair)
    ):
        raise ValueError(f"size={size!r} must be a number of pixels, or (height, width)")
    if pair is not None and colour is not None:
        return tuple(pair), colour
    looks = [pictures.look(file) for file in files]
    if pair is None:
        first = looks[0][0]
        other = next((place for place, (seen, _) in enumerate(looks) if seen != first), None)
        if other is not None:
            raise ValueError(
                f"{where}: {files[0].name!r} is {first[0]} × {first[1]} pixels, "
                f"{files[other].name!r} is {looks[other][0][0]} × {looks[other][0][1]}; give size="
                "32, or (height, width), to bring all to one size"
            )
        pair = first
    return tuple(pair), any(has for _, has in looks) if colour is None else colour


def _is_visible(folder: pathlib.Path) -> bool:
    return folder.is_dir() and not folder.name.startswith((".", "__MACOSX"))


def _rows(root: pathlib.Path, layout: str, top: Sequence[str]) -> list[Row]:
    """List the pictures, and say which files are left out."""
    depth = layout.count("/") + 1
    known = pictures.endings()
    rows, deeper, strangers = [], [], []
    for file in pictures.listed(root, depth + 1):
        parts = file.relative_to(root).parts
        if file.suffix.lower() not in known:
            strangers.append("/".join(parts))
        elif len(parts) != depth + 1:
            deeper.append("/".join(parts))
        else:
            names = dict(zip(layout.split("/"), map(class_names.tidy, parts), strict=False))
            rows.append((names.get("client", EVERYBODY), names["label"], file))
    if not rows:
        raise ValueError(_nothing(root, layout, deeper, strangers))
    _say_left_out(strangers, "Pillow reads no such file")
    _say_left_out(deeper, f"not at <{'>/<'.join(layout.split('/'))}>/<picture>")
    with_pictures = {file.relative_to(root).parts[0] for *_, file in rows}
    _say_left_out([name for name in top if name not in with_pictures], "no pictures")
    return rows


def _nothing(root: pathlib.Path, layout: str, deeper: list[str], strangers: list[str]) -> str:
    """Say why there are no pictures where they should be, and what to do."""
    wanted = f"<{'>/<'.join(layout.split('/'))}>/<picture>"
    if deeper and layout != "label" and deeper[0].count("/") == 1:
        return (
            f"path={str(root)!r} has pictures at {deeper[0]!r}, one folder deep, and it takes "
            f"{wanted}. If the folders are the labels, nobody says whose pictures they are: read "
            'them with layout="label" and deal them with data.partition; if some table says '
            "whose, use data.from_table"
        )
    seen = [*deeper, *strangers]
    found = f"what lies there is {seen[0]!r}" if seen else "there is nothing in it"
    return f"path={str(root)!r} has no pictures at {wanted}; {found}"


def _say_left_out(names: list[str], why: str) -> None:
    if names:
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        print(f"Left out, {why}: {some} ({len(names)} in all)")


def _labels_beside(root: pathlib.Path, layout: str) -> set[str]:
    """Return the label folders of a part's neighbours: of `test` beside `train`."""
    root = root.resolve()
    if root.name.lower() not in _PARTS:
        return set()
    pattern = "*/*" if layout == "client/label" else "*"
    return {
        class_names.tidy(label.name)
        for part in root.parent.iterdir()
        if part.is_dir() and part.name.lower() in _PARTS
        for label in part.glob(pattern)
        if _is_visible(label)
    }
