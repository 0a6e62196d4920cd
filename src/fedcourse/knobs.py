"""A knob's value in its range, or one line that names it and says what would do."""

import math
import numbers


class KnobError(ValueError):
    """A knob has a value that cannot work. A notebook shows it as one line, without a traceback.

    Lesson: 01
    """

    def _render_traceback_(self) -> list[str]:  # what IPython shows in place of a traceback
        return [str(self)]


def whole(least: int = 1, most: int | None = None, **knobs: int) -> None:
    """Check that knobs are whole numbers from `least` to `most`.

    Args:
        least: The smallest that will do.
        most: The largest; None for no limit.
        **knobs: The values by name, such as `ROUNDS=ROUNDS`.

    Raises:
        KnobError: One is not.

    Lesson: 01
    """
    for name, value in knobs.items():
        fits = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (fits and least <= value and (most is None or value <= most)):
            limits = f"of at least {least}" if most is None else f"from {least} to {most}"
            raise KnobError(f"{name} = {value!r} cannot work: give a whole number {limits}.")


def number(
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    **knobs: float,
) -> None:
    """Check that knobs are finite numbers within limits; those that are None are none.

    Args:
        above: All must be larger than this.
        least: All must be at least this.
        below: All must be smaller than this.
        most: All must be at most this.
        **knobs: The values by name, such as `CLIENT_LEARNING_RATE=CLIENT_LEARNING_RATE`.

    Raises:
        KnobError: One is not.

    Lesson: 02
    """
    limits = [
        (above, "above", lambda value: value > above),
        (least, "of at least", lambda value: value >= least),
        (below, "below", lambda value: value < below),
        (most, "of at most", lambda value: value <= most),
    ]
    limits = [(limit, words, fits) for limit, words, fits in limits if limit is not None]
    said = " and ".join(f"{words} {limit:g}" for limit, words, _ in limits)
    for name, value in knobs.items():
        fits = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (fits and math.isfinite(value) and all(fits(value) for *_, fits in limits)):
            raise KnobError(f"{name} = {value!r} cannot work: give a number {said}.")


def choice(*choices: object, **knobs: object) -> None:
    """Check that knobs are among the choices.

    Raises:
        KnobError: One is not.

    Lesson: 02
    """
    for name, value in knobs.items():
        if value not in choices:
            raise KnobError(
                f"{name} = {value!r} cannot work: give {' or '.join(map(repr, choices))}."
            )


def several(check: object, least: int = 1, **knobs: object) -> None:
    """Check that knobs are lists of at least `least` different values, each of which passes.

    Args:
        check: A function that takes one value by name, such as `functools.partial(whole, 1)`.
        least: The shortest list that will do.
        **knobs: The lists by name, such as `BATCH_SIZES=BATCH_SIZES`.

    Raises:
        KnobError: One is not.

    Lesson: 09
    """
    for name, values in knobs.items():
        if not isinstance(values, list | tuple) or len(set(values)) < max(least, len(values)):
            raise KnobError(
                f"{name} = {values!r} cannot work: give a list of {least} or more different values."
            )
        for value in values:
            check(**{name: value})


def at_most(there: int, of: str, **knob: int) -> int:
    """Return a knob's value, or `there` where it asks for more, saying so.

    Args:
        there: How many there are.
        of: What they are, such as "training writers".
        **knob: One value by name, such as `CLIENTS_PER_ROUND=CLIENTS_PER_ROUND`.

    Lesson: 03
    """
    ((name, value),) = knob.items()
    if value > there:
        print(f"{name} = {value}, but there are {there} {of}: all of them are taken.")
    return min(value, there)
