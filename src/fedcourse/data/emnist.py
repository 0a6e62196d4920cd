"""Federated EMNIST: fetch TFF's public file so that a bad download never ends up in the cache.

TFF's own loader writes the decompressed bytes straight to their final name; cut it off and every
later call fails on half a database. Here a download has temporary names until it is verified.
"""

import contextlib
import errno
import http.client
import json
import lzma
import os
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping

import tqdm

from fedcourse.data.layout import verify
from fedcourse.paths import cache_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

URL = "https://storage.googleapis.com/tff-datasets-public/emnist_all.sqlite.lzma"

#: What the file must hold: split name -> (writers, examples), as TFF documents it.
COUNTS = {
    "digits_only_train": (3383, 341_873),
    "digits_only_test": (3383, 40_832),
    "all_train": (3400, 671_585),
    "all_test": (3400, 77_483),
}

_CHUNK = 1 << 20  # bytes


def fetch(
    cache_dir: str | os.PathLike | None = None,
    url: str = URL,
    counts: Mapping[str, tuple[int, int]] = COUNTS,
    tries: int = 5,
    patience: float = 5.0,
) -> pathlib.Path:
    """Return the path of the verified database, downloading it if it is not cached.

    The download resumes where an earlier one stopped, also in a later process. Where the first
    request brings no answer nothing is retried, so a machine without a network knows within
    `patience`.

    Args:
        cache_dir: where to keep the file; None for `cache_folder()`, and then the copy in ~/.tff
            that TFF's own loader may have made is used as well, if it is sound.
        url: an LZMA-compressed SQLite file, named `<something>.sqlite.lzma`.
        counts: split name -> (writers, examples) that the file must hold.
        tries: attempts in a row that bring nothing new before giving up; pauses of 1, 2, 4, … s
            between.
        patience: seconds to wait for the first answer to a request.

    Returns:
        The path of an SQLite file in TFF's layout.

    Raises:
        ConnectionError: the file could not be fetched, or what came is not the file. Names the URL,
            what came, and the remedy.

    Lesson: 01
    """
    folder = cache_folder(cache_dir)
    name = pathlib.PurePosixPath(urllib.parse.urlparse(url).path).stem
    target = folder / name
    places = [target] if cache_dir else [target, pathlib.Path("~/.tff").expanduser() / name]
    for place in places:
        if _is_sound(place, folder, counts):
            return place
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / f"{name}.lock") as alone:
        if _is_sound(target, folder, counts):  # another process fetched it while this one waited
            return target
        own = "" if alone else f".{os.getpid()}"  # where files can't be locked, share no names
        part, unpacked = folder / f"{name}.lzma{own}.part", folder / f"{name}{own}.tmp"
        _download(url, part, tries, patience)
        try:
            _unpack(part, unpacked)
            verify(unpacked, counts)
            os.replace(unpacked, target)
        except (lzma.LZMAError, EOFError, ValueError) as error:
            with part.open("rb") as file:
                came = f"{part.stat().st_size:,} bytes that begin {file.read(40)!r} ({error})"
            _forget(part)
            raise _failure(url, came) from error
        finally:
            unpacked.unlink(missing_ok=True)
        _remember(target, folder)
        _forget(part)
    return target


def _is_sound(place: pathlib.Path, folder: pathlib.Path, counts: Mapping) -> bool:
    """Tell whether a cached database is sound; read all of it only if it has changed."""
    with contextlib.suppress(OSError, ValueError):
        if json.loads(_note(folder, place).read_text()) == _fingerprint(place):
            return True
    try:
        verify(place, counts)
    except (ValueError, OSError):
        return False
    with contextlib.suppress(OSError):  # a folder that can't be written to: verify again next time
        folder.mkdir(parents=True, exist_ok=True)
        _remember(place, folder)
    return True


