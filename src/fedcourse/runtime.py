"""The worker process that TFF computes in: started, sealed off, watched and ended here.

As TFF ships it, the worker listens on every network interface without asking who is there, holds
its parent's output open, and lives on, 600 MB large, when the parent is gone. And TFF waits for it
without end where it cannot start.
"""

import atexit
import concurrent.futures
import contextlib
import functools
import mmap
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import weakref

import grpc
import portpicker
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2
from tensorflow_federated.python.core.impl.executor_stacks import executor_factory

from fedcourse.paths import cache_folder

START_SECONDS = 30  # a worker that does not answer by then is given up
CORES = len(os.sched_getaffinity(0))
# One thread a client up to ten cores: ten clients at a time keep these busy, without waiting for
# one another in every operation.
_THREADS = {"TF_NUM_INTRAOP_THREADS": str(max(1, CORES // 10))}
_BINARY = pathlib.Path(tff.__file__).parent / "data" / "worker_binary"
_ANY_INTERFACE, _SOCKET_FILE = b"\0[::]:\0", b"\0unix:\0"  # what the address starts with
_PORT = "1"  # with "unix:" before it, the name of the socket's file

# Ask Linux to kill this process when its parent ends (PR_SET_PDEATHSIG), then become the worker.
_LAUNCH = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
)

# Linux ends a worker when the *thread* that started it ends. This one lasts as long as Python; a
# thread pool's would end before Python has let go of the worker.
_jobs: queue.SimpleQueue = queue.SimpleQueue()


def _start_when_asked() -> None:
    while True:
        future, arguments = _jobs.get()
        try:
            future.set_result(_start(*arguments))
        except BaseException as error:
            future.set_exception(error)


threading.Thread(target=_start_when_asked, name="worker-starter", daemon=True).start()


def own_workers() -> None:
    """Make TFF compute in workers that `Service` starts."""
    executor_factory.local_cpp_executor_factory = local_executor_factory
    tff.framework.local_cpp_executor_factory = local_executor_factory
    tff.backends.native.set_sync_local_cpp_execution_context()


def local_executor_factory(
    *,
    default_num_clients: int = 0,
    max_concurrent_computation_calls: int = -1,
    stream_structs: bool = False,
) -> tff.framework.ExecutorFactory:
    """Stand in for TFF's `local_cpp_executor_factory`, with the same arguments.

    Without a limit of the caller's, as many clients compute at a time as there are cores.
    """
    if max_concurrent_computation_calls < 1:
        max_concurrent_computation_calls = CORES
    service = Service(f"--max_concurrent_computation_calls={max_concurrent_computation_calls}")

    def stack(cardinalities):
        stub = service.stub()
        executor = tff.framework.RemoteExecutor(stub, stream_structs=stream_structs)
        executor.set_cardinalities({tff.CLIENTS: default_num_clients, **cardinalities})
        weakref.finalize(executor, _forget, stub, executor._executor_id).atexit = False
        return executor

    return tff.framework.ResourceManagingExecutorFactory(executor_stack_fn=stack)


def _forget(stub: tff.framework.RemoteExecutorGrpcStub, executor_id: object) -> None:
    """Let the worker give back what it holds for an executor that is gone here.

    TFF keeps executors for the last ten cohort sizes, and drops others without a word to the
    worker. Where sizes vary, as in Poisson sampling, its memory would grow with each round.
    """
    request = executor_pb2.DisposeExecutorRequest(executor=executor_id)
    with contextlib.suppress(Exception):  # the worker is gone too, or has forgotten already
        stub.dispose_executor(request)


class Service:
    """A worker, started when it is first asked for and again when it has died.

    It ends with this object, with Python, and when Python is killed.
    """

    def __init__(self, *options: str):
        self._options = options
        self._process: subprocess.Popen | None = None
        self._stub = None
        self._end = None

    def stub(self) -> tff.framework.RemoteExecutorGrpcStub:
        """Return a stub of a worker that runs.

        Raises:
            RuntimeError: It cannot be started, or gives no answer; with its own last words.
        """
        if self._process is not None and self._process.poll() is not None:
            warnings.warn(
                f"TFF's worker died ({_how(self._process)}). Starting another.", stacklevel=2
            )
            self._end()
            self._process = None
        if self._process is None:
            folder = _private_folder()
            future = concurrent.futures.Future()
            _jobs.put((future, (folder, self._options)))
            self._process, address = future.result()
            channel = grpc.insecure_channel(address, executor_factory._GRPC_CHANNEL_OPTIONS)
            self._end = weakref.finalize(self, _stop, self._process, folder)
            self._end.atexit = False  # Linux does it then, when Python is too far gone to mind
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            try:
                self._stub = _connect(self._process, channel, folder)
            except BaseException:
                self._end()
                self._process = None
                raise
        return self._stub


def _start(folder: pathlib.Path, options: tuple[str, ...]) -> tuple[subprocess.Popen, str]:
    """Start a worker; return it and its address as gRPC writes it."""
    binary, sealed = _sealed_binary()
    port = _PORT if sealed else str(portpicker.pick_unused_port())
    address = f"unix:{folder / port}" if sealed else f"localhost:{port}"
    with open(folder / "log", "wb") as log:
        try:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", _LAUNCH),
                    *(str(binary), f"--port={port}", *options),
                ],
                cwd=folder,
                env={**_THREADS, **os.environ},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # interrupting a cell must not interrupt the worker
            )
        except OSError as error:
            raise RuntimeError(f"TFF's worker cannot be started: {error}") from error
    return process, address


