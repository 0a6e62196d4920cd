"""How many bytes a session costs a client, before there is one."""

from fedcourse.secagg import forms
from fedcourse.secagg.parameters import SERVER, Parameters, Round


def bytes_of_client(parameters: Parameters, index: int = 1) -> tuple[int, int]:
    """Return the bytes that a client sends and receives where everybody stays to the end.

    Lesson: 10
    """
    sent, received = (
        sum(forms.most_bytes(parameters, index, current, sender) for current in rounds)
        for sender, rounds in (
            (index, parameters.rounds),
            (SERVER, [each for each in parameters.rounds if each is not Round.ADVERTISE]),
        )
    )
    return sent, received


def paper_bytes(clients: int, length: int, value_bits: int) -> float:
    """Return the bytes a client sends and receives by the paper's own count, keys of 256 bits.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning, section 7: 256 (7 n - 4) + m log2 R bits.
    Lesson: 10
    """
    sum_bits = (clients * (2**value_bits - 1)).bit_length()
    return (256 * (7 * clients - 4) + length * sum_bits) / 8
