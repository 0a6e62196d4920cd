"""How many bytes a session costs a client, from messages of the real form with nothing in them."""

from fedcourse.secagg import keys, messages, modular, shamir
from fedcourse.secagg.parameters import SERVER, Parameters, Round


def bytes_of_client(parameters: Parameters, index: int = 1) -> tuple[int, int]:
    """Return the bytes that a client sends and receives where everybody stays to the end.

    Lesson: 09
    """
    everyone = range(1, parameters.clients + 1)
    signature = [bytes(keys.SIGNATURE_BYTES)] * parameters.active
    public = [bytes(keys.KEY_BYTES)] * 2 + signature
    shares = {v: [bytes(messages.SHARES_BYTES)] for v in everyone if v != index}
    masked = bytes(modular.packed_bytes(parameters.length, parameters.bits))
    up = {
        Round.ADVERTISE: messages.write(public),
        Round.SHARE: messages.write_table(shares),
        Round.MASK: messages.write([masked, bytes(keys.KEY_BYTES)]),
        Round.CONSISTENCY: messages.write(signature),
        Round.UNMASK: messages.write_table({v: [bytes(shamir.SHARE_BYTES)] for v in everyone}),
    }
    survivors = messages.write_table({v: [] for v in everyone})
    down = {
        Round.SHARE: messages.write_table(dict.fromkeys(everyone, public)),
        Round.MASK: messages.write_table(shares),
        Round.CONSISTENCY: survivors,
        Round.UNMASK: survivors,
    }
    if parameters.active:
        down[Round.UNMASK] = messages.write_table(dict.fromkeys(everyone, signature))
    link = messages.Link(bytes(keys.KEY_BYTES), index, parameters)
    return tuple(
        sum(
            len(link.seal(sender, current, bodies[current]))
            for current in parameters.rounds
            if current in bodies
        )
        for sender, bodies in ((index, up), (SERVER, down))
    )


def paper_bytes(clients: int, length: int, value_bits: int) -> float:
    """Return the bytes a client sends and receives by the paper's own count, keys of 256 bits.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning, section 7: 256 (7 n - 4) + m log2 R bits.
    Lesson: 09
    """
    sum_bits = (clients * (2**value_bits - 1)).bit_length()
    return (256 * (7 * clients - 4) + length * sum_bits) / 8
