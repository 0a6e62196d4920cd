"""Masks: numbers that look random to all who lack the key, and the same to all who have it."""

import functools

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedcourse.secagg import keys
from fedcourse.secagg.modular import word


def expand(key: bytes, length: int, bits: int) -> np.ndarray:
    """Stretch a key into a mask: the stream of AES-256 in counter mode, cut into words.

    The counter starts at 0, so a key must not be used for anything else.

    Args:
        key: 32 bytes.
        length: Entries.
        bits: Entries are meant modulo 2^bits. They come unreduced.

    Returns:
        uint32 [length], uint64 where `bits` is above 32.

    Lesson: 10
    """
    stream = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(_zeros(length * word(bits).itemsize)), word(bits))


def self_mask_key(seed: bytes, context: bytes) -> bytes:
    """Return the key of a client's own mask.

    Lesson: 10
    """
    return keys.derive(seed, context, b"self mask")


def commitment(seed: bytes, context: bytes) -> bytes:
    """Return what ties a client to its seed without telling it; 32 bytes.

    The paper has no such thing. It turns a wrong sum, after wrong shares, into an error.

    Lesson: 10
    """
    return keys.derive(seed, context, b"commitment to the self mask")


def add_pairwise(total: np.ndarray, mask: np.ndarray, own: int, other: int) -> None:
    """Add a pairwise mask in place, or subtract it: two clients do the opposite of each other.

    Args:
        total: What the client with index `own` is about to send.
        mask: As `expand` gives it.
        own: The client's index.
        other: The index of the client that it shares the mask with.

    Lesson: 10
    """
    if own > other:
        total += mask
    else:
        total -= mask


@functools.lru_cache(maxsize=1)
def _zeros(count: int) -> bytes:
    """Return bytes to encrypt, kept: making them anew takes longer than encrypting them."""
    return bytes(count)
