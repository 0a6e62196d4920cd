"""What a lesson claims: sentences, each with what decides it, shown with ✓ or ✗."""

import os
from collections.abc import Iterable

Claim = tuple[str, bool | None, object]  # a sentence, whether it holds, and what was seen


def check(*claims: Claim) -> None:
    """Print each claim with ✓, ✗ or –, and for each ✗ what was seen.

    A turned knob or other data can make a claim fail; the table says so, and it is something to
    learn from. Only in the course's own tests, where the environment variable FEDCOURSE_CLAIMS is
    "raise", is it an error.

    Args:
        *claims: For each a sentence, whether it holds (None where these settings leave nothing to
            decide it by), and what was seen: text, a number, or numbers by name.

    Raises:
        AssertionError: A claim does not hold, in the course's tests.

    Lesson: 01
    """
    failed = [
        f"{sentence} (seen: {_words(seen)})"
        for sentence, holds, seen in claims
        if holds is not None and not holds
    ]
    for sentence, holds, seen in claims:
        if holds is None:
            print(f"– {sentence}\n    cannot be decided with these settings")
        elif holds:
            print(f"✓ {sentence}")
        else:
            print(f"✗ {sentence}\n    seen: {_words(seen)}")
    if failed:
        print("What does not hold may be due to the settings, or to the data.")
        if os.environ.get("FEDCOURSE_CLAIMS") == "raise":
            raise AssertionError("; ".join(failed))


def _words(seen: object) -> str:
    """Say what was seen, numbers with three digits that count."""
    if isinstance(seen, str):
        return seen
    if isinstance(seen, dict):
        return ", ".join(f"{_words(name)}: {_words(value)}" for name, value in seen.items())
    if isinstance(seen, Iterable) and getattr(seen, "ndim", 1):
        return ", ".join(map(_words, seen))
    if isinstance(seen, int) or not hasattr(seen, "__float__"):
        return str(seen)
    return f"{float(seen):.3g}"
