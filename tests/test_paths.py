"""Where things are kept."""

import pathlib

import pytest

from fedcourse.paths import cache_folder


@pytest.mark.parametrize(
    ("argument", "environment", "folder"),
    [
        (None, None, "~/.cache/fedcourse"),
        (None, "", "~/.cache/fedcourse"),
        (None, "/somewhere", "/somewhere"),
        (None, "~/mine", "~/mine"),
        ("/here", "/somewhere", "/here"),
        (pathlib.Path("~/here"), None, "~/here"),
    ],
)
def test_argument_then_environment_then_home(monkeypatch, tmp_path, argument, environment, folder):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("FEDCOURSE_CACHE", raising=False)
    if environment is not None:
        monkeypatch.setenv("FEDCOURSE_CACHE", environment)
    assert cache_folder(argument) == pathlib.Path(folder.replace("~", str(tmp_path)))
    assert list(tmp_path.iterdir()) == [], "it is named, not made"
