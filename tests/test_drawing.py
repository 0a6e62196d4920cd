"""Strokes become images as MNIST's digits did, and boxes hold them."""

from fedcourse import data, drawing  # isort: skip

import hypothesis
import numpy as np
import pytest
import traitlets
from hypothesis import strategies as st

from fedcourse.drawing import strokes

POINT = st.tuples(st.floats(0, 1), st.floats(0, 1))
DRAWINGS = st.lists(st.lists(POINT, min_size=1, max_size=6), min_size=1, max_size=4)


def ink(image):
    return 1 - image.astype(np.float64)


def mass(image):
    """The centre of mass (x, y) of an image's ink, in pixels."""
    own, places = ink(image), np.arange(len(image)) + 0.5
    return np.array([own.sum(0) @ places, own.sum(1) @ places]) / own.sum()


@hypothesis.settings(deadline=None)
@hypothesis.given(DRAWINGS)
def test_any_drawing_is_centred_and_fits(drawn):
    fitted, small = list(drawing.steps(drawn).values())[1:]
    assert small.shape == (28, 28) and small.dtype == np.float32
    assert small.min() >= 0 and small.max() <= 1
    rows, columns = np.nonzero(fitted < 0.5)
    assert max(np.ptp(rows), np.ptp(columns)) <= 20 * 8 + 2
    if small[[0, -1]].min() == 1 and small[:, [0, -1]].min() == 1:  # nothing is cut off
        assert np.abs(mass(small) - 14).max() < 0.15


@hypothesis.settings(deadline=None)
@hypothesis.given(st.floats(0.2, 1), st.floats(0, 1), st.floats(0, 1))
def test_where_and_how_large_it_is_drawn_does_not_matter(size, x, y):
    digit = [np.array(stroke) for stroke in drawing.pages()[0][3]]
    low = np.concatenate(digit).min(0)
    extent = (np.concatenate(digit) - low).max()
    moved = [(s - low) / extent * size + np.array([x, y]) * (1 - size) for s in digit]
    gap = np.abs(drawing.image(moved) - drawing.image(digit))
    assert gap.mean() < 0.006 and gap.max() < 0.4  # edges of lines, to a fraction of a pixel


def test_the_longer_side_fills_the_box():
    tall = drawing.image([[[0.5, 0.1], [0.5, 0.9]]])
    rows, columns = np.nonzero(tall < 0.5)
    assert np.ptp(rows) + 1 in (19, 20, 21) and np.ptp(columns) + 1 in (2, 3)
    dot = ink(drawing.image([[[0.9, 0.9]]]))
    assert 2 < dot.sum() < 8 and dot[13:15, 13:15].min() > 0.5


def test_what_is_drawn_outside_is_cut_to_the_edge():
    outside = drawing.image([[[-3, 0.5], [9, 0.5]]])
    assert np.array_equal(outside, drawing.image([[[0, 0.5], [1, 0.5]]]))


def test_strokes_without_points_are_left_out():
    line = [[0.1, 0.1], [0.9, 0.9]]
    assert np.array_equal(drawing.image([[], line, []]), drawing.image([line]))


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ([], "is empty"),
        ([[]], "is empty"),
        ([[[0.1, 0.2, 0.3]]], "stroke 0 must be a list of points"),
        ([[[0.1, 0.2, 0.3, 0.4]]], "stroke 0 must be a list of points"),
        ([[0.1, 0.2], [0.3, 0.4]], "stroke 0 must be a list of points"),  # a stroke, no drawing
        ([[[[0.1, 0.2]]]], "stroke 0 must be a list of points"),
        (3, "must be a list of strokes"),
        ([[[0, 0]], [["a", "b"]]], "stroke 1 must be"),
        ([[[0, float("nan")]]], "stroke 0 must be"),
    ],
)
def test_bad_drawings_are_named(drawn, message):
    with pytest.raises(ValueError, match=f"drawing.*{message}"):
        drawing.image(drawn)


def test_another_pen_draws_thicker_and_one_that_cannot_draw_is_named():
    line = [[[0.5, 0.1], [0.5, 0.9]]]
    assert ink(drawing.image(line, pen=4)).sum() > 1.5 * ink(drawing.image(line)).sum()
    for pen in (0, -1, 20, float("nan")):
        with pytest.raises(ValueError, match=f"pen={pen} must be more than 0 and less than 20"):
            drawing.image(line, pen)


def test_many_points_are_as_good_as_few():
    line = [[0.1, 0.1], [0.9, 0.2], [0.4, 0.9]]
    often = [line[0], *[*line[1:], *line[-2::-1]] * 1000]  # to and fro
    assert np.array_equal(drawing.image([often]), drawing.image([line]))


