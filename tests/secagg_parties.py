"""A session of secure aggregation in the hands of a test: step by step, or with a tapped wire."""

import os

import numpy as np
from hypothesis import HealthCheck, settings

from fedcourse.secagg import Client, Parameters, Round, Server, enrol, smallest_threshold

# a property holds or does not, however slow the machine is
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def parameters(clients=5, threshold=None, length=4, bits=20, active=False, session=None):
    threshold = threshold or smallest_threshold(clients, active)
    return Parameters(session or os.urandom(16), clients, threshold, length, bits, active)


def vectors(p, seed=0):
    """A vector of any numbers below 2^bits for each client."""
    rng = np.random.default_rng(seed)
    dtype = np.uint32 if p.bits <= 32 else np.uint64
    return {
        u: rng.integers(0, 2**p.bits - 1, p.length, dtype, endpoint=True)
        for u in range(1, p.clients + 1)
    }


def plain_sum(vectors, of, bits):
    """The sum modulo 2^bits in Python's own integers."""
    rows = [[int(entry) for entry in vectors[u]] for u in of]
    return [sum(column) % 2**bits for column in zip(*rows, strict=True)]


class Parties:
    """The server and the clients of one session, and the messages under way between them."""

    def __init__(self, p, data=None, enrolment=None):
        self.p, self.data = p, vectors(p) if data is None else data
        self.enrolled = enrolment or enrol(p.clients)
        self.server = Server(p, self.enrolled.link_keys, self.enrolled.registry)
        self.clients = {u: self.client(u) for u in self.data}
        self.down = None  # the server's messages of this round; None before the first

    def client(self, u, p=None):
        e = self.enrolled
        return Client(u, self.data[u], p or self.p, e.link_keys[u], e.signing_keys[u], e.registry)

    def answers(self, silent=()):
        """Let the clients answer what is under way to them."""
        return {
            u: client.start() if self.down is None else client.receive(self.down[u])
            for u, client in self.clients.items()
            if u not in silent and (self.down is None or u in self.down)
        }

    def play(self, until=None, silent=()):
        """Go through the rounds; stop when round `until` has begun, its messages under way."""
        for current in self.p.rounds:
            if current == until:
                return self
            self.play_one(current, silent)
        return self

    def play_one(self, current, silent=()):
        """Let the clients answer, and end the round."""
        for answer in self.answers(silent).values():
            self.server.receive(answer)
        if current is not Round.UNMASK:
            self.down = self.server.advance()

    def lie(self, u, current, body):
        """A message that the server might send to client u if it does not keep to the protocol."""
        return self.server._links[u].seal(0, current, body)

    def say(self, u, current, body):
        """A message that client u might send if it does not keep to the protocol."""
        return self.clients[u]._link.seal(u, current, body)

    def body(self, u):
        """What is under way to client u, opened."""
        return self.clients[u]._link.open(0, self.clients[u]._awaits, self.down[u])
