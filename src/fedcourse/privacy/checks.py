"""Numbers in their range, or an error that names them."""

import math


def positive(**numbers: float) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        ValueError: One is none; names it.

    Lesson: 11
    """
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name}={number!r} must be above 0, and finite")


def not_negative(**numbers: float) -> None:
    """Refuse what is not a finite number of 0 or more.

    Raises:
        ValueError: One is none; names it.

    Lesson: 11
    """
    for name, number in numbers.items():
        if not 0 <= number < math.inf:
            raise ValueError(f"{name}={number!r} must be 0 or more, and finite")


def check_share(**numbers: float) -> None:
    """Refuse what is not a share from 0 to 1.

    Raises:
        ValueError: One is none; names it.

    Lesson: 11
    """
    for name, number in numbers.items():
        if not 0 <= number <= 1:
            raise ValueError(f"{name}={number!r} must be from 0 to 1")
