"""Images of any shape and any classes, from every source and to every deal; a name is one class."""

from fedcourse import data  # isort: skip  (before TensorFlow)

import hypothesis
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from fedcourse.data import classes, partition

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([None, 1, 3, 4]))
NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=6)
SLOW_DISK = hypothesis.settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)


@st.composite
def bytes_by_client(draw, channels=True):
    """Client -> (uint8 images, names of classes): shades that are exact in every source."""
    height, width, depth = draw(SHAPES)
    shape = (height, width) + ((depth,) if depth and channels else ())
    known = draw(st.lists(NAMES, min_size=1, max_size=70, unique_by=classes.tidy))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    clients = {}
    for number in range(draw(st.integers(1, 4))):
        count = draw(st.integers(1, 5))
        images = generator.integers(0, 256, (count, *shape)).astype(np.uint8)
        images.flat[0] = 255
        clients[f"client {number}"] = (
            images,
            [known[k] for k in generator.integers(len(known), size=count)],
        )
    return clients


def spelled(clients, client):
    """A client's images, with the names of their classes, in an order of their own."""
    pixels, labels = data.images_of(clients, client)
    pairs = [(clients.classes[k], x.tobytes()) for x, k in zip(pixels, labels, strict=True)]
    return sorted(pairs)


def wanted(images, names):
    pixels = images / np.float32(255)
    return sorted((classes.tidy(n), x.tobytes()) for x, n in zip(pixels, names, strict=True))


def no_numbers(clients):
    """Whole numbers mean themselves, and two spellings of one are refused: see below."""
    return not any(name.isdecimal() for _, names in clients.values() for name in names)


def write_folders(root, clients):
    for client, (images, names) in clients.items():
        for number, (image, name) in enumerate(zip(images, names, strict=True)):
            place = root / client / name
            place.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(image).save(place / f"{number}.png")


@SLOW_DISK
@hypothesis.given(clients=bytes_by_client())
def test_arrays_and_sqlite(tmp_path, clients):
    hypothesis.assume(no_numbers(clients))
    made = data.from_arrays(clients)
    data.write_sqlite(tmp_path / "x.sqlite", made, made)
    for source in (made, *data.from_sqlite(tmp_path / "x.sqlite")):
        assert source.classes == made.classes == tuple(sorted(set(made.classes)))
        assert source.image_shape == next(iter(clients.values()))[0].shape[1:]
        for client, pair in clients.items():
            assert spelled(source, client) == wanted(*pair)


@SLOW_DISK
@hypothesis.given(clients=bytes_by_client(channels=False), colour=st.booleans())
def test_folders_and_tables(tmp_path_factory, clients, colour):
    hypothesis.assume(no_numbers(clients))
    hypothesis.assume(all(name[0] != "." for _, names in clients.values() for name in names))
    if colour:
        clients = {c: (np.repeat(x[..., None], 3, 3), names) for c, (x, names) in clients.items()}
    root = tmp_path_factory.mktemp("folders")
    write_folders(root, clients)
    rows = [
        {"who": client, "what": name, "picture": f"{client}/{name}/{number}", **numbered(image)}
        for client, (images, names) in clients.items()
        for number, (image, name) in enumerate(zip(images, names, strict=True))
    ]
    pd.DataFrame(rows).to_csv(root / "table.csv", index=False)
    files = [{key: row[key] for key in ("who", "what", "picture")} for row in rows]
    shape = next(iter(clients.values()))[0].shape[1:]
    several = [
        data.from_folders(root),
        data.from_table(files, "what", "who", file="picture", folder=root),
        data.from_table(
            root / "table.csv",
            "what",
            "who",
            image_shape=shape,
            pixels=list(numbered(np.zeros(shape))),
        ),
    ]
    for source in several:
        assert source.classes == several[0].classes and source.image_shape == shape
        for client, pair in clients.items():
            assert spelled(source, client) == wanted(*pair)


def numbered(image):
    return {f"pixel{place}": int(shade) for place, shade in enumerate(image.ravel())}


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(clients=bytes_by_client(), seed=st.integers(0, 99))
def test_every_deal_keeps_every_image(clients, seed):
    hypothesis.assume(no_numbers(clients))
    made = data.from_arrays(clients)
    parts = [data.images_of(made, client) for client in made.client_ids]
    pixels, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
    count = 1 + seed % len(labels)
    deals = [
        partition.iid(pixels, labels, count, seed),
        partition.shards(pixels, labels, count, 1, seed),
        partition.dirichlet(pixels, labels, count, 0.3, seed),
        partition.quantity(pixels, labels, count, 0.3, seed),
    ]
    for deal in deals:
        dealt = data.from_arrays(deal, made.classes)
        assert dealt.classes == made.classes and dealt.image_shape == made.image_shape
        together = [pair for client in dealt.client_ids for pair in spelled(dealt, client)]
        assert sorted(together) == sorted(
            pair for client in made.client_ids for pair in spelled(made, client)
        )
        features, _ = data.batches(*next(iter(deal.values())), 2).element_spec
        channels = made.image_shape[2:] or (1,)
        assert tuple(features.shape) == (None, *made.image_shape[:2], *channels)


# --- a name is one class everywhere ---------------------------------------------------------------


def toy(labels):
    return {"a": (np.full((len(labels), 2, 2), 0.5), labels)}


def test_numbers_mean_themselves_whatever_is_present():
    some = data.from_arrays(toy([3, 7]))
    assert some.classes == tuple("01234567")
    assert data.images_of(some, "a")[1].tolist() == [3, 7]
    worded = data.from_arrays(toy(["7", "03"]))
    assert worded.classes == some.classes
    assert data.images_of(worded, "a")[1].tolist() == [7, 3]