def _note(folder: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
    return folder / f"{place.name}.verified.json"


def _fingerprint(place: pathlib.Path) -> dict:
    status = place.stat()
    return {"path": str(place), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _remember(place: pathlib.Path, folder: pathlib.Path) -> None:
    """Note that this file, at this size and time, has been verified."""
    note = _note(folder, place)
    temporary = note.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(_fingerprint(place)))
    os.replace(temporary, note)


@contextlib.contextmanager
def _only_one(lock: pathlib.Path) -> Iterator[bool]:
    """Wait until no other process holds the lock; give False where files can't be locked."""
    with lock.open("w") as file:
        alone = False
        with contextlib.suppress(AttributeError, OSError):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print("Waiting for another process that is downloading.", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        yield alone  # closing the file, or dying, releases the lock


def _download(url: str, part: pathlib.Path, tries: int, patience: float) -> None:
    """Bring the compressed file to `part`, whole, resuming and retrying."""
    answered, failures, most = False, 0, _size(part)
    while True:
        try:
            return _download_rest(url, part, patience)
        except urllib.error.HTTPError as error:
            answered, reason = True, f"HTTP {error.code} {error.reason}"
            if error.code == 416:  # what is in `part` is no beginning of what the server has now
                _forget(part)
            elif error.code < 500 and error.code not in (408, 429):
                raise _failure(url, reason) from error
        except ValueError as error:
            raise _failure(url, str(error)) from error
        except (http.client.HTTPException, OSError) as error:
            if isinstance(error, PermissionError) or getattr(error, "errno", 0) == errno.ENOSPC:
                raise
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        progress = _size(part) > most
        most = max(most, _size(part))
        answered = answered or progress
        if not answered:
            raise _failure(url, f"no answer ({reason})")
        failures = 1 if progress else failures + 1
        if failures >= tries:
            raise _failure(url, f"{reason}; {tries} attempts brought nothing new")
        time.sleep(2 ** (failures - 1))


def _download_rest(url: str, part: pathlib.Path, patience: float) -> None:
    """Append to `part` what is still missing of it, or begin again where the server can't resume.

    The validator (ETag or date) is on disk before the first byte of `part`, and goes before it
    does: a `part` without one is worthless, so being killed at any moment does no harm.
    """
    tag = _tag(part)
    start, validator = (_size(part), tag.read_text()) if tag.exists() else (0, "")
    asked = {"Range": f"bytes={start}-", "If-Range": validator} if start else {}
    with _open(urllib.request.Request(url, headers=asked), patience) as response:
        headers = response.headers
        if headers.get_content_maintype() == "text":
            page = f"{headers.get_content_type()} that begins {response.read(40)!r}"
            raise ValueError(f"a page of {page} instead of the file")
        current = headers.get("ETag") or headers.get("Last-Modified") or ""
        resumed = response.status == 206
        if resumed:
            range_given = headers.get("Content-Range", "")
            if current != validator or not range_given.startswith(f"bytes {start}-"):
                _forget(part)
                return _download_rest(url, part, patience)
        else:
            start = 0
            _forget(part)
            if current and not current.startswith("W/"):
                tag.write_text(current)
        length = headers.get("Content-Length")
        total = start + int(length) if length else None
        label = f"Downloading {part.name.removesuffix('.part')}"
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm.tqdm(desc=label, initial=start, total=total, unit="B", unit_scale=True) as bar,
        ):
            while chunk := response.read1(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection ended at {_size(part):,} of {total:,} bytes")


def _open(request: urllib.request.Request, patience: float) -> http.client.HTTPResponse:
    """Open a URL under one deadline, which covers looking up the name too (that has no timeout)."""
    outcome = []

    def attempt():
        try:
            outcome.append(urllib.request.urlopen(request, timeout=30))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(patience)
    if not outcome:
        raise TimeoutError(f"nothing within {patience:g} s")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def _unpack(part: pathlib.Path, unpacked: pathlib.Path) -> None:
    """Decompress `part` into `unpacked`; raises LZMAError or EOFError where it is not whole."""
    with (
        part.open("rb") as packed,
        lzma.open(packed) as stream,
        unpacked.open("wb") as file,
        tqdm.tqdm(desc="Unpacking", total=_size(part), unit="B", unit_scale=True) as bar,
    ):
        while chunk := stream.read(_CHUNK):
            file.write(chunk)
            bar.update(packed.tell() - bar.n)
        file.flush()
        os.fsync(file.fileno())


def _size(file: pathlib.Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _tag(part: pathlib.Path) -> pathlib.Path:
    return part.with_name(part.name + ".tag")


def _forget(part: pathlib.Path) -> None:
    """Delete a partial download, its validator first."""
    _tag(part).unlink(missing_ok=True)
    part.unlink(missing_ok=True)


def _failure(url: str, came: str) -> ConnectionError:
    return ConnectionError(
        f"Could not fetch url={url!r}: {came}. Check the network and call again, which resumes "
        "what was begun, or work without it: fedcourse.data.load('embedded')."
    )
