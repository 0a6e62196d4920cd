"""Shamir's secret sharing: any t shares give the secret, t - 1 of them say nothing about it.

The secret is the value at 0 of a random polynomial of degree t - 1; a share is its value at
another place. t points fix such a polynomial. With one point fewer, every secret is as likely.
"""

import secrets
from collections.abc import Mapping, Sequence

# Numbers modulo a prime: there, every number but 0 can be divided by. This prime is the one that
# X25519 computes with, so a private key or a mask's seed is one number, and so is a share: 32 bytes
# each. (Python's integers take more time for some numbers than for others; who could measure that
# on a client's own processor is no part of the paper's threat model.)
PRIME = 2**255 - 19
SHARE_BYTES = 32


def share(secret: int, threshold: int, indices: Sequence[int]) -> dict[int, int]:
    """Split a secret.

    Args:
        secret: From 0 to PRIME - 1.
        threshold: How many shares it takes to get it back.
        indices: Who gets a share: different numbers from 1 to PRIME - 1.

    Returns:
        A share, 0 to PRIME - 1, for each index.

    Raises:
        ValueError: An argument is out of its range.

    Source: Shamir 1979, How to Share a Secret.
    Lesson: 10
    """
    if not 0 <= secret < PRIME:
        raise ValueError("secret is out of the field: it must be from 0 to PRIME - 1.")
    if not 1 <= threshold <= len(indices):
        raise ValueError(f"threshold={threshold} must be from 1 to {len(indices)}, the indices.")
    _check(indices)
    coefficients = [secret] + [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    return {index: value_at(index, coefficients) for index in indices}


def reconstruct(shares: Mapping[int, int]) -> int:
    """Return the secret from exactly as many shares as the threshold says.

    Args:
        shares: By index. A wrong share, or one too few, gives a wrong secret without a sign.

    Raises:
        ValueError: There are no shares, or an index is out of its range.

    Source: Shamir 1979, How to Share a Secret.
    Lesson: 10
    """
    weights = weights_at_zero(list(shares))
    return sum(weights[index] * value for index, value in shares.items()) % PRIME


def weights_at_zero(indices: Sequence[int]) -> dict[int, int]:
    """Return Lagrange's weights: the value at 0 is the sum of weight times share.

    They depend on the indices alone, so many secrets with the same holders need them once.

    Raises:
        ValueError: There are no indices, or one is out of its range.

    Lesson: 10
    """
    if not indices:
        raise ValueError("there are no shares: give as many as the threshold says.")
    _check(indices)
    weights = {}
    for index in indices:
        above = below = 1
        for other in indices:
            if other != index:
                above = above * other % PRIME
                below = below * (other - index) % PRIME
        weights[index] = above * pow(below, -1, PRIME) % PRIME
    return weights


def value_at(place: int, coefficients: Sequence[int]) -> int:
    """Return c0 + c1 x + c2 x² + … modulo PRIME, by Horner's rule.

    Lesson: 10
    """
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * place + coefficient) % PRIME
    return value


def _check(indices):
    if len(set(indices)) != len(indices) or not all(0 < index < PRIME for index in indices):
        raise ValueError(f"indices={list(indices)} must be different numbers from 1 up.")
