"""What all parties of a session agree on before it starts."""

import dataclasses
import enum
import functools
import hashlib

import msgpack

PROTOCOL = b"fedcourse secure aggregation 2"
SERVER = 0  # clients count from 1: a share's index must not be 0
MOST_CLIENTS = 2**16 - 1  # an index has two bytes


class Round(enum.IntEnum):
    """The rounds in their order; each asks the clients for one message.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning, figure 4. CONSISTENCY belongs to the active adversary alone.
    Lesson: 10
    """

    ADVERTISE = 0
    SHARE = 1
    MASK = 2
    CONSISTENCY = 3
    UNMASK = 4


def smallest_threshold(clients: int, active: bool) -> int:
    """Return the smallest threshold that the paper calls safe.

    A server that lies to some clients needs a threshold of answers on both sides of the lie. More
    than half of the clients rules that out where the server is alone, more than two thirds even
    where fewer than a third of the clients help it.

    Args:
        clients: How many take part.
        active: Whether the server may lie and have clients on its side.

    Source: Bonawitz et al. 2017, section 6.
    Lesson: 10
    """
    return 2 * clients // 3 + 1 if active else clients // 2 + 1


@dataclasses.dataclass(frozen=True)
class Parameters:
    """What all parties of a session agree on before it starts.

    Attributes:
        session: The session's name, at least 16 bytes. It must never be used again. Where the
            server may lie, clients must know it by other means than the server's word.
        clients: How many are invited; their indices are 1 to `clients`.
        threshold: How many must stay to the end, see `smallest_threshold`.
        length: Entries of a client's vector.
        bits: Bits of an entry. All sums are modulo 2 to this power.
        active: True for the paper's active adversary, with signatures and a consistency round;
            False for a server that is curious but honest.

    Raises:
        ValueError: One of these is out of its range.

    Lesson: 10
    """

    session: bytes
    clients: int
    threshold: int
    length: int
    bits: int
    active: bool = False

    def __post_init__(self):
        if not isinstance(self.session, bytes) or len(self.session) < 16:
            raise ValueError(
                f"session={self.session!r} must be 16 bytes or more, such as os.urandom(32)."
            )
        if not 2 <= self.clients <= MOST_CLIENTS:
            raise ValueError(f"clients={self.clients} must be from 2 to {MOST_CLIENTS:,}.")
        smallest = smallest_threshold(self.clients, self.active)
        if not smallest <= self.threshold <= self.clients:
            against = "an active adversary" if self.active else "an honest server"
            raise ValueError(
                f"threshold={self.threshold} must be from {smallest} to {self.clients} for "
                f"{self.clients} clients and {against}."
            )
        if self.length < 1:
            raise ValueError(f"length={self.length} must be at least 1.")
        if not 1 <= self.bits <= 64:
            raise ValueError(f"bits={self.bits} must be from 1 to 64: take fewer a value.")

    @functools.cached_property
    def context(self) -> bytes:
        """A digest, 32 bytes, of everything agreed on: part of all keys, seals and signatures."""
        agreed = [PROTOCOL, *dataclasses.astuple(self)]
        return hashlib.sha256(msgpack.packb(agreed)).digest()

    @property
    def rounds(self) -> list[Round]:
        """The rounds of this session in their order."""
        return [each for each in Round if self.active or each is not Round.CONSISTENCY]

    def after(self, current: Round) -> Round | None:
        """Return the round that follows; None after the last."""
        return next((each for each in self.rounds if each > current), None)
