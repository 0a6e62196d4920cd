"""Files of trained networks: three kinds, the same answers, and read elsewhere."""

from fedcourse import export, models  # isort: skip  (before TensorFlow)

import pathlib
import zipfile

import numpy as np
import pytest
import tensorflow as tf

layers = tf.keras.layers
KINDS = ["network.keras", "network.tflite", "network"]
NAMES = ["Katze", "猫", "<b>"]


def grey():
    return models.small_cnn(seed=0, image_shape=(14, 12), classes=3)


def colour():
    network = tf.keras.Sequential(
        [
            layers.InputLayer((14, 12, 3)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(trainable=False),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.5),
            layers.Dense(3),
        ]
    )
    network.layers[2].set_weights([np.full(4, value, np.float32) for value in (2, 1, 0.1, 0.3)])
    return network


@pytest.fixture(scope="module", params=[grey, colour])
def network(request):
    return request.param()


@pytest.fixture(scope="module")
def images(network):
    shape = network.input_shape[1:]
    return np.random.default_rng(0).random((7, *shape), np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_same_answers_and_names(network, images, tmp_path, kind, capfd):
    for _ in range(2):  # the second takes the place of the first
        export.save(network, tmp_path / kind, NAMES, {"invert": True})
    loaded = export.load(tmp_path / kind)
    assert [entry.name for entry in tmp_path.iterdir()] == [kind]
    assert loaded.classes == tuple(NAMES) and loaded.about["invert"] is True
    assert loaded.image_shape == network.input_shape[1:]
    expected = network.predict(images, verbose=0)
    assert np.abs(loaded.logits(images) - expected).max() < 1e-5
    assert np.abs(loaded.logits(images[:1]) - expected[:1]).max() < 1e-5
    assert capfd.readouterr() == ("", "")
    shares = loaded.probabilities(images)
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert np.array_equal(shares.argmax(1), expected.argmax(1))
    if loaded.image_shape[-1] == 1:
        assert np.abs(loaded.logits(images[..., 0]) - expected).max() < 1e-5


@pytest.mark.slow
def test_keras_3_reads_it_in_a_process_without_the_course(network, images, tmp_path, python):
    export.save(network, tmp_path / "network.keras", NAMES)
    np.save(tmp_path / "images.npy", images)
    script = (
        "import numpy as np, keras; assert keras.__version__ >= '3'; "
        "network = keras.models.load_model('network.keras'); "
        "np.save('answers.npy', network.predict(np.load('images.npy'), verbose=0))"
    )
    run = python(
        "-c", f"import os; os.chdir({str(tmp_path)!r}); {script}", KERAS_BACKEND="tensorflow"
    )
    assert run.status == 0, run.err
    gap = np.load(tmp_path / "answers.npy") - network.predict(images, verbose=0)
    assert np.abs(gap).max() < 1e-5


def test_a_saved_model_is_tensorflows_own(network, images, tmp_path):
    export.save(network, tmp_path / "network")
    serve = tf.saved_model.load(str(tmp_path / "network")).signatures["serving_default"]
    (answers,) = serve(tf.constant(images)).values()
    assert np.abs(answers.numpy() - network.predict(images, verbose=0)).max() < 1e-5


def test_a_keras_file_of_somebody_elses_has_no_names(network, tmp_path):
    network.save(tmp_path / "theirs.keras")
    loaded = export.load(tmp_path / "theirs.keras")
    assert loaded.classes == () and loaded.image_shape == network.input_shape[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, kind, monkeypatch):
    network = grey()
    export.save(network, tmp_path / kind, NAMES)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    monkeypatch.setattr(pathlib.Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        export.save(network, tmp_path / kind, NAMES)
    assert contents(tmp_path) == before


def contents(folder):
    return {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}


class Own(tf.keras.Model):
    def call(self, images):
        return images


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"ends in '\.h5'; it must end in \.keras or \.tflite"):
        export.save(grey(), tmp_path / "network.h5")
    with pytest.raises(ValueError, match="classes has 2 names, and the network 3 outputs"):
        export.save(grey(), tmp_path / "network.keras", ["a", "b"])
    with pytest.raises(ValueError, match=r"'own\w*' is a class of its own"):
        export.save(Own(), tmp_path / "network.keras")
    with pytest.raises(FileNotFoundError):
        export.save(grey(), tmp_path / "nowhere" / "network.keras")
    (tmp_path / "folder.keras").mkdir()
    with pytest.raises(IsADirectoryError):
        export.save(grey(), tmp_path / "folder.keras")
    assert contents(tmp_path) == {pathlib.Path("folder.keras"): False}


@pytest.mark.parametrize("kind", ["network.keras", "network.tflite"])
def test_what_cannot_be_read_is_named(tmp_path, kind):
    with pytest.raises(FileNotFoundError, match="no such file"):
        export.load(tmp_path / kind)
    export.save(grey(), tmp_path / kind)
    whole = (tmp_path / kind).read_bytes()
    for damaged in (b"", b"rubbish" * 99, whole[: len(whole) // 2]):
        (tmp_path / kind).write_bytes(damaged)
        with pytest.raises(ValueError, match="is no network that can be read"):
            export.load(tmp_path / kind)
    (tmp_path / "x.txt").touch()
    with pytest.raises(ValueError, match=r"x\.txt' must end in \.keras"):
        export.load(tmp_path / "x.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no network that can be read"):
        export.load(tmp_path / "empty")


def test_a_network_that_takes_no_images(tmp_path):
    tf.keras.Sequential([layers.InputLayer((7,)), layers.Dense(2)]).save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"takes \(7,\); it must take images"):
        export.load(tmp_path / "x.keras")
