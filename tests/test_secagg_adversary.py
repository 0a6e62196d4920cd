"""Everyone who does not keep to the protocol: on the wire, at the server, among the clients."""

import contextlib
import itertools

import msgpack
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from secagg_parties import UNTIMED, Parties, parameters, plain_sum

from fedcourse.secagg import Round, enrol, errors, forms, keys, messages, shamir
from fedcourse.secagg.parameters import SERVER

ENROLLED_THREE = enrol(3)
BOTH = pytest.mark.parametrize("active", [False, True])


def session(active=False, until=None, clients=5, enrolment=None, **more):
    return Parties(parameters(clients, active=active, **more), enrolment=enrolment).play(until)


# --- on the wire: bytes change, come twice, come late ---------------------------------------------


@st.composite
def changes(draw):
    """A way to change bytes, whatever they are."""
    kind = draw(st.sampled_from(["flip", "cut", "append", "insert", "drop", "repeat", "replace"]))
    where, more = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=8))

    def change(data):
        place = int(where * len(data))
        return {
            "flip": data[:place] + bytes([data[place] ^ (more[0] or 1)]) + data[place + 1 :],
            "cut": data[:place],
            "append": data + more,
            "insert": data[:place] + more + data[place:],
            "drop": data[:place] + data[place + 1 :],
            "repeat": data + data,
            "replace": more,
        }[kind]

    return change


def attempt(receive, wrong):
    with pytest.raises(errors.ProtocolError) as caught:
        receive(wrong)
    assert type(caught.value) is not errors.ProtocolError, "each error has a name of its own"


@settings(UNTIMED, max_examples=60)
@given(active=st.booleans(), n=st.integers(2, 5), data=st.data())
def test_no_change_on_the_wire_is_taken_or_changes_the_sum(active, n, data):
    """Every message of a session comes changed first, then as it was; old ones come again."""
    p = parameters(n, length=3, active=active)
    earlier = Parties(parameters(n, length=3, active=active))
    here = Parties(p, enrolment=earlier.enrolled)
    old = list(earlier.answers().values())  # of another session of the same clients
    old_down = []
    change = data.draw(st.lists(changes(), min_size=2, max_size=2))
    for current in p.rounds:
        for u, client in here.clients.items():
            if here.down:
                message = here.down[u]
                for each in change:
                    attempt(client.receive, each(message))
                for v in here.down:
                    if v != u:
                        attempt(client.receive, here.down[v])  # meant for another
                for late in old_down[-n:]:
                    attempt(client.receive, late)
            answer = client.receive(here.down[u]) if here.down else client.start()
            if here.down:
                attempt(client.receive, here.down[u])  # the same again
            attempt(client.receive, answer)  # its own, sent back
            for each in change:
                attempt(here.server.receive, each(answer))
            for late in old[-2 * n :]:
                attempt(here.server.receive, late)
            assert here.server.receive(answer) == u
            attempt(here.server.receive, answer)
            old.append(answer)
        if current is not Round.UNMASK:
            old_down += list((here.down or {}).values())
            here.down = here.server.advance()
    assert here.server.total().tolist() == plain_sum(here.data, here.data, p.bits)


@BOTH
def test_every_single_bit_counts(active):
    """All bits of one message in each round, both ways."""
    here = session(active, clients=3, length=2)
    here = Parties(here.p)
    for current in here.p.rounds:
        if here.down:
            flips_are_refused(here.clients[1].receive, here.down[1])
        answers = here.answers()
        flips_are_refused(here.server.receive, answers[1])
        for answer in answers.values():
            here.server.receive(answer)
        if current is not Round.UNMASK:
            here.down = here.server.advance()
    assert here.server.total().tolist() == plain_sum(here.data, here.data, here.p.bits)


