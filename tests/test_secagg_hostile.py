"""Bytes that cost more than they say, keys that are none, secrets that could slip out."""

import gc
import sys
import traceback
import tracemalloc

import msgpack
import pytest
from conftest import benchmark
from hypothesis import example, given, settings
from hypothesis import strategies as st
from secagg_parties import UNTIMED, Parties, parameters, plain_sum

from fedcourse.secagg import Round, enrol, errors, forms, keys, messages, run
from fedcourse.secagg.parameters import MOST_CLIENTS, SERVER

BOTH = pytest.mark.parametrize("active", [False, True])
KINDS = benchmark("secure_aggregation").hostile(10**6)


# --- size: before a message is read ---------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Count how often a seal is tried and msgpack is called, and with how many bytes at most."""
    counts = {"unseal": 0, "unpack": 0, "bytes": 0}
    unseal, unpacker = keys.unseal, msgpack.Unpacker

    def counting_unseal(key, sealed, about):
        counts["unseal"] += 1
        return unseal(key, sealed, about)

    class Counting(unpacker):
        def feed(self, data):
            counts["unpack"] += 1
            counts["bytes"] = max(counts["bytes"], len(data))
            super().feed(data)

    monkeypatch.setattr(keys, "unseal", counting_unseal)
    monkeypatch.setattr(msgpack, "Unpacker", Counting)
    return counts


def everybodys_turn(active):
    """Each round of a session: who receives, from whom, and what would be right."""
    here = Parties(parameters(active=active))
    for current in here.p.rounds:
        if here.down:
            yield here, current, SERVER, here.clients[1].receive, here.down[1]
        answers = here.answers()
        yield here, current, 1, here.server.receive, answers[1]
        for answer in answers.values():
            here.server.receive(answer)
        if current is not Round.UNMASK:
            here.down = here.server.advance()
    assert here.server.total().tolist() == plain_sum(here.data, here.data, here.p.bits)


@BOTH
@pytest.mark.parametrize("kind", KINDS)
def test_a_megabyte_is_refused_before_its_seal_is_tried(active, kind, counted):
    """From strangers, and from those who hold the keys; afterwards the session ends well."""
    for here, current, sender, receive, right in everybodys_turn(active):
        link = here.clients[1]._link
        counted.update(unseal=0, unpack=0)
        head = right[: forms.HEAD.size]
        with pytest.raises((errors.WrongSession, errors.UnknownSender)):
            receive(KINDS[kind])
        for wrong in (head + KINDS[kind], link.seal(sender, current, KINDS[kind])):
            with pytest.raises(errors.TooLarge, match=f"{len(wrong)} bytes in round {current:d}"):
                receive(wrong)
        assert (counted["unseal"], counted["unpack"]) == (0, 0)


@BOTH
def test_the_largest_right_message_is_the_limit(active):
    for here, current, sender, _, right in everybodys_turn(active):
        link = here.clients[1]._link
        assert len(right) == forms.most_bytes(here.p, 1, current, sender)
        body = bytes(len(right) - forms.HEAD.size - keys.SEAL_BYTES)
        assert link.open(sender, current, link.seal(sender, current, body)) == body
        with pytest.raises(errors.TooLarge):
            link.open(sender, current, link.seal(sender, current, body + b"\0"))


