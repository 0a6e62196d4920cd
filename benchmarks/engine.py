"""An engine: its environment, its process, and the driver's end of the line to it."""

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

import psutil

SCRIPTS = pathlib.Path(__file__).parent / "engines"
TUNED = "-tuned"  # ends the name of an engine that runs with the best settings its documents name


class EngineError(Exception):
    """An engine can't be installed, died, or gave no answer; with its last words."""


def environment() -> dict[str, str]:
    """Return the variables that this process began with: `import fedcourse` adds to its own."""
    pairs = pathlib.Path("/proc/self/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(pair).split("=", 1) for pair in pairs if pair)


def python_for(name: str, build: pathlib.Path) -> str:
    """Return the Python that an engine runs in; make its environment where there is none yet.

    An engine with requirements of its own, `engines/NAME.txt`, gets an environment of its own.
    """
    name = name.removesuffix(TUNED)
    requirements = SCRIPTS / f"{name}.txt"
    if not requirements.exists():
        return sys.executable
    folder = build / name
    python, ready = folder / "bin" / "python", folder / "ready"
    recipe = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not ready.exists() or ready.read_text() != recipe:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "-r", requirements]
        _run_pip(name, pip, build / f"{name}-pip.log")
        ready.write_text(recipe)
    return str(python)


def _run_pip(name: str, command: list, log: pathlib.Path) -> None:
    """Run pip; of its many lines show a count that moves."""
    found = 0
    with (
        open(log, "w") as written,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as pip,
    ):
        for line in pip.stdout:
            written.write(line)
            found += line.startswith(("Collecting", "Processing"))
            installing = ", installing them" if line.startswith("Installing") else ""
            print(f"\r{name}: {found} packages found{installing}", end="", flush=True)
    print()
    if pip.returncode:
        raise EngineError(f"pip could not install it:\n{_last_words(log)}")


class Engine:
    """A long-lived process that runs rounds when it is asked to.

    Args:
        name: Which: its script is `engines/run_NAME.py`; with `-tuned` it is told to tune itself.
        python: The Python to run it in.
        workload: The file that `workload.make` wrote.
        environment: Its environment variables.
        log: File for what it prints.
    """

    def __init__(
        self,
        name: str,
        python: str,
        workload: pathlib.Path,
        environment: Mapping[str, str],
        log: pathlib.Path,
    ):
        self._log, self._stopped, self._memory = log, [], 0
        if name.endswith(TUNED):
            name, environment = name.removesuffix(TUNED), {**environment, "BENCH_TUNED": "1"}
        self._line, theirs = socket.socketpair()
        with theirs, open(log, "wb") as output:
            self._process = psutil.Popen(
                [python, SCRIPTS / f"run_{name}.py", workload, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the driver's; it ends the engines
            )
        self._file = self._line.makefile("rw")

    def version(self, timeout: float) -> str:
        """Wait until the engine is ready; return its version."""
        return self._hear(timeout)["version"]

    def run(self, rounds: int, timeout: float) -> list[float]:
        """Run rounds; return the seconds of each."""
        self._say({"rounds": rounds})
        return self._hear(timeout)["seconds"]

    def save(self, path: pathlib.Path, timeout: float) -> None:
        """Write the weights to a file, the last thing it does."""
        self._say({"save": str(path)})
        self._hear(timeout)

    def cpu_seconds(self) -> float:
        """Return the processor time that its processes have used so far."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def peak_memory(self) -> int:
        """Return the most bytes that its processes held at a time, where it was looked at.

        Memory that several share is counted once.
        """
        now = 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                now += process.memory_full_info().pss
        self._memory = max(self._memory, now)
        return self._memory

    @contextlib.contextmanager
    def awake(self):
        """Let processes that `halt` stopped go on for a while."""
        halted = self._stopped
        self._signal("resume", halted)
        try:
            yield
        finally:
            if halted:
                self.halt()

    def halt(self) -> None:
        """Stop all its processes until it is their turn: for an engine that works when idle."""
        self._stopped = self._tree()
        self._signal("suspend", self._stopped)

    def end(self) -> None:
        """End it and every process it has started."""
        tree = self._tree()
        self._line.close()
        self._signal("kill", tree)
        psutil.wait_procs(tree, timeout=10)

    def _tree(self) -> list[psutil.Process]:
        """Return its processes: its children, and whoever else is in its session."""
        tree = {self._process.pid: psutil.Process(self._process.pid)} if self._runs() else {}
        for process in list(tree.values()):
            tree |= {child.pid: child for child in process.children(recursive=True)}
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if os.getsid(process.pid) == self._process.pid:
                    tree[process.pid] = process
        return list(tree.values())

    def _runs(self) -> bool:
        return self._process.poll() is None

    @staticmethod
    def _signal(action: str, processes: list[psutil.Process]) -> None:
        for process in processes:
            with contextlib.suppress(psutil.Error):
                getattr(process, action)()

    def _say(self, message: dict) -> None:
        with contextlib.suppress(OSError):  # a dead engine is found out when it gives no answer
            self._file.write(json.dumps(message) + "\n")
            self._file.flush()

    def _hear(self, timeout: float) -> dict:
        self._line.settimeout(timeout)
        begun = time.monotonic()
        try:
            answer = self._file.readline()
        except OSError as error:
            answer = ""
            fault = f"gave no answer in {time.monotonic() - begun:.0f} s ({error})"
        if answer:
            return json.loads(answer)
        with contextlib.suppress(psutil.TimeoutExpired):
            fault = f"ended with status {self._process.wait(5)}"
        raise EngineError(f"{fault}. Its last words:\n{_last_words(self._log)}")


def _last_words(log: pathlib.Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return "\n".join(line[:300] for line in lines[-8:]) or "(none)"