def flips_are_refused(receive, message):
    for bit in range(8 * len(message)):
        changed = bytearray(message)
        changed[bit // 8] ^= 1 << bit % 8
        attempt(receive, bytes(changed))


def test_errors_have_names_that_fit():
    here = session(until=Round.MASK)
    other = session(until=Round.MASK, enrolment=here.enrolled)
    client, message = here.clients[1], here.down[1]
    flipped = message[:-1] + bytes([message[-1] ^ 1])
    early = here.lie(1, Round.UNMASK, messages.write_table({u: [] for u in here.data}))
    for error, wrong in (
        (errors.Malformed, message[:-1]),
        (errors.Malformed, message + b"\0"),
        (errors.Tampered, flipped),
        (errors.WrongSession, other.down[1]),
        (errors.UnknownSender, here.down[2]),
        (errors.WrongRound, early),
    ):
        with pytest.raises(error):
            client.receive(wrong)
    answer = client.receive(message)
    here.server.receive(answer)
    with pytest.raises(errors.Duplicate):
        here.server.receive(answer)
    with pytest.raises(errors.WrongRound):
        client.receive(message)


def shape(body):
    """What a body has but for the content of its byte strings; None where it is no list of values.

    By msgpack alone, for bodies too short to do harm.
    """
    unpacker = msgpack.Unpacker()
    unpacker.feed(body)
    try:
        values = list(unpacker)
    except (ValueError, msgpack.UnpackException):
        return None
    if b"".join(map(msgpack.packb, values)) != body:
        return None

    def form(value):
        if isinstance(value, bytes):
            return len(value)
        return [form(v) for v in value] if isinstance(value, list) else (type(value), value)

    return [form(value) for value in values]


BODIES = st.binary(max_size=80).map(lambda body: lambda own: body) | changes()


@settings(UNTIMED, max_examples=150)
@given(active=st.booleans(), current=st.sampled_from(Round), change=BODIES)
def test_server_takes_no_body_of_another_shape_and_goes_on_without_it(active, current, change):
    """A client that has the keys and says anything at all, then what is right."""
    p = parameters(3, length=2, active=active)
    assume(current in p.rounds)
    here = Parties(p, enrolment=ENROLLED_THREE).play(until=current)
    answers = here.answers()
    own = here.clients[2]._link.open(2, current, answers[2])
    body = change(own)
    changed_content = shape(body) == shape(own) and body != own
    try:
        here.server.receive(here.say(2, current, body))
    except errors.Malformed:
        # keys, and the spare bits of a vector, have one spelling
        assert not changed_content or current in (Round.ADVERTISE, Round.MASK)
    except errors.ProtocolError as error:
        assert changed_content and current in (Round.ADVERTISE, Round.CONSISTENCY)
        assert isinstance(error, errors.Tampered | errors.WeakKey)
    else:
        assert body == own or changed_content
        return
    for answer in answers.values():
        here.server.receive(answer)
    if current is not Round.UNMASK:
        here.down = here.server.advance()
        for rest in [each for each in p.rounds if each > current]:
            for answer in here.answers().values():
                here.server.receive(answer)
            if rest is not Round.UNMASK:
                here.down = here.server.advance()
    assert here.server.total().tolist() == plain_sum(here.data, here.data, p.bits)


@settings(UNTIMED, max_examples=150)
@given(active=st.booleans(), current=st.sampled_from(list(Round)[1:]), change=BODIES)
def test_client_takes_no_body_of_another_shape_and_ends_its_part(active, current, change):
    """A server that has the keys and says anything at all."""
    p = parameters(3, length=2, active=active)
    assume(current in p.rounds)
    here = Parties(p, enrolment=ENROLLED_THREE).play(until=current)
    client, message, right = here.clients[1], here.down[1], here.body(1)
    sent = change(right)
    assume(sent != right)
    try:
        client.receive(here.lie(1, current, sent))
    except errors.TooLarge:
        assert len(sent) > len(right)  # nobody knows who sent it: the client goes on
        assert client.receive(message)
    except errors.ProtocolError as error:
        assert type(error) is not errors.ProtocolError
        ended(client, message)
    else:  # some rows fewer, or keys and signatures that nobody can know to be others'
        rows = [shape(right)[0][1:]] * len(shape(sent))
        assert [row[1:] for row in shape(sent)] == rows and len(rows) >= p.threshold - 1


def ended(client, message):
    """The client has forgotten everything and answers nothing any more."""
    with pytest.raises(errors.Refused, match="has ended its part"):
        client.receive(message)
    with pytest.raises(errors.WrongRound):
        client.start()
    assert client._vector is client._seed is client._mask_private is None
    assert client._channel_private is None and client._shares == {}


# --- a server that lies ---------------------------------------------------------------------------


def lied_to(here, u, current, body, error, match=None):
    """Client u refuses what the server says, and whatever else comes afterwards."""
    with pytest.raises(error, match=match):
        here.clients[u].receive(here.lie(u, current, body))
    ended(here.clients[u], here.down[u])


def rows(here, u):
    return {row[0]: row[1:] for row in messages.read(here.body(u))}


def survivors(*indices):
    return messages.write_table({u: [] for u in indices})


@BOTH
def test_both_shares_of_one_client_in_two_requests(active):
    here = session(active, until=Round.UNMASK)
    client = here.clients[1]
    client.receive(here.down[1])
    for again in (here.down[1], here.lie(1, Round.UNMASK, survivors(1, 2, 3, 4))):
        with pytest.raises(errors.WrongRound):
            client.receive(again)


@BOTH
def test_both_shares_of_one_client_in_one_request(active):
    current = Round.CONSISTENCY if active else Round.UNMASK
    here = session(active, until=current)
    for body in (
        messages.write([[1], [2], [3], [5], [5]]),
        messages.write([[1], [2, b"both"]]),
        messages.write([1, 2, 3, 4, 5]),
    ):
        here = session(active, until=current)
        lied_to(here, 1, current, body, errors.Malformed)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7])
