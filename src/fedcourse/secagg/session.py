"""A whole session on one machine: enrolment, all rounds, and clients that fall silent."""

import dataclasses
import os
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcourse.secagg.client import Client
from fedcourse.secagg.parameters import Parameters, Round
from fedcourse.secagg.server import Server


class Enrolment(NamedTuple):
    """What stands in for the app's installation: keys that outlast a session.

    Attributes:
        link_keys: By client, 32 bytes that it shares with the server.
        signing_keys: By client, its Ed25519 private key.
        registry: By client, its Ed25519 public key, known to all.

    Lesson: 10
    """

    link_keys: dict[int, bytes]
    signing_keys: dict[int, Ed25519PrivateKey]
    registry: dict[int, Ed25519PublicKey]

    def __repr__(self) -> str:
        return f"Enrolment(clients={len(self.link_keys)})"  # no keys in logs and notebooks


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a session gave and what it cost.

    Attributes:
        total: Sum of the survivors' vectors modulo 2^bits, unsigned [length].
        survivors: Whose vectors are in it.
        sent: Bytes that each client sent.
        received: Bytes that each client received.
        client_seconds: What each client computed.
        server_seconds: What the server computed, by round.

    Lesson: 10
    """

    total: np.ndarray
    survivors: list[int]
    sent: dict[int, int]
    received: dict[int, int]
    client_seconds: dict[int, float]
    server_seconds: dict[Round, float]


def enrol(clients: int) -> Enrolment:
    """Make the keys of clients 1 to `clients`.

    Lesson: 10
    """
    everyone = range(1, clients + 1)
    signing_keys = {u: Ed25519PrivateKey.generate() for u in everyone}
    return Enrolment(
        {u: os.urandom(32) for u in everyone},
        signing_keys,
        {u: key.public_key() for u, key in signing_keys.items()},
    )


def run(
    vectors: Mapping[int, np.ndarray],
    parameters: Parameters,
    leaves: Mapping[int, Round] | None = None,
    enrolment: Enrolment | None = None,
) -> Outcome:
    """Run a session. Clients and server are separate objects; bytes alone pass between them.

    Args:
        vectors: By client, 1 to `parameters.clients`: unsigned [length], see `FixedPoint.encode`.
        parameters: The session's.
        leaves: By client, the first round in which it stays silent; all others stay to the end.
        enrolment: The clients' keys; None makes new ones.

    Raises:
        BelowThreshold: Too few clients were left in a round.
        ValueError: `vectors` does not fit the parameters.

    Lesson: 10
    """
    if sorted(vectors) != list(range(1, parameters.clients + 1)):
        raise ValueError(f"vectors must have the indices 1 to {parameters.clients}.")
    leaves = leaves or {}
    known = enrolment or enrol(parameters.clients)
    server = Server(parameters, known.link_keys, known.registry)
    clients = {
        u: Client(u, vector, parameters, known.link_keys[u], known.signing_keys[u], known.registry)
        for u, vector in vectors.items()
    }
    sent, received = dict.fromkeys(clients, 0), dict.fromkeys(clients, 0)
    client_seconds, server_seconds = dict.fromkeys(clients, 0.0), {}
    inbox: dict[int, bytes | None] = dict.fromkeys(clients)
    for current in parameters.rounds:
        serving = 0.0
        for u, message in inbox.items():
            received[u] += len(message or b"")
            if u in leaves and current >= leaves[u]:
                continue
            begun = time.perf_counter()
            answer = clients[u].receive(message) if message else clients[u].start()
            answered = time.perf_counter()
            server.receive(answer)
            client_seconds[u] += answered - begun
            serving += time.perf_counter() - answered
            sent[u] += len(answer)
        begun = time.perf_counter()
        if current is parameters.rounds[-1]:
            total = server.total()
        else:
            inbox = server.advance()
        server_seconds[current] = serving + time.perf_counter() - begun
    return Outcome(total, server.survivors, sent, received, client_seconds, server_seconds)
