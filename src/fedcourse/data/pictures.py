"""Picture files of every kind that Pillow reads, as arrays from 0 to 1."""

import contextlib
import os
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap height and width; of TIFF Pillow has done it
_ORIENTATION, _BITS = 274, 258  # numbers of tags
_DEEP = ("I", "F")  # modes of more than 8 bits: I, I;16, I;16B, F, …
_UNREADABLE = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError),
    *(MemoryError, OverflowError, PIL.Image.DecompressionBombError),
)


def endings() -> set[str]:
    """Return the endings of file names that Pillow reads, such as ".png", in small letters.

    Lesson: 05
    """
    known = PIL.Image.registered_extensions()
    return {ending for ending, kind in known.items() if kind in PIL.Image.OPEN}


def look(file: str | os.PathLike) -> tuple[tuple[int, int], bool]:
    """Return a picture's (height, width) as it is seen, and whether it has colour, unread.

    Raises:
        ValueError: It is no picture that can be read; names it.

    Lesson: 05
    """
    with _opened(file) as image:
        width, height = image.size
        turned = image.getexif().get(_ORIENTATION) in _TURNED and image.format != "TIFF"
        return ((width, height) if turned else (height, width)), _has_colour(image)


def read(
    file: str | os.PathLike, size: tuple[int, int] | None = None, colour: bool = False
) -> np.ndarray:
    """Read a picture.

    It is turned as its EXIF orientation says; what is transparent becomes white; of several frames
    the first is taken. 16 bits keep their shades.

    Args:
        file: A file of any type that Pillow reads.
        size: (height, width) to stretch or shrink it to; None leaves it as it is.
        colour: True for red, green and blue, False for shades of grey.

    Returns:
        float32 [H, W], or [H, W, 3] with colour, from 0 = black to 1 = white.

    Raises:
        ValueError: It is no picture that can be read, is broken, or has shades without an agreed
            white; names it.

    Lesson: 05
    """
    with _opened(file) as image:
        if size:
            image.draft(None, (max(size),) * 2)  # of a large JPEG decode no more than is needed
        deep, bits = image.mode.startswith(_DEEP), _bits(image)
        image.load()  # turns a TIFF by itself
        image = PIL.ImageOps.exif_transpose(image)
        shown = _deep_grey(image, bits) if deep else _on_white(image, "RGB" if colour else "L")
        if size and shown.size != (size[1], size[0]):
            shown = shown.resize((size[1], size[0]), PIL.Image.Resampling.LANCZOS)
    pixels = np.asarray(shown, np.float32)
    pixels = pixels.clip(0, 1) if deep else pixels / np.float32(255)
    return np.repeat(pixels[..., None], 3, axis=2) if deep and colour else pixels


@contextlib.contextmanager
def _opened(file: str | os.PathLike) -> Iterator[PIL.Image.Image]:
    """Open a picture; whatever is wrong with it, then or later, is a ValueError that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, and of odd tags
            # By a handle: named, Pillow would map the file and scramble a turned TIFF (11.3).
            with open(file, "rb") as handle, PIL.Image.open(handle) as image:
                yield image
    except FileNotFoundError:
        raise
    except _UNREADABLE as error:
        said = str(error) or type(error).__name__
        if isinstance(error, PIL.Image.DecompressionBombError):
            said = f"{said} Make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS."
        raise ValueError(f"{str(file)!r} is not an image that can be read: {said}") from error


def _has_colour(image: PIL.Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
        return bool((palette != palette[:, :1]).any())
    return image.mode not in ("1", "L", "LA", "La") and not image.mode.startswith(_DEEP)


def _on_white(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
    """Convert 8 bits of whatever kind to grey or colour, on white where it is transparent."""
    if image.mode == "LAB":
        lab, srgb = PIL.ImageCms.createProfile("LAB"), PIL.ImageCms.createProfile("sRGB")
        image = PIL.ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    return (
        image.convert(mode)
        if image.mode in ("1", "L", "RGB")
        else image.convert("RGB").convert(mode)
    )


def _bits(image: PIL.Image.Image) -> int:
    """Return how many bits a shade has in the file: TIFF says so, others of mode I have 16."""
    return image.tag_v2.get(_BITS, (16,))[0] if hasattr(image, "tag_v2") else 16


def _deep_grey(image: PIL.Image.Image, bits: int) -> PIL.Image.Image:
    """Convert shades of 16 bits, or floats from 0 to 1, to floats from 0 to 1."""
    shades = np.asarray(image).astype(np.float32)
    low, high = shades.min(), shades.max()
    if image.mode.startswith("I"):
        if bits > 16 or low < 0 or high > 65535:
            raise ValueError(
                f"its {bits}-bit integers go from {low:.0f} to {high:.0f}, and nobody knows which "
                "of them is white; save it with 8 or 16 bits"
            )
        shades /= 65535
    elif not (low >= 0 and high <= 1):
        raise ValueError(f"its floats go from {low:g} to {high:g}; they must be from 0 to 1")
    return PIL.Image.fromarray(shades)


def listed(folder: pathlib.Path, depth: int) -> Iterator[pathlib.Path]:
    """List the visible files at most `depth` folders deep, in order of their names.

    Lesson: 05
    """
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if not entry.is_dir():
            yield entry
        elif depth:
            yield from listed(entry, depth - 1)
