"""A client: what it sends, and what it does not let anybody talk it into."""

import contextlib
import secrets
import traceback
from collections.abc import Iterator, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcourse.secagg import forms, keys, masks, messages, modular, shamir
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
    it forgets its secrets and answers nothing any more. So does any other exception, a keyboard's
    interrupt among them: half of an answer must not be followed by another one.

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
    Lesson: 10
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
        with self._failing_closed():
            return self._answer(Round.ADVERTISE, self._advertise())

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
        with self._failing_closed(but_for=ProtocolError):  # anybody may have sent it
            body = self._link.open(SERVER, current, message)
        answer = {
            Round.SHARE: self._share,
            Round.MASK: self._mask,
            Round.CONSISTENCY: self._confirm,
            Round.UNMASK: self._unmask,
        }[current]
        with self._failing_closed():
            sizes = forms.strings(self._parameters, current, SERVER)
            table = messages.read_table(body, self._parameters.clients, sizes)
            return self._answer(current, answer(table))

    def _answer(self, current: Round, body: bytes) -> bytes:
        self._awaits = self._parameters.after(current)
        if self._awaits is None:
            self._forget()
        return self._link.seal(self._own, current, body)

    @contextlib.contextmanager
    def _failing_closed(self, but_for: type[Exception] | tuple = ()) -> Iterator[None]:
        """End the client's part at any exception that is not of the kind `but_for`."""
        try:
            yield
        except but_for:
            raise
        except BaseException as error:
            self._refuses, self._awaits = True, None
            self._forget()
            traceback.clear_frames(error.__traceback__)  # their variables are secrets too
            raise

    def _forget(self) -> None:
        """Let go of every secret; Python gives no way to overwrite them in memory."""
        self._vector = self._seed = self._channel_private = self._mask_private = None
        self._shares = {}

    # --- one method a round -----------------------------------------------------------------------

    def _advertise(self) -> bytes:
        """Round 0: make keys."""
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
        return messages.write(body)

    def _share(self, table: dict[int, list[bytes]]) -> bytes:
        """Round 1: check everybody's keys, and share both secrets out among their owners."""
        self._everyone = {v: keys.PublicKeys(v, row[0], row[1]) for v, row in table.items()}
        self._enough(self._everyone, "clients advertised keys")
        if self._everyone.get(self._own) != self._me:
            raise Refused("the server changed this client's own keys")
        every_key = {key for v in self._everyone.values() for key in v[1:]}
        if len(every_key) < 2 * len(self._everyone):
            raise Refused("two of the keys are the same")
        for key in every_key:
            keys.check_public_key(key)
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

    def _mask(self, sealed: dict[int, list[bytes]]) -> bytes:
        """Round 2: open the shares of all who sent some, and send the vector behind its masks."""
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

    def _confirm(self, table: dict[int, list[bytes]]) -> bytes:
        """Round 3, active adversary: sign the list of survivors, for all others to compare."""
        self._take_survivors(table)
        signed = messages.write(self._survivors)
        return messages.write(
            [keys.sign(self._signing_key, self._context, messages.SURVIVORS, signed)]
        )

    def _unmask(self, table: dict[int, list[bytes]]) -> bytes:
        """Round 4: for each client one share, of its seed if it survived, else of its mask key."""
        if self._parameters.active:
            self._among(table, set(self._survivors))
            self._enough(table, "clients signed the survivors")
            for v, (signature,) in table.items():
                self._verify(v, signature, messages.SURVIVORS, messages.write(self._survivors))
        else:
            self._take_survivors(table)
        half = shamir.SHARE_BYTES
        answer = {
            v: [pair[half:] if v in self._survivors else pair[:half]]
            for v, pair in self._shares.items()
        }
        return messages.write_table(answer)

    # --- what it checks ---------------------------------------------------------------------------

    def _take_survivors(self, table: dict[int, list[bytes]]) -> None:
        self._survivors = list(table)
        self._among(self._survivors, set(self._shares))
        self._enough(self._survivors, "clients survived")
        if self._own not in self._survivors:
            raise Refused("the server asks a client that it says has dropped out")

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
