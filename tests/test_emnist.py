"""The download, against a local server that misbehaves on demand."""

import contextlib
import errno
import http.server
import json
import lzma
import os
import pathlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest
from conftest import comes_true

from fedcourse import data
from fedcourse.data import digits, emnist, layout

NAME = "digits.sqlite"


class Database:
    """A small database in TFF's layout, its counts, and it compressed."""

    def __init__(self, path, train, test):
        data.write_sqlite(path, train, test)
        self.bytes = path.read_bytes()
        self.packed = lzma.compress(self.bytes, preset=0)
        self.counts = {
            f"digits_only_{name}": (
                len(half.client_ids),
                sum(len(data.images_of(half, c)[1]) for c in half.client_ids),
            )
            for name, half in (("train", train), ("test", test))
        }


def halves(images, labels, writer, test, writers):
    def half(chosen):
        own = {str(w): chosen & (writer == w) for w in writers}
        return data.from_arrays({w: (255 - images[m], labels[m]) for w, m in own.items()})

    return half(~test), half(test)


@pytest.fixture(scope="module", params=["embedded", "real writers"])
def database(request, tmp_path_factory):
    if request.param == "embedded":
        arrays = digits.load()
    else:
        where = os.environ.get("FEDCOURSE_REAL_WRITERS")
        if not where:
            pytest.skip("FEDCOURSE_REAL_WRITERS does not name the file of real writers")
        with np.load(where) as npz:
            arrays = npz["images"], npz["labels"], npz["writer"], npz["fed_test"]
    train, test = halves(*arrays, writers=np.unique(arrays[2])[:12])
    return Database(tmp_path_factory.mktemp("database") / "origin.sqlite", train, test)


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; `plan` holds, request by request, what is to go wrong."""

    daemon_threads = True

    def __init__(self, body):
        self.body, self.etag, self.ranges = body, '"one"', True
        self.plan, self.log, self.go_on = [], [], threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/{NAME}.lzma"

    def handle_error(self, request, client_address):
        pass  # clients that die in the middle are what this is for


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, fault = self.server, self.server.plan.pop(0) if self.server.plan else {}
        asked, condition = self.headers["Range"], self.headers["If-Range"]
        server.log.append(asked)
        body = fault.get("body", server.body)
        whole, start = len(body), 0
        status = fault.get("status", 200)
        if asked and server.ranges and status == 200 and "type" not in fault:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if condition == server.etag or fault.get("deaf"):
                status = 206 if start < whole else 416
        self.send_response(status)
        if status == 206:
            body = body[start:]
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("Content-Type", fault.get("type", "application/octet-stream"))
        if server.etag:
            self.send_header("ETag", server.etag)
        if not fault.get("no length"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        body = body[: fault.get("cut", len(body))]
        for at in range(0, len(body), 20_000):
            self.wfile.write(body[at : at + 20_000])
            time.sleep(fault.get("pause", 0))
            if at >= fault.get("stop", len(body)):
                server.go_on.wait(600)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(database):
    with Server(database.packed) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def naps(monkeypatch):
    """The pauses between attempts, noted instead of slept."""
    slept = []
    monkeypatch.setattr(emnist, "time", types.SimpleNamespace(sleep=slept.append))
    return slept


@pytest.fixture
def fetch(server, database, tmp_path, naps):
    def call(**options):
        return emnist.fetch(tmp_path, url=server.url, counts=database.counts, **options)

    return call


def files(folder):
    return {file.name for file in folder.iterdir()} - {f"{NAME}.lock"}


CLEAN = {NAME, f"{NAME}.verified.json"}


def test_fetch_downloads_once(fetch, server, database, tmp_path, capfd):
    path = fetch()
    assert path == tmp_path / NAME
    assert path.read_bytes() == database.bytes
    assert files(tmp_path) == CLEAN
    assert fetch() == path
    assert server.log == [None]
    shown = capfd.readouterr()
    assert f"Downloading {NAME}.lzma" in shown.err and shown.out == ""


def test_what_was_fetched_loads(fetch, database):
    train, test = data.from_sqlite(fetch())
    assert (len(train.client_ids), len(test.client_ids)) == (12, 12)
    pixels, labels = data.images_of(train, train.client_ids[0])
    assert pixels.shape == (len(labels), 28, 28)
    assert pixels.mean() > 0.7  # paper is 1


def test_cut_connections_are_resumed(fetch, server, database, tmp_path, naps):
    server.plan = [{"cut": 30_000}, {"cut": 20_000}]
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None, "bytes=30000-", "bytes=50000-"]
    assert naps == [1, 1]  # each attempt brought something
    assert files(tmp_path) == CLEAN


def test_a_later_call_resumes(fetch, server, database, tmp_path):
    server.plan = [{"cut": 30_000}]
    with pytest.raises(ConnectionError, match="ended at 30,000 of"):
        fetch(tries=1)
    assert not (tmp_path / NAME).exists()
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None, "bytes=30000-"]


def test_server_that_knows_no_ranges(fetch, server, database):
    server.ranges = False
    server.plan = [{"cut": 30_000}]
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None, "bytes=30000-"]


def test_server_that_names_no_version_is_not_resumed(fetch, server, database):
    server.etag = None
    server.plan = [{"cut": 30_000}]
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None, None]


@pytest.mark.parametrize("deaf", [False, True], ids=["If-Range heard", "If-Range ignored"])
def test_file_that_changed_meanwhile_is_begun_again(fetch, server, database, deaf):
    server.plan = [{"cut": 30_000, "body": bytes(100_000)}]
    with pytest.raises(ConnectionError):
        fetch(tries=1)
    server.etag = '"two"'
    server.plan = [{"deaf": deaf}]
    assert fetch().read_bytes() == database.bytes


def test_part_longer_than_the_file_is_begun_again(fetch, server, database, tmp_path):
    (tmp_path / f"{NAME}.lzma.part.tag").write_text(server.etag)
    (tmp_path / f"{NAME}.lzma.part").write_bytes(bytes(len(database.packed) + 1))
    assert fetch().read_bytes() == database.bytes


def test_part_of_unknown_origin_is_not_used(fetch, server, database, tmp_path):
    (tmp_path / f"{NAME}.lzma.part").write_bytes(b"rubbish")
    (tmp_path / f"{NAME}.tmp").write_bytes(b"left by a killed process")
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None]
    assert files(tmp_path) == CLEAN


def test_body_that_is_always_too_short_gives_up(fetch, server, database, tmp_path, naps):
    server.ranges = False
    server.plan = [{"cut": 30_000}] * 50
    with pytest.raises(ConnectionError, match="3 attempts brought nothing new") as caught:
        fetch(tries=3)
    assert server.url in str(caught.value) and "load('embedded')" in str(caught.value)
    assert len(server.log) == 3 and naps == [1, 2]
    assert not (tmp_path / NAME).exists()
    server.plan = []
    assert fetch().read_bytes() == database.bytes


def test_body_cut_short_without_a_stated_length(fetch, server, database, tmp_path):
    server.plan = [{"no length": True, "cut": 30_000}]
    with pytest.raises(ConnectionError, match="30,000 bytes that begin"):
        fetch()
    assert files(tmp_path) == set()
    assert fetch().read_bytes() == database.bytes


PAGE = b"<!doctype html><title>Please log in</title>"


def test_web_page_instead_of_the_file_keeps_what_was_there(fetch, server, database, tmp_path):
    server.plan = [{"cut": 30_000}, {"body": PAGE, "type": "text/html; charset=utf-8"}]
    with pytest.raises(ConnectionError, match="page of text/html that begins b'<!doctype html>"):
        fetch()
    assert (tmp_path / f"{NAME}.lzma.part").stat().st_size == 30_000
    assert fetch().read_bytes() == database.bytes
    assert server.log[-1] == "bytes=30000-"


def test_web_page_that_claims_to_be_data(fetch, server, database, tmp_path):
    server.plan = [{"body": PAGE}]
    with pytest.raises(ConnectionError, match="43 bytes that begin b'<!doctype html>"):
        fetch()
    assert files(tmp_path) == set()
    assert fetch().read_bytes() == database.bytes


def test_not_found_is_not_retried(fetch, server, naps, tmp_path):
    server.plan = [{"status": 404}]
    with pytest.raises(ConnectionError, match="HTTP 404"):
        fetch()
    assert len(server.log) == 1 and naps == []
    assert files(tmp_path) == set()


def test_busy_server_is_asked_again_with_longer_pauses(fetch, server, database, naps):
    server.plan = [{"status": 503}] * 3
    assert fetch().read_bytes() == database.bytes
    assert naps == [1, 2, 4]


def test_wrong_counts(fetch, server, database, tmp_path, naps):
    writers, examples = database.counts["digits_only_train"]
    wrong = database.counts | {"digits_only_train": (writers, examples + 1)}
    with pytest.raises(ConnectionError) as caught:
        emnist.fetch(tmp_path, url=server.url, counts=wrong)
    assert f"holds {writers:,} writers and {examples:,} examples, not" in str(caught.value)
    assert files(tmp_path) == set()


def test_the_real_counts_are_the_default(server, tmp_path, naps):
    with pytest.raises(ConnectionError, match="not 3,383 and 341,873"):
        emnist.fetch(tmp_path, url=server.url)


@pytest.mark.parametrize("poison", ["cut", "page", "rot", "empty", "rows gone"])
def test_poisoned_cache_is_replaced(fetch, database, tmp_path, poison):
    target = tmp_path / NAME
    middle = len(database.bytes) // 2
    target.write_bytes(
        {
            "cut": database.bytes[:middle],
            "page": PAGE,
            "rot": database.bytes[:middle] + bytes(8192) + database.bytes[middle + 8192 :],
            "empty": b"",
            "rows gone": database.bytes,
        }[poison]
    )
    if poison == "rows gone":
        with contextlib.closing(sqlite3.connect(target)) as connection:
            connection.execute("DELETE FROM examples WHERE rowid % 7 = 0")
            connection.commit()
    assert fetch().read_bytes() == database.bytes
    assert files(tmp_path) == CLEAN


def test_cache_spoilt_after_it_was_verified_is_replaced(fetch, server, database):
    path = fetch()
    path.write_bytes(database.bytes[:-4096])
    assert fetch().read_bytes() == database.bytes
    assert len(server.log) == 2


def test_verification_is_remembered(fetch, monkeypatch):
    fetch()
    monkeypatch.delattr(emnist, "verify")
    fetch()


def run_fetch(server, database, folder, before=""):
    """Start a process that fetches; it needs no TensorFlow."""
    script = (
        "import json, sys\n"
        "from fedcourse.data import emnist\n"
        f"{before}\n"
        "emnist.fetch(sys.argv[1], url=sys.argv[2], counts=json.loads(sys.argv[3]))\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    arguments = [str(folder), server.url, json.dumps(database.counts)]
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_killed_in_the_middle_then_fetched(fetch, server, database, tmp_path):
    server.plan = [{"stop": 40_000}]
    process = run_fetch(server, database, tmp_path)
    part = tmp_path / f"{NAME}.lzma.part"
    assert comes_true(lambda: part.exists() and part.stat().st_size >= 40_000)
    assert process.poll() is None
    process.kill()
    assert process.wait() == -9
    server.go_on.set()
    assert not (tmp_path / NAME).exists()
    kept = part.stat().st_size
    assert 40_000 <= kept < len(database.packed)
    assert fetch().read_bytes() == database.bytes
    assert server.log == [None, f"bytes={kept}-"]
    assert files(tmp_path) == CLEAN


@pytest.mark.parametrize(
    ("before", "downloads"),
    [("", 1), ("emnist.fcntl = None", 2)],
    ids=["with locks", "where files can't be locked"],
)
def test_two_processes_at_once(server, database, tmp_path, before, downloads):
    server.plan = [{"pause": 0.05}, {"pause": 0.05}]
    processes = [run_fetch(server, database, tmp_path, before) for _ in range(2)]
    assert [process.wait(timeout=30) for process in processes] == [0, 0]
    assert len(server.log) == downloads
    assert (tmp_path / NAME).read_bytes() == database.bytes
    assert files(tmp_path) == CLEAN


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gives_up(message, **options):
    with pytest.raises(ConnectionError, match=message):
        emnist.fetch(**options)


def test_no_connection_gives_up_at_once(tmp_path, naps):
    url = f"http://127.0.0.1:{closed_port()}/x.sqlite.lzma"
    gives_up("no answer", cache_dir=tmp_path, url=url)
    assert naps == []


def test_silent_server_gives_up_soon(tmp_path, naps):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x.sqlite.lzma"
        gives_up("nothing within 0.3 s", cache_dir=tmp_path, url=url, patience=0.3)
    assert naps == []


def test_hanging_name_lookup_gives_up_soon(tmp_path, naps, monkeypatch):
    hold, answered = threading.Event(), []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: answered.append(hold.wait(600)))
    url = "http://data.invalid/x.sqlite.lzma"
    gives_up("nothing within 0.3 s", cache_dir=tmp_path, url=url, patience=0.3)
    assert not answered
    hold.set()


def test_full_disk_is_said_and_not_retried(fetch, naps, monkeypatch):
    def no_room(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(emnist, "_download_rest", no_room)
    with pytest.raises(OSError, match="No space left"):
        fetch()
    assert naps == []


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEDCOURSE_CACHE", raising=False)
    (tmp_path / ".tff").mkdir()
    return tmp_path


def test_copy_that_tff_made_is_used(home, server, database):
    theirs = home / ".tff" / NAME
    theirs.write_bytes(database.bytes)
    assert emnist.fetch(url=server.url, counts=database.counts) == theirs
    assert server.log == []


def test_half_a_copy_that_tff_left_is_not_used(home, server, database):
    (home / ".tff" / NAME).write_bytes(database.bytes[:100_000])
    path = emnist.fetch(url=server.url, counts=database.counts)
    assert path == home / ".cache/fedcourse" / NAME
    assert path.read_bytes() == database.bytes
    assert (home / ".tff" / NAME).stat().st_size == 100_000  # not ours to touch


def test_the_address_is_the_one_tff_uses():
    import tensorflow_federated as tff

    assert f"'{emnist.URL}'" in pathlib.Path(tff.simulation.datasets.emnist.__file__).read_text()


def test_what_is_not_a_database_in_the_layout(tmp_path, database):
    file = tmp_path / "x.sqlite"
    with pytest.raises(FileNotFoundError, match="no such file"):
        layout.split_names(file)
    file.write_bytes(PAGE)
    with pytest.raises(ValueError, match="not an SQLite database: it begins b'<!doctype"):
        layout.split_names(file)
    file.write_bytes(database.bytes[:50_000])
    with pytest.raises(ValueError, match="cut short: 50,000 of"):
        layout.split_names(file)
    file.write_bytes(database.bytes)
    assert layout.split_names(file) == ["digits_only_test", "digits_only_train"]
    change(file, "ALTER TABLE examples RENAME COLUMN split_name TO split")
    with pytest.raises(ValueError, match=r"table 'examples' lacks columns \['split_name'\]"):
        layout.split_names(file)
    change(file, "DROP TABLE client_metadata")
    change(file, "ALTER TABLE examples RENAME COLUMN split TO split_name")
    with pytest.raises(ValueError, match="table 'client_metadata' lacks the whole table"):
        layout.split_names(file)


def change(file, statement):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(statement)
        connection.commit()
