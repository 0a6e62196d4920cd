"""What the pictures show, read back from the figures."""

from fedcourse import plots  # isort: skip  (before TensorFlow)

import itertools

import IPython.display
import matplotlib.pyplot as plt
import numpy as np
import pytest


@pytest.fixture(autouse=True)
def clean():
    with plt.rc_context():
        yield
    plt.close("all")


def image(shade):
    return np.full((28, 28), shade)


def drawn(figure):
    """The axes that show an image, and the image's shade."""
    return [(axis, axis.images[0].get_array().mean()) for axis in figure.axes if axis.images]


# What is left of linear red, green and blue: Machado et al. 2009, severity 1.
VISION = {
    "full": np.eye(3),
    "no red cones": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "no green cones": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_can_be_told_apart(vision):
    colours = [plots.CENTRAL, plots.FEDERATED, plots.ALONE, plots.SEEN, plots.NEUTRAL]
    rgb = np.array([plt.matplotlib.colors.to_rgb(colour) for colour in colours])
    seen = np.clip(rgb**2.2 @ np.transpose(VISION[vision]), 0, 1) ** (1 / 2.2)
    distance = np.linalg.norm(seen[:, None] - seen, axis=2) + np.eye(5)
    assert distance.min() > 0.15


def test_style_is_900_pixels_wide_at_most():
    plots.use_style()
    width, _ = plt.rcParams["figure.figsize"]
    assert width * plt.rcParams["figure.dpi"] <= 900
    assert plt.rcParams["axes.titlelocation"] == "left"
    assert not plt.rcParams["axes.spines.top"]


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_digits_fill_row_by_row(count, rows):
    shades = np.arange(count) / 10
    figure = plots.digits([image(shade) for shade in shades], columns=4)
    assert len(figure.axes) == 4 * rows
    assert [shade for _, shade in drawn(figure)] == pytest.approx(shades)
    assert [axis for axis, _ in drawn(figure)] == figure.axes[:count]
    assert not any(axis.axison for axis in figure.axes)
    assert all(axis.images[0].get_clim() == (0, 1) for axis, _ in drawn(figure))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": [], "columns": 4}, "images is empty"),
        ({"images": [image(0)], "columns": 0}, "columns=0"),
        ({"images": [image(0)] * 2, "columns": 2, "titles": ["a"]}, "titles has 1"),
    ],
)
def test_bad_digits_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        plots.digits(**options)


def test_digits_with_titles():
    figure = plots.digits([image(0)] * 3, columns=2, titles=["a", "b", "c"], size=1)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    assert figure.get_size_inches().tolist() == pytest.approx([2, 2.4])
    assert plots.digits([image(0)] * 3, columns=2, size=1).get_size_inches().tolist() == [2, 2]


def test_dots_stand_at_the_accuracies_and_a_bar_at_the_mean():
    results = {"alone": {"a": 0.5, "b": 0.7}, "federated": {"a": 0.9, "b": 0.9, "c": 0.6}}
    figure = plots.writers_dots(results, [plots.ALONE, plots.FEDERATED], "Who is better?")
    (axis,) = figure.axes
    assert axis.get_title() == "Who is better?" or axis.get_title("left") == "Who is better?"
    assert axis.get_xlabel() == "accuracy on a writer's images, one dot a writer"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["alone", "federated"]
    dots = [np.asarray(cloud.get_offsets()) for cloud in axis.collections]
    assert dots[0][:, 0].tolist() == [0.5, 0.7] and dots[1][:, 0].tolist() == [0.6, 0.9, 0.9]
    assert [line.get_xdata()[0] for line in axis.lines] == pytest.approx([0.6, 0.8])
    assert [text.get_text() for text in axis.texts] == ["mean 0.600", "mean 0.800"]
    assert len({tuple(dot) for dot in dots[1]}) == 3  # equal writers stand apart
    low, high = sorted(axis.get_ylim())
    assert all(low < y < high for cloud in dots for y in cloud[:, 1])
    assert axis.yaxis_inverted()  # the first row is on top


