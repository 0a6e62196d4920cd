"""Federated data out of folders of pictures."""

import os
import pathlib

import numpy as np

from fedcourse.data.arrays import SIDE
from fedcourse.data.clients import ClientData, from_arrays


def from_folders(path: str | os.PathLike, invert: bool = False) -> ClientData:
    """Make federated data of image files in folders: path/<client>/<label>/<any name>.png or .jpg.

    Images become grey and 28 x 28; transparent parts become paper. Where all label folders have
    whole numbers as names, these are the labels; otherwise a label is the place of its folder's
    name among all label names in alphabetical order, starting from 0.

    Args:
        path: the folder that holds one folder for each client.
        invert: True if the images show bright ink on a dark ground.

    Returns:
        A `ClientData` whose client ids are the names of the folders.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no clients in it, a client without images, or a file that is no image.

    Lesson: none yet
    """
    root = pathlib.Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"path={str(path)!r}: no such folder")
    folders = {client.name: _visible_folders(client) for client in _visible_folders(root)}
    names = sorted({label.name for labels in folders.values() for label in labels})
    numbers = {
        name: int(name) if all(n.isdecimal() for n in names) else place
        for place, name in enumerate(names)
    }
    clients = {}
    for client, labels in folders.items():
        files = [
            (file, numbers[label.name])
            for label in labels
            for file in sorted(label.iterdir())
            if file.suffix.lower() in (".png", ".jpg", ".jpeg") and not file.name.startswith(".")
        ]
        if not files:
            raise ValueError(
                f"path={str(path)!r}: client {client!r} has no images; "
                "put them in <client>/<label>/*.png or *.jpg, or remove the folder"
            )
        images = np.stack([_read_image(file) for file, _ in files])
        clients[client] = (255 - images if invert else images), np.array([n for _, n in files])
    if not clients:
        raise ValueError(
            f"path={str(path)!r} has no client folders; it needs <client>/<label>/*.png"
        )
    return from_arrays(clients)


def _visible_folders(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))


def _read_image(file: pathlib.Path) -> np.ndarray:
    """Read an image file as uint8 [28, 28]."""
    import PIL.Image
    import PIL.ImageOps

    try:
        with PIL.Image.open(file) as image:
            image = PIL.ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, SyntaxError) as error:  # the latter from broken PNG files
        raise ValueError(f"{str(file)!r} is not an image that can be read: {error}") from error
    paper = PIL.Image.new("RGBA", image.size, "white")
    grey = PIL.Image.alpha_composite(paper, image).convert("L")
    return np.asarray(grey.resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS))
