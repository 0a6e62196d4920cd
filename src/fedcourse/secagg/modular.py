"""Vectors of numbers modulo a power of two: their arithmetic, and their bytes."""

import numpy as np


def word(bits: int) -> np.dtype:
    """Return the unsigned type that holds numbers modulo 2^bits.

    Its own arithmetic is modulo a multiple of 2^bits, so `reduce` is needed only at the end.

    Lesson: 10
    """
    return np.dtype("<u4") if bits <= 32 else np.dtype("<u8")


def reduce(values: np.ndarray, bits: int) -> np.ndarray:
    """Return unsigned values modulo 2^bits.

    Lesson: 10
    """
    return values & values.dtype.type(2**bits - 1)


def pack(values: np.ndarray, bits: int) -> bytes:
    """Write numbers below 2^bits in `bits` bits each: whole bytes first, then what is left.

    Lesson: 10
    """
    columns = np.ascontiguousarray(values, word(bits)).view(np.uint8).reshape(len(values), -1)
    whole, rest = divmod(bits, 8)
    if not rest:
        return columns[:, :whole].tobytes()
    left = np.unpackbits(columns[:, whole, None], axis=1, count=rest, bitorder="little")
    return columns[:, :whole].tobytes() + np.packbits(left).tobytes()


def unpack(data: bytes, length: int, bits: int) -> np.ndarray:
    """Read what `pack` wrote.

    Raises:
        ValueError: There are too few or too many bytes, or the bits to spare are not 0.

    Lesson: 10
    """
    if len(data) != packed_bytes(length, bits):
        raise ValueError(f"data has {len(data)} bytes; {packed_bytes(length, bits)} hold {length}.")
    whole, rest = divmod(bits, 8)
    stream = np.frombuffer(data, np.uint8)
    columns = np.zeros((length, word(bits).itemsize), np.uint8)
    columns[:, :whole] = stream[: length * whole].reshape(length, whole)
    if rest:
        left = np.unpackbits(stream[length * whole :])
        if left[length * rest :].any():
            raise ValueError("data has bits beyond its last number.")
        eight = np.zeros((length, 8), np.uint8)
        eight[:, :rest] = left[: length * rest].reshape(length, rest)
        columns[:, whole] = np.packbits(eight, bitorder="little")
    return columns.view(word(bits))[:, 0]


def packed_bytes(length: int, bits: int) -> int:
    """Return how many bytes `pack` takes.

    Lesson: 10
    """
    return -(-length * bits // 8)
