"""Start TFF's worker so that nothing reaches it but its owner.

The worker joins "[::]:", which is every network interface, and its port to the address it listens
at, and asks nobody who is there. With "unix:" in that place the same code makes a socket file in
its working folder, which only one user may enter. The five letters are changed in memory before the
worker's first instruction, as a debugger would; where one process may not trace another, in a copy
of the program that exists in memory only (300 MB). So no disk holds a copy that grows old, belongs
to somebody else or is half written.
"""

import contextlib
import ctypes
import mmap
import os
import pathlib
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Sequence

SOCKET = "1"  # the "port" of a sealed worker: with "unix:" before it, the name of the socket's file

_OPEN, _SEALED = b"\0[::]:\0", b"\0unix:\0"
_USUAL_PLACE = 195_424_647  # of _OPEN in TFF 0.87.0; in another build it is looked for
_PEEK, _POKE, _DETACH = 2, 5, 17  # requests of ptrace

# What will become the worker asks Linux to end it when its parent ends (PR_SET_PDEATHSIG), and ends
# itself if that has happened. Traced (PTRACE_TRACEME), it stops when it has become the worker.
_LAUNCH = (
    "import ctypes, os, sys; linux = ctypes.CDLL(None); linux.prctl(1, 9); "
    "_, parent, program, *command = sys.argv; os.getppid() == int(parent) or sys.exit(1)"
)
_TRACED = "linux.ptrace(0, 0, 0, 0) and sys.exit(1)"
_BECOME = "os.execv(program, command)"


def start(
    program: pathlib.Path, options: Sequence[str], **settings: object
) -> tuple[subprocess.Popen, str]:
    """Start a worker that ends when the thread that calls this does.

    Args:
        program: The worker as TFF ships it.
        options: Its options, all but the port.
        **settings: More arguments of `subprocess.Popen`.

    Returns:
        The process, and its port: `SOCKET`, or a number where it could not be sealed.

    Raises:
        OSError: No process can be started.
    """
    command = [str(program), f"--port={SOCKET}", *options]
    try:
        place = _place(program)
        with contextlib.suppress(OSError):
            return _start_traced(command, place, **settings), SOCKET
        return _start_copied(command, place, **settings), SOCKET
    except (OSError, ValueError, AttributeError) as error:  # an empty file; no os.memfd_create
        warnings.warn(
            "TFF's worker listens on all network interfaces of this machine, without asking who "
            f"is there: it could not be sealed off ({error}).",
            stacklevel=2,
        )
    with socket.socket() as unused:
        unused.bind(("", 0))
        port = str(unused.getsockname()[1])
    command[1] = f"--port={port}"
    return _spawn((_LAUNCH, _BECOME), program, command, **settings), port


def _place(program: pathlib.Path) -> int:
    """Find the letters to change in the worker's file."""
    with (
        open(program, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        if content[_USUAL_PLACE : _USUAL_PLACE + len(_OPEN)] == _OPEN:
            return _USUAL_PLACE
        place = content.find(_OPEN)
        if place < 0 or content.find(_OPEN, place + 1) >= 0:
            raise OSError("this release writes its address in another way")
        return place


def _start_traced(command: list[str], place: int, **settings: object) -> subprocess.Popen:
    """Start a worker and change the letters in its memory: this costs one page, 4 kB."""
    process = _spawn((_LAUNCH, _TRACED, _BECOME), command[0], command, **settings)
    try:
        event = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if event.si_code != os.CLD_TRAPPED:
            raise OSError("no process may trace another here")
        address = _address(process.pid, place)
        word = _ptrace(_PEEK, process.pid, address).to_bytes(8, "little", signed=True)
        if not word.startswith(_OPEN):
            raise OSError("its memory is not its file")
        sealed = int.from_bytes(_SEALED + word[len(_SEALED) :], "little")
        _ptrace(_POKE, process.pid, address, sealed)
        _ptrace(_DETACH, process.pid)
    except BaseException:
        os.kill(process.pid, signal.SIGKILL)
        while os.waitid(os.P_PID, process.pid, os.WEXITED).si_code == os.CLD_TRAPPED:
            pass  # Popen would take a process that stops, traced, for one that has ended
        process.wait()
        raise
    return process


def _address(pid: int, place: int) -> int:
    """Say where in a process's memory a byte of its program's file lies."""
    program = os.readlink(f"/proc/{pid}/exe")
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        span, _, offset, _, _, *path = line.split(maxsplit=5)
        start, end = (int(bound, 16) for bound in span.split("-"))
        address = start + place - int(offset, 16)
        if path == [program] and start <= address < end:
            return address
    raise OSError("its memory is not its file")


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.restype = ctypes.c_long
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    result = ptrace(request, pid, address, data)
    if result == -1:
        raise OSError(ctypes.get_errno(), "ptrace")
    return result


def _start_copied(command: list[str], place: int, **settings: object) -> subprocess.Popen:
    """Start a worker from a copy in memory."""
    copy = os.memfd_create("worker_binary")
    try:
        with open(command[0], "rb") as file:
            while os.sendfile(copy, file.fileno(), None, 2**30):
                pass
        os.pwrite(copy, _SEALED, place)
        path = f"/proc/self/fd/{copy}"
        if not os.access(path, os.X_OK):
            raise OSError("no program in memory may be run here")
        return _spawn((_LAUNCH, _BECOME), path, command, pass_fds=[copy], **settings)
    finally:
        os.close(copy)


def _spawn(
    steps: tuple[str, ...], program: object, command: list[str], **settings: object
) -> subprocess.Popen:
    """Start Python, whose last step is to become the program."""
    python = [sys.executable, "-I", "-S", "-c", "; ".join(steps)]
    return subprocess.Popen([*python, str(os.getpid()), str(program), *command], **settings)
