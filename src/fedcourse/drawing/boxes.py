"""Boxes to draw in, with mouse, finger or pen: in JupyterLab, Notebook 7 and Colab."""

import pathlib
from collections.abc import Callable, Sequence

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import traitlets

from fedcourse.drawing import strokes as strokes_module
from fedcourse.drawing.strokes import Drawing

_CODE = pathlib.Path(__file__).with_name("boxes.js")


class Boxes(anywidget.AnyWidget):
    """Boxes to draw in, one for each label.

    What is drawn is in `strokes` as soon as the mouse, finger or pen is lifted. Where no browser
    shows widgets, `still` shows the same as a picture.

    Args:
        labels: What is to be drawn in each box.
        strokes: What is in them to begin with, a drawing for each label; None for nothing.

    Attributes:
        labels: As given.
        strokes: For each label a drawing, see `fedcourse.drawing`; empty where nothing is drawn.
        readings: For each label what is written under its box, such as what a network reads.

    Raises:
        traitlets.TraitError: No labels, not as many drawings or readings as labels, or points that
            are no pairs.

    Lesson: 05
    """

    _esm = _CODE.read_text(encoding="utf-8")
    labels = traitlets.List(traitlets.Unicode(), minlen=1).tag(sync=True)
    strokes = traitlets.List().tag(sync=True)
    readings = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self, labels: Sequence[str] = "0123456789", strokes: Sequence[Drawing] | None = None
    ):
        labels = [str(label) for label in labels]
        empty = [[] for _ in labels]
        super().__init__(
            labels=labels,
            strokes=empty if strokes is None else list(strokes),
            readings=[""] * len(labels),
        )

    def __repr__(self) -> str:  # what stands in a notebook that is not running
        return f"{len(self.labels)} boxes to draw in, once this notebook runs"

    @traitlets.validate("strokes")
    def _check_strokes(self, proposal: dict) -> list:
        if len(proposal["value"]) != len(self.labels):
            raise traitlets.TraitError(
                f"strokes has {len(proposal['value'])} drawings for {len(self.labels)} labels: "
                "give one for each, [] where nothing is drawn"
            )
        try:
            return [
                [stroke.tolist() for stroke in strokes_module.checked(drawing)] if drawing else []
                for drawing in proposal["value"]
            ]
        except ValueError as error:
            raise traitlets.TraitError(f"strokes: {error}") from error

    @traitlets.validate("readings")
    def _check_readings(self, proposal: dict) -> list:
        if len(proposal["value"]) != len(self.labels):
            raise traitlets.TraitError(
                f"readings has {len(proposal['value'])} for {len(self.labels)} labels: "
                'give one for each, "" where nothing is drawn'
            )
        return proposal["value"]

    def on_draw(self, call: Callable[["Boxes"], None]) -> None:
        """Call a function with these boxes each time something is drawn or wiped."""
        self.observe(lambda change: call(self), "strokes")

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what is drawn as a client's images.

        Returns:
            pixels: float32 [N, 28, 28], 1.0 = paper; boxes with nothing in them are left out.
            labels: int32 [N], the place of each label among those that differ.
        """
        drawn = [pair for pair in zip(self.strokes, self.labels, strict=True) if pair[0]]
        pixels = [strokes_module.image(drawing) for drawing, _ in drawn]
        place = {label: number for number, label in enumerate(dict.fromkeys(self.labels))}
        side = strokes_module.SIDE
        return (
            np.reshape(pixels, (-1, side, side)).astype(np.float32),
            np.array([place[label] for _, label in drawn], np.int32),
        )

    def still(self) -> plt.Figure:
        """Show the boxes as a picture, with what is written under them."""
        columns = min(10, len(self.labels))
        rows = -(-len(self.labels) // columns)
        figure, axes = plt.subplots(rows, columns, figsize=(0.8 * columns, 1.2 * rows))
        for axis in np.ravel(axes):
            axis.axis("off")
        for axis, label, drawing, reading in zip(
            np.ravel(axes), self.labels, self.strokes, self.readings, strict=False
        ):
            axis.axis("on")
            for stroke in drawing:
                axis.plot(*np.transpose(stroke), "k." if len(stroke) == 1 else "k-", linewidth=2.5)
            axis.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], aspect="equal")
            axis.spines[:].set_visible(True)
            axis.grid(visible=False)
            axis.set_title(label, fontsize=9, loc="center")
            axis.set_xlabel(reading, fontsize=9)
        return figure