def test_two_stories_never_get_both_secrets_from_honest_clients(n):
    """Curious server that lies once: some clients hear that client 1 dropped out, others not.

    Without the consistency round clients answer; the threshold is above half, so for at least one
    of client 1's two secrets there are too few shares.
    """
    for split in range(n):
        here = session(until=Round.UNMASK, clients=n)
        everyone = list(here.data)
        seed, mask_key = {}, {}
        for u, client in here.clients.items():
            dropped = u > split and u != 1
            told = everyone[1:] if dropped else everyone
            try:
                answer = client.receive(here.lie(u, Round.UNMASK, survivors(*told)))
            except errors.BelowThreshold:
                continue
            table = messages.read_table(
                client._link.open(u, Round.UNMASK, answer), n, [shamir.SHARE_BYTES]
            )
            (mask_key if dropped else seed)[u] = table[1][0]
        assert min(len(seed), len(mask_key)) < here.p.threshold


def test_two_stories_end_in_the_consistency_round():
    for split in range(7):
        here = session(active=True, until=Round.CONSISTENCY, clients=6, threshold=5)
        told = {
            u: range(1, 7) if u <= split else [v for v in range(1, 7) if v != 1] for u in here.data
        }
        signatures = {}
        for u, client in here.clients.items():
            with contextlib.suppress(errors.Refused):
                answer = client.receive(here.lie(u, Round.CONSISTENCY, survivors(*told[u])))
                body = client._link.open(u, Round.CONSISTENCY, answer)
                signatures[u] = messages.read(body)
        kinds = {tuple(told[u]) for u in signatures}
        answered = set()
        for u in signatures:
            for choice in (signatures, {v: s for v, s in signatures.items() if told[v] == told[u]}):
                client = here.clients[u]
                with contextlib.suppress(errors.ProtocolError):
                    client.receive(here.lie(u, Round.UNMASK, messages.write_table(choice)))
                    answered.add(tuple(told[u]))
        assert len(answered) == (split in (0, 6)), (split, kinds)  # one story, or none


def test_keys_of_the_servers_own_are_taken_where_it_is_trusted_and_refused_where_not():
    for active in (False, True):
        here = session(active, until=Round.SHARE)
        table = rows(here, 1)
        table[2][0] = keys.public_key(keys.new_private_key())
        if active:
            lied_to(here, 1, Round.SHARE, messages.write_table(table), errors.Tampered, "of keys")
        else:
            here.clients[1].receive(here.lie(1, Round.SHARE, messages.write_table(table)))


def test_signed_keys_of_another_session_are_refused():
    old = session(active=True, until=Round.SHARE)
    here = session(active=True, until=Round.SHARE, enrolment=old.enrolled)
    table = rows(here, 1) | {2: rows(old, 1)[2]}
    lied_to(here, 1, Round.SHARE, messages.write_table(table), errors.Tampered)


def test_signed_keys_of_another_client_are_refused():
    here = session(active=True, until=Round.SHARE)
    table = rows(here, 1)
    table[2], table[3] = table[3], table[2]
    lied_to(here, 1, Round.SHARE, messages.write_table(table), errors.Tampered)


def test_client_that_nobody_knows_is_refused():
    here = session(active=True, until=Round.SHARE)
    here.clients[1]._registry = {u: k for u, k in here.enrolled.registry.items() if u != 2}
    lied_to(
        here, 1, Round.SHARE, messages.write_table(rows(here, 1)), errors.UnknownSender, "registry"
    )


