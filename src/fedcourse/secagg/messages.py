"""Messages as bytes: how they are written, and read with suspicion."""

from collections.abc import Sequence

import msgpack

from fedcourse.secagg import keys, shamir
from fedcourse.secagg.errors import Malformed, UnknownSender, WrongRound, WrongSession
from fedcourse.secagg.parameters import SERVER, Parameters, Round

KEYS, SURVIVORS = b"keys", b"survivors"  # what signatures are for
SHARES_BYTES = 2 * shamir.SHARE_BYTES + keys.SEAL_BYTES  # of the mask key and of the seed


def write(value: list) -> bytes:
    """Write lists, whole numbers and byte strings with msgpack.

    Lesson: 09
    """
    return msgpack.packb(value)


def read(data: bytes) -> list:
    """Read what `write` wrote.

    Raises:
        Malformed: It is anything but that, to the byte.

    Lesson: 09
    """
    try:
        value = msgpack.unpackb(data)
        same = msgpack.packb(value) == data  # the same content has other spellings
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"no message: {error}") from error
    if not same or not isinstance(value, list):
        raise Malformed("no message of this protocol")
    return value


def read_strings(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Read byte strings of given sizes.

    Raises:
        Malformed: They are not that.

    Lesson: 09
    """
    value = read(data)
    _check_strings(value, sizes)
    return value


def read_table(data: bytes, clients: int, sizes: Sequence[int]) -> dict[int, list[bytes]]:
    """Read rows of a client's index, and byte strings of given sizes, in the order of the indices.

    Returns:
        The byte strings by index.

    Raises:
        Malformed: It is not that, or an index appears twice.

    Lesson: 09
    """
    rows = read(data)
    table: dict[int, list[bytes]] = {}
    last = 0
    for row in rows:
        if not isinstance(row, list) or not row or type(row[0]) is not int:
            raise Malformed("a row must begin with a client's index")
        index, *strings = row
        if not last < index <= clients:
            raise Malformed(f"index {index} is out of range or out of order")
        _check_strings(strings, sizes)
        table[index], last = strings, index
    return table


def write_table(table: dict[int, Sequence[bytes]]) -> bytes:
    """Write what `read_table` reads.

    Lesson: 09
    """
    return write([[index, *table[index]] for index in sorted(table)])


def _check_strings(values, sizes):
    found = [len(value) if isinstance(value, bytes) else None for value in values]
    if found != list(sizes):
        raise Malformed(f"byte strings of sizes {list(sizes)} expected, found {found}")


def signed_part(public: keys.PublicKeys) -> bytes:
    """Return what a client signs of its public keys.

    Lesson: 09
    """
    return write(list(public))


def about_shares(context: bytes, sender: int, recipient: int) -> bytes:
    """Return what a pair of shares is sealed together with: session, sender, recipient.

    Lesson: 09
    """
    return write([context, b"shares", sender, recipient])


class Link:
    """The private and authenticated channel between the server and one client.

    The paper takes such channels for granted; an app would use TLS. Every message says which
    session, round, client and direction it belongs to, and is sealed together with that.

    Args:
        key: 32 bytes that the client and the server share from enrolment on.
        index: The client's index.
        parameters: The session's.

    Lesson: 09
    """

    def __init__(self, key: bytes, index: int, parameters: Parameters):
        if len(key) != keys.KEY_BYTES:
            raise ValueError(f"key has {len(key)} bytes; it must have {keys.KEY_BYTES}.")
        self._index, self._context = index, parameters.context
        self._keys = {
            sender: keys.derive(key, parameters.context, purpose)
            for sender, purpose in ((index, b"link up"), (SERVER, b"link down"))
        }

    def seal(self, sender: int, current: Round, body: bytes) -> bytes:
        """Return the message, sent by this client or by SERVER."""
        head = [self._context, int(current), self._index, sender]
        return write([*head, keys.seal(self._keys[sender], body, write(head))])

    def open(self, sender: int, current: Round, message: bytes) -> bytes:
        """Return the body of a message that should come from `sender` in this round.

        Raises:
            ProtocolError: It is not such a message; the subclass says why.
        """
        *head, sealed = _parts(message)
        context, of_round, index, said = head
        if context != self._context:
            raise WrongSession("a message of another session, or other parameters")
        if (index, said) != (self._index, sender):
            raise UnknownSender(f"sent by {said} on the link of {index}")
        if of_round != current:
            raise WrongRound(f"a message of round {of_round} in round {current:d}")
        return keys.unseal(self._keys[sender], sealed, write(head))


def link_of(message: bytes) -> int:
    """Return the index of the client on whose link a message claims to be.

    Raises:
        Malformed: It is no message.

    Lesson: 09
    """
    return _parts(message)[2]


def _parts(message: bytes) -> list:
    parts = read(message)
    if [type(part) for part in parts] != [bytes, int, int, int, bytes]:
        raise Malformed("no message of this protocol")
    return parts
