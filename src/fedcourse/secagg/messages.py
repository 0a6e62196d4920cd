"""Messages as bytes: how they are written, and read with suspicion."""

import itertools
from collections.abc import Sequence

import msgpack

from fedcourse.secagg import forms, keys
from fedcourse.secagg.errors import Malformed, TooLarge, UnknownSender, WrongRound, WrongSession
from fedcourse.secagg.parameters import MOST_CLIENTS, SERVER, Parameters, Round

KEYS, SURVIVORS = b"keys", b"survivors"  # what signatures are for
WIDEST = 4  # values in a row at most: an index, two keys, a signature


def write(values: Sequence) -> bytes:
    """Write whole numbers, byte strings, and rows of these, with msgpack, one after the other.

    Lesson: 10
    """
    return b"".join(map(msgpack.packb, values))


def read(data: bytes, most: int = MOST_CLIENTS) -> list:
    """Read what `write` wrote.

    Whatever the bytes are, this takes time and memory in proportion to them: what they announce is
    held against the protocol's limits before room is made for it.

    Args:
        data: What arrived.
        most: At most so many values are read.

    Raises:
        Malformed: It is anything but that, to the byte, or more.

    Lesson: 10
    """
    unpacker = msgpack.Unpacker(
        max_buffer_size=len(data),
        max_array_len=WIDEST,
        max_bin_len=len(data),
        max_str_len=0,
        max_map_len=0,
        max_ext_len=0,
        list_hook=_flat,
    )
    try:
        unpacker.feed(data)
        values = list(itertools.islice(unpacker, most))
        _only(values, {int, bytes, list})
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise Malformed(f"no message: {error!r}") from error
    if unpacker.tell() != len(data) or write(values) != data:  # the same content, spelled otherwise
        raise Malformed("no message of this protocol")
    return values


def read_strings(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Read byte strings of given sizes.

    Raises:
        Malformed: They are not that.

    Lesson: 10
    """
    values = read(data, len(sizes))
    _check_strings(values, sizes)
    return values


def read_table(data: bytes, clients: int, sizes: Sequence[int]) -> dict[int, list[bytes]]:
    """Read rows of a client's index, and byte strings of given sizes, in the order of the indices.

    Returns:
        The byte strings by index.

    Raises:
        Malformed: It is not that, or an index appears twice.

    Lesson: 10
    """
    table: dict[int, list[bytes]] = {}
    last = 0
    for row in read(data, clients):
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

    Lesson: 10
    """
    return write([[index, *table[index]] for index in sorted(table)])


def _flat(row: list) -> list:
    _only(row, {int, bytes})
    return row


def _only(values: list, kinds: set[type]) -> None:
    if not set(map(type, values)) <= kinds:
        raise ValueError("only numbers, byte strings, and rows of these are allowed")


def _check_strings(values: list, sizes: Sequence[int]) -> None:
    found = [len(value) if isinstance(value, bytes) else None for value in values]
    if found != list(sizes):
        raise Malformed(f"byte strings of sizes {list(sizes)} expected, found {found}")


def signed_part(public: keys.PublicKeys) -> bytes:
    """Return what a client signs of its public keys.

    Lesson: 10
    """
    return write(public)


def about_shares(context: bytes, sender: int, recipient: int) -> bytes:
    """Return what a pair of shares is sealed together with: session, sender, recipient.

    Lesson: 10
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

    Lesson: 10
    """

    def __init__(self, key: bytes, index: int, parameters: Parameters):
        if len(key) != keys.KEY_BYTES:
            raise ValueError(f"key has {len(key)} bytes; it must have {keys.KEY_BYTES}.")
        self._index, self._parameters, self._context = index, parameters, parameters.context
        self._keys = {
            sender: keys.derive(key, parameters.context, purpose)
            for sender, purpose in ((index, b"link up"), (SERVER, b"link down"))
        }

    def seal(self, sender: int, current: Round, body: bytes) -> bytes:
        """Return the message, sent by this client or by SERVER."""
        follow = len(body) + keys.SEAL_BYTES
        head = forms.HEAD.pack(self._context, current, self._index, sender, follow)
        return head + keys.seal(self._keys[sender], body, head)

    def open(self, sender: int, current: Round, message: bytes) -> bytes:
        """Return the body of a message that should come from `sender` in this round.

        Nothing but the head is looked at before the message's size and its seal are right.

        Raises:
            ProtocolError: It is not such a message; the subclass says why.
        """
        context, of_round, index, said, follow = _head(message)
        if context != self._context:
            raise WrongSession("a message of another session, or other parameters")
        if (index, said) != (self._index, sender):
            raise UnknownSender(f"sent by {said} on the link of {index}")
        if of_round != current:
            raise WrongRound(f"a message of round {of_round} in round {current:d}")
        most = forms.most_bytes(self._parameters, index, current, sender)
        if len(message) > most:
            raise TooLarge(f"{len(message)} bytes in round {current:d}, where {most} are the most")
        start = forms.HEAD.size
        if len(message) != start + follow:
            raise Malformed("a message that was cut short, or has more behind its end")
        return keys.unseal(self._keys[sender], message[start:], message[:start])


def link_of(message: bytes) -> int:
    """Return the index of the client on whose link a message claims to be.

    Raises:
        Malformed: It is no message.

    Lesson: 10
    """
    return _head(message)[2]


def _head(message: bytes) -> tuple[bytes, int, int, int, int]:
    if len(message) < forms.HEAD.size:
        raise Malformed("no message: it ends in its head")
    return forms.HEAD.unpack_from(message)
