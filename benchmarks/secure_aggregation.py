"""Seconds and bytes of secure aggregation, for each client and for the server, beside the paper's.

python benchmarks/secure_aggregation.py [--clients 50 100] [--length 1000000] [--active]

Whole sessions on one core: with everybody there, and with some who fall silent after they have
shared their secrets, which costs the server most. Each session's sum is compared, entry by entry,
with the plain sum. Then one client among 1,024 with 2^20 entries, the paper's example: it computes
and sends in full, the others only what it needs from them. Last, what a megabyte of bytes that mean
harm costs a client or the server before it is refused, whoever sent it.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time

import numpy as np

from fedcourse.secagg import (
    FixedPoint,
    Parameters,
    ProtocolError,
    Round,
    Server,
    forms,
    keys,
    messages,
    run,
    sizes,
)
from fedcourse.secagg.client import Client
from fedcourse.secagg.parameters import SERVER, smallest_threshold

VALUE_BITS = 16
RESULTS = pathlib.Path(__file__).with_suffix(".json")


def main() -> None:
    """Print a table; store it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--length", type=int, default=10**6)
    parser.add_argument("--silent", type=float, nargs="+", default=[0, 0.1, 0.3])
    parser.add_argument("--active", action="store_true", help="signatures, consistency round")
    options = parser.parse_args()
    print("             silent   seconds         bytes a client       over plain 16-bit sending")
    print("clients  in MASK on   client  server       up     down     here  counted  the paper's")
    sessions = []
    for clients in options.clients:
        for share in options.silent:
            row = session(clients, options.length, round(share * clients), options.active)
            sessions.append(row)
            show(row)
    example = one_client(2**10, 2**20)
    show(example)
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    harm = hostile_seconds()
    worst = max(harm, key=harm.get)
    print(f"1 MB of harm, {len(harm)} kinds, refused within {harm[worst]:.3f} s; worst: {worst}")
    report = {"versions": versions, "sessions": sessions, "one_client": example, "hostile": harm}
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")


def session(clients: int, length: int, silent: int, active: bool) -> dict:
    """Run a whole session; return what it took."""
    p = parameters(clients, length, active)
    rng = np.random.default_rng(0)
    vectors = {u: rng.integers(0, 2**VALUE_BITS, length, np.uint32) for u in range(1, clients + 1)}
    leaves = dict.fromkeys(range(clients - silent + 1, clients + 1), Round.MASK)
    outcome = run(vectors, p, leaves)
    plain = sum(vectors[u].astype(np.uint64) for u in outcome.survivors)
    assert len(outcome.survivors) == clients - silent
    assert (outcome.total == plain).all(), "the sum is wrong"
    row = describe(p, outcome.sent[1], outcome.received[1])
    stayed = [outcome.client_seconds[u] for u in outcome.survivors]
    return row | {
        "silent": silent,
        "client_seconds": statistics.median(stayed),
        "server_seconds": sum(outcome.server_seconds.values()),
        "server_seconds_by_round": {r.name: s for r, s in outcome.server_seconds.items()},
    }


def one_client(clients: int, length: int) -> dict:
    """Run one client through a session in which the others are stand-ins."""
    p = parameters(clients, length, active=False)
    link = messages.Link(bytes(32), 1, p)
    client = Client(1, np.ones(length, np.uint32), p, bytes(32))
    answers, received, seconds = [], 0, 0.0
    begun = time.perf_counter()
    answers.append(client.start())
    seconds += time.perf_counter() - begun
    me = keys.PublicKeys(1, *messages.read(link.open(1, Round.ADVERTISE, answers[0])))
    private = {u: keys.new_private_key() for u in range(2, clients + 1)}
    public = {
        u: keys.PublicKeys(u, keys.public_key(key), keys.public_key(keys.new_private_key()))
        for u, key in private.items()
    }
    pair = bytes(messages.SHARES_BYTES - keys.SEAL_BYTES)
    boxes = {
        u: [
            keys.seal(
                keys.channel_key(key, public[u], public[u], me, p.context),
                pair,
                messages.about_shares(p.context, u, 1),
            )
        ]
        for u, key in private.items()
    }
    for current, table in (
        (Round.SHARE, {1: me[1:]} | {u: them[1:] for u, them in public.items()}),
        (Round.MASK, boxes),
        (Round.UNMASK, {u: [] for u in range(1, clients + 1)}),
    ):
        message = link.seal(SERVER, current, messages.write_table(table))
        received += len(message)
        begun = time.perf_counter()
        answers.append(client.receive(message))
        seconds += time.perf_counter() - begun
    row = describe(p, sum(map(len, answers)), received)
    return row | {"silent": 0, "client_seconds": seconds, "server_seconds": None}