def test_dots_need_a_colour_for_each_model():
    with pytest.raises(ValueError):
        plots.writers_dots({"a": {"w": 1.0}}, [plots.ALONE, plots.CENTRAL], "")


def ticks(axis):
    return [[label.get_text() for label in a.get_ticklabels()] for a in (axis.xaxis, axis.yaxis)]


def test_confusions_are_coloured_by_the_shares_of_their_row_and_counted():
    figure = plots.confusion([[3, 1], [0, 0]], ["a", "b"], "Which for which")
    (axis,) = figure.axes
    assert axis.images[0].get_array().tolist() == [[0.75, 0.25], [0, 0]]
    assert [(*text.get_position(), text.get_text()) for text in axis.texts] == [
        (0, 0, "3"),
        (1, 0, "1"),
    ]
    assert [text.get_color() for text in axis.texts] == ["white", "black"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("taken for", "what it is")
    assert ticks(axis) == [["a", "b"]] * 2


def test_names_of_classes_are_no_formulas_and_lose_their_middle_where_they_are_long():
    names = ["$\\foo$", "a$b$c", "first of the long names", "second of the long names"]
    figure = plots.confusion(np.eye(4, dtype=int), names, "")
    figure.canvas.draw()
    wanted = [*names[:2], "first of t…ong names", "second of …ong names"]
    assert ticks(figure.axes[0]) == [wanted] * 2


@pytest.mark.parametrize(
    "names",
    [["a", "b"], ["a name of some length"] * 2, ["a name of some length"] * 30, "abcdefgh" * 8],
)
def test_names_of_classes_do_not_touch_and_all_is_on_the_figure(names):
    plots.use_style()
    figure = plots.confusion(np.eye(len(names), dtype=int), list(names), "Which for which")
    (axis,) = figure.axes
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in axis.yaxis.get_ticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    boxes = [label.get_window_extent() for label in axis.xaxis.get_ticklabels()]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(boxes))
    whole, room = axis.get_tightbbox(), figure.bbox
    assert room.x0 <= whole.x0 and whole.x1 <= room.x1 <= 900
    assert room.y0 <= whole.y0 and whole.y1 <= room.y1


def test_of_many_classes_a_rare_confusion_can_be_seen():
    matrix = 95 * np.eye(30, dtype=int)
    matrix[0, 1] = 5
    image = plots.confusion(matrix, [""] * 30, "").axes[0].images[0]
    rare, none = (image.to_rgba(image.get_array())[0, column] for column in (1, 2))
    assert np.abs(rare - none).max() > 0.1


def test_live_curve_grows_in_the_place_it_was_first_shown(monkeypatch):
    shown, updates = [], []

    class Handle:
        def update(self, figure):
            (line,) = figure.axes[0].lines
            updates.append((figure, [tuple(point) for point in line.get_xydata()]))

    def display(figure, display_id):
        assert display_id is True
        shown.append(figure)
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    curve = plots.LiveCurve(10, "rounds", "accuracy", "It learns", plots.CENTRAL)
    (figure,) = shown
    axis = figure.axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("rounds", "accuracy")
    assert "It learns" in (axis.get_title(), axis.get_title("left"))
    assert axis.get_xlim() == (0, 10) and axis.get_ylim() == (0, 1)
    assert axis.lines[0].get_color() == plots.CENTRAL
    assert plt.get_fignums() == []  # closed: a notebook must not show it a second time
    curve.add(1, 0.2)
    curve.add(2, 0.5)
    assert updates == [(figure, [(1, 0.2)]), (figure, [(1, 0.2), (2, 0.5)])]
    assert shown == [figure]


def test_picture_of_a_round_says_what_moves_and_what_stays():
    figure = plots.one_round()
    (axis,) = figure.axes
    words = [text.get_text() for text in axis.texts]
    assert "One round of federated learning" in (axis.get_title(), axis.get_title("left"))
    assert sum("images and labels\nstay here" in text for text in words) == 3
    assert any("weights go down" in text for text in words)
    assert any("updates go up" in text for text in words)
    arrows = [p for p in axis.patches if isinstance(p, plt.matplotlib.patches.FancyArrowPatch)]
    assert len(arrows) == 6
    figure.canvas.draw()
