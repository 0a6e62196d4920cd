"""The last states of a run, in a folder: written whole or not at all, verified when they are read.

Beside `tff.program.FileProgramStateManager`, which lesson 04 shows: it trusts what it finds.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import tree

_UNREADABLE = (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error)


class Checkpoints:
    """The last states of a run in a folder, one file for each round that is kept.

    A file's name says the round, and in eight hex digits the structure of its state, so that the
    states of another model are never taken for one's own. Each file carries checksums.

    Lesson: 04
    """

    def __init__(self, folder: str | os.PathLike, keep: int = 3):
        if keep < 1:
            raise ValueError(f"keep={keep!r} must be at least 1")
        self._folder, self._keep = pathlib.Path(folder), keep

    def remember(self, settings: Mapping[str, object]) -> None:
        """Write what a run was started with beside its states; refuse to go on with anything else.

        Args:
            settings: Names and values, in JSON's types.

        Raises:
            ValueError: The folder holds a run with other settings, or nobody can tell with which.
            OSError: The folder cannot be written to.
        """
        path = self._folder / "settings.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(".tmp")  # then moved: a killed process leaves no half of it
            written.write_text(json.dumps(dict(settings)))
            written.replace(path)
            return
        try:
            before = json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(
                f"{path} cannot be read ({error}), so nobody knows what the checkpoints beside "
                "it are of. Give another folder."
            ) from error
        if other := {k: before.get(k) for k in settings if before.get(k) != settings[k]}:
            raise ValueError(
                f"{self._folder} holds a run with other settings: {other}. "
                "Give these, or another folder."
            )

    def save(self, state: object, number: int) -> None:
        """Save the state after round `number`, then remove what is older than the newest `keep`.

        Raises:
            OSError: It cannot be written, for example because the disk is full. What was saved
                before is still there.
        """
        paths, leaves = _flatten(state)
        fingerprint = _fingerprint(paths, leaves)
        path = self._folder / f"round_{number:06}-{fingerprint}.npz"
        content = io.BytesIO()
        np.savez(content, **dict(zip(paths, leaves, strict=True)))
        unfinished = self._folder / "unfinished.tmp"  # a killed save's is written over by the next
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with open(unfinished, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise OSError(
                error.errno,
                f"round {number} cannot be saved ({error.strerror}); what was saved before is kept",
                str(self._folder),
            ) from error
        for old in self._files(fingerprint)[self._keep :]:
            old.unlink()

    def load(self, like: object) -> tuple[object, int]:
        """Return the newest state that is whole, and its round; `(like, 0)` where there is none.

        A file that is damaged is left where it is, with a warning, and the one before it is taken.
        So are states of another structure.

        Args:
            like: A state of the same structure, for example `process.initialize()`.
        """
        paths, leaves = _flatten(like)
        own = self._files(_fingerprint(paths, leaves))
        foreign = sorted(set(self._files("*")) - set(own))
        if foreign:
            warnings.warn(
                f"{self._folder}: {foreign[-1].name} and others like it hold states of another "
                "model or algorithm. They are not used.",
                stacklevel=2,
            )
        for path in own:
            try:
                with np.load(path) as file:  # checks each array's CRC-32
                    leaves = [file[name][()] for name in paths]
            except _UNREADABLE as error:
                warnings.warn(
                    f"{path} is damaged ({error}). Going on with the checkpoint before it.",
                    stacklevel=2,
                )
                continue
            return tree.unflatten_as(like, leaves), _round(path)
        return like, 0

    def _files(self, fingerprint: str) -> list[pathlib.Path]:
        """Return the files whose states have that structure, the newest round first."""
        files = self._folder.glob(f"round_*-{fingerprint}.npz")
        return sorted((f for f in files if re.fullmatch(_NAME, f.name)), key=_round, reverse=True)


_NAME = r"round_(\d{6,})-[0-9a-f]{8}\.npz"


def _round(path: pathlib.Path) -> int:
    return int(re.fullmatch(_NAME, path.name)[1])


def _flatten(state: object) -> tuple[list[str], list[np.ndarray]]:
    """Return the leaves of a state, and where in it each of them is."""
    pairs = tree.flatten_with_path(state)
    return ["/".join(map(str, path)) for path, _ in pairs], [np.asarray(leaf) for _, leaf in pairs]


def _fingerprint(paths: list[str], leaves: list[np.ndarray]) -> str:
    """Return eight hex digits that differ where names, types or shapes differ."""
    described = [(p, x.dtype.str, x.shape) for p, x in zip(paths, leaves, strict=True)]
    return hashlib.sha256(repr(described).encode()).hexdigest()[:8]
