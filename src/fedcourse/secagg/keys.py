"""Keys: made, agreed on, derived for one purpose each, and what is sealed and signed with them."""

import os
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcourse.secagg import shamir
from fedcourse.secagg.errors import Malformed, Tampered, WeakKey

KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEAL_BYTES = 12 + 16  # what a seal adds: the nonce before, the tag behind

# The coordinates of all points whose order divides 8. A private key is a multiple of 8 and takes
# them to zero. Source: Bernstein 2006, Curve25519: New Diffie-Hellman Speed Records.
SMALL_ORDER = frozenset(
    (
        0,
        1,
        shamir.PRIME - 1,
        0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
        0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
    )
)


class PublicKeys(NamedTuple):
    """What a client advertises.

    Attributes:
        index: The client's index.
        channel: X25519 public key for what it exchanges with other clients, 32 bytes.
        mask: X25519 public key for its pairwise masks, 32 bytes.

    Lesson: 10
    """

    index: int
    channel: bytes
    mask: bytes


def new_private_key() -> bytes:
    """Return a new X25519 private key that is an element of Shamir's field too, little-endian.

    Some of its bits are fixed, as X25519 itself would fix them.

    Source: RFC 7748, section 5.
    Lesson: 10
    """
    while True:
        key = bytearray(os.urandom(KEY_BYTES))
        key[0] &= 0b1111_1000
        key[31] = key[31] & 0b0111_1111 | 0b0100_0000
        if int.from_bytes(key, "little") < shamir.PRIME:
            return bytes(key)


def public_key(private: bytes) -> bytes:
    """Return the public key of an X25519 private key.

    Lesson: 10
    """
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def check_public_key(key: bytes) -> None:
    """Do nothing if others can work with a public key.

    X25519 takes every 32 bytes. It ignores the highest bit, and the rest modulo a prime: the same
    key has several spellings, of which this allows the one that `public_key` gives.

    Raises:
        WeakKey: It is of small order, in whatever spelling.
        Malformed: It is another spelling of a key.

    Source: RFC 7748, sections 5 and 6.1.
    Lesson: 10
    """
    number = int.from_bytes(key, "little")
    if number % 2**255 % shamir.PRIME in SMALL_ORDER:
        raise WeakKey("a public key of small order")
    if number >= shamir.PRIME:
        raise Malformed("a public key in a spelling of its own")


def pairwise_mask_key(private: bytes, own: PublicKeys, other: PublicKeys, context: bytes) -> bytes:
    """Return the key that only two clients can compute, the same for both of them.

    Args:
        private: One's own private mask key, 32 bytes.
        own: One's own public keys.
        other: The other's public keys.
        context: The session's, see `Parameters.context`.

    Returns:
        32 bytes.

    Raises:
        WeakKey: The other's public key is one that gives everybody the same secret.

    Lesson: 10
    """
    low, high = sorted((own, other))
    purpose = b"pairwise mask" + _pair(low, high) + low.mask + high.mask
    return derive(_agree(private, other.mask), context, purpose)


def channel_key(
    private: bytes, own: PublicKeys, sender: PublicKeys, recipient: PublicKeys, context: bytes
) -> bytes:
    """Return the key for what one client sends to another: a different one for the way back.

    Args:
        private: One's own private channel key, 32 bytes.
        own: One's own public keys: `sender` or `recipient`.
        sender: The sender's public keys.
        recipient: The recipient's public keys.
        context: The session's, see `Parameters.context`.

    Returns:
        32 bytes.

    Raises:
        WeakKey: The other's public key is one that gives everybody the same secret.

    Lesson: 10
    """
    other = recipient if own == sender else sender
    purpose = b"channel" + _pair(sender, recipient) + sender.channel + recipient.channel
    return derive(_agree(private, other.channel), context, purpose)


def derive(secret: bytes, context: bytes, purpose: bytes) -> bytes:
    """Return a key, 32 bytes, for one purpose in one session (HKDF with SHA-256).

    Args:
        secret: What nobody else knows; two purposes give keys that say nothing of each other.
        context: The session's, see `Parameters.context`.
        purpose: What the key is for, and between whom.

    Source: RFC 5869.
    Lesson: 10
    """
    return HKDF(hashes.SHA256(), KEY_BYTES, salt=context, info=purpose).derive(secret)


def seal(key: bytes, content: bytes, about: bytes) -> bytes:
    """Encrypt, so that only this key opens it and only together with `about`.

    ChaCha20-Poly1305 with a random nonce, which comes first.

    Source: RFC 8439.
    Lesson: 10
    """
    nonce = os.urandom(12)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, content, about)


def unseal(key: bytes, sealed: bytes, about: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        Tampered: It was sealed with another key or about something else, or has changed since.

    Lesson: 10
    """
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:12], sealed[12:], about)
    except (InvalidTag, ValueError) as error:
        raise Tampered("the seal does not fit the content") from error


def sign(private: Ed25519PrivateKey, context: bytes, purpose: bytes, content: bytes) -> bytes:
    """Sign something for one purpose in one session; 64 bytes.

    Lesson: 10
    """
    return private.sign(context + purpose + content)


def verify(
    public: Ed25519PublicKey, signature: bytes, context: bytes, purpose: bytes, content: bytes
) -> None:
    """Do nothing if the signature is right.

    Raises:
        Tampered: It is not.

    Lesson: 10
    """
    try:
        public.verify(signature, context + purpose + content)
    except InvalidSignature as error:
        raise Tampered(f"a signature of {purpose.decode()} is wrong") from error


def _agree(private: bytes, public: bytes) -> bytes:
    """Return the secret of a Diffie-Hellman agreement on Curve25519."""
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as error:  # the result would be all zeros, whatever the private key
        raise WeakKey("a public key of small order") from error


def _pair(first: PublicKeys, second: PublicKeys) -> bytes:
    return first.index.to_bytes(2, "big") + second.index.to_bytes(2, "big")