@BOTH
def test_list_of_keys_must_be_right(active):
    new = keys.public_key(keys.new_private_key())
    for change, error, said in (
        (lambda t: {u: row for u, row in t.items() if u != 1}, errors.Refused, "own keys"),
        (lambda t: t | {1: [new, *t[1][1:]]}, errors.Refused, "own keys"),
        (lambda t: t | {2: t[3]}, errors.Refused, "are the same"),
        (lambda t: t | {2: [t[1][1], *t[2][1:]]}, errors.Refused, "are the same"),
        (lambda t: dict(itertools.islice(t.items(), 2)), errors.BelowThreshold, "only 2 clients"),
        (lambda t: {u + (u == 5): row for u, row in t.items()}, errors.Malformed, "index 6"),
        (lambda t: t | {2: t[2][:1]}, errors.Malformed, "sizes"),
    ):
        here = session(active, until=Round.SHARE)
        body = messages.write_table(change(rows(here, 1)))
        lied_to(here, 1, Round.SHARE, body, error, said)


@BOTH
def test_shares_must_be_from_who_they_say_and_for_this_client(active):
    for change, error, said in (
        (lambda t: t | {2: t[3], 3: t[2]}, errors.Tampered, "seal"),
        (lambda t: {u - (u == 2): row for u, row in t.items()}, errors.Refused, r"clients \[1\]"),
        (lambda t: dict(itertools.islice(t.items(), 1)), errors.BelowThreshold, "only 2 clients"),
        (lambda t: t | {2: [t[2][0][:-1]]}, errors.Malformed, "sizes"),
        (lambda t: t | {2: [bytes(forms.SHARES_BYTES)]}, errors.Tampered, "seal"),
    ):
        here = session(active, until=Round.MASK)
        body = messages.write_table(change(rows(here, 1)))
        lied_to(here, 1, Round.MASK, body, error, said)
    here = session(active, until=Round.MASK)
    lied_to(here, 1, Round.MASK, here.body(2), errors.Refused, r"clients \[1\]")


def test_own_shares_sent_back_as_anothers_are_refused():
    """What client 1 sealed for client 2 is no message from 2 to 1: each direction has its key."""
    here = session(until=Round.SHARE)
    answers = here.answers()
    mine = messages.read(here.clients[1]._link.open(1, Round.SHARE, answers[1]))
    for answer in answers.values():
        here.server.receive(answer)
    here.down = here.server.advance()
    table = rows(here, 1) | {2: {row[0]: row[1:] for row in mine}[2]}
    lied_to(here, 1, Round.MASK, messages.write_table(table), errors.Tampered)


def test_shares_of_one_who_advertised_no_keys_are_refused():
    here = Parties(parameters(5)).play(until=Round.MASK, silent=[5])
    table = rows(here, 1)
    table[5] = table[4]
    lied_to(here, 1, Round.MASK, messages.write_table(table), errors.Refused, r"clients \[5\]")


@BOTH
def test_survivors_must_be_enough_and_of_those_who_shared(active):
    current = Round.CONSISTENCY if active else Round.UNMASK
    for told, error, said in (
        ((1, 2), errors.BelowThreshold, "only 2 clients survived"),
        ((), errors.BelowThreshold, "only 0"),
        ((1, 2, 3, 4, 5), errors.Refused, r"clients \[5\]"),
        ((2, 3, 4), errors.BelowThreshold if active else errors.Refused, None),
    ):
        here = Parties(parameters(5, active=active))
        for each in (Round.ADVERTISE, Round.SHARE, Round.MASK):
            silent = [5] if each >= Round.SHARE else []
            for answer in here.answers(silent).values():
                here.server.receive(answer)
            here.down = here.server.advance()
        lied_to(here, 1, current, survivors(*told), error, said)


def test_client_that_is_said_to_have_dropped_out_does_not_answer():
    here = session(until=Round.UNMASK)
    lied_to(here, 1, Round.UNMASK, survivors(2, 3, 4, 5), errors.Refused, "dropped out")


def test_signatures_of_the_survivors_must_be_right():
    for change, error in (
        (lambda t: dict(itertools.islice(t.items(), 3)), errors.BelowThreshold),
        (lambda t: t | {2: t[3]}, errors.Tampered),
        (lambda t: t | {2: [bytes(64)]}, errors.Tampered),
        (lambda t: {u + (u == 5): row for u, row in t.items()}, errors.Malformed),
    ):
        here = session(active=True, until=Round.UNMASK)
        body = messages.write_table(change(rows(here, 1)))
        lied_to(here, 1, Round.UNMASK, body, error)
    here = Parties(parameters(6, active=True, threshold=5)).play(until=Round.MASK)
    for answer in here.answers(silent=[6]).values():
        here.server.receive(answer)
    here.down = here.server.advance()
    for answer in here.answers().values():
        here.server.receive(answer)
    here.down = here.server.advance()
    table = rows(here, 1)
    table[6] = table[5]
    lied_to(here, 1, Round.UNMASK, messages.write_table(table), errors.Refused, r"clients \[6\]")


