"""The worker as only its owner reaches it, and what is tried where one way of sealing is shut."""

from fedcourse import sealing  # isort: skip  (before TensorFlow)

import os
import pathlib
import stat
import subprocess

import psutil
import pytest
import tensorflow_federated as tff
from conftest import comes_true
from workers import add_one, new_context, own_worker, own_workers

REAL = pathlib.Path(tff.__file__).parent / "data" / "worker_binary"


def listening(process):
    return [c.laddr.ip for c in process.net_connections("inet") if c.status == "LISTEN"]


def refuse(*_args, **_settings):
    raise OSError("not here")


@pytest.fixture(params=["traced", "copied"])
def way(request, monkeypatch):
    """Each of the two ways to seal a worker, by itself."""
    if request.param == "copied":
        monkeypatch.setattr(sealing, "_start_traced", refuse)
    else:
        monkeypatch.setattr(sealing, "_start_copied", refuse)
    return request.param


def test_sealed_it_listens_on_no_network_and_its_socket_is_private(way, recwarn):
    with new_context():
        assert add_one(1) == 2
        assert own_worker().net_connections("inet") == []
        folder = pathlib.Path(own_worker().cwd())
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((folder / sealing.SOCKET).stat().st_mode)
        program = own_worker().exe()
        assert program == str(REAL) if way == "traced" else program.startswith("/memfd:")
    assert not recwarn.list


def test_traced_worker_is_let_go():
    with new_context():
        assert add_one(1) == 2
        status = pathlib.Path(f"/proc/{own_worker().pid}/status").read_text()
        assert "TracerPid:\t0\n" in status


@pytest.mark.parametrize(
    "denial",
    [("_TRACED", "sys.exit(1)"), ("_ptrace", refuse), ("_address", refuse)],
    ids=lambda denial: denial[0],
)
def test_where_tracing_is_denied_a_copy_in_memory_is_sealed(monkeypatch, recwarn, denial):
    monkeypatch.setattr(sealing, *denial)
    before = set(own_workers())
    with new_context():
        assert add_one(1) == 2
        assert len(set(own_workers()) - before) == 1, "what was tried first is gone"
        assert own_worker().exe().startswith("/memfd:")
        assert own_worker().net_connections("inet") == []
    assert not recwarn.list


@pytest.fixture
def unsealed(monkeypatch):
    monkeypatch.setattr(sealing, "_start_traced", refuse)
    monkeypatch.setattr(sealing, "_start_copied", refuse)


def test_where_it_cannot_be_sealed_it_says_so_and_works(unsealed):
    with new_context():
        with pytest.warns(UserWarning, match="listens on all network interfaces.*not here"):
            assert add_one(2) == 3
        assert listening(own_worker()) == ["::"], "what the warning says is true"


@pytest.mark.filterwarnings("ignore:TFF's worker listens")
@pytest.mark.parametrize("sealed", [True, False])
def test_a_proxy_is_not_asked_the_way_to_this_machine(request, monkeypatch, sealed):
    if not sealed:
        request.getfixturevalue("unsealed")
    for variable in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody is there
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with new_context():
        assert add_one(2) == 3
        assert (listening(own_worker()) == []) == sealed


# --- no copy is kept ------------------------------------------------------------------------------

SAYS_ITS_ADDRESS = b"#!/bin/sh\ngrep -aoe unix: -e '\\[::]:' $0 | tail -n 1\nexit 0\n"


@pytest.fixture
def install(tmp_path):
    """Install a program that stands for the worker, as often as wanted."""
    program = tmp_path / "site-packages" / "worker_binary"
    program.parent.mkdir()

    def put(version, content=SAYS_ITS_ADDRESS + b"\0[::]:\0"):
        program.unlink(missing_ok=True)
        program.write_bytes(content)
        program.chmod(0o700)
        os.utime(program, (version, version))
        return program

    return put


def run(program):
    process, port = sealing.start(
        program, [], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return process.communicate()[0], port


def bytes_under(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_five_reinstalls_leave_nothing_but_the_install(install, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDCOURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for version in range(5):
        program = install(version)
        assert run(program) == (b"unix:\n", sealing.SOCKET)
        assert bytes_under(tmp_path) == program.stat().st_size
        assert program.read_bytes().endswith(b"\0[::]:\0"), "and that is as it was"


@pytest.mark.parametrize("cache", ["a file", "nowhere/at/all"])
def test_a_cache_folder_that_cannot_be_used_does_not_matter(tmp_path, monkeypatch, recwarn, cache):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("FEDCOURSE_CACHE", str(tmp_path / cache))
    with new_context():
        assert add_one(1) == 2
        assert own_worker().net_connections("inet") == []
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
    assert not recwarn.list


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (SAYS_ITS_ADDRESS, "in another way"),
        (SAYS_ITS_ADDRESS + b"\0[::]:\0[::]:\0", "in another way"),
        (b"", "empty"),
    ],
    ids=["nowhere", "twice", "empty"],
)
def test_letters_that_are_not_found_once_are_not_touched(install, content, why):
    program = install(1, content)
    with pytest.warns(UserWarning, match=f"could not be sealed off.*{why}"):
        _, port = run(program)
    assert port != sealing.SOCKET
    assert program.read_bytes() == content


def test_another_build_keeps_them_in_another_place(monkeypatch, recwarn):
    place = sealing._place(REAL)
    monkeypatch.setattr(sealing, "_USUAL_PLACE", 0)
    assert sealing._place(REAL) == place
    with open(REAL, "rb") as file:
        file.seek(place)
        assert file.read(7) == b"\0[::]:\0"
    assert not recwarn.list


def test_a_worker_ends_with_the_thread_that_started_it(tmp_path):
    """So whoever starts one must live as long: `worker` has a thread for it."""
    import threading

    started = []

    def start():
        with open(tmp_path / "log", "wb") as log:
            started.append(sealing.start(REAL, [], cwd=tmp_path, stdout=log, stderr=log)[0])

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert comes_true(lambda: started[0].poll() is not None)
    assert started[0].returncode == -9
    assert not psutil.pid_exists(started[0].pid)


def test_what_has_lost_its_parent_does_not_become_a_worker(monkeypatch):
    """Linux ends a process with its parent only from when it was asked to."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 0)  # the parent of nobody
        orphan = sealing._spawn(
            (sealing._LAUNCH, sealing._BECOME),
            "/bin/echo",
            ["echo", "here"],
            stdout=subprocess.PIPE,
        )
    assert orphan.communicate()[0] == b""
    assert orphan.returncode == 1