def hostile(size: int = 10**6) -> dict[str, bytes]:
    """Return bytes, about `size` of them, that announce or hold more than a message should."""
    tree = b""
    while len(tree) < size:
        tree = b"\x94" + 4 * (tree or b"\0")
    announced = {
        "lists": b"\xdd\x00\x0f\x42\x40",
        "maps": b"\xdf\x00\x0f\x42\x40",
        "bytes": b"\xc6\x7f\xff\xff\xff",
        "text": b"\xdb\x7f\xff\xff\xff",
        "extensions": b"\xc9\x7f\xff\xff\xff\x00",
    }
    held = {
        "lists in lists": b"\x91",
        "lists of four in each other": b"\x94",
        "empty lists": b"\x90",
        "rows of four": b"\x94\0\0\0\0",
        "rows of three, one inside": b"\x93\0\0\x90",
        "maps in maps": b"\x81\0",
        "numbers": b"\0",
        "floats": b"\xcb" + bytes(8),
        "empty byte strings": b"\xc4\0",
        "letters": b"\xa1a",
        "no msgpack": b"\xc1",
    }
    repeated = {f"{name} announced": head for name, head in announced.items()} | held
    return {name: each * (size // len(each)) for name, each in repeated.items()} | {
        "a tree": tree[:size],
        "one byte string": messages.write([bytes(size - 5)]),
        "random": np.random.default_rng(0).bytes(size),
    }


def hostile_seconds() -> dict[str, float]:
    """Return the seconds after which harm is refused, by kind: the most of six attempts.

    A server and a client get it, in rounds whose right messages have a megabyte too: from somebody
    without a key, from somebody who has seen the head of a right message, and, with the right seal,
    from each other.
    """
    wide, many = parameters(3, 2**20, active=False), parameters(15_000, 1, active=False)
    server = Server(wide, dict.fromkeys(range(1, 4), bytes(32)))
    clients = {u: Client(u, np.zeros(2**20, np.uint32), wide, bytes(32)) for u in range(1, 4)}
    down = {}
    for _ in range(2):
        for u, client in clients.items():
            server.receive(client.receive(down[u]) if down else client.start())
        down = server.advance()
    ends = (
        (messages.Link(bytes(32), 1, wide), 1, Round.MASK),
        (messages.Link(bytes(32), 1, many), SERVER, Round.SHARE),
    )
    seconds = {}
    for kind, data in hostile().items():
        attempts = []
        for link, sender, current in ends:
            sealed = link.seal(sender, current, data)
            for message in (data, sealed[: forms.HEAD.size] + data, sealed):
                client = Client(1, np.zeros(1, np.uint32), many, bytes(32))
                client.start()
                receive = client.receive if sender == SERVER else server.receive
                begun = time.perf_counter()
                try:
                    receive(message)
                except ProtocolError:
                    attempts.append(time.perf_counter() - begun)
        assert len(attempts) == 6, f"{kind}: somebody took it"
        seconds[kind] = max(attempts)
    return seconds


def parameters(clients: int, length: int, active: bool) -> Parameters:
    """Return the parameters of a session with entries of 16 bits."""
    bits = FixedPoint(1.0, VALUE_BITS, clients).bits
    threshold = smallest_threshold(clients, active)
    return Parameters(os.urandom(32), clients, threshold, length, bits, active)


def describe(p: Parameters, sent: int, received: int) -> dict:
    """Return a session's size, and its bytes over those of sending the entries plainly."""
    plain = p.length * VALUE_BITS / 8
    return {
        "clients": p.clients,
        "threshold": p.threshold,
        "length": p.length,
        "bits": p.bits,
        "active": p.active,
        "bytes_up": sent,
        "bytes_down": received,
        "expansion_measured": (sent + received) / plain,
        "expansion_counted": sum(sizes.bytes_of_client(p)) / plain,
        "expansion_paper": sizes.paper_bytes(p.clients, p.length, VALUE_BITS) / plain,
    }


def show(row: dict) -> None:
    """Print one line of the table."""
    server = "" if row["server_seconds"] is None else f"{row['server_seconds']:.1f}"
    print(
        f"{row['clients']:7} {row['silent']:11} {row['client_seconds']:8.2f} {server:>7}"
        f" {row['bytes_up']:>8,} {row['bytes_down']:>8,} {row['expansion_measured']:8.3f}"
        f" {row['expansion_counted']:8.3f} {row['expansion_paper']:12.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
