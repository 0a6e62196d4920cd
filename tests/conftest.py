"""What several test files share."""

import fedcourse  # noqa: F401  # isort: skip  (before any test file brings TensorFlow in)

import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import types
from typing import NoReturn

import numpy as np
import pytest

os.environ.setdefault("MPLBACKEND", "Agg")


LONG = 300  # seconds: against waiting without end, and no measure of anything


def fresh_environment(**more):
    """The environment without what `import fedcourse` put there in this process."""
    ours = ("TF_USE_LEGACY_KERAS", "TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")
    return {k: v for k, v in os.environ.items() if k not in ours} | more


@pytest.fixture(scope="session")
def python():
    """Run Python on its own: `python("-c", code)`; what it says goes through files, not pipes."""

    def run(*arguments, **environment):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = subprocess.run(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=fresh_environment(**environment),
                timeout=LONG,
            ).returncode
            out.seek(0)
            err.seek(0)
            return types.SimpleNamespace(
                status=status, out=out.read().decode(), err=err.read().decode()
            )

    return run


@pytest.fixture(scope="session")
def real_writers(tmp_path_factory):
    """An SQLite file in TFF's layout with all the real writers, where there are some."""
    where = os.environ.get("FEDCOURSE_REAL_WRITERS")
    if where == "":
        pytest.skip("FEDCOURSE_REAL_WRITERS is empty: no real writers here, and that is meant")
    if where is None:
        missing("FEDCOURSE_REAL_WRITERS does not name the file of real writers")
    path = tmp_path_factory.mktemp("real") / "writers.sqlite"
    tool("real_writers").write(path, where)
    return path


def benchmark(name):
    """Load a command of the folder benchmarks, with what lies beside it within its reach."""
    return _command("benchmarks", name)


def tool(name):
    """Load a command of the folder tools."""
    return _command("tools", name)


def _command(folder, name):
    folder = pathlib.Path(__file__).parents[1] / folder
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def missing(reason: str) -> NoReturn:
    """Skip a test for want of something; fail under CI=true, where it has to be there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def comes_true(condition, seconds=LONG):
    """Wait for a state, for as long as a slow machine may need; say whether it came."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def weights_gap(one, other):
    """The largest difference between two lists of arrays."""
    pairs = zip(one, other, strict=True)
    return max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