def test_ink_is_as_much_as_in_mnist():
    digits, _ = data.digits.read()
    usual = np.quantile((digits / 255).mean((1, 2)), [0.05, 0.95])
    for page in drawing.pages():
        own = np.array([ink(drawing.image(digit)).mean() for digit in page])
        assert usual[0] < own.mean() < usual[1]
        assert (own > usual[0] / 2).all() and (own < usual[1] * 1.5).all()


def test_pages_are_drawn_anew_and_follow_the_seed():
    one, two = drawing.pages()
    assert drawing.pages()[1] == two != one != drawing.pages(seed=1)[0]
    assert [len(page) for page in drawing.pages(3)] == [10, 10, 10]
    points = np.concatenate([stroke for page in (one, two) for digit in page for stroke in digit])
    assert points.min() >= 0 and points.max() <= 1


def test_variations_are_of_the_same_digit_and_none_is_another():
    digit = drawing.pages()[0][5]
    images = drawing.varied(digit, 8, seed=1)
    assert images.shape == (8, 28, 28) and images.dtype == np.float32
    assert np.array_equal(images, drawing.varied(digit, 8, seed=1))
    assert not np.array_equal(images, drawing.varied(digit, 8, seed=2))
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    own = ink(drawing.image(digit)).ravel()
    likeness = [np.corrcoef(own, ink(image).ravel())[0, 1] for image in images]
    other = np.corrcoef(own, ink(drawing.image(drawing.pages()[0][0])).ravel())[0, 1]
    assert min(likeness) > 0.4 and np.mean(likeness) > other + 0.3


def test_no_variations_are_no_images():
    assert drawing.varied([[[0.5, 0.5]]], 0, seed=1).shape == (0, 28, 28)
    with pytest.raises(ValueError, match="count=-1 must be at least 0"):
        drawing.varied([[[0.5, 0.5]]], -1, seed=1)
    assert drawing.pages(0) == []
    with pytest.raises(ValueError, match="count=-1 must be at least 0"):
        drawing.pages(-1)


def test_strokes_work_without_widgets(python):
    run = python(
        "-c",
        "import sys; sys.modules['anywidget'] = None; from fedcourse import drawing; "
        "print(drawing.image([[[0, 0]]]).shape, 'tensorflow' in sys.modules)",
    )
    assert (run.status, run.out) == (0, "(28, 28) False\n")


# --- boxes ----------------------------------------------------------------------------------------


def test_boxes_hold_a_drawing_for_each_label():
    boxes = drawing.Boxes("ab")
    pixels, labels = boxes.images()
    assert pixels.shape == (0, 28, 28) and labels.shape == (0,)
    line = [[0.5, 0.1], [0.5, 0.9]]
    boxes.strokes = [[], [line]]
    pixels, labels = boxes.images()
    assert labels.tolist() == [1] and labels.dtype == np.int32
    assert np.array_equal(pixels[0], drawing.image([line]))


def test_boxes_call_back_when_something_is_drawn():
    boxes, seen = drawing.Boxes("ab"), []
    boxes.on_draw(lambda own: seen.append(len(own.images()[1])))
    boxes.strokes = [[[[0.1, 0.2]]], []]
    boxes.strokes = [[], []]
    assert seen == [1, 0]


def test_boxes_refuse_what_is_no_drawing():
    with pytest.raises(traitlets.TraitError, match="9 drawings for 10 labels"):
        drawing.Boxes(strokes=[[]] * 9)
    with pytest.raises(traitlets.TraitError, match="stroke 0 must be a list of points"):
        drawing.Boxes("a", [[["x"]]])
    with pytest.raises(traitlets.TraitError, match="stroke 0 must be a list of points"):
        drawing.Boxes("a").strokes = [[[[0.1, None]]]]


def test_boxes_refuse_what_is_no_reading():
    boxes = drawing.Boxes("ab")
    with pytest.raises(traitlets.TraitError, match="readings has 1 for 2 labels"):
        boxes.readings = ["reads a"]
    assert boxes.readings == ["", ""]


def test_boxes_need_a_label():
    with pytest.raises(traitlets.TraitError, match="labels"):
        drawing.Boxes([])


def test_what_a_browser_sends_is_what_python_holds():
    boxes = drawing.Boxes("ab")
    sent = [[[[0, 1], [0.1234, 0.5]]], []]
    boxes.set_state({"strokes": sent})
    assert boxes.strokes == sent == boxes.get_state("strokes")["strokes"]


def test_a_still_picture_shows_what_is_drawn():
    boxes = drawing.Boxes(strokes=drawing.pages()[0])
    boxes.readings = list("0123456789")
    figure = boxes.still()
    assert len(figure.axes) == 10
    assert [len(axis.lines) for axis in figure.axes] == [len(digit) for digit in boxes.strokes]
    assert [axis.get_xlabel() for axis in figure.axes] == boxes.readings


def test_the_widgets_code_needs_no_network():
    code = strokes.__file__.replace("strokes.py", "boxes.js")
    with open(code, encoding="utf-8") as file:
        text = file.read()
    assert "import " not in text and "://" not in text