@BOTH
@pytest.mark.parametrize("n", [2, 127, 128, 256])
def test_limits_follow_from_the_parameters(n, active):
    """msgpack spells larger indices longer."""
    p = parameters(n, length=10**5, bits=26, active=active)
    everyone = range(1, n + 1)
    for index in {1, n // 2, n}:
        link = messages.Link(bytes(32), index, p)
        for current in p.rounds:
            for sender in {index, SERVER} if current else {index}:
                strings = [bytes(size) for size in forms.strings(p, current, sender)]
                others = (current, sender) in ((Round.SHARE, index), (Round.MASK, SERVER))
                body = messages.write_table(
                    {u: strings for u in everyone if u != index or not others}
                )
                if sender == index and current not in (Round.SHARE, Round.UNMASK):
                    body = messages.write(strings)
                most = forms.most_bytes(p, index, current, sender)
                assert len(link.seal(sender, current, body)) == most, (index, current, sender)


@BOTH
def test_nothing_is_read_before_its_seal_is_right(active, counted):
    for _, _, _, receive, right in everybodys_turn(active):
        counted.update(unseal=0, unpack=0)
        with pytest.raises(errors.Tampered):
            receive(right[:-1] + bytes([right[-1] ^ 1]))
        assert (counted["unseal"], counted["unpack"]) == (1, 0)


def test_cut_short_or_longer_is_said_before_the_seal_is_tried(counted):
    for _, _, _, receive, right in everybodys_turn(False):
        counted.update(unseal=0)
        for cut in (right[:0], right[:1], right[: forms.HEAD.size - 1], right[:-1], right[:-100]):
            with pytest.raises(errors.Malformed):
                receive(cut)
        with pytest.raises(errors.TooLarge):
            receive(right + b"\0")
        assert counted["unseal"] == 0


# --- size: while it is read -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_reading_a_megabyte_makes_no_room_that_it_does_not_fill(kind):
    """Bytes are counted, not seconds: before there were limits, these were up to 8 GB."""
    data = KINDS[kind]
    tracemalloc.start()
    try:
        if kind == "one byte string":
            assert messages.read(data) == [bytes(10**6 - 5)]
        else:
            with pytest.raises(errors.Malformed):
                messages.read(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * len(data)


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_are_read_no_further_than_they_could_be_right(kind, monkeypatch):
    rows = []
    flat = messages._flat
    monkeypatch.setattr(messages, "_flat", lambda row: rows.append(1) or flat(row))
    with pytest.raises(errors.Malformed):
        messages.read_table(KINDS[kind], 5, [32])
    assert len(rows) <= 5 * 5 + 1
    rows.clear()
    with pytest.raises(errors.Malformed):
        messages.read_strings(KINDS[kind], [3, 32])
    assert len(rows) <= 2 * 5 + 1


def test_no_session_has_more_values_than_are_read():
    many = messages.write(range(MOST_CLIENTS))
    assert len(messages.read(many)) == MOST_CLIENTS
    with pytest.raises(errors.Malformed):
        messages.read(many + b"\0")
    assert messages.read(messages.write([[1, b"a", b"b", b"c"]])) == [[1, b"a", b"b", b"c"]]
    with pytest.raises(errors.Malformed):
        messages.read(messages.write([[1, b"a", b"b", b"c", b"d"]]))


def test_benchmark_finds_that_nobody_takes_harm():
    """It raises where somebody does. Its seconds are for the reader of the benchmark."""
    assert set(benchmark("secure_aggregation").hostile_seconds()) == set(KINDS)


# --- keys -----------------------------------------------------------------------------------------

PRIME = 2**255 - 19
# https://cr.yp.to/ecdh.html lists them; X25519 ignores the highest bit
LOW = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
    PRIME,
    PRIME + 1,
]
SMALL = [(number + top).to_bytes(32, "little") for number in LOW for top in (0, 2**255)]
GOOD = keys.public_key(bytes(range(32)))
OTHER_SPELLINGS = [
    (int.from_bytes(GOOD, "little") + 2**255).to_bytes(32, "little"),
    *((PRIME + more).to_bytes(32, "little") for more in range(2, 19)),
    b"\xff" * 32,
]
ANY_KEY = st.binary(min_size=32, max_size=32) | st.sampled_from(SMALL + OTHER_SPELLINGS)
EDGES = st.integers(-40, 40) | st.integers(PRIME - 40, PRIME + 40)
ANY_KEY |= st.builds(lambda n: (n % 2**256).to_bytes(32, "little"), EDGES)


@pytest.mark.parametrize("key", SMALL, ids=bytes.hex)
def test_nobody_can_agree_with_a_key_of_small_order(key):
    private = keys.new_private_key()
    me = keys.PublicKeys(1, GOOD, GOOD)
    them = keys.PublicKeys(2, key, key)
    with pytest.raises(errors.WeakKey, match="small order"):
        keys.pairwise_mask_key(private, me, them, bytes(32))
    with pytest.raises(errors.WeakKey, match="small order"):
        keys.channel_key(private, me, me, them, bytes(32))
    with pytest.raises(errors.WeakKey, match="small order"):
        keys.check_public_key(key)


def test_small_orders_are_all_there_are():
    """Doubling a point takes x to (x² - 1)² / 4 (x³ + 486662 x² + x); infinity has no x."""
    assert {n % PRIME for n in LOW} == keys.SMALL_ORDER

    def doubled(x):
        below = 4 * (x**3 + 486662 * x**2 + x) % PRIME
        return (x * x - 1) ** 2 * pow(below, -1, PRIME) % PRIME if below else None

    assert {x: doubled(x) for x in keys.SMALL_ORDER} == {
        0: None,
        1: 0,
        PRIME - 1: 0,
        LOW[2]: 1,
        LOW[3]: 1,
    }
    # Backwards, with w = x + 1/x. No other x has infinity for its double, as A² - 4 is no square;
    # 1 has w = 2 ± 2 √(A + 2), and one of these belongs to no x; -1 would need the root of 2 - A.
    assert not is_square(486662**2 - 4)
    w = LOW[2] + LOW[3]
    assert LOW[2] * LOW[3] % PRIME == 1 and (w - 2) ** 2 % PRIME == 4 * (486662 + 2)
    assert not is_square((4 - w) ** 2 - 4)
    assert not is_square(2 - 486662)


def is_square(n):
    return pow(n, (PRIME - 1) // 2, PRIME) <= 1


@pytest.mark.parametrize("key", OTHER_SPELLINGS, ids=bytes.hex)
def test_keys_have_one_spelling(key):
    with pytest.raises(errors.Malformed, match="spelling"):
        keys.check_public_key(key)


@UNTIMED
@given(ANY_KEY)
@example(GOOD)
def test_check_says_who_can_be_worked_with(key):
    """Whatever passes agrees with everybody, and is what OpenSSL itself would write."""
    try:
        keys.check_public_key(key)
    except errors.WeakKey:
        with pytest.raises(errors.WeakKey):
            keys._agree(keys.new_private_key(), key)
    except errors.Malformed:
        assert int.from_bytes(key, "little") >= PRIME
    else:
        assert keys._agree(keys.new_private_key(), key) != bytes(32)
        assert int.from_bytes(key, "little") < PRIME


def advertise(here, u, channel, mask):
    """What client u says with keys of its choice, signed where that is asked for."""
    body = [channel, mask]
    if here.p.active:
        content = messages.signed_part(keys.PublicKeys(u, channel, mask))
        private = here.enrolled.signing_keys[u]
        body.append(keys.sign(private, here.p.context, messages.KEYS, content))
    return here.say(u, Round.ADVERTISE, messages.write(body))


@BOTH
@pytest.mark.parametrize("weak", ["channel", "mask"])
def test_weak_keys_do_not_pass_the_servers_door(active, weak):
    here = Parties(parameters(4, active=active))
    for key in SMALL:
        pair = {"channel": GOOD, "mask": GOOD} | {weak: key}
        with pytest.raises(errors.WeakKey):
            here.server.receive(advertise(here, 4, **pair))
    for key in OTHER_SPELLINGS:
        pair = {"channel": GOOD, "mask": GOOD} | {weak: key}
        with pytest.raises(errors.Malformed):
            here.server.receive(advertise(here, 4, **pair))
    here.play(silent=[4])
    assert here.server.total().tolist() == plain_sum(here.data, [1, 2, 3], here.p.bits)


@BOTH
@pytest.mark.parametrize("weak", ["channel", "mask"])
def test_clients_take_no_weak_keys_from_the_server(active, weak):
    for key in [*SMALL, *OTHER_SPELLINGS]:
        here = Parties(parameters(3, active=active)).play(until=Round.SHARE)
        pair = {"channel": GOOD, "mask": keys.public_key(keys.new_private_key())} | {weak: key}
        signed = advertise(here, 2, **pair)
        row = messages.read(here.clients[2]._link.open(2, Round.ADVERTISE, signed))
        table = {r[0]: r[1:] for r in messages.read(here.body(1))} | {2: row}
        with pytest.raises(errors.WeakKey if key in SMALL else errors.Malformed):
            here.clients[1].receive(here.lie(1, Round.SHARE, messages.write_table(table)))
        with pytest.raises(errors.Refused, match="has ended its part"):
            here.clients[1].receive(here.down[1])


@settings(UNTIMED, max_examples=50)
@given(active=st.booleans(), channel=ANY_KEY, mask=ANY_KEY)
def test_no_advertised_key_makes_honest_clients_refuse(active, channel, mask):
    """Client 4 says any keys, then nothing: taken or not, the others end with their sum."""
    here = Parties(parameters(4, 3, active=active), enrolment=ENROLLED)
    answers = here.answers(silent=[4])
    for answer in answers.values():
        here.server.receive(answer)
    try:
        here.server.receive(advertise(here, 4, channel, mask))
        taken = True
    except errors.ProtocolError:
        taken = False
    here.down = here.server.advance()
    assert (4 in here.down) == taken
    for current in here.p.rounds[1:]:
        for answer in here.answers(silent=[4]).values():
            here.server.receive(answer)
        if current is not Round.UNMASK:
            here.down = here.server.advance()
    assert here.server.total().tolist() == plain_sum(here.data, [1, 2, 3], here.p.bits)


ENROLLED = enrol(4)


# --- secrets: in no repr --------------------------------------------------------------------------


def spellings(secret):
    """The ways in which a secret could show up in text."""
    if isinstance(secret, bytes):
        numbers = (str(int.from_bytes(secret, order)) for order in ("little", "big"))
        listed = str([*secret])[1:-1]
        return [repr(secret)[2:-1], secret.hex(), secret.hex().upper(), listed, *numbers]
    return [str(secret), str(secret.tolist())[1:-1]]


def secrets_of(here):
    """Everything that only its owner should know, as far as it is still there."""
    found = [*here.enrolled.link_keys.values(), *here.data.values()]
    found += [key.private_bytes_raw() for key in here.enrolled.signing_keys.values()]
    for client in here.clients.values():
        found += client._link._keys.values()
        for name in ("_channel_private", "_mask_private", "_seed"):
            found.append(getattr(client, name, None))
        for pair in getattr(client, "_shares", {}).values():
            found += [pair, pair[:32], pair[32:]]
    return [secret for secret in found if secret is not None]


def reachable(root):
    """All objects of our own classes within reach of one."""
    seen, found, ahead = set(), [], [root]
    while ahead:
        thing = ahead.pop()
        ours = type(thing).__module__.startswith("fedcourse.secagg")
        if id(thing) in seen or not (ours or isinstance(thing, dict | list | tuple)):
            continue
        seen.add(id(thing))
        found += [thing] * ours
        ahead += gc.get_referents(thing)
        ahead += vars(thing).values() if hasattr(thing, "__dict__") else ()
    return found


@BOTH
def test_no_repr_tells_a_secret(active):
    here = Parties(parameters(3, length=20, active=active))
    outcome = run(here.data, here.p, enrolment=here.enrolled)
    told, names = [], set()
    for current in here.p.rounds:
        secrets = secrets_of(here)
        for thing in reachable([outcome, here.enrolled, here.server, list(here.clients.values())]):
            names.add(type(thing).__name__)
            text = f"{thing!r} {thing} {[thing]}"
            told += [type(thing) for s in secrets for each in spellings(s) if each in text]
        here.play_one(current)
    assert names >= {"Client", "Server", "Link", "Enrolment", "Outcome", "Parameters", "PublicKeys"}
    assert told == []
    assert repr(here.enrolled) == "Enrolment(clients=3)"


def test_the_search_for_secrets_finds_them():
    """What a tuple of the same fields would have told."""
    here = Parties(parameters(3, length=20))
    text = repr(tuple(here.enrolled)) + repr({u: v.tolist() for u, v in here.data.items()})
    assert all(any(s in text for s in spellings(key)) for key in here.enrolled.link_keys.values())
    assert all(any(s in text for s in spellings(vector)) for vector in here.data.values())


@BOTH
def test_no_error_tells_a_secret(active):
    """All that a traceback prints, causes included; bodies with their last byte changed."""
    for current in list(Round):
        here = Parties(parameters(3, length=20, active=active))
        if current not in here.p.rounds:
            continue
        here.play(until=current)
        caught = []
        if current:
            secrets = secrets_of(here)
            for body in (here.body(1)[:-1] + b"\0", here.body(1) + b"\0", here.body(1)[:-1]):
                fresh = Parties(here.p, here.data, here.enrolled)
                fresh.clients[1].__dict__.update(here.clients[1].__dict__)
                try:
                    fresh.clients[1].receive(here.lie(1, current, body))
                except errors.ProtocolError as error:
                    caught.append(error)
        answers = here.answers()
        secrets = secrets_of(here)
        own = here.clients[2]._link.open(2, current, answers[2])
        for body in (own + b"\0", own[:-1], b"\x91" + own):
            with pytest.raises(errors.ProtocolError) as error:
                here.server.receive(here.say(2, current, body))
            caught.append(error.value)
        assert len(caught) >= 3
        for error in caught:
            text = "".join(traceback.format_exception(error)) + repr(error)
            assert not [s for s in secrets for each in spellings(s) if each in text]


# --- whatever happens, it fails closed ------------------------------------------------------------


class Interruption:
    """Raise an exception at the k-th call of a function of the package."""

    def __init__(self, error, k):
        self.error, self.left = error, k

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if event != "call" or "/secagg/" not in code.co_filename.replace("\\", "/"):
            return
        if code.co_name in ("receive", "start", "_failing_closed", "<genexpr>"):
            return  # the first three stand ready; generators are called to be thrown away, too
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            raise self.error

    def during(self, function, *arguments):
        before = sys.getprofile()
        sys.setprofile(self)
        try:
            return function(*arguments)
        finally:
            sys.setprofile(before)


@BOTH
@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("current", list(Round))
def test_client_fails_closed_wherever_it_is_interrupted(active, kind, current):
    """At each call that it makes in a round, one after the other."""
    p = parameters(2, length=2, active=active)
    if current not in p.rounds:
        assert current is Round.CONSISTENCY and not active
        return
    k, ended = 0, False
    while not ended:
        here = Parties(p, enrolment=ENROLLED_TWO).play(until=current)
        client = here.clients[1]
        ask = (client.receive, here.down[1]) if here.down else (client.start,)
        error = kind("in the middle")
        try:
            assert Interruption(error, k).during(*ask)
            ended = True
        except kind as caught:
            assert caught is error, "the exception passes on"
            assert vars_of(caught) == {}
            with pytest.raises(errors.Refused, match="has ended its part"):
                client.receive(here.down[1] if here.down else b"")
            with pytest.raises(errors.WrongRound):
                client.start()
            assert client._vector is client._seed is client._mask_private is None
            assert client._channel_private is None and client._shares == {}
        k += 1
    assert k > 3, "there were calls to interrupt"


ENROLLED_TWO = enrol(2)


def vars_of(error):
    """What the frames below the client's own door still hold."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    doors = [i for i, f in enumerate(frames) if f.f_code.co_name in ("receive", "start")]
    return {k: v for frame in frames[doors[-1] + 1 :] for k, v in frame.f_locals.items()}


def test_client_goes_on_after_what_anybody_could_have_sent():
    here = Parties(parameters(3))
    for current in here.p.rounds:
        if here.down:
            for wrong in (b"", bytes(100), here.down[2], here.down[1][:-1]):
                with pytest.raises(errors.ProtocolError):
                    here.clients[1].receive(wrong)
        here.play_one(current)
    assert here.server.total().tolist() == plain_sum(here.data, here.data, here.p.bits)


def test_session_is_over_where_the_server_is_interrupted(monkeypatch):
    """Else a vector could be added twice, when the client sends it again."""
    here = Parties(parameters(3)).play(until=Round.MASK)
    answers = here.answers()
    here.server.receive(answers[1])
    read = messages.read_strings

    def interrupted(*arguments):
        read(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(messages, "read_strings", interrupted)
    with pytest.raises(KeyboardInterrupt):
        here.server.receive(answers[2])
    monkeypatch.undo()
    with pytest.raises(errors.WrongRound, match="over"):
        here.server.receive(answers[2])
    for more in (here.server.advance, here.server.total):
        with pytest.raises(errors.WrongRound):
            more()


# --- without TensorFlow ---------------------------------------------------------------------------


WITHOUT = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    if not name.startswith(("tensorflow", "tf_keras", "keras", "jax", "pandas")):
        return find(name, path, target)

PathFinder.find_spec = find_spec
"""
SESSION = """
import numpy as np
from fedcourse import secagg

p = secagg.Parameters(bytes(16), 3, 2, 4, 8)
ones = np.ones(4, np.uint32)
print(secagg.run(dict.fromkeys((1, 2, 3), ones), p, {3: secagg.Round.MASK}).total)
"""


def test_it_works_where_neither_tensorflow_nor_tff_is_installed(python):
    run = python("-c", WITHOUT + SESSION)
    assert (run.status, run.out) == (0, "[2 2 2 2]\n"), run.err
    assert python("-c", WITHOUT + "import tensorflow").status == 1