def test_names_are_numbered_in_order_or_as_given():
    assert data.from_arrays(toy(["fox", "cat", "fox"])).classes == ("cat", "fox")
    given = data.from_arrays(toy(["fox", "cat"]), classes=["cat", "dog", "fox"])
    assert given.classes == ("cat", "dog", "fox")
    assert data.images_of(given, "a")[1].tolist() == [2, 0]
    numbers = data.from_arrays(toy([2, 0]), classes=["cat", "dog", "fox"])
    assert data.images_of(numbers, "a")[1].tolist() == [2, 0]


def test_one_name_in_two_spellings_of_unicode_is_one_class():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    clients = data.from_arrays(toy([composed, decomposed, " " + composed]))
    assert clients.classes == (composed,)


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["wolf"], ["cat", "dog"], "label 'wolf' is none of the classes 'cat', 'dog'"),
        ([2], ["cat", "dog"], "has the label 2, but there are 2 classes"),
        (["1", "01"], ["0", "1"], "'1' and '01' mean the same class"),
        ([0], ["cat", "cat"], "must be a list of different names"),
        ([0], "cat", "must be a list of different names"),
        ([0], ["cat", " "], "must be a list of different names"),
    ],
)
def test_labels_that_fit_no_class_are_named(labels, names, message):
    with pytest.raises(ValueError, match=message):
        data.from_arrays(toy(labels), classes=names)


def test_data_sets_whose_classes_disagree_are_not_joined():
    train, test = (
        data.from_arrays(toy(["cat", "dog", "fox"])),
        data.from_arrays(toy(["cat", "fox"])),
    )
    with pytest.raises(ValueError, match="class 1 is 'fox' in one data set and 'dog' in another"):
        data.images_of((train, test), "a")
    again = data.from_arrays(toy(["cat", "fox"]), train.classes)
    assert data.images_of((train, again), "a")[1].tolist() == [0, 1, 2, 0, 2]
    fewer = data.from_arrays(toy(["cat", "dog"]))  # the same numbers, as far as they go
    assert data.images_of((train, fewer), "a")[1].tolist() == [0, 1, 2, 0, 1]


def test_data_sets_whose_images_differ_in_shape_are_not_joined():
    grey, colour = (data.from_arrays({"a": (np.zeros((1, 2, 2, *c)), [0])}) for c in ((), (3,)))
    with pytest.raises(ValueError, match=r"shapes \[\(2, 2\), \(2, 2, 3\)\]"):
        data.images_of((grey, colour), "a")
    with pytest.raises(ValueError, match=r"clients\['b'\] has images of shape \(3, 2\), clients"):
        data.from_arrays({"a": (np.zeros((1, 2, 2)), [0]), "b": (np.zeros((1, 3, 2)), [0])})


# --- labels that are no classes -------------------------------------------------------------------


def test_several_labels_an_image_and_numbers_to_learn(tmp_path):
    marks, ages = np.float32([[1, 0, 1], [0, 0, 0]]), np.float32([0.5, -2])
    for labels in (marks, ages):
        clients = data.from_arrays({"a": (np.zeros((2, 4, 4)), labels)})
        data.write_sqlite(tmp_path / "x.sqlite", clients, clients)
        for source in (clients, *data.from_sqlite(tmp_path / "x.sqlite")):
            assert np.array_equal(data.images_of(source, "a")[1], labels)
            spec = source.element_type_structure["label"]
            assert (spec.dtype, tuple(spec.shape)) == (tf.float32, labels.shape[1:])
            (element,) = source.create_tf_dataset_for_client("a").take(1)
            assert spec.is_compatible_with(element["label"])
            assert source.classes == ()
        assert data.batches(*data.images_of(clients, "a"), 2).element_spec[1].dtype == tf.float32
    with pytest.raises(ValueError, match="dealing by label takes one class an image"):
        partition.shards(np.zeros((2, 4, 4)), marks, 1)
    both = {"a": (np.zeros((2, 4, 4)), ages), "b": (np.zeros((2, 4, 4)), [0, 1])}
    with pytest.raises(ValueError, match="labels of different kinds"):
        data.from_arrays(both)


# --- a test part of one's own ---------------------------------------------------------------------


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(clients=bytes_by_client(), share=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_hold_out_divides_each_client(clients, share, seed):
    hypothesis.assume(no_numbers(clients))
    hypothesis.assume(any(len(names) > 1 for _, names in clients.values()))
    made = data.from_arrays(clients)
    train, test = data.hold_out(made, share, seed)
    assert train.classes == test.classes == made.classes
    for client, (images, _) in clients.items():
        assert spelled(made, client) == sorted(
            pair
            for half in (train, test)
            if client in half.client_ids
            for pair in spelled(half, client)
        )
        assert (client in test.client_ids) == (len(images) > 1)


def test_hold_out_follows_the_seed_and_refuses_what_cannot_be():
    clients = data.from_arrays({"a": (np.arange(40).reshape(40, 1, 1) / 40, np.arange(40))})
    halves = [data.hold_out(clients, 0.5, seed)[1] for seed in (0, 0, 1)]
    first, again, other = (data.images_of(half, "a")[1].tolist() for half in halves)
    assert first == again != other and len(first) == 20
    with pytest.raises(ValueError, match=r"share=1\.5 must be between 0 and 1"):
        data.hold_out(clients, 1.5)
    with pytest.raises(ValueError, match="none has two images"):
        data.hold_out(data.from_arrays(toy([0])))
