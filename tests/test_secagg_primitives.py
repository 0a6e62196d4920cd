"""Keys, masks and messages, each by itself."""

import os

import msgpack
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from secagg_parties import UNTIMED, parameters

from fedcourse.secagg import errors, forms, keys, masks, messages, shamir
from fedcourse.secagg.parameters import Parameters, Round, smallest_threshold

CONTEXT = bytes(range(32))


def party(index):
    channel, mask = keys.new_private_key(), keys.new_private_key()
    return (channel, mask), keys.PublicKeys(index, keys.public_key(channel), keys.public_key(mask))


def test_importing_brings_no_tensorflow(python):
    run = python(
        "-c", "import fedcourse.secagg, sys; print({'tensorflow', 'pandas'} & set(sys.modules))"
    )
    assert (run.status, run.out, run.err) == (0, "set()\n", "")


# --- keys -----------------------------------------------------------------------------------------


def test_private_keys_are_elements_of_the_field_and_differ():
    made = [keys.new_private_key() for _ in range(50)]
    assert len(set(made)) == 50
    for key in made:
        number = int.from_bytes(key, "little")
        assert 2**254 <= number < shamir.PRIME and number % 8 == 0


def test_private_key_out_of_the_field_is_drawn_again(monkeypatch):
    draws = iter([b"\xff" * 32, bytes(32)])
    monkeypatch.setattr(os, "urandom", lambda n: next(draws))
    assert keys.new_private_key() == bytes(31) + b"\x40"
    assert list(draws) == []


def test_two_clients_agree_and_a_third_does_not():
    (a, one), (b, two), (c, three) = (party(index) for index in (1, 2, 3))
    assert keys.pairwise_mask_key(a[1], one, two, CONTEXT) == keys.pairwise_mask_key(
        b[1], two, one, CONTEXT
    )
    for own, sender, recipient in ((one, one, two), (one, two, one)):
        here = keys.channel_key(a[0], own, sender, recipient, CONTEXT)
        there = keys.channel_key(b[0], two, sender, recipient, CONTEXT)
        assert here == there
        assert here != keys.channel_key(c[0], three, three, recipient, CONTEXT)


def test_each_purpose_direction_and_session_has_its_own_key():
    (a, one), (_, two) = party(1), party(2)
    same = one._replace(mask=one.channel), two._replace(mask=two.channel)
    found = [
        keys.pairwise_mask_key(a[0], *same, CONTEXT),
        keys.pairwise_mask_key(a[0], *same, bytes(32)),
        keys.pairwise_mask_key(a[0], same[0]._replace(index=3), same[1], CONTEXT),
        keys.pairwise_mask_key(a[0], same[0], same[1]._replace(index=3), CONTEXT),
        keys.channel_key(a[0], same[0], *same, CONTEXT),
        keys.channel_key(a[0], same[0], *same[::-1], CONTEXT),
        keys.channel_key(a[0], same[0], *same, bytes(32)),
        masks.self_mask_key(a[0], CONTEXT),
        masks.commitment(a[0], CONTEXT),
        masks.self_mask_key(a[0], bytes(32)),
    ]
    assert len(set(found)) == len(found)


def test_seals_open_with_their_key_and_matter_only():
    key = os.urandom(32)
    sealed = keys.seal(key, b"content", b"about")
    assert len(sealed) == len(b"content") + keys.SEAL_BYTES
    assert keys.unseal(key, sealed, b"about") == b"content"
    assert sealed != keys.seal(key, b"content", b"about")
    flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
    for wrong in ((os.urandom(32), sealed, b"about"), (key, sealed, b"else"), (key, b"", b"about")):
        with pytest.raises(errors.Tampered):
            keys.unseal(*wrong)
    with pytest.raises(errors.Tampered):
        keys.unseal(key, flipped, b"about")


def test_signatures_hold_for_one_session_and_purpose():
    private = Ed25519PrivateKey.generate()
    signature = keys.sign(private, CONTEXT, b"keys", b"content")
    keys.verify(private.public_key(), signature, CONTEXT, b"keys", b"content")
    for changed in (
        (bytes(32), b"keys", b"content"),
        (CONTEXT, b"survivors", b"content"),
        (CONTEXT, b"keys", b"else"),
    ):
        with pytest.raises(errors.Tampered):
            keys.verify(private.public_key(), signature, *changed)


