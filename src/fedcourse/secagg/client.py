"""A client: what it sends, and what it does not let anybody talk it into."""

import secrets
from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcourse.secagg import keys, masks, messages, modular, shamir
from fedcourse.secagg.errors import (
    BelowThreshold,
    ProtocolError,
    Refused,
    UnknownSender,
    WrongRound,
)
from fedcourse.secagg.parameters import SERVER, Parameters, Round


class Client:
    """One client in one session. All its keys are its own, made here, and used this once.

    `start` gives its first message; each message from the server goes into `receive`, which gives
    the answer. A message that was not sent by the server in this round, to this client, raises an
    error and changes nothing. One that was, but breaks the rules, ends the client's part for good:
    it forgets its secrets and answers nothing any more.

    Args:
        index: From 1 to `parameters.clients`.
        vector: What to sum up, unsigned and below 2^bits, shape [length]; see `FixedPoint.encode`.
        parameters: The session's.
        link_key: 32 bytes, shared with the server.
        signing_key: Ed25519 private key; for the active adversary only.
        registry: All clients' Ed25519 public keys by index, known by other means than the server's
            word; for the active adversary only.

    Raises:
        ValueError: An argument does not fit the parameters.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning, figure 4.
    Lesson: 09
    """

    def __init__(
        self,
        index: int,
        vector: np.ndarray,
        parameters: Parameters,
        link_key: bytes,
        signing_key: Ed25519PrivateKey | None = None,
        registry: Mapping[int, Ed25519PublicKey] | None = None,
    ):
        if not 1 <= index <= parameters.clients:
            raise ValueError(f"index={index} must be from 1 to {parameters.clients}.")
        vector = np.asarray(vector)
        if vector.dtype.kind != "u" or vector.shape != (parameters.length,):
            raise ValueError(
                f"vector is {vector.dtype} {list(vector.shape)}; it must be unsigned and "
                f"[{parameters.length}]."
            )
        if int(vector.max()) >= 2**parameters.bits:
            raise ValueError(f"vector reaches {vector.max()}; it must stay below 2^bits.")
        if parameters.active and (signing_key is None or registry is None):
            raise ValueError("signing_key and registry are needed against an active adversary.")
        self._own, self._parameters, self._context = index, parameters, parameters.context
        self._vector = vector.astype(modular.word(parameters.bits))  # a copy
        self._link = messages.Link(link_key, index, parameters)
        self._signing_key, self._registry = signing_key, registry
        self._awaits: Round | None = Round.ADVERTISE
        self._refuses = False

    def start(self) -> bytes:
        """Make two pairs of keys and advertise the public ones.

        Raises:
            WrongRound: It has started before.
        """
        if self._awaits is not Round.ADVERTISE:
            raise WrongRound("a client starts once; make another one for another session")
        self._channel_private, self._mask_private = keys.new_private_key(), keys.new_private_key()
        self._me = keys.PublicKeys(
            self._own, keys.public_key(self._channel_private), keys.public_key(self._mask_private)
        )
        body = [self._me.channel, self._me.mask]
        if self._parameters.active:
            body.append(
                keys.sign(
                    self._signing_key, self._context, messages.KEYS, messages.signed_part(self._me)
                )
            )
        return self._answer(Round.ADVERTISE, messages.write(body))

    def receive(self, message: bytes) -> bytes:
        """Take the server's message and return the answer.

        Raises:
            ProtocolError: Nothing is answered; the subclass says why.
        """
        if self._refuses:
            raise Refused("this client has ended its part")
        if self._awaits is None:
            raise WrongRound("this client has given its last answer")
        if self._awaits is Round.ADVERTISE:
            raise WrongRound("this client has not started")
        current = self._awaits
        body = self._link.open(SERVER, current, message)  # an error here changes nothing
        answer = {
            Round.SHARE: self._share,
            Round.MASK: self._mask,
            Round.CONSISTENCY: self._confirm,
            Round.UNMASK: self._unmask,
        }[current]
        try:
            return self._answer(current, answer(body))
        except ProtocolError:
            self._refuses = True
            self._forget()
            raise

    def _answer(self, current: Round, body: bytes) -> bytes:
        self._awaits = self._parameters.after(current)
        if self._awaits is None:
            self._forget()
        return self._link.seal(self._own, current, body)

    def _forget(self) -> None:
        """Let go of every secret; Python gives no way to overwrite them in memory."""
        self._vector = self._seed = self._channel_private = self._mask_private = None
        self._shares = {}

    # --- one method a round -----------------------------------------------------------------------

    def _share(self, body: bytes) -> bytes:
        """Round 1: check everybody's keys, and share both secrets out among their owners."""
        sizes = [keys.KEY_BYTES] * 2 + [keys.SIGNATURE_BYTES] * self._parameters.active
        table = self._table(body, sizes)
        self._everyone = {v: keys.PublicKeys(v, row[0], row[1]) for v, row in table.items()}
        self._enough(self._everyone, "clients advertised keys")
        if self._everyone.get(self._own) != self._me:
            raise Refused("the server changed this client's own keys")
        if len({key for v in self._everyone.values() for key in v[1:]}) < 2 * len(self._everyone):
            raise Refused("two of the keys are the same")
        if self._parameters.active:
            for v, row in table.items():
                self._verify(v, row[2], messages.KEYS, messages.signed_part(self._everyone[v]))
        self._seed = secrets.randbelow(shamir.PRIME).to_bytes(shamir.SHARE_BYTES, "little")
        of_mask, of_seed = (
            shamir.share(int.from_bytes(secret, "little"), self._parameters.threshold, list(table))
            for secret in (self._mask_private, self._seed)
        )
        self._shares, sealed = {}, {}
        for v, them in self._everyone.items():
            pair = b"".join(s[v].to_bytes(shamir.SHARE_BYTES, "little") for s in (of_mask, of_seed))
            if v == self._own:
                self._shares[v] = pair
                continue
            key = keys.channel_key(self._channel_private, self._me, self._me, them, self._context)
            sealed[v] = [keys.seal(key, pair, messages.about_shares(self._context, self._own, v))]
        return messages.write_table(sealed)

    def _mask(self, body: bytes) -> bytes:
        """Round 2: open the shares of all who sent some, and send the vector behind its masks."""
        sealed = self._table(body, [messages.SHARES_BYTES])
        self._among(sealed, set(self._everyone) - {self._own})
        self._enough([self._own, *sealed], "clients shared their secrets")
        for v, (box,) in sealed.items():
            them = self._everyone[v]
            key = keys.channel_key(self._channel_private, self._me, them, self._me, self._context)
            self._shares[v] = keys.unseal(
                key, box, messages.about_shares(self._context, v, self._own)
            )
        length, bits = self._parameters.length, self._parameters.bits
        total = self._vector  # its own copy, and its last use
        total += masks.expand(masks.self_mask_key(self._seed, self._context), length, bits)
        for v in sealed:
            key = keys.pairwise_mask_key(
                self._mask_private, self._me, self._everyone[v], self._context
            )
            masks.add_pairwise(total, masks.expand(key, length, bits), self._own, v)
        packed = modular.pack(modular.reduce(total, bits), bits)
        body = messages.write([packed, masks.commitment(self._seed, self._context)])
        self._vector = self._seed = self._channel_private = self._mask_private = None
        return body

    def _confirm(self, body: bytes) -> bytes:
        """Round 3, active adversary: sign the list of survivors, for all others to compare."""
        self._take_survivors(body)
        signed = messages.write(self._survivors)
        return messages.write(
            [keys.sign(self._signing_key, self._context, messages.SURVIVORS, signed)]
        )

    def _unmask(self, body: bytes) -> bytes:
        """Round 4: for each client one share, of its seed if it survived, else of its mask key."""
        if self._parameters.active:
            signatures = self._table(body, [keys.SIGNATURE_BYTES])
            self._among(signatures, set(self._survivors))
            self._enough(signatures, "clients signed the survivors")
            for v, (signature,) in signatures.items():
                self._verify(v, signature, messages.SURVIVORS, messages.write(self._survivors))
        else:
            self._take_survivors(body)
        half = shamir.SHARE_BYTES
        answer = {
            v: [pair[half:] if v in self._survivors else pair[:half]]
            for v, pair in self._shares.items()
        }
        return messages.write_table(answer)

    # --- what it checks ---------------------------------------------------------------------------

    def _take_survivors(self, body: bytes) -> None:
        self._survivors = list(self._table(body, []))
        self._among(self._survivors, set(self._shares))
        self._enough(self._survivors, "clients survived")
        if self._own not in self._survivors:
            raise Refused("the server asks a client that it says has dropped out")

    def _table(self, body: bytes, sizes: list[int]) -> dict[int, list[bytes]]:
        return messages.read_table(body, self._parameters.clients, sizes)

    def _enough(self, clients, what: str) -> None:
        if len(clients) < self._parameters.threshold:
            raise BelowThreshold(
                f"only {len(clients)} {what}; the threshold is {self._parameters.threshold}"
            )

    def _among(self, clients, allowed: set[int]) -> None:
        strangers = sorted(set(clients) - allowed)
        if strangers:
            raise Refused(f"clients {strangers} have no part in this round")

    def _verify(self, v: int, signature: bytes, purpose: bytes, content: bytes) -> None:
        if v not in self._registry:
            raise UnknownSender(f"client {v} is in no registry")
        keys.verify(self._registry[v], signature, self._context, purpose, content)
