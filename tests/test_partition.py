from fedcourse import data  # isort: skip  (before TensorFlow)

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcourse.data import partition

DEALS = {
    "iid": partition.iid,
    "shards": partition.shards,
    "dirichlet": functools.partial(partition.dirichlet, alpha=0.5),
    "quantity": functools.partial(partition.quantity, beta=0.5),
}


def images(labels):
    """Images that carry their own number in their first two pixels."""
    pixels = np.zeros((len(labels), 28, 28), np.uint8)
    pixels[:, 1, 1] = 255
    pixels[:, 0, 0], pixels[:, 0, 1] = np.divmod(np.arange(len(labels)), 256)
    return pixels


def numbers(pixels):
    return np.round(pixels[:, 0, 0] * 255).astype(int) * 256 + np.round(pixels[:, 0, 1] * 255)


def balanced(count=2000, kinds=10):
    return np.arange(count) % kinds


def counts(dealt, kinds=10):
    """Images by client and label."""
    return np.array([np.bincount(labels, minlength=kinds) for _, labels in dealt.values()])


@st.composite
def deals(draw):
    labels = draw(st.lists(st.integers(0, 5), min_size=2, max_size=120))
    clients = draw(st.integers(1, len(labels)))
    strength = draw(st.floats(1e-320, 1e6))
    per_client = draw(st.integers(1, len(labels) // clients))
    name, extra = draw(
        st.sampled_from(
            [
                ("iid", {}),
                ("shards", {"per_client": per_client}),
                ("dirichlet", {"alpha": strength}),
                ("quantity", {"beta": strength}),
            ]
        )
    )
    seed = draw(st.integers(0, 1000))
    return getattr(partition, name), np.array(labels), clients, extra, seed


@settings(deadline=None, max_examples=300)
@given(deals())
def test_every_image_is_dealt_once_with_its_label_and_nobody_goes_empty(case):
    deal, labels, clients, extra, seed = case
    dealt = deal(images(labels), labels, clients, seed=seed, **extra)
    assert len(dealt) == clients and list(dealt) == sorted(dealt)
    assert all(len(own) for _, own in dealt.values())
    who = np.concatenate([numbers(pixels) for pixels, _ in dealt.values()]).astype(int)
    assert np.array_equal(np.sort(who), np.arange(len(labels)))
    assert np.array_equal(np.concatenate([own for _, own in dealt.values()]), labels[who])


@pytest.mark.parametrize("name", DEALS)
def test_seed_decides(name):
    labels = balanced(300)

    def order(seed):
        dealt = DEALS[name](images(labels), labels, 12, seed=seed)
        return np.concatenate([numbers(pixels) for pixels, _ in dealt.values()])

    assert np.array_equal(order(3), order(3))
    assert not np.array_equal(order(3), order(4))


@pytest.mark.parametrize("name", ["iid", "shards", "dirichlet"])
def test_sizes_are_even(name):
    labels = balanced(1003)
    sizes = counts(DEALS[name](images(labels), labels, 20)).sum(axis=1)
    assert np.ptp(sizes) <= (2 if name == "shards" else 1)


def test_iid_gives_everyone_every_label():
    labels = balanced(4000)
    shares = counts(partition.iid(images(labels), labels, 10)) / 400
    assert np.abs(shares - 0.1).max() < 0.06


def test_two_shards_are_at_most_two_labels_where_shards_do_not_straddle():
    labels = balanced(2000)  # 200 of each; 40 shards of 50
    held = (counts(partition.shards(images(labels), labels, 20)) > 0).sum(axis=1)
    assert held.max() == 2 and held.mean() > 1.5
    many = (counts(partition.shards(images(labels), labels, 20, per_client=20)) > 0).sum(axis=1)
    assert many.min() >= 6


def test_dirichlet_goes_from_iid_to_one_label_each():
    labels = np.random.default_rng(0).integers(0, 10, 6000)
    pixels = images(labels)

    def largest_share(alpha, seed):
        table = counts(partition.dirichlet(pixels, labels, 50, alpha, seed))
        return (table.max(axis=1) / table.sum(axis=1)).mean()

    for seed in range(3):
        by_alpha = [largest_share(alpha, seed) for alpha in (1e6, 10, 1, 0.1, 1e-6)]
        assert by_alpha == sorted(by_alpha)
        assert by_alpha[0] < 0.2 and by_alpha[-1] > 0.7
        assert 0.5 < by_alpha[3] < 0.85, "one or two labels have most of a client at 0.1"


def test_dirichlet_has_the_variance_of_a_dirichlet():
    """Var q = p (1 - p) / (10 alpha + 1), seen while no label runs out: on the first clients."""
    labels = balanced(20000)
    alpha, size, shares = 0.4, 100, []
    for seed in range(8):
        dealt = partition.dirichlet(np.zeros((20000, 28, 28), np.uint8), labels, 200, alpha, seed)
        shares.append(counts(dealt)[:40] / size)
    variance = np.var(np.concatenate(shares))
    expected = 0.09 / (10 * alpha + 1) * (1 - 1 / size) + 0.09 / size
    assert variance == pytest.approx(expected, rel=0.12)


def test_dirichlet_follows_the_shares_of_all_labels():
    labels = np.repeat([0, 1], [900, 100])
    table = counts(partition.dirichlet(images(labels), labels, 10, 1e6), kinds=2)
    assert np.abs(table[:, 1] - 10).max() <= 10


def test_quantity_goes_from_equal_to_nearly_all_for_one():
    labels = balanced(2000)

    def sizes(beta, seed=0):
        return counts(partition.quantity(images(labels), labels, 20, beta, seed)).sum(axis=1)

    assert np.ptp(sizes(1e7)) <= 3
    assert np.std(sizes(10.0)) < np.std(sizes(0.5))
    assert max(sizes(1e-6)) == 2000 - 19 and min(sizes(1e-6)) == 1


def test_result_fits_the_course():
    labels = balanced(60)
    dealt = partition.shards(images(labels), labels, 6)
    clients = data.from_arrays(dealt)
    assert clients.client_ids == list(dealt)
    x, y = next(iter(data.batches(*dealt["client_0"], batch_size=4, seed=0)))
    assert x.shape == (4, 28, 28, 1) and y.dtype == "int32"


@pytest.mark.parametrize("name", DEALS)
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"clients": 0}, "clients=0"),
        ({"clients": 2.5}, "clients=2.5"),
        ({"clients": 41}, "clients=41, but there are 40 images"),
        ({"seed": -1}, "seed=-1"),
        ({"seed": None}, "seed=None"),
        ({"labels": np.zeros(39, int)}, "pixels, labels: labels have shape"),
        ({"pixels": np.full((40, 28, 28), 7.0)}, "give floats from 0 to 1"),
    ],
)
def test_bad_input_is_named(name, arguments, said):
    labels = balanced(40)
    good = {"pixels": images(labels), "labels": labels, "clients": 4}
    with pytest.raises(ValueError, match=said):
        DEALS[name](**good | arguments)


@pytest.mark.parametrize("value", [0, -1.0, np.inf, np.nan])
def test_bad_concentrations_are_named(value):
    labels = balanced(40)
    with pytest.raises(ValueError, match="alpha="):
        partition.dirichlet(images(labels), labels, 4, value)
    with pytest.raises(ValueError, match="beta="):
        partition.quantity(images(labels), labels, 4, value)


@pytest.mark.parametrize("value", [0, 1.5, 11])
def test_bad_shards_are_named(value):
    labels = balanced(40)
    with pytest.raises(ValueError, match="per_client="):
        partition.shards(images(labels), labels, 4, per_client=value)
