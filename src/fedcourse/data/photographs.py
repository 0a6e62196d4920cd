"""Colour images without a network: pieces of six photographs, taken by simulated cameras.

scikit-image ships photographs inside its wheel. Each is cut into pieces that do not overlap, and
the pieces are dealt to cameras, which see everything in their own light: white balance, exposure
and contrast differ from camera to camera. The pixels are real, the cameras are not.
"""

import importlib.util
import pathlib

import numpy as np
import PIL.Image

from fedcourse.data import partition

SIDE = 32  # of an image
CUT = 48  # of a piece of a photograph, which is then shrunk
PIECES = 100  # of each photograph, where it has as many

#: class -> file in scikit-image's folder `data`
FILES = {
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}


def pieces(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cut the photographs into pieces that do not overlap, 54 to 100 of each.

    Args:
        seed: Which 100, where a photograph has more.

    Returns:
        pixels: float32 [550, 32, 32, 3] from 0 to 1.
        labels: int32 [550], the place of the photograph's name in `FILES`.

    Raises:
        ModuleNotFoundError: scikit-image is not installed.

    Lesson: 05
    """
    package = importlib.util.find_spec("skimage")
    if package is None:
        raise ModuleNotFoundError(
            "The photographs are part of scikit-image: pip install scikit-image"
        )
    folder = pathlib.Path(package.submodule_search_locations[0]) / "data"
    generator = np.random.default_rng(seed)
    pixels, labels = [], []
    for number, (name, file) in enumerate(FILES.items()):
        with PIL.Image.open(folder / file) as image:
            own = _tiles(image.convert("RGB"), round_view=name == "retina")
        pixels.append(own[generator.permutation(len(own))[:PIECES]])
        labels.append(np.full(len(pixels[-1]), number, np.int32))
    return np.concatenate(pixels), np.concatenate(labels)


def cameras(
    count: int = 24, alpha: float = 1.0, spread: float = 1.0, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Deal the pieces to simulated cameras; each piece goes to one of them.

    Args:
        count: How many cameras; they get equally many pieces (or one more).
        alpha: How alike they are in what they photograph, see `partition.dirichlet`.
        spread: How much their light differs; 0 not at all.
        seed: Another seed, other cameras and another deal.

    Returns:
        Camera -> (pixels float32 [N, 32, 32, 3], labels int32 [N]), classes as in `FILES`.

    Raises:
        ValueError: More cameras than pieces, or an alpha that is not above 0.

    Lesson: 05
    """
    dealt = partition.dirichlet(*pieces(seed), clients=count, alpha=alpha, seed=seed)
    generator = np.random.default_rng([seed, 1])
    return {
        name.replace("client", "camera"): (_through_camera(pixels, spread, generator), labels)
        for name, (pixels, labels) in dealt.items()
    }


def write(folder: pathlib.Path, taken: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Write images as files: folder/<camera>/<class>/<number>.png.

    Args:
        folder: Where to; made if it is not there.
        taken: What `cameras` returns.

    Lesson: 05
    """
    names = list(FILES)
    for camera, (pixels, labels) in taken.items():
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            place = pathlib.Path(folder) / camera / names[label]
            place.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(np.uint8(np.rint(image * 255))).save(place / f"{number:03}.png")


def _tiles(photograph: PIL.Image.Image, round_view: bool) -> np.ndarray:
    """Cut and shrink to tiles [N, 32, 32, 3]; of a round view only those that lie in it whole."""
    columns, rows = (side // CUT for side in photograph.size)
    whole = photograph.crop((0, 0, columns * CUT, rows * CUT))
    small = whole.resize((columns * SIDE, rows * SIDE), PIL.Image.Resampling.BOX)
    pixels = np.asarray(small, np.float32) / 255
    tiles = pixels.reshape(rows, SIDE, columns, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    if not round_view:
        return tiles
    y, x = np.mgrid[:rows, :columns] + 0.5
    away = np.hypot(y - rows / 2, x - columns / 2).ravel()
    return tiles[away < rows / 2 - 2]


def _through_camera(
    pixels: np.ndarray, spread: float, generator: np.random.Generator
) -> np.ndarray:
    """Give images one camera's light: a factor for each colour, one for all, and a contrast."""
    balance = np.exp(0.125 * spread * generator.standard_normal(3))
    exposure = 2 ** (0.25 * spread * generator.standard_normal())
    contrast = np.exp(0.125 * spread * generator.standard_normal())
    return np.clip(pixels**contrast * exposure * balance, 0, 1).astype(np.float32)
