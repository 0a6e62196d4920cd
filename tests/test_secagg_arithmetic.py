"""What the protocol computes with: the field and its shares, fixed point, numbers modulo 2^k."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from secagg_parties import UNTIMED

from fedcourse.secagg import FixedPoint, modular, shamir

SECRETS = st.integers(0, shamir.PRIME - 1)


# --- Shamir ---------------------------------------------------------------------------------------


@UNTIMED
@given(
    data=st.data(), secret=SECRETS, indices=st.sets(st.integers(1, 2000), min_size=1, max_size=12)
)
def test_any_t_shares_give_the_secret(data, secret, indices):
    threshold = data.draw(st.integers(1, len(indices)))
    shares = shamir.share(secret, threshold, sorted(indices))
    some = data.draw(st.permutations(sorted(indices)))[:threshold]
    assert shamir.reconstruct({index: shares[index] for index in some}) == secret


@UNTIMED
@given(secret=SECRETS, other=SECRETS, threshold=st.integers(2, 6))
def test_one_share_fewer_fits_every_secret(secret, other, threshold):
    """t - 1 shares, and any other secret: there is a polynomial through all of these points."""
    shares = shamir.share(secret, threshold, range(1, threshold + 1))
    known = dict(itertools.islice(shares.items(), threshold - 1))
    # the missing share that would make the secret `other`
    weights = shamir.weights_at_zero(list(shares))
    rest = sum(weights[index] * value for index, value in known.items())
    missing = (other - rest) * pow(weights[threshold], -1, shamir.PRIME) % shamir.PRIME
    assert shamir.reconstruct(known | {threshold: missing}) == other


def test_shares_are_new_each_time_and_threshold_one_is_the_secret_itself():
    assert shamir.share(7, 3, range(1, 6)) != shamir.share(7, 3, range(1, 6))
    assert shamir.share(7, 1, [4, 9]) == {4: 7, 9: 7}


def test_prime_is_prime_and_shares_fit():
    assert all(pow(base, shamir.PRIME - 1, shamir.PRIME) == 1 for base in (2, 3, 5, 7, 11, 13))
    assert (shamir.PRIME - 1).bit_length() <= 8 * shamir.SHARE_BYTES


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((shamir.PRIME, 1, [1]), "secret"),
        ((-1, 1, [1]), "secret"),
        ((1, 0, [1]), "threshold=0"),
        ((1, 3, [1, 2]), "threshold=3"),
        ((1, 1, [0, 1]), "indices"),
        ((1, 1, [2, 2]), "indices"),
        ((1, 1, [shamir.PRIME]), "indices"),
    ],
)
def test_sharing_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        shamir.share(*arguments)


def test_reconstruction_refuses_nothing_and_index_zero():
    with pytest.raises(ValueError, match="no shares"):
        shamir.reconstruct({})
    with pytest.raises(ValueError, match="indices"):
        shamir.reconstruct({0: 5, 1: 6})


# --- fixed point ----------------------------------------------------------------------------------


@UNTIMED
@given(
    limit=st.floats(1e-6, 1e6),
    value_bits=st.integers(2, 32),
    clients=st.integers(1, 12),
    data=st.data(),
)
def test_sums_of_encodings_never_overflow_and_err_by_half_a_step_each(
    limit, value_bits, clients, data
):
    encoding = FixedPoint(limit, value_bits, clients)
    entries = st.floats(-limit, limit) | st.sampled_from([-limit, limit, 0.0])
    values = np.array(data.draw(st.lists(entries, min_size=clients, max_size=clients)))
    encoded = encoding.encode(values)
    assert encoded.dtype == (np.uint32 if encoding.bits <= 32 else np.uint64)
    assert (modular.reduce(encoded, encoding.bits) == encoded).all()
    total = modular.reduce(encoded.astype(np.uint64).sum(keepdims=True), encoding.bits)
    allowed = clients * encoding.step / 2 * (1 + 1e-6)
    assert abs(encoding.decode(total)[0] - math.fsum(values)) <= allowed


@UNTIMED
@given(value_bits=st.integers(2, 32), clients=st.integers(1, 2**31))
def test_all_clients_at_the_limit_just_fit(value_bits, clients):
    encoding = FixedPoint(1.0, value_bits, clients)
    most = clients * (2 ** (value_bits - 1) - 1)
    assert most < 2 ** (encoding.bits - 1) <= 2 * most
    for sign in (1, -1):
        total = np.array([sign * most % 2**encoding.bits], np.uint64)
        assert np.isclose(encoding.decode(total)[0], sign * clients, rtol=1e-12)


def test_a_client_more_may_overflow():
    encoding = FixedPoint(1.0, 8, 4)
    four, sixteen = (encoding.encode(np.ones(n)).sum(keepdims=True) for n in (4, 16))
    assert encoding.decode(modular.reduce(four, encoding.bits))[0] == pytest.approx(4)
    assert encoding.decode(modular.reduce(sixteen, encoding.bits))[0] != pytest.approx(16)


def test_bits_are_those_of_the_paper():
    """16-bit entries of 2^10 clients: sums modulo 2^26."""
    assert FixedPoint(1.0, 16, 2**10).bits == 26


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_encoding_refuses_what_is_no_number(bad):
    with pytest.raises(ValueError, match="NaN or infinity"):
        FixedPoint(1.0, 16, 3).encode(np.array([0.5, bad]))


def test_encoding_refuses_what_is_beyond_the_limit_and_says_what_would_do():
    with pytest.raises(ValueError, match=r"-?1\.5, beyond limit=1: raise the limit, or clip"):
        FixedPoint(1.0, 16, 3).encode(np.array([0.5, -1.5]))


def test_decoding_refuses_what_was_not_reduced():
    encoding = FixedPoint(1.0, 8, 4)
    for bad in (np.array([2**encoding.bits], np.uint32), np.array([1.0])):
        with pytest.raises(ValueError, match="unsigned and below"):
            encoding.decode(bad)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.0, 16, 3), "limit=0.0"),
        ((np.nan, 16, 3), "limit=nan"),
        ((5e-324, 16, 3), "too small"),
        ((1.0, 1, 3), "value_bits=1"),
        ((1.0, 33, 3), "value_bits=33"),
        ((1.0, 16, 0), "clients=0"),
        ((1.0, 16, 2**31 + 1), "clients="),
    ],
)
def test_fixed_point_refuses(arguments, said):
    with pytest.raises(ValueError, match=said):
        FixedPoint(*arguments)


# --- modulo a power of two ------------------------------------------------------------------------


@UNTIMED
@given(bits=st.integers(1, 64), data=st.data())
def test_packing_comes_back_and_has_one_spelling(bits, data):
    entries = data.draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=30))
    values = np.array(entries, modular.word(bits))
    packed = modular.pack(values, bits)
    assert len(packed) == math.ceil(len(entries) * bits / 8)
    assert modular.unpack(packed, len(entries), bits).tolist() == entries
    changed = bytearray(packed)
    place, bit = data.draw(st.integers(0, len(packed) - 1)), data.draw(st.integers(0, 7))
    changed[place] ^= 1 << bit
    spare = 8 * len(packed) - len(entries) * bits  # the lowest bits of the last byte
    if place == len(packed) - 1 and bit < spare:
        with pytest.raises(ValueError, match="beyond its last number"):
            modular.unpack(bytes(changed), len(entries), bits)
    else:
        assert modular.unpack(bytes(changed), len(entries), bits).tolist() != entries


@pytest.mark.parametrize("size", [0, 12, 14])
def test_unpacking_refuses_another_size(size):
    with pytest.raises(ValueError, match=f"data has {size} bytes; 13 hold 4"):
        modular.unpack(bytes(size), 4, 26)


@UNTIMED
@given(bits=st.integers(1, 64), value=st.integers(0, 2**64 - 1))
def test_reducing(bits, value):
    assert modular.reduce(np.array([value], np.uint64), bits)[0] == value % 2**bits
