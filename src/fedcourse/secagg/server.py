"""The server: passes messages on, and ends up with a sum and nothing else."""

from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcourse.secagg import correction, forms, keys, masks, messages, modular, shamir
from fedcourse.secagg.errors import (
    BelowThreshold,
    Duplicate,
    Inconsistent,
    Malformed,
    ProtocolError,
    UnknownSender,
    WrongRound,
)
from fedcourse.secagg.parameters import SERVER, Parameters, Round


class Server:
    """The server in one session.

    Clients' messages go into `receive`, in any order. `advance` ends a round: it gives the messages
    of the next one, for each client that is still there. After the last round, `total` gives the
    sum over `survivors`. What is no `ProtocolError`, such as a keyboard's interrupt while a message
    is taken, ends the session.

    Args:
        parameters: The session's.
        link_keys: For each client's index, 32 bytes that it shares with the server.
        registry: The clients' Ed25519 public keys by index; for the active adversary only.

    Raises:
        ValueError: An argument does not fit the parameters.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning, figure 4.
    Lesson: 10
    """

    def __init__(
        self,
        parameters: Parameters,
        link_keys: Mapping[int, bytes],
        registry: Mapping[int, Ed25519PublicKey] | None = None,
    ):
        everyone = list(range(1, parameters.clients + 1))
        if sorted(link_keys) != everyone:
            raise ValueError(f"link_keys must have the indices 1 to {parameters.clients}.")
        if parameters.active and (registry is None or sorted(registry) != everyone):
            raise ValueError(f"registry must have the indices 1 to {parameters.clients}.")
        self._parameters, self._context, self._registry = parameters, parameters.context, registry
        self._links = {u: messages.Link(key, u, parameters) for u, key in link_keys.items()}
        self._round: Round | None = Round.ADVERTISE
        self._expected = set(everyone)  # who may send in this round
        self._received: dict[int, object] = {}
        self._survivors: dict[int, bytes] = {}  # their commitments
        self._sum = np.zeros(parameters.length, modular.word(parameters.bits))
        self._liars: dict[int, int] = {}

    @property
    def survivors(self) -> list[int]:
        """Whose vectors are in the sum; nobody's before round MASK has ended."""
        return list(self._survivors)

    @property
    def liars(self) -> dict[int, int]:
        """Clients who gave a wrong share, and of whose secret; known once `total` was called.

        How sure that is, see `correction.Holders`.
        """
        return dict(self._liars)

    def receive(self, message: bytes) -> int:
        """Take a client's message and return the client's index.

        Raises:
            ProtocolError: The message is not taken, and nothing has changed; the subclass says why.
        """
        if self._round is None:
            raise WrongRound("the session is over")
        client = messages.link_of(message)
        if client not in self._expected:
            raise UnknownSender(f"client {client} has no part in this round")
        body = self._links[client].open(client, self._round, message)
        if client in self._received:
            raise Duplicate(f"client {client} has sent its message of this round before")
        take = {
            Round.ADVERTISE: self._take_keys,
            Round.SHARE: self._take_shares,
            Round.MASK: self._take_masked,
            Round.CONSISTENCY: self._take_signature,
            Round.UNMASK: self._take_unmasking,
        }[self._round]
        sizes = forms.strings(self._parameters, self._round, client)
        try:
            self._received[client] = take(client, body, sizes)
        except ProtocolError:
            raise
        except BaseException:  # nobody knows how far it came
            self._round = None
            raise
        return client

    def advance(self) -> dict[int, bytes]:
        """End the round; return the messages of the next one by client.

        Raises:
            BelowThreshold: Too few clients are left. The session is over, without a sum.
            WrongRound: There is no next round.
        """
        if self._round in (None, Round.UNMASK):
            raise WrongRound("there is no round after this one")
        self._enough()
        here = sorted(self._received)
        bodies = {
            Round.ADVERTISE: self._pass_keys,
            Round.SHARE: self._pass_shares,
            Round.MASK: self._pass_survivors,
            Round.CONSISTENCY: self._pass_signatures,
        }[self._round](here)
        self._round = self._parameters.after(self._round)
        self._expected, self._received = set(here), {}
        return {u: self._links[u].seal(SERVER, self._round, bodies[u]) for u in here}

    def total(self) -> np.ndarray:
        """Take the masks away and return the sum of the survivors' vectors, modulo 2^bits.

        Wrong shares are left out, and `liars` says whose they were: there is a sum wherever few
        enough were wrong for `correction.Holders`. The sum is right whoever lied about shares.

        Raises:
            BelowThreshold: Too few clients sent shares. There is no sum.
            Inconsistent: Too many shares were wrong, or a client shared another secret than it
                committed to. There is no sum.
            WrongRound: The last round has not begun, or the sum was given before.
        """
        if self._round is not Round.UNMASK:
            raise WrongRound("the sum comes after the last round, once")
        self._enough()
        self._round = None
        length, bits = self._parameters.length, self._parameters.bits
        for owner, secret in self._secrets().items():
            if owner in self._survivors:
                key = masks.self_mask_key(secret, self._context)
                self._sum -= masks.expand(key, length, bits)
                continue
            me = self._everyone[owner]
            for survivor in self._survivors:
                key = keys.pairwise_mask_key(secret, me, self._everyone[survivor], self._context)
                # what the one who left would have sent cancels what the survivor did send
                masks.add_pairwise(self._sum, masks.expand(key, length, bits), owner, survivor)
        return modular.reduce(self._sum, bits)

    def _secrets(self) -> dict[int, bytes]:
        """Return by client its seed if it survived, else its mask key."""
        holders = correction.Holders(sorted(self._received), self._parameters.threshold)
        found = {}
        for owner in self._sharers:
            shares = {v: self._received[v][owner] for v in sorted(self._received)}
            secret = holders.secret(owner, shares, lambda s, owner=owner: self._is_right(owner, s))
            self._liars = holders.caught
            if secret is None:
                what = "seed" if owner in self._survivors else "mask key"
                raise Inconsistent(
                    f"the shares of client {owner}'s {what} are wrong: client {owner} dealt others "
                    f"than it committed to, or more than {holders.most_wrong} of {len(shares)} "
                    f"clients gave others than they were dealt. Caught before that: {self._liars}"
                )
            found[owner] = _bytes(secret)
        return found

    def _is_right(self, owner: int, secret: int) -> bool:
        """Say whether a number is the secret that a client committed to."""
        if owner in self._survivors:
            return masks.commitment(_bytes(secret), self._context) == self._survivors[owner]
        return keys.public_key(_bytes(secret)) == self._everyone[owner].mask

    def _enough(self) -> None:
        if len(self._received) < self._parameters.threshold:
            ended, self._round = self._round, None
            raise BelowThreshold(
                f"{len(self._received)} clients answered in round {ended.name}; "
                f"the threshold is {self._parameters.threshold}. There is no sum."
            )

    # --- what it takes ----------------------------------------------------------------------------

    def _take_keys(self, client: int, body: bytes, sizes) -> tuple[keys.PublicKeys, list[bytes]]:
        channel, mask, *signature = messages.read_strings(body, sizes)
        public = keys.PublicKeys(client, channel, mask)
        known = {key for other, _ in self._received.values() for key in other[1:]}
        if channel == mask or known & {channel, mask}:
            raise Duplicate(f"client {client} advertises keys that are in use")
        for key in (channel, mask):
            keys.check_public_key(key)  # else every other client would have to end its part
        for each in signature:
            keys.verify(
                self._registry[client],
                each,
                self._context,
                messages.KEYS,
                messages.signed_part(public),
            )
        return public, signature

    def _take_shares(self, client: int, body: bytes, sizes) -> dict[int, list[bytes]]:
        return self._table_for(set(self._everyone) - {client}, body, sizes)

    def _take_masked(self, client: int, body: bytes, sizes) -> bytes:
        length, bits = self._parameters.length, self._parameters.bits
        packed, commitment = messages.read_strings(body, sizes)
        try:
            vector = modular.unpack(packed, length, bits)
        except ValueError as error:
            raise Malformed(str(error)) from error
        self._sum += vector
        return commitment

    def _take_signature(self, client: int, body: bytes, sizes) -> list[bytes]:
        (signature,) = messages.read_strings(body, sizes)
        signed = messages.write(list(self._survivors))
        keys.verify(self._registry[client], signature, self._context, messages.SURVIVORS, signed)
        return [signature]

    def _take_unmasking(self, client: int, body: bytes, sizes) -> dict[int, int]:
        table = self._table_for(set(self._sharers), body, sizes)
        return {owner: int.from_bytes(share, "little") for owner, (share,) in table.items()}

    def _table_for(self, owners: set[int], body: bytes, sizes) -> dict[int, list[bytes]]:
        table = messages.read_table(body, self._parameters.clients, sizes)
        if set(table) != owners:
            raise Malformed(f"shares for clients {sorted(table)} instead of {sorted(owners)}")
        return table

    # --- what it passes on ------------------------------------------------------------------------

    def _pass_keys(self, here: list[int]) -> dict[int, bytes]:
        self._everyone = {u: self._received[u][0] for u in here}
        table = {u: [*public[1:], *signature] for u, (public, signature) in self._received.items()}
        return dict.fromkeys(here, messages.write_table(table))

    def _pass_shares(self, here: list[int]) -> dict[int, bytes]:
        self._sharers = here
        return {
            u: messages.write_table({v: self._received[v][u] for v in here if v != u}) for u in here
        }

    def _pass_survivors(self, here: list[int]) -> dict[int, bytes]:
        self._survivors = {u: self._received[u] for u in here}
        return dict.fromkeys(here, messages.write_table({u: [] for u in here}))

    def _pass_signatures(self, here: list[int]) -> dict[int, bytes]:
        return dict.fromkeys(here, messages.write_table(self._received))


def _bytes(secret: int) -> bytes:
    return secret.to_bytes(shamir.SHARE_BYTES, "little")