def _connect(
    process: subprocess.Popen, channel: grpc.Channel, folder: pathlib.Path
) -> tff.framework.RemoteExecutorGrpcStub:
    """Wait until the worker answers; return a stub of it."""
    until = time.monotonic() + START_SECONDS
    if _sealed_binary()[1]:  # a first try that comes too early costs a second
        socket = folder / _PORT
        while not socket.exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
    stub = tff.framework.RemoteExecutorGrpcStub(channel)
    while not stub.is_ready:
        if process.poll() is not None or time.monotonic() > until:
            said = (folder / "log").read_text(errors="replace").strip().splitlines()[-5:]
            fault = (
                f"gave no answer within {START_SECONDS} s"
                if process.poll() is None
                else f"ended at once ({_how(process)})"
            )
            raise RuntimeError(
                f"TFF's worker {fault}. It runs on Linux, x86-64, with glibc 2.31 or newer. "
                "Its last words:\n" + ("\n".join(said) or "(none)")
            )
        time.sleep(0.01)
    return stub


def _how(process: subprocess.Popen) -> str:
    """Say how a process ended."""
    status = process.returncode
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    return f"{name}: was there memory left?" if name == "SIGKILL" else name


def _stop(process: subprocess.Popen, folder: pathlib.Path) -> None:
    """End a worker and remove what it left."""
    process.kill()  # it holds nothing that is worth saving
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def _sealed_binary() -> tuple[pathlib.Path, bool]:
    """Return a worker that cannot be reached over any network, and True; or TFF's own, and False.

    The worker joins "[::]:" and its port to the address it listens at. In a copy, that is "unix:",
    and the same code makes a socket file in its working folder, which only this user may enter.
    """
    if not _BINARY.is_file():
        raise RuntimeError(
            f"TFF's worker is missing ({_BINARY.name}). Install tensorflow-federated again."
        )
    seen = _BINARY.stat()
    copy = cache_folder() / f"worker_binary-{tff.__version__}-{seen.st_size}-{seen.st_mtime_ns}"
    if copy.exists():
        return copy, True
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}.tmp")
        try:
            shutil.copyfile(_BINARY, unfinished)
            with open(unfinished, "r+b") as file, mmap.mmap(file.fileno(), 0) as content:
                place = content.find(_ANY_INTERFACE)
                if place < 0 or content.find(_ANY_INTERFACE, place + 1) >= 0:
                    raise OSError("this release writes its address in another way")
                content[place : place + len(_SOCKET_FILE)] = _SOCKET_FILE
            unfinished.chmod(0o700)
            # where nothing may be executed, it says so here
            subprocess.run([unfinished, "--version"], stdin=subprocess.DEVNULL, capture_output=True)
            os.replace(unfinished, copy)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        warnings.warn(
            "TFF's worker listens on all network interfaces of this machine, without asking who "
            f"is there: it could not be sealed off ({error}).",
            stacklevel=2,
        )
        return _BINARY, False
    return copy, True


def _private_folder() -> pathlib.Path:
    """Make a folder that only this user may enter; remove those of processes long gone."""
    root = pathlib.Path(tempfile.gettempdir())
    if len(os.fsencode(root)) > 60:  # the path of a socket has at most 107 bytes
        root = pathlib.Path("/tmp")
    for old in root.glob("fedcourse-*-*"):
        with contextlib.suppress(OSError):
            gone = not pathlib.Path("/proc", old.name.split("-")[1]).exists()
            if gone and time.time() - old.stat().st_mtime > 3600:
                shutil.rmtree(old, ignore_errors=True)
    return pathlib.Path(tempfile.mkdtemp(prefix=f"fedcourse-{os.getpid()}-", dir=root))


own_workers()  # here, so that it happens whichever is imported first, TFF or this module