# --- masks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "dtype"), [(26, "<u4"), (32, "<u4"), (33, "<u8")])
def test_mask_is_the_block_cipher_on_a_counter(bits, dtype):
    key = bytes(range(32))
    blocks = b"".join(i.to_bytes(16, "big") for i in range(7))
    block_cipher = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    expected = np.frombuffer(block_cipher.update(blocks), dtype)
    found = masks.expand(key, 11, bits)
    assert found.dtype == dtype and found.tolist() == expected[:11].tolist()


@pytest.mark.parametrize("bits", [20, 40])
def test_two_clients_masks_cancel(bits):
    mask = masks.expand(os.urandom(32), 100, bits)
    one, two = np.zeros_like(mask), np.zeros_like(mask)
    masks.add_pairwise(one, mask, 1, 2)
    masks.add_pairwise(two, mask, 2, 1)
    assert one.any() and two.any() and not (one + two).any()


# --- messages -------------------------------------------------------------------------------------


VALUES = st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=300)
INDICES = st.sets(st.integers(1, 300))


@UNTIMED
@given(st.lists(VALUES | st.lists(VALUES, max_size=messages.WIDEST)))
def test_what_is_written_is_read(values):
    assert messages.read(messages.write(values)) == values


@UNTIMED
@given(INDICES, st.lists(st.integers(0, 300), max_size=3))
def test_tables_that_are_written_are_read(indices, sizes):
    table = {index: [os.urandom(size) for size in sizes] for index in sorted(indices)}
    assert messages.read_table(messages.write_table(table), 300, sizes) == table


def is_message(values):
    """Numbers, byte strings, and rows of at most four of these."""
    plain = [v for row in values for v in (row if type(row) is list else [row])]
    narrow = all(len(row) <= 4 for row in values if type(row) is list)
    return narrow and {type(v) for v in plain} <= {int, bytes}


# what msgpack can write, and bytes near that
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3) | VALUES,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=2), inner),
    max_leaves=6,
)


@UNTIMED
@given(st.lists(ANYTHING), st.binary(max_size=6), st.integers(0, 40))
def test_other_values_and_other_spellings_are_malformed(values, more, cut):
    data = b"".join(map(msgpack.packb, values))
    if is_message(values):
        assert messages.read(data) == values
    else:
        with pytest.raises(errors.Malformed):
            messages.read(data)
    for changed in (data + more, data[:-cut], more + data):
        try:
            found = messages.read(changed)
        except errors.Malformed:
            assert not is_message(list(others_reading(changed)))
        else:
            assert is_message(found) and b"".join(map(msgpack.packb, found)) == changed


