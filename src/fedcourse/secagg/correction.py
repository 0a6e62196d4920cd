"""Secrets from shares of which some are wrong, and whose these are.

The shares of a secret are a codeword of Reed and Solomon's: the values of a polynomial of degree
t - 1 at m places. The m - t that it does not take to know it tell whether others are wrong.
"""

import itertools
import math
import secrets
from collections.abc import Callable, Mapping, Sequence

from fedcourse.secagg import shamir
from fedcourse.secagg.shamir import PRIME

SUBSETS = 20_000  # ways to choose t holders that are tried at most: about a second


class Holders:
    """Those who give a share each of many secrets, and not always the one that they were dealt.

    Of m holders, m - t are to spare. What holds for each secret by itself:

    - It is found where at most `most_wrong` give a wrong share of it: half of those to spare, or
      all of them where there are at most SUBSETS ways to choose t holders, as with 16 clients.
    - Who gave a wrong one is found with it, surely where they are at most half of those to spare.
      More can agree on what to give, and so make others look guilty.
    - A dealer that deals wrong shares makes those who hold them look guilty; only shares that
      everybody can check would show that (Feldman 1987, A Practical Scheme for Non-interactive
      Verifiable Secret Sharing).

    No number is taken for the secret that the caller's own check refuses, whoever gives what. The
    work grows with m², and with the number of secrets of which somebody gives a wrong share.

    Attributes:
        caught: By holder who gave a wrong share, the dealer of the first one.
        most_wrong: See above.

    Args:
        indices: The holders'.
        threshold: t.

    Lesson: 10
    """

    def __init__(self, indices: Sequence[int], threshold: int):
        self.caught: dict[int, int] = {}
        self._spare = len(indices) - threshold
        few = math.comb(len(indices), threshold) <= SUBSETS
        self.most_wrong = self._spare if few else self._spare // 2
        self._all_weights = shamir.weights_at_zero(indices)
        self._leave_out(())

    def secret(
        self, dealer: int, shares: Mapping[int, int], is_right: Callable[[int], bool]
    ) -> int | None:
        """Return a dealer's secret, or None where it is not found.

        Args:
            dealer: Whose secret it is.
            shares: By holder, of all of them, modulo PRIME.
            is_right: Says whether a number is the secret.

        Lesson: 10
        """
        if not _dot(self._zeros, shares):  # all agree, but for those who were caught before
            secret = _dot(self._weights, shares)
            if is_right(secret):
                return secret
        secret, wrong = self._correct(shares, is_right)
        if wrong:
            self.caught = dict.fromkeys(wrong, dealer) | self.caught
            self._leave_out(tuple(self.caught))
        return secret

    def _leave_out(self, some: Sequence[int]) -> None:
        """Prepare for a secret of which all but some give right shares."""
        self._weights = self._weights_without(some)
        # One of the vectors that are orthogonal to the shares of every secret. Nobody could know
        # which, so nobody has made wrong shares to suit it.
        degree = self._spare - len(some)
        random = [secrets.randbelow(PRIME) for _ in range(degree)]
        self._zeros = {
            x: weight * x * shamir.value_at(x, random) % PRIME
            for x, weight in self._weights.items()
        }

    def _weights_without(self, some: Sequence[int]) -> dict[int, int]:
        """Return Lagrange's weights for all but some, whose own are 0."""
        factor = pow(math.prod(some), -1, PRIME)
        return {
            x: weight * math.prod(k - x for k in some) * factor % PRIME
            for x, weight in self._all_weights.items()
        }

    def _correct(
        self, shares: Mapping[int, int], is_right: Callable[[int], bool]
    ) -> tuple[int | None, Sequence[int]]:
        """Return a secret, and whose shares of it are wrong."""
        located = self._locate(shares)
        if located is not None:
            secret = _dot(self._weights_without(located), shares)
            if is_right(secret):
                return secret, located
        if located == [] or self.most_wrong < self._spare:
            return None, ()
        secret, wrong = None, set(shares)
        for some in itertools.combinations(shares, self._spare):
            found = _dot(self._weights_without(some), shares)
            if found == secret or (secret is None and is_right(found)):
                secret = found
                wrong &= {x for x in some if self._changes(x, some, shares, secret)}
        return (None, ()) if secret is None else (secret, sorted(wrong))

    def _changes(self, x: int, some: Sequence[int], shares: Mapping[int, int], secret: int) -> bool:
        """Say whether one of those left out gives a share that is not on the others' polynomial."""
        return _dot(self._weights_without([k for k in some if k != x]), shares) != secret

    def _locate(self, shares: Mapping[int, int]) -> list[int] | None:
        """Return whose shares are wrong; None where these are more than half of those to spare.

        Sums that are 0 for right shares are sums of powers of the wrong ones' places. The
        recurrence that such sums follow has these places for its roots.

        Source: Massey 1969, Shift-Register Synthesis and BCH Decoding.
        """
        terms = {x: weight * x * shares[x] % PRIME for x, weight in self._all_weights.items()}
        sums = []
        for _ in range(self._spare):
            sums.append(sum(terms.values()) % PRIME)
            terms = {x: term * x % PRIME for x, term in terms.items()}
        recurrence = _recurrence(sums)
        places = [x for x in terms if not shamir.value_at(x, recurrence[::-1])]
        return places if len(places) == len(recurrence) - 1 <= self._spare // 2 else None


def _recurrence(values: Sequence[int]) -> list[int]:
    """Return the shortest c with c[0] = 1 and c[0] v[j] + c[1] v[j - 1] + … = 0 for all v[j].

    Source: Massey 1969, Shift-Register Synthesis and BCH Decoding, algorithm 2.
    """
    now, before = [1], [1]  # the recurrence, and the one before it last grew longer
    length, since, gap_before = 0, 1, 1
    for j in range(len(values)):
        gap = sum(c * values[j - i] for i, c in enumerate(now)) % PRIME
        if not gap:
            since += 1
            continue
        factor = gap * pow(gap_before, -1, PRIME)
        pairs = itertools.zip_longest(now, [0] * since + before, fillvalue=0)
        better = [(c - factor * b) % PRIME for c, b in pairs]
        if 2 * length <= j:
            length, before, gap_before, since = j + 1 - length, now, gap, 0
        now, since = better, since + 1
    return now + [0] * (length + 1 - len(now))


def _dot(weights: Mapping[int, int], shares: Mapping[int, int]) -> int:
    return sum(weight * shares[x] for x, weight in weights.items()) % PRIME
