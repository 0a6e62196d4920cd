import importlib.metadata
import platform
import sys

import pytest

from fedcourse import environment


def test_here_nothing_is_missing():
    environment.check()


def test_all_that_is_missing_is_said_at_once(monkeypatch):
    version = importlib.metadata.version

    def without(name):
        if name in ("tensorflow", "msgpack", "tensorflow-federated"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(ImportError) as caught:
        environment.check()
    said = str(caught.value)
    assert "msgpack, tensorflow, tensorflow-federated." in said
    assert "pip install -r course/requirements.txt" in said
    assert "on arm64" in said and "Python 3.11, 3.12 or 3.13" in said