def test_keys_are_not_used_twice():
    with pytest.raises(errors.WrongRound, match="has not started"):
        Parties(parameters()).clients[1].receive(b"")
    here = session()
    for client in here.clients.values():
        with pytest.raises(errors.WrongRound, match="make another one"):
            client.start()
    fresh = Parties(parameters())
    one, two = (
        messages.read(fresh.client(1)._link.open(1, 0, c.start()))
        for c in (fresh.client(1), fresh.client(1))
    )
    assert not set(one) & set(two)


# --- clients that do not keep to it ---------------------------------------------------------------


@BOTH
def test_anothers_keys_are_not_advertised_twice(active):
    here = Parties(parameters(3, active=active))
    answers = here.answers()
    here.server.receive(answers[1])
    body = here.clients[1]._link.open(1, Round.ADVERTISE, answers[1])
    channel, mask, *signature = messages.read(body)
    new = keys.public_key(keys.new_private_key())
    for pair in ((channel, mask), (new, mask), (mask, new), (new, new)):
        with pytest.raises(errors.Duplicate, match="in use"):
            here.server.receive(here.say(2, Round.ADVERTISE, messages.write([*pair, *signature])))
    here.server.receive(answers[2])
    assert sorted(here.server._received) == [1, 2]


def test_signatures_are_checked_by_the_server_too():
    here = Parties(parameters(3, active=True))
    new = [keys.public_key(keys.new_private_key()) for _ in range(2)]
    body = messages.write([*new, bytes(64)])
    with pytest.raises(errors.Tampered):
        here.server.receive(here.say(2, Round.ADVERTISE, body))
    here = session(active=True, until=Round.CONSISTENCY)
    with pytest.raises(errors.Tampered):
        here.server.receive(here.say(2, Round.CONSISTENCY, messages.write([bytes(64)])))


@BOTH
def test_shares_for_others_than_asked_are_refused(active):
    here = session(active, until=Round.SHARE)
    box = [bytes(forms.SHARES_BYTES)]
    for owners in ((1, 3, 4), (2, 3, 4, 5), ()):
        with pytest.raises(errors.Malformed, match="instead of"):
            body = messages.write_table(dict.fromkeys(owners, box))
            here.server.receive(here.say(2, Round.SHARE, body))


def test_vector_of_another_length_is_refused():
    here = session(until=Round.MASK)
    for size in (0, 9, 11):
        with pytest.raises(errors.Malformed):
            body = messages.write([bytes(size), bytes(32)])
            here.server.receive(here.say(1, Round.MASK, body))
    odd = session(until=Round.MASK, bits=21, length=1)
    with pytest.raises(errors.Malformed, match="beyond its last number"):
        odd.server.receive(odd.say(1, Round.MASK, messages.write([b"\0\0\x01", bytes(32)])))


def test_who_has_dropped_out_does_not_come_back():
    here = Parties(parameters(5)).play(until=Round.SHARE, silent=[5])
    with pytest.raises(errors.UnknownSender, match="client 5"):
        here.server.receive(here.say(5, Round.SHARE, b""))
    with pytest.raises(errors.UnknownSender, match="client 0"):
        here.server.receive(forms.HEAD.pack(bytes(32), Round.SHARE, SERVER, SERVER, 0))


def test_parties_with_other_parameters_do_not_meet():
    here = Parties(parameters(5))
    for other in (parameters(5), parameters(5, 4, session=here.p.session)):
        with pytest.raises(errors.WrongSession):
            here.server.receive(here.client(1, other).start())


def test_masked_vectors_of_fewer_than_the_threshold_stay_masked():
    """All that the server has when too few come back, it adds up, and that is noise."""
    here = session(until=Round.UNMASK, clients=6, length=2000)
    truth = np.array(plain_sum(here.data, here.data, here.p.bits), float)
    seen = here.server._sum.astype(float) % 2**here.p.bits
    assert abs(np.corrcoef(truth, seen)[0, 1]) < 0.15
    answers = here.answers()
    for u in (1, 2, 3):
        here.server.receive(answers[u])
    with pytest.raises(errors.BelowThreshold):
        here.server.total()
