"""tools/drift.py: what moved on Colab, from a list as Colab publishes it."""

import functools
import http.server
import importlib.util
import pathlib
import re
import shutil
import threading

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PINS = (ROOT / "tests/colab/requirements.txt").read_text()


@pytest.fixture
def drift(tmp_path, monkeypatch):
    """The tool, with a copy of the replica's pins to write to."""
    spec = importlib.util.spec_from_file_location("drift", ROOT / "tools/drift.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copy(module.REPLICA, tmp_path / "replica.txt")
    monkeypatch.setattr(module, "REPLICA", tmp_path / "replica.txt")
    return module


@pytest.fixture
def published(tmp_path):
    """Write a list as Colab would publish it: pins that did not move, but for some lines."""

    def write(**lines):
        pins = re.findall(r"^([\w.-]+)==.*$", PINS, re.MULTILINE)
        kept = [pin for pin in pins if pin.replace("-", "_") not in lines]
        unmoved = [re.search(rf"^{re.escape(pin)}==.*$", PINS, re.MULTILINE)[0] for pin in kept]
        path = tmp_path / "pip-freeze.txt"
        head = "# Do not modify this file directly; it is generated\nsomething-else==1.0"
        path.write_text("\n".join([head, *unmoved, *filter(None, lines.values())]) + "\n")
        return path

    return write


def test_nothing_moved(drift, published, capsys):
    assert drift.main([str(published())]) == 0
    assert re.fullmatch(r"0 of \d+ moved, 0 of them in the stack\n", capsys.readouterr().out)


def test_a_package_of_the_stack_moved(drift, published, capsys):
    path = published(tensorflow="tensorflow==2.99.0", absl_py="absl-py==99.0")
    assert drift.main([str(path)]) == 1
    first, second, last = capsys.readouterr().out.splitlines()
    ours = drift.versions(PINS)
    assert first.split() == ["stack", "tensorflow", ours["tensorflow"], "2.99.0"]
    assert second.split() == ["absl-py", ours["absl-py"], "99.0"]
    assert last.startswith("2 of ") and last.endswith("moved, 1 of them in the stack")


def test_what_is_not_of_the_stack_may_move(drift, published, capsys):
    assert drift.main([str(published(absl_py="absl-py==99.0"))]) == 0
    assert "99.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("", "gone"),
        (
            "numpy @ https://example.org/numpy-2.1.3-cp313.whl",
            "https://example.org/numpy-2.1.3-cp313.whl",
        ),
    ],
)
def test_a_package_without_a_version_moved(drift, published, capsys, line, seen):
    assert drift.main([str(published(numpy=line))]) == 1
    assert capsys.readouterr().out.splitlines()[0].split()[-1] == seen


def test_names_are_compared_as_pip_does(drift, published):
    version = drift.versions(PINS)["tf-keras"]
    assert drift.main([str(published(tf_keras=f"TF.Keras=={version}"))]) == 0


def test_stack_is_the_first_section_of_the_requirements(drift):
    stack = drift.stack_of(
        "# Head\n-c constraints.txt\n\n# The stack\na==1\nB_b==2  # why\n\nc==3\n"
    )
    assert stack == {"a": "1", "b-b": "2"}
    assert {"tensorflow", "tf-keras", "numpy", "protobuf"} <= drift.stack_of(
        (ROOT / "requirements.txt").read_text()
    ).keys()


def test_write_brings_the_replica_along(drift, published):
    path = published(
        numpy="numpy==99.0", absl_py="absl-py @ file:///absl.whl", gast="", tqdm="TQDM==98.0"
    )
    assert drift.main([str(path), "--write"]) == 1
    expected = re.sub(r"(?m)^(numpy)==.*$", r"\1==99.0", PINS)
    expected = re.sub(r"(?m)^(tqdm)==.*$", r"\1==98.0", expected)
    assert expected != PINS
    assert drift.REPLICA.read_text() == expected


def test_an_address_is_read(drift, published, capsys, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = published(numpy="numpy==99.0").parent
    handler = functools.partial(Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}"
            assert drift.main([f"{address}/pip-freeze.txt"]) == 1
            assert "99.0" in capsys.readouterr().out
            assert drift.main([f"{address}/nothing.txt"]) == 2
            assert "404" in capsys.readouterr().err
        finally:
            server.shutdown()
            thread.join()


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_no_list_is_said(drift, tmp_path, capsys):
    assert drift.main([str(tmp_path / "nothing.txt")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_what_is_no_list_is_said(drift, tmp_path, capsys):
    (tmp_path / "page.html").write_text("<!doctype html>\n<p>Not found</p>\n")
    assert drift.main([str(tmp_path / "page.html")]) == 2
    assert "no line like" in capsys.readouterr().err
