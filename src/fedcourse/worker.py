"""The worker process that TFF computes in: started, watched and ended here.

As TFF ships it, the worker holds its parent's output open and lives on, 600 MB large, when the
parent is gone. And TFF waits for it without end where it cannot start.
"""

import atexit
import concurrent.futures
import contextlib
import fcntl
import importlib.util
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import warnings
import weakref
from typing import NamedTuple

import grpc

from fedcourse import sealing
from fedcourse.cores import cores

START_SECONDS = 60  # a worker that does not answer by then is given up
CORES = cores()
FORKED = (
    "TFF cannot compute in a forked process: its threads and its connection to the worker stayed "
    "in the parent. Start processes anew: multiprocessing.get_context('spawn')."
)
_OWNER = os.getpid()
_FOLDER = "fedcourse-worker-"  # what the names of its folders start with
_TFF = importlib.util.find_spec("tensorflow_federated").origin
_PROGRAM = pathlib.Path(_TFF).parent / "data" / "worker_binary"
# One thread a client up to ten cores: ten clients at a time keep these busy, without waiting for
# one another in every operation.
_THREADS = {"TF_NUM_INTRAOP_THREADS": str(max(1, CORES // 10))}
_CHANNEL = [
    ("grpc.max_receive_message_length", 2 * 10**9),
    ("grpc.max_send_message_length", 2 * 10**9),
    ("grpc.enable_http_proxy", 0),  # the worker is on this machine
]

# Linux ends a worker when the *thread* that started it ends. This one lasts as long as Python; a
# thread pool's would end before Python has let go of the worker.
_jobs: queue.SimpleQueue = queue.SimpleQueue()


def _start_when_asked() -> None:
    while True:
        future, options = _jobs.get()
        try:
            future.set_result(_start(options))
        except BaseException as error:
            future.set_exception(error)


threading.Thread(target=_start_when_asked, name="worker-starter", daemon=True).start()


def forked() -> bool:
    """Say whether this process was forked off the one that imported this module."""
    return os.getpid() != _OWNER


class Service:
    """A worker, started when it is first asked for and again when it has died.

    It ends with this object, with Python, and when Python is killed.
    """

    def __init__(self, *options: str):
        self._options = options
        self._worker: _Worker | None = None
        self._channel = None
        self._end = None

    def channel(self) -> grpc.Channel:
        """Return a connection to a worker that runs.

        Raises:
            RuntimeError: It cannot be started, or gives no answer; with its own last words. Or
                this process was forked.
        """
        if forked():
            raise RuntimeError(FORKED)
        if self._worker is not None and self._worker.process.poll() is not None:
            warnings.warn(
                f"TFF's worker died ({_how(self._worker.process)}). Starting another.", stacklevel=2
            )
            self._end()
            self._worker = None
        if self._worker is None:
            future = concurrent.futures.Future()
            _jobs.put((future, self._options))
            self._worker = future.result()
            self._end = weakref.finalize(self, _stop, self._worker)
            self._end.atexit = False  # Linux does it then, when Python is too far gone to mind
            try:
                self._channel = _connect(self._worker)
            except BaseException:
                self._end()
                self._worker = None
                raise
        return self._channel


class _Worker(NamedTuple):
    process: subprocess.Popen
    port: str  # or `sealing.SOCKET`
    folder: pathlib.Path
    log: int  # a file descriptor


def _start(options: tuple[str, ...]) -> _Worker:
    """Start a worker in a folder of its own."""
    if not _PROGRAM.is_file():
        raise RuntimeError(
            f"TFF's worker is missing ({_PROGRAM.name}). Install tensorflow-federated again."
        )
    try:
        _remove_abandoned()
        folder, log = _private_folder()
        process, port = sealing.start(
            _PROGRAM,
            options,
            cwd=folder,
            env={**_THREADS, **os.environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # interrupting a cell must not interrupt the worker
        )
    except OSError as error:
        raise RuntimeError(f"TFF's worker cannot be started: {error}") from error
    return _Worker(process, port, folder, log)


def _connect(worker: _Worker) -> grpc.Channel:
    """Wait until the worker answers; return a connection to it."""
    until = time.monotonic() + START_SECONDS
    if worker.port == sealing.SOCKET:
        socket = worker.folder / worker.port
        while not socket.exists() and worker.process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)  # a first try that comes too early costs a second
        # A way in that is short and plain for a folder of any name and depth. It stays open: else
        # the connection of a worker that is gone could come upon the next one.
        inside = os.open(worker.folder, os.O_PATH)
        channel = grpc.insecure_channel(f"unix:/proc/self/fd/{inside}/{worker.port}", _CHANNEL)
    else:
        channel = grpc.insecure_channel(f"localhost:{worker.port}", _CHANNEL)
    answer = grpc.channel_ready_future(channel)
    while not answer.done():
        if worker.process.poll() is not None or time.monotonic() > until:
            answer.cancel()
            said = os.pread(worker.log, 2**20, 0).decode(errors="replace").strip().splitlines()
            fault = (
                f"gave no answer within {START_SECONDS} s"
                if worker.process.poll() is None
                else f"ended at once ({_how(worker.process)})"
            )
            raise RuntimeError(
                f"TFF's worker {fault}. It runs on Linux, x86-64, with glibc 2.31 or newer. "
                "Its last words:\n" + ("\n".join(said[-5:]) or "(none)")
            )
        time.sleep(0.01)
    return channel


def _how(process: subprocess.Popen) -> str:
    """Say how a process ended."""
    status = process.returncode
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"{name}: was there memory left?" if name == "SIGKILL" else name


def _stop(worker: _Worker) -> None:
    """End a worker and remove what it left."""
    if forked():
        return  # it is the parent's
    worker.process.kill()  # it holds nothing that is worth saving
    worker.process.wait()
    os.close(worker.log)
    _remove(worker.folder)


# --- its folder -----------------------------------------------------------------------------------


def _private_folder() -> tuple[pathlib.Path, int]:
    """Make a folder that only this user may enter, with a log in it.

    The log is locked for as long as this process or the worker has it open, which is the sign that
    the folder is in use. It gets its name when it is locked.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix=_FOLDER))
    atexit.register(_remove, folder)
    log = os.open(folder / "new", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with contextlib.suppress(OSError):  # not every file system has locks
        fcntl.flock(log, fcntl.LOCK_EX)
    (folder / "new").rename(folder / "log")
    return folder, log


def _remove(folder: pathlib.Path) -> None:
    if not forked():
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders of workers whose Python was killed, and nothing else."""
    for folder in pathlib.Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            names = {path.name for path in folder.iterdir()}
            if folder.is_symlink() or not names <= {"log", sealing.SOCKET}:
                continue
            with open(folder / "log", "r+b") as log:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
                for name in names:
                    (folder / name).unlink()
                folder.rmdir()
