"""Deal images to simulated clients, as evenly or unevenly as you ask; each image exactly once.

Each function gives a mapping client id -> (pixels, labels), of the shapes it was given, float32 and
int32, which `data.batches` takes one by one and `data.from_arrays` all together.
"""

import math

import numpy as np

from fedcourse.data.arrays import Arrays, checked


def iid(
    pixels: np.ndarray, labels: np.ndarray, clients: int, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Deal at random: every client gets equally many images (or one more), of every kind.

    Args:
        pixels: [N, H, W] or [N, H, W, C], floats 0 to 1 or integers 0 to 255; 1.0 = paper.
        labels: integers [N].
        clients: How many clients; at most N.
        seed: Another seed, another deal.

    Returns:
        Client id -> (pixels, labels).

    Raises:
        ValueError: Arrays of the wrong shape, range or type; more clients than images, or none.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, section 3.
    Lesson: 07
    """
    images, generator = _start(pixels, labels, clients, seed)
    return _deal(images, np.array_split(generator.permutation(len(images[1])), clients))


def shards(
    pixels: np.ndarray,
    labels: np.ndarray,
    clients: int,
    per_client: int = 2,
    seed: int = 0,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Sort by label, cut into equal shards, deal each client a few: most see few labels.

    Args:
        pixels: [N, H, W] or [N, H, W, C], floats 0 to 1 or integers 0 to 255; 1.0 = paper.
        labels: integers [N].
        clients: How many clients.
        per_client: Shards a client gets; `clients * per_client` is at most N.
        seed: Another seed, another deal.

    Returns:
        Client id -> (pixels, labels).

    Raises:
        ValueError: Arrays of the wrong shape, range or type; more shards than images, or none.

    Source: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from
        Decentralized Data, section 3 (its "pathological non-IID" deal, two shards each).
    Lesson: 07
    """
    images, generator = _start(pixels, labels, clients, seed)
    labels = _classes(images)
    count = clients * _whole("per_client", per_client)
    if count > len(labels):
        raise ValueError(
            f"per_client={per_client!r} shards for each of {clients} clients are {count}, but "
            f"there are {len(labels)} images: ask for at most {len(labels) // clients}"
        )
    shuffled = generator.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    cut = np.array_split(by_label, count)
    hands = generator.permutation(count).reshape(clients, per_client)
    return _deal(images, [np.concatenate([cut[shard] for shard in hand]) for hand in hands])


def dirichlet(
    pixels: np.ndarray, labels: np.ndarray, clients: int, alpha: float, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Deal by Dirichlet label skew: each client draws how often it writes each label.

    Each client draws its own shares of the labels from a Dirichlet distribution. Then the clients
    take turns, an image each, with a label drawn by their shares; where a label has run out, by the
    rest of them. All clients get equally many images (or one more). A large alpha makes every
    client alike, a small one leaves most clients one label or two.

    The K labels' concentrations are alpha * K * p, with p the labels' shares in all the images:
    alpha each where labels are equally frequent, as in Dir(alpha).

    Args:
        pixels: [N, H, W] or [N, H, W, C], floats 0 to 1 or integers 0 to 255; 1.0 = paper.
        labels: integers [N].
        clients: How many clients; at most N.
        alpha: The concentration, above 0.
        seed: Another seed, another deal.

    Returns:
        Client id -> (pixels, labels).

    Raises:
        ValueError: Arrays of the wrong shape, range or type; more clients than images, or none;
            alpha not a finite number above 0.

    Source: Hsu et al. 2019, Measuring the Effects of Non-Identical Data Distribution for Federated
        Visual Classification (clients of equal size; written Dir(alpha * p), so that alpha there
        is K times alpha here). Yurochkin et al. 2019, Bayesian Nonparametric Federated Learning of
        Neural Networks, draw Dir(alpha) over clients for each label: alpha means the same as here,
        but sizes differ as well.
    Lesson: 07
    """
    images, generator = _start(pixels, labels, clients, seed)
    _above_zero("alpha", alpha)
    kinds, kind = np.unique(_classes(images), return_inverse=True)
    piles = [list(generator.permutation(np.flatnonzero(kind == k))) for k in range(len(kinds))]
    left = np.array([len(pile) for pile in piles])
    concentration = alpha * len(kinds) * left / left.sum()
    wanted = np.array([_dirichlet(generator, concentration) for _ in range(clients)])
    deal = [[] for _ in range(clients)]
    for turn in range(0, len(kind), clients):  # each takes one image, in a new order
        for client in generator.permutation(clients)[: len(kind) - turn]:
            odds = wanted[client] * (left > 0)
            if odds.sum() < 1e-200:  # nothing is left of what this client writes
                odds = left
            ends = np.cumsum(odds)
            taken = np.searchsorted(ends, generator.random() * ends[-1], side="right")
            deal[client].append(piles[taken].pop())
            left[taken] -= 1
    return _deal(images, deal)


def quantity(
    pixels: np.ndarray, labels: np.ndarray, clients: int, beta: float, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Deal by quantity skew: alike in labels, unlike in size.

    Each client gets one image; the others go out by shares drawn from Dir(beta) over clients. A
    large beta makes all clients equally large, a small one gives a few nearly everything.

    Args:
        pixels: [N, H, W] or [N, H, W, C], floats 0 to 1 or integers 0 to 255; 1.0 = paper.
        labels: integers [N].
        clients: How many clients; at most N.
        beta: The concentration, above 0.
        seed: Another seed, another deal.

    Returns:
        Client id -> (pixels, labels).

    Raises:
        ValueError: Arrays of the wrong shape, range or type; more clients than images, or none;
            beta not a finite number above 0.

    Source: Li et al. 2022, Federated Learning on Non-IID Data Silos: An Experimental Study,
        section 4 (quantity skew; there a client may get nothing).
    Lesson: 07
    """
    images, generator = _start(pixels, labels, clients, seed)
    _above_zero("beta", beta)
    others = len(images[1]) - clients
    shares = _dirichlet(generator, np.full(clients, float(beta)))
    ends = np.round(np.cumsum(shares / shares.sum()) * others).astype(int)
    sizes = np.diff(ends, prepend=0) + 1
    order = generator.permutation(len(images[1]))
    return _deal(images, np.split(order, np.cumsum(sizes)[:-1]))


def _start(pixels, labels, clients: int, seed: int) -> tuple[Arrays, np.random.Generator]:
    images = checked(pixels, labels, where="pixels, labels")
    if _whole("clients", clients) > len(images[1]):
        raise ValueError(
            f"clients={clients!r}, but there are {len(images[1])} images: "
            "ask for at most one client for each"
        )
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed={seed!r} must be a whole number, 0 or more")
    return images, np.random.default_rng(seed)


def _classes(images: Arrays) -> np.ndarray:
    if images[1].dtype != np.int32:
        raise ValueError(
            f"labels are {images[1].dtype} {list(images[1].shape)}; dealing by label takes one "
            "class an image, as integers: use iid or quantity"
        )
    return images[1]


def _whole(name: str, value: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
    return value


def _above_zero(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} must be a finite number above 0, such as 0.5")


def _dirichlet(generator: np.random.Generator, concentration: np.ndarray) -> np.ndarray:
    """Draw from a Dirichlet; where all of it is too small for floats, one entry takes all."""
    shares = generator.dirichlet(concentration) if concentration.min() > 1e-3 else np.zeros(1)
    if np.isfinite(shares).all() and np.isclose(shares.sum(), 1):
        return shares
    winner = generator.choice(len(concentration), p=concentration / concentration.sum())
    return np.eye(len(concentration))[winner]


def _deal(images: Arrays, parts: list[np.ndarray]) -> dict[str, Arrays]:
    width = len(str(len(parts) - 1))
    return {
        f"client_{number:0{width}}": (images[0][own], images[1][own])
        for number, own in enumerate(parts)
    }
