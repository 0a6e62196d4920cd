"""The course's pictures: one look, and one meaning for each colour."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

# Okabe and Ito's palette, told apart with every kind of colour vision.
CENTRAL = "#0072B2"  # trained on everybody's images in one place
FEDERATED = "#D55E00"  # trained by federated learning
ALONE = "#009E73"  # trained on one writer's images
SEEN = "#CC79A7"  # writers whose images were trained on
NEUTRAL = "#555555"


def use_style() -> None:
    """Set matplotlib to the look of the course: 900 pixels wide at most, few lines.

    Lesson: 01
    """
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.figsize": (8, 3.5),
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#e5e5e5",
            "legend.frameon": False,
            "image.cmap": "gray",
            "font.size": 11,
        }
    )


def digits(
    images: Sequence[np.ndarray],
    columns: int,
    titles: Sequence[str] | None = None,
    size: float = 0.75,
) -> plt.Figure:
    """Show images in a grid, row by row.

    Args:
        images: Pixels from 0 to 1, [H, W] each or [H, W, 3]; of digits 0.0 = ink, 1.0 = paper.
        columns: Images in a row.
        titles: A line above each image.
        size: Inches an image takes each way.

    Returns:
        The figure.

    Raises:
        ValueError: There are no images, no columns, or not as many titles as images.

    Lesson: 01
    """
    if not len(images):
        raise ValueError("images is empty: give at least one.")
    if columns < 1:
        raise ValueError(f"columns={columns} must be at least 1.")
    if titles and len(titles) != len(images):
        raise ValueError(f"titles has {len(titles)} for {len(images)} images: give one for each.")
    rows = -(-len(images) // columns)
    height = size + (0.2 if titles else 0)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * height))
    for axis in np.ravel(axes):
        axis.axis("off")
    for number, (axis, image) in enumerate(zip(np.ravel(axes), images, strict=False)):
        axis.imshow(image, vmin=0, vmax=1)
        if titles:
            axis.set_title(titles[number], fontsize=9, loc="center", pad=2)
    return figure


def writers_dots(
    results: Mapping[str, Mapping[str, float]], colours: Sequence[str], title: str
) -> plt.Figure:
    """Show accuracy writer by writer: a row for each model, a dot for each writer.

    Args:
        results: Accuracy by writer, 0 to 1, for each model by its name.
        colours: One for each model.
        title: The figure's title.

    Returns:
        The figure; a bar in each row marks the mean over writers.

    Lesson: 02
    """
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.7 * len(results)))
    for row, (accuracies, colour) in enumerate(zip(results.values(), colours, strict=True)):
        values = np.sort(list(accuracies.values()))
        height = np.full(len(values), float(row))
        ties = values[1:] == values[:-1]
        for place in np.flatnonzero(ties):  # equal writers stand on top of each other
            height[place + 1] = height[place] + 0.09
        axis.scatter(values, height, s=30, color=colour, alpha=0.8, linewidths=0)
        axis.plot([values.mean()] * 2, [row - 0.3, row + 0.3], color=colour, linewidth=2.5)
        axis.annotate(
            f"mean {values.mean():.3f}", (values.mean(), row - 0.42), ha="center", fontsize=9
        )
    axis.set_yticks(range(len(results)), list(results))
    axis.set_ylim(len(results) - 0.4, -0.65)
    axis.set(xlabel="accuracy on a writer's images, one dot a writer", title=title)
    axis.grid(axis="y", visible=False)
    return figure


def confusion(matrix: np.ndarray, classes: Sequence[str], title: str) -> plt.Figure:
    """Show which classes are taken for which.

    Args:
        matrix: Counts [K, K], rows the true classes, columns those they are taken for.
        classes: K names.
        title: The figure's title.

    Returns:
        The figure; each row is coloured by its shares, and has its counts where there is room. For
        more than 20 classes small shares are shown darker, so that they can be seen at all; names
        of more than 20 letters lose their middle.

    Lesson: 05
    """
    matrix = np.asarray(matrix)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    names = [name if len(name) <= 20 else f"{name[:10]}…{name[-9:]}" for name in classes]
    longest = max(map(len, names))
    side = min(7.5, 2 + 0.45 * len(classes) + 0.07 * longest * (longest > 3))
    figure, axis = plt.subplots(figsize=(max(side + 0.8, 4), side))
    many = len(classes) > 20
    axis.imshow(shares, norm=PowerNorm(0.5 if many else 1, 0, 1), cmap="Blues")
    words = {"fontsize": min(9, 60 * (side - 1) / len(classes)), "parse_math": False}
    axis.set_xticks(range(len(classes)), names, rotation=90 * (longest > 3), **words)
    axis.set_yticks(range(len(classes)), names, **words)
    axis.set(xlabel="taken for", ylabel="what it is", title=title)
    axis.grid(visible=False)
    if not many:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(
                *(column, row, matrix[row, column]),
                **{"ha": "center", "va": "center", "color": colour, "fontsize": 8},
            )
    return figure


class LiveCurve:
    """A curve that grows while training runs, in a notebook.

    Call `add` with each new point; the figure in the cell's output is replaced.

    Lesson: 04
    """

    def __init__(self, total: int, xlabel: str, ylabel: str, title: str, colour: str = FEDERATED):
        from IPython.display import display

        self._points: list[tuple[float, float]] = []
        self._figure, axis = plt.subplots(figsize=(8, 3))
        axis.set(xlabel=xlabel, ylabel=ylabel, title=title, xlim=(0, total), ylim=(0, 1))
        (self._line,) = axis.plot([], [], color=colour, marker="o", markersize=3)
        self._handle = display(self._figure, display_id=True)
        plt.close(self._figure)

    def add(self, x: float, y: float) -> None:
        """Draw one more point."""
        self._points.append((x, y))
        self._line.set_data(*zip(*self._points, strict=True))
        self._handle.update(self._figure)


def one_round() -> plt.Figure:
    """Draw what moves in a round of federated learning: weights down, updates up, images never.

    Lesson: 01
    """
    figure, axis = plt.subplots(figsize=(8, 3.9))
    axis.set(xlim=(0, 10), ylim=(0, 5))
    axis.axis("off")

    def box(x, y, width, height, colour, fill="white"):
        axis.add_patch(
            FancyBboxPatch(
                (x, y), width, height, boxstyle="round,pad=0.08", edgecolor=colour, facecolor=fill
            )
        )

    def arrow(start, end, colour):
        axis.add_patch(
            FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=16, color=colour, lw=1.8)
        )

    box(3.6, 4.0, 2.8, 0.8, NEUTRAL)
    axis.text(5, 4.4, "server\naverages the updates", ha="center", va="center", fontsize=10)
    for number, x in enumerate((0.6, 3.9, 7.2)):
        box(x, 0.2, 2.2, 1.6, NEUTRAL)
        axis.text(x + 1.1, 1.5, f"client {number + 1}: a phone", ha="center", fontsize=10)
        box(x + 0.25, 0.4, 1.7, 0.75, NEUTRAL, "#f0f0f0")
        axis.text(
            x + 1.1, 0.78, "images and labels\nstay here", ha="center", va="center", fontsize=8.5
        )
        top = 4.2 + 0.8 * number
        arrow((top - 0.12, 3.9), (x + 0.85, 1.95), NEUTRAL)
        arrow((x + 1.35, 1.95), (top + 0.12, 3.9), FEDERATED)
    axis.text(1.2, 3.25, "1  weights go down", color=NEUTRAL, ha="center", fontsize=10)
    axis.text(1.2, 2.9, "2  each client trains", color=NEUTRAL, ha="center", fontsize=10)
    axis.text(8.8, 3.25, "3  updates go up", color=FEDERATED, ha="center", fontsize=10)
    axis.text(8.8, 2.9, "4  repeat with others", color=NEUTRAL, ha="center", fontsize=10)
    axis.set_title("One round of federated learning")
    return figure
