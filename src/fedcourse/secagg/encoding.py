"""Real numbers as whole numbers modulo a power of two, sized so that no sum overflows."""

import dataclasses

import numpy as np

from fedcourse.secagg.modular import reduce, word


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Fixed-point numbers: a value is a whole number of steps, negative ones counted from above.

    Attributes:
        limit: Largest absolute value, above 0.
        value_bits: Bits of one value, 2 to 32; the step is `limit` / (2^(value_bits - 1) - 1).
        clients: At most how many are summed up.

    Raises:
        ValueError: One of these is out of its range.

    Source: Bonawitz et al. 2017, Practical Secure Aggregation for Privacy-Preserving Machine
        Learning: sums modulo R = clients × (values - 1) + 1 or more.
    Lesson: 10
    """

    limit: float
    value_bits: int
    clients: int

    def __post_init__(self):
        if not (np.isfinite(self.limit) and self.limit > 0):
            raise ValueError(f"limit={self.limit} must be a number above 0.")
        if not 2 <= self.value_bits <= 32:
            raise ValueError(f"value_bits={self.value_bits} must be from 2 to 32.")
        if self.step < np.finfo(float).tiny:
            raise ValueError(f"limit={self.limit} is too small for steps in float64.")
        if not 1 <= self.clients <= 2**31:
            raise ValueError(f"clients={self.clients} must be from 1 to 2^31.")

    @property
    def step(self) -> float:
        """The distance between two values that can be told apart. Rounding errs by half of it."""
        return self.limit / self._most

    @property
    def bits(self) -> int:
        """Bits of an entry that hold the sum of all clients' values, whatever they are."""
        return (2 * self.clients * self._most).bit_length()

    @property
    def _most(self) -> int:
        """The most steps a value has."""
        return 2 ** (self.value_bits - 1) - 1

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Round to whole steps.

        Args:
            values: Real numbers, any shape, from -limit to limit. Clip them first where they may
                be larger; what a clipped update means is the caller's to say.

        Returns:
            uint32 of the same shape, uint64 where `bits` is above 32; each below 2^bits.

        Raises:
            ValueError: A value is NaN, infinite, or beyond the limit.
        """
        values = np.asarray(values, np.float64)
        if not np.isfinite(values).all():
            raise ValueError("values has NaN or infinity: leave this client out.")
        largest = np.abs(values).max(initial=0)
        if largest > self.limit:
            raise ValueError(
                f"values reaches {largest:.6g}, beyond limit={self.limit:.6g}: raise the limit, or "
                "clip with np.clip."
            )
        steps = np.rint(values / self.step).astype(np.int64)
        return reduce(steps.astype(np.uint64), self.bits).astype(word(self.bits))

    def decode(self, sums: np.ndarray) -> np.ndarray:
        """Return the real numbers, float64, that a sum of at most `clients` encodings stands for.

        Raises:
            ValueError: An entry is not below 2^bits.
        """
        sums = np.asarray(sums)
        if sums.dtype.kind != "u" or (sums != reduce(sums, self.bits)).any():
            raise ValueError(f"sums must be unsigned and below 2^{self.bits}: reduce them first.")
        spare = 64 - self.bits  # shifting up and down again repeats the sign
        return ((sums.astype(np.uint64) << spare).view(np.int64) >> spare) * self.step