def others_reading(data):
    """The values by msgpack alone; None in the list where they are spelled otherwise, or end."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    try:
        values = list(unpacker)
        same = b"".join(map(msgpack.packb, values)) == data
    except (ValueError, TypeError, msgpack.UnpackException):
        same = False
    return values if same else [None]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",  # a number
        b"\x91\xc4\x03abc",  # a row
        b"\xc4\x03abc\xc4\x03abc",
        b"\xa3abc",  # text
        b"\x81\x01\x02",  # a map
        b"\x81\x90\x02",  # a map whose key is a list
        messages.write([b"abc"]) + b"\0",
        messages.write([b"abc"])[:-1],
        b"\xc5\x00\x03abc",  # the same three bytes, spelled longer
        b"\xc6\x00\x00\x00\x03abc",
        b"\x91" * 5000,
        b"\xd6\xff\xff\xff\xff\xff",  # a timestamp
    ],
)
def test_one_spelling_only(data):
    assert messages.read_strings(messages.write([b"abc"]), [3]) == [b"abc"]
    with pytest.raises(errors.Malformed):
        messages.read_strings(data, [3])


@pytest.mark.parametrize(
    "rows",
    [
        [[1, b"ab"], [1, b"ab"]],
        [[2, b"ab"], [1, b"ab"]],
        [[0, b"ab"]],
        [[6, b"ab"]],
        [[-1, b"ab"]],
        [[True, b"ab"]],
        [[1.0, b"ab"]],
        [[b"ab"]],
        [[]],
        [1],
        [[1, b"abc"]],
        [[1, "ab"]],
        [[1]],
        [[1, b"ab", b"ab"]],
    ],
)
def test_tables_have_each_index_once_and_in_order(rows):
    assert messages.read_table(messages.write([[1, b"ab"], [5, b"cd"]]), 5, [2]) == {
        1: [b"ab"],
        5: [b"cd"],
    }
    with pytest.raises(errors.Malformed):
        messages.read_table(messages.write(rows), 5, [2])


def test_link_names_what_does_not_fit():
    p = parameters(session=b"s" * 16)
    key = os.urandom(32)
    link = messages.Link(key, 2, p)
    message = link.seal(2, Round.MASK, b"body")
    assert link.open(2, Round.MASK, message) == b"body" and messages.link_of(message) == 2
    other_session = messages.Link(key, 2, parameters(session=b"t" * 16))
    other_threshold = messages.Link(key, 2, parameters(session=b"s" * 16, threshold=5))
    for error, wrong_link, sender, current in (
        (errors.WrongSession, other_session, 2, Round.MASK),
        (errors.WrongSession, other_threshold, 2, Round.MASK),
        (errors.UnknownSender, messages.Link(key, 3, p), 3, Round.MASK),
        (errors.UnknownSender, link, 0, Round.MASK),  # sent back to who sent it
        (errors.WrongRound, link, 2, Round.UNMASK),
        (errors.Tampered, messages.Link(os.urandom(32), 2, p), 2, Round.MASK),
    ):
        with pytest.raises(error):
            wrong_link.open(sender, current, message)
    with pytest.raises(ValueError, match="key has 3 bytes"):
        messages.Link(b"abc", 2, p)


def test_head_is_sealed_too():
    """Whoever rewrites round, client or direction on the way breaks the seal."""
    p = parameters()
    link = messages.Link(os.urandom(32), 2, p)
    sealed = link.seal(2, Round.MASK, b"body")
    context, _, index, sender, follow = forms.HEAD.unpack_from(sealed)
    head = forms.HEAD.pack(context, Round.UNMASK, index, sender, follow)
    with pytest.raises(errors.Tampered):
        link.open(2, Round.UNMASK, head + sealed[forms.HEAD.size :])


# --- parameters -----------------------------------------------------------------------------------


@UNTIMED
@given(st.integers(2, 10_000))
def test_thresholds_leave_no_room_for_two_answers(n):
    """Half and one alone; with fewer than a third of clients on the server's side."""
    assert 2 * smallest_threshold(n, active=False) > n
    helpers = -(-n // 3) - 1
    t = smallest_threshold(n, active=True)
    assert 2 * t > n + helpers
    assert t > helpers and not 2 * (t - 1) > n + n / 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"session": b"short"}, "session="),
        ({"session": "s" * 16}, "session="),
        ({"clients": 1}, "clients=1"),
        ({"clients": 70_000}, "clients=70000"),
        ({"threshold": 3}, "threshold=3 must be from 4 to 6 for 6 clients and an honest"),
        ({"threshold": 7}, "threshold=7"),
        ({"threshold": 4, "active": True}, "from 5 to 6 for 6 clients and an active"),
        ({"length": 0}, "length=0"),
        ({"bits": 0}, "bits=0"),
        ({"bits": 65}, "bits=65"),
    ],
)
def test_parameters_refuse(change, said):
    good = {"session": b"s" * 16, "clients": 6, "threshold": 5, "length": 3, "bits": 20}
    assert Parameters(**good).threshold == 5
    with pytest.raises(ValueError, match=said):
        Parameters(**good | change)


def test_context_tells_all_parameters_apart():
    good = {"session": b"s" * 16, "clients": 6, "threshold": 5, "length": 3, "bits": 20}
    other = {
        "session": b"t" * 16,
        "clients": 5,
        "threshold": 6,
        "length": 4,
        "bits": 21,
        "active": True,
    }
    found = {Parameters(**good).context} | {
        Parameters(**good | {name: value}).context for name, value in other.items()
    }
    assert len(found) == 1 + len(other)
