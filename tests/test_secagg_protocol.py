"""Whole sessions: the sum of the survivors, or nothing; and what a masked vector looks like."""

import hashlib
import itertools
import os
import secrets

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from secagg_parties import UNTIMED, Parties, parameters, plain_sum, vectors

from fedcourse.secagg import (
    BelowThreshold,
    Client,
    FixedPoint,
    Parameters,
    Round,
    Server,
    enrol,
    errors,
    messages,
    modular,
    run,
    sizes,
    smallest_threshold,
)

ENROLLED = {n: enrol(n) for n in range(2, 13)}


def left_in(current, p, leaves):
    return [u for u in range(1, p.clients + 1) if leaves.get(u, 99) > current]


def check(p, leaves, data):
    """Run a session and compare with what the clients who stayed should give."""
    ends = [current for current in p.rounds if len(left_in(current, p, leaves)) < p.threshold]
    if ends:
        with pytest.raises(BelowThreshold, match=f"in round {ends[0].name}; .* There is no sum"):
            run(data, p, leaves, ENROLLED[p.clients])
        return
    outcome = run(data, p, leaves, ENROLLED[p.clients])
    assert outcome.survivors == left_in(Round.MASK, p, leaves)
    assert outcome.total.tolist() == plain_sum(data, outcome.survivors, p.bits)


# --- the sum --------------------------------------------------------------------------------------


@st.composite
def sessions(draw):
    active = draw(st.booleans())
    n = draw(st.integers(2, 12))
    t = draw(st.integers(smallest_threshold(n, active), n))
    p = parameters(n, t, draw(st.integers(1, 30)), draw(st.integers(1, 64)), active)
    leavers = draw(st.sets(st.integers(1, n), max_size=n - t + 1))
    return p, {u: draw(st.sampled_from(p.rounds)) for u in sorted(leavers)}


@settings(UNTIMED, max_examples=150)
@given(sessions(), st.integers(0, 2**32))
def test_sum_of_the_survivors_or_nothing(session, seed):
    p, leaves = session
    check(p, leaves, vectors(p, seed))


@pytest.mark.parametrize("active", [False, True])
def test_every_way_that_three_clients_can_drop_out(active):
    for pattern in itertools.product([None, *parameters(3, active=active).rounds], repeat=3):
        p = parameters(3, active=active)
        leaves = {u: current for u, current in enumerate(pattern, 1) if current is not None}
        check(p, leaves, vectors(p))


def test_real_numbers_within_half_a_step_a_client():
    encoding = FixedPoint(2.0, 16, 12)
    p = Parameters(os.urandom(16), 12, 7, 1000, encoding.bits)
    rng = np.random.default_rng(0)
    values = {u: rng.uniform(-2, 2, 1000) for u in range(1, 13)}
    leaves = {2: Round.SHARE, 5: Round.MASK, 6: Round.MASK, 9: Round.UNMASK}
    outcome = run({u: encoding.encode(v) for u, v in values.items()}, p, leaves)
    assert outcome.survivors == [1, 3, 4, 7, 8, 9, 10, 11, 12]
    truth = sum(values[u] for u in outcome.survivors)
    gap = np.abs(encoding.decode(outcome.total) - truth).max()
    assert 0 < gap <= len(outcome.survivors) * encoding.step / 2


def test_order_of_arrival_does_not_matter():
    session = Parties(parameters(6, active=True))
    rng = np.random.default_rng(0)
    for current in session.p.rounds:
        answers = list(session.answers().values())
        for place in rng.permutation(len(answers)):
            session.server.receive(answers[place])
        if current is not Round.UNMASK:
            session.down = session.server.advance()
    total = session.server.total()
    assert total.tolist() == plain_sum(session.data, session.data, session.p.bits)


def test_after_the_end_there_is_nothing_more():
    session = Parties(parameters()).play()
    session.server.total()
    for more in (session.server.total, session.server.advance):
        with pytest.raises(errors.WrongRound):
            more()
    with pytest.raises(errors.WrongRound, match="over"):
        session.server.receive(b"")


def test_sum_comes_after_the_last_round_only():
    session = Parties(parameters())
    with pytest.raises(errors.WrongRound):
        session.server.total()
    assert session.server.survivors == []


@pytest.mark.parametrize("ends", [Round.ADVERTISE, Round.SHARE, Round.MASK, Round.UNMASK])
def test_below_the_threshold_a_session_stays_over(ends):
    session = Parties(parameters(5)).play(until=ends)
    answers = list(session.answers().values())
    for answer in answers[:2]:
        session.server.receive(answer)
    with pytest.raises(BelowThreshold, match="2 clients answered"):
        session.server.total() if ends is Round.UNMASK else session.server.advance()
    for late in (lambda: session.server.receive(answers[2]), session.server.total):
        with pytest.raises(errors.WrongRound):
            late()


# --- what the server sees -------------------------------------------------------------------------


