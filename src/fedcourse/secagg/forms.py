"""What each message holds and how many bytes that takes, both known before a session starts."""

import functools
import struct

import msgpack

from fedcourse.secagg import keys, modular, shamir
from fedcourse.secagg.parameters import SERVER, Parameters, Round

# Context, round, client, sender, and how many bytes follow: at fixed places, so that a message's
# origin is known, its size held against `most_bytes` and its seal checked, before it is read.
HEAD = struct.Struct(">32sBHHI")
SHARES_BYTES = 2 * shamir.SHARE_BYTES + keys.SEAL_BYTES  # of the mask key and of the seed


def strings(parameters: Parameters, current: Round, sender: int) -> tuple[int, ...]:
    """Return the sizes of a message's byte strings; where it is a table, of those of a row.

    Args:
        parameters: The session's.
        current: The message's round.
        sender: A client's index, or SERVER, whose messages begin with round SHARE.

    Lesson: 10
    """
    signature = (keys.SIGNATURE_BYTES,) * parameters.active
    public = (keys.KEY_BYTES, keys.KEY_BYTES, *signature)
    if sender == SERVER:
        return {
            Round.SHARE: public,
            Round.MASK: (SHARES_BYTES,),
            Round.CONSISTENCY: (),
            Round.UNMASK: signature,
        }[current]
    return {
        Round.ADVERTISE: public,
        Round.SHARE: (SHARES_BYTES,),
        Round.MASK: (modular.packed_bytes(parameters.length, parameters.bits), keys.KEY_BYTES),
        Round.CONSISTENCY: signature,
        Round.UNMASK: (shamir.SHARE_BYTES,),
    }[current]


def most_bytes(parameters: Parameters, index: int, current: Round, sender: int) -> int:
    """Return the size of the largest message that is right in a round, on one client's link.

    Args:
        parameters: The session's.
        index: The client's index.
        current: The message's round.
        sender: `index` or SERVER.

    Lesson: 10
    """
    sizes = strings(parameters, current, sender)
    if sender != SERVER and current not in (Round.SHARE, Round.UNMASK):
        body = sum(map(_string_bytes, sizes))
    else:
        body = _table_bytes(parameters.clients, sizes)
        if sizes == (SHARES_BYTES,):  # from and for everybody else
            body -= _row_bytes(index, sizes)
    return HEAD.size + keys.SEAL_BYTES + body


@functools.lru_cache
def _table_bytes(clients: int, sizes: tuple[int, ...]) -> int:
    return sum(_row_bytes(index, sizes) for index in range(1, clients + 1))


def _row_bytes(index: int, sizes: tuple[int, ...]) -> int:
    return len(msgpack.packb([index])) + sum(map(_string_bytes, sizes))


@functools.lru_cache
def _string_bytes(size: int) -> int:
    return len(msgpack.packb(bytes(size)))
