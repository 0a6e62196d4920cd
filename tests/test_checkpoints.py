from fedcourse.checkpoints import Checkpoints  # isort: skip  (before TensorFlow)

import os
import resource
import signal
import subprocess
import sys
import time
import warnings

import attrs
import numpy as np
import pytest
from conftest import fresh_environment


@attrs.define
class State:
    """Shaped like the state of a learning process."""

    weights: list
    optimizer: dict
    rounds: int


def state(value=0.0, rows=3):
    weights = [np.full((rows, 2), value, np.float32), np.zeros(2, np.float32)]
    return State(weights, {"momentum": (np.float32(0.5),)}, np.int32(7))


def first_weight(loaded):
    return float(loaded.weights[0][0, 0])


def names(folder):
    return sorted(path.name[:12] for path in folder.iterdir())


def newest(folder):
    return max(folder.glob("round_*"))


@pytest.mark.parametrize("folder", ["", "not/yet/there"])
def test_nothing_saved_is_a_start_from_the_beginning(tmp_path, folder):
    start = state()
    with warnings.catch_warnings(action="error"):
        loaded, done = Checkpoints(tmp_path / folder).load(start)
    assert loaded is start and done == 0


def test_what_was_saved_comes_back_with_its_types(tmp_path):
    Checkpoints(str(tmp_path / "new" / "folder")).save(state(3.5), 12)
    loaded, done = Checkpoints(tmp_path / "new" / "folder").load(state())
    assert done == 12 and type(loaded) is State
    np.testing.assert_array_equal(loaded.weights[0], np.full((3, 2), 3.5))
    assert loaded.weights[0].dtype == np.float32
    assert loaded.optimizer == {"momentum": (np.float32(0.5),)}
    assert loaded.rounds == 7 and loaded.rounds.dtype == np.int32


def test_the_newest_are_kept_by_number_not_by_name(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for number in (8, 9, 10, 999_999, 1_000_000):
        checkpoints.save(state(number), number)
    assert names(tmp_path) == ["round_100000", "round_999999"]
    loaded, done = checkpoints.load(state())
    assert done == first_weight(loaded) == 1_000_000


def test_a_round_that_is_saved_again_is_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(state(1), 4)
    checkpoints.save(state(2), 4)
    assert names(tmp_path) == ["round_000004"]
    assert first_weight(checkpoints.load(state())[0]) == 2


def cut(content):
    return content[: len(content) // 2]


def flip(content):
    place = content.index(np.full(2, 2, np.float32).tobytes())
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut, flip, lambda content: b"", lambda content: b"<html>", lambda content: content[:-1]],
    ids=["half written", "one bit flipped", "empty", "something else", "a byte short"],
)
def test_damaged_is_skipped_with_a_warning_and_the_one_before_it_used(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path)
    for number in (1, 2):
        checkpoints.save(state(number), number)
    path = newest(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"round_000002-\w+\.npz is damaged"):
        loaded, done = checkpoints.load(state())
    assert done == first_weight(loaded) == 1
    assert path.exists(), "it is for the reader to remove"
    checkpoints.save(state(2), 2)
    assert checkpoints.load(state())[1] == 2


def test_all_damaged_is_a_start_from_the_beginning(tmp_path):
    Checkpoints(tmp_path).save(state(1), 1)
    newest(tmp_path).write_bytes(b"")
    start = state()
    with pytest.warns(UserWarning, match="damaged"):
        loaded, done = Checkpoints(tmp_path).load(start)
    assert loaded is start and done == 0


def test_states_of_another_model_are_neither_used_nor_removed(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state(9, rows=4), 40)
    start = state()
    with pytest.warns(UserWarning, match="round_000040-.*another model or algorithm"):
        loaded, done = checkpoints.load(start)
    assert loaded is start and done == 0
    for number in (1, 2):
        checkpoints.save(state(number), number)
    assert names(tmp_path) == ["round_000002", "round_000040"]
    with pytest.warns(UserWarning, match="another model"):
        assert checkpoints.load(start)[1] == 2


def test_files_that_are_no_checkpoints_are_left_alone(tmp_path):
    for name in ("round_12.npz", "round_000001-xyz.npz", "notes.txt"):
        (tmp_path / name).write_text("mine")
    with warnings.catch_warnings(action="error"):
        assert Checkpoints(tmp_path).load(state())[1] == 0
    Checkpoints(tmp_path, keep=1).save(state(), 1)
    assert len(list(tmp_path.iterdir())) == 4


def test_disk_full_is_an_error_and_keeps_the_one_before(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(state(1), 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match=r"round 2 cannot be saved .*saved before is kept"):
            checkpoints.save(state(2), 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["round_000001"]
    loaded, done = checkpoints.load(state())
    assert done == first_weight(loaded) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be saved .*file"):
        Checkpoints(tmp_path / "file").save(state(), 1)


def test_keep_must_be_one_or_more(tmp_path):
    with pytest.raises(ValueError, match="keep=0 must be at least 1"):
        Checkpoints(tmp_path, keep=0)


SAVING = """
import itertools, sys
import numpy as np
from fedcourse.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
for number in itertools.count(1):
    checkpoints.save([np.full(300_000, number, np.float32)], number)
    print(number, flush=True)
"""


def test_killed_while_saving_ten_times_nothing_half_written_is_ever_loaded(tmp_path):
    like = [np.zeros(300_000, np.float32)]
    for attempt in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", SAVING, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=fresh_environment(),
        )
        process.stdout.readline()
        time.sleep(0.003 * attempt)
        process.send_signal(signal.SIGKILL)
        said = process.communicate()[0].split()
        with warnings.catch_warnings(action="error"):
            (values,), done = Checkpoints(tmp_path).load(like)
        assert done >= max([1, *map(int, said[:-1])]) and (values == done).all()
    Checkpoints(tmp_path).save(like, 10**6)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]