@pytest.fixture
def seeded(monkeypatch):
    """Make all randomness depend on a seed: then a statistical test gives the same every time."""

    def seed(number):
        stream = itertools.count()

        def random_bytes(count):
            blocks = []
            while sum(map(len, blocks)) < count:
                blocks.append(hashlib.sha256(f"{number} {next(stream)}".encode()).digest())
            return b"".join(blocks)[:count]

        monkeypatch.setattr(os, "urandom", random_bytes)
        monkeypatch.setattr(
            secrets, "randbelow", lambda below: int.from_bytes(random_bytes(48), "big") % below
        )

    return seed


def masked(p, data, client):
    """What one client sends in round MASK, as the server reads it."""
    session = Parties(p, data).play(until=Round.MASK)
    message = session.clients[client].receive(session.down[client])
    body = session.clients[client]._link.open(client, Round.MASK, message)
    return modular.unpack(messages.read(body)[0], p.length, p.bits)


def p_value(entries, bits, shift):
    """How often uniform entries have counts of 8 of their bits as uneven as these (chi-square)."""
    counts = np.bincount((entries >> shift).astype(np.int64) & 255, minlength=256)
    return stats.chisquare(counts).pvalue


@pytest.mark.parametrize("bits", [20, 32, 40])
@pytest.mark.parametrize("seed", range(5))
def test_masked_vector_is_uniform_whatever_it_hides(bits, seed, seeded):
    length = 20_000
    inputs = {
        "zeros": np.zeros(length, modular.word(bits)),
        "all the same": np.full(length, 2**bits - 1, modular.word(bits)),
        "small": np.random.default_rng(seed).integers(0, 200, length).astype(modular.word(bits)),
    }
    for hidden in inputs.values():
        seeded(seed)
        p = parameters(3, length=length, bits=bits)
        found = masked(p, dict.fromkeys((1, 2, 3), hidden), 2)
        for shift in (0, bits - 8):
            assert p_value(hidden, bits, shift) < 1e-6, "the test can tell what is not uniform"
            assert p_value(found, bits, shift) > 1e-3
        correlation = np.corrcoef(found.astype(float), inputs["small"].astype(float))[0, 1]
        assert abs(correlation) < 4 / np.sqrt(length)


def test_mask_hides_by_adding_and_never_comes_twice(seeded):
    p = parameters(3, length=50, bits=20, session=bytes(16))
    zeros, ones = np.zeros(50, np.uint32), np.ones(50, np.uint32)
    found = []
    for number, hidden in ((1, zeros), (1, ones), (2, zeros)):
        seeded(number)
        found.append(masked(p, dict.fromkeys((1, 2, 3), hidden), 1))
    assert (modular.reduce(found[0] + 1, 20) == found[1]).all()
    assert np.mean(found[0] == found[2]) < 0.1


def test_client_keeps_the_callers_vector_as_it_was():
    data = vectors(parameters())
    before = {u: vector.copy() for u, vector in data.items()}
    run(data, parameters())
    assert all((data[u] == before[u]).all() for u in data)


def test_client_forgets_its_secrets():
    session = Parties(parameters()).play()
    for client in session.clients.values():
        assert client._vector is client._seed is client._mask_private is None
        assert client._channel_private is None and client._shares == {}


# --- what it costs --------------------------------------------------------------------------------


@pytest.mark.parametrize("active", [False, True])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_bytes_counted_are_bytes_measured(n, active):
    p = parameters(n, length=1000, bits=21, active=active)
    outcome = run(vectors(p), p, enrolment=ENROLLED[n])
    for u in outcome.sent:
        assert (outcome.sent[u], outcome.received[u]) == sizes.bytes_of_client(p, u)
    assert set(outcome.client_seconds) == set(outcome.sent)
    assert set(outcome.server_seconds) == set(p.rounds)


def test_expansion_beside_the_papers():
    """The paper has 1.73 for 2^10 clients and 2^20 entries of 16 bits."""
    plain = 2 * 2**20
    assert round(sizes.paper_bytes(2**10, 2**20, 16) / plain, 2) == 1.73
    bits = FixedPoint(1.0, 16, 2**10).bits
    for active, most in ((False, 1.8), (True, 1.85)):
        p = parameters(2**10, length=2**20, bits=bits, active=active)
        assert 1.73 < sum(sizes.bytes_of_client(p)) / plain < most


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"index": 0}, "index=0"),
        ({"index": 6}, "index=6"),
        ({"vector": np.zeros(4)}, "float64"),
        ({"vector": np.zeros(3, np.uint32)}, r"\[3\]"),
        ({"vector": np.full(4, 2**20, np.uint32)}, "below 2"),
        ({"link_key": b"abc"}, "key has 3 bytes"),
        ({"parameters": parameters(active=True)}, "signing_key and registry"),
    ],
)
def test_client_refuses(change, said):
    good = {
        "index": 1,
        "vector": np.zeros(4, np.uint32),
        "parameters": parameters(),
        "link_key": bytes(32),
    }
    Client(**good)
    with pytest.raises(ValueError, match=said):
        Client(**good | change)


def test_server_and_run_refuse_other_indices():
    p = parameters(5, active=True)
    with pytest.raises(ValueError, match="link_keys"):
        Server(p, {1: bytes(32)})
    with pytest.raises(ValueError, match="registry"):
        Server(p, ENROLLED[5].link_keys)
    with pytest.raises(ValueError, match="vectors"):
        run(vectors(parameters(4)), p)
