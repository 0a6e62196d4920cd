"""Names of classes and their numbers: the same name is the same number everywhere."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np

DIGITS = tuple("0123456789")
LETTERS_TOO = (*DIGITS, *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", *"abcdefghijklmnopqrstuvwxyz")

_MOST = 10_000


def tidy(name: object) -> str:
    """Return a label as a name: without spaces around it, accents in one spelling (NFC).

    A folder "é" copied from a Mac is spelled in two characters, one from Linux in one.

    Lesson: 05
    """
    return unicodedata.normalize("NFC", str(name)).strip()


def counted(most: int, where: str) -> tuple[str, ...]:
    """Return the names of classes that are whole numbers: "0" up to the largest.

    Raises:
        ValueError: A network for so many classes is hardly meant.

    Lesson: 05
    """
    if most >= _MOST:
        raise ValueError(
            f"{where}: labels go up to {most}, and a network would need as many outputs. "
            "If they are names rather than numbers from 0, give classes=, the list of all of them"
        )
    return tuple(map(str, range(most + 1)))


def named(names: Iterable[object], where: str) -> tuple[str, ...]:
    """Return the classes that these names stand for.

    Names that are all whole numbers mean these numbers, so that what is present renumbers nothing:
    "3" and "7" make the eight classes 0 to 7. Other names are numbered in the order of the alphabet
    (of Unicode), and then all of them must be known.

    Args:
        names: Each label at least once.
        where: What an error calls them.

    Raises:
        ValueError: One is missing (empty), or two mean the same number, such as "01" and "1".

    Lesson: 05
    """
    tidied = sorted({tidy(name) for name in names})
    if "" in tidied:
        raise ValueError(f"{where}: a label is missing (empty); remove its image, or give it one")
    if not all(name.isdecimal() for name in tidied):
        return tuple(tidied)
    numbers = {}
    for name in tidied:
        if (other := numbers.setdefault(int(name), name)) != name:
            raise ValueError(
                f"{where}: the labels {other!r} and {name!r} mean the same number; "
                "spell them alike, or give classes=[…] with both"
            )
    return counted(max(numbers), where)


def numbers_of(names: Sequence[object], classes: Sequence[str], where: str) -> np.ndarray:
    """Return the numbers of labels among the classes.

    Args:
        names: A label for each image, as text or as whole numbers.
        classes: All names, in the order of their numbers.
        where: What an error calls them.

    Returns:
        int32 [N].

    Raises:
        ValueError: A label is none of the classes, or two mean the same one.

    Lesson: 05
    """
    place = {name: number for number, name in enumerate(classes)}
    tidied = [tidy(name) for name in names]
    spelled = {}
    for name in dict.fromkeys(tidied):
        number = place.get(name)
        if number is None and name.isdecimal():  # "07" is class "7"
            number = place.get(str(int(name)))
        if number is None:
            some = ", ".join(map(repr, classes[:5])) + (", …" if len(classes) > 5 else "")
            raise ValueError(f"{where}: label {name!r} is none of the classes {some}")
        if (other := spelled.setdefault(number, name)) != name:
            raise ValueError(f"{where}: the labels {other!r} and {name!r} mean the same class")
        place[name] = number
    return np.array([place[name] for name in tidied], np.int32)


def given(classes: Sequence[object]) -> tuple[str, ...]:
    """Check the names of all classes that somebody gives.

    Raises:
        ValueError: No names, a name twice, or one that is empty.

    Lesson: 05
    """
    names = tuple(map(tidy, classes))
    if isinstance(classes, str) or not names or len(set(names)) < len(names) or "" in names:
        raise ValueError(f"classes={classes!r} must be a list of different names")
    return names


def agreed(several: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Return the classes of data sets that are used together: the longest list, if it fits all.

    Raises:
        ValueError: A number means one class here and another there.

    Lesson: 05
    """
    lists = sorted((tuple(classes) for classes in several), key=len)
    longest = lists[-1]
    for shorter in lists:
        for number, (one, other) in enumerate(zip(shorter, longest, strict=False)):
            if one != other:
                raise ValueError(
                    f"class {number} is {one!r} in one data set and {other!r} in another: "
                    "read both with the same classes=[…]"
                )
    return longest
