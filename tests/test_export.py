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


def body_and_head():
    """What a pretrained network looks like: a frozen one, used in another, with names in common."""
    images = tf.keras.Input((14, 12, 3))
    x = layers.Conv2D(4, 3, padding="same", name="first")(images)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(layers.ReLU(6.0)(x))
    body = tf.keras.Model(images, layers.Add()([x, layers.SeparableConv2D(4, 1)(x)]))
    body.trainable = False
    images = tf.keras.Input((14, 12, 3))
    x = layers.SpatialDropout2D(0.2)(layers.Rescaling(2.0, -1)(images))
    x = layers.LayerNormalization()(body(x, training=False))
    x = layers.Conv2DTranspose(2, 2)(x)
    network = tf.keras.Model(images, layers.Dense(3, name="first")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    network.set_weights([rng.random(w.shape, np.float32) for w in network.get_weights()])
    return network


def body_in_a_row():
    """The same body in a Sequential, behind a first layer that says the images' shape itself."""
    first = layers.Conv2D(3, 1, input_shape=(14, 12, 3))
    _, _, body, *_ = [x for x in body_and_head().layers if not isinstance(x, layers.Dropout)]
    pooled = layers.GlobalAveragePooling2D()
    return tf.keras.Sequential([first, body, pooled, layers.Dense(3)])


@pytest.fixture(scope="module", params=[grey, colour, body_and_head, body_in_a_row])
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
    gap = 1e-5 * max(1, np.abs(expected).max())
    assert np.abs(loaded.logits(images) - expected).max() < gap
    assert np.abs(loaded.logits(images[:1]) - expected[:1]).max() < gap
    assert capfd.readouterr() == ("", "")
    shares = loaded.probabilities(images)
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert np.array_equal(shares.argmax(1), expected.argmax(1))
    if loaded.image_shape[-1] == 1:
        assert np.abs(loaded.logits(images[..., 0]) - expected).max() < gap


def test_keras_3_reads_it_in_a_process_without_the_course(tmp_path, python):
    expected = []
    for number, make in enumerate((grey, colour, body_and_head, body_in_a_row)):
        network = make()
        images = np.random.default_rng(0).random((7, *network.input_shape[1:]), np.float32)
        np.save(tmp_path / f"{number}.npy", images)
        export.save(network, tmp_path / f"{number}.keras", NAMES)
        expected.append(network.predict(images, verbose=0))
    script = (
        "import numpy as np, keras; assert keras.__version__ >= '3'; "
        "read = [keras.models.load_model(f'{k}.keras') for k in range(4)]; "
        "np.save('answers.npy', [n.predict(np.load(f'{k}.npy')) for k, n in enumerate(read)])"
    )
    run = python(
        *("-c", f"import os; os.chdir({str(tmp_path)!r}); {script}"),
        **{"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"},
    )
    assert run.status == 0, run.err
    answers = np.load(tmp_path / "answers.npy")
    for found, wanted in zip(answers, expected, strict=True):
        assert np.abs(found - wanted).max() < 1e-5 * max(1, np.abs(wanted).max())


def test_a_saved_model_is_tensorflows_own(network, images, tmp_path):
    export.save(network, tmp_path / "network")
    serve = tf.saved_model.load(str(tmp_path / "network")).signatures["serving_default"]
    (answers,) = serve(tf.constant(images)).values()
    expected = network.predict(images, verbose=0)
    assert np.abs(answers.numpy() - expected).max() < 1e-5 * max(1, np.abs(expected).max())


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


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "a.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"photographs' is a folder that holds 'a\.png'"):
        export.save(grey(), photographs)
    with pytest.raises(ValueError, match=r"is a folder that holds 'photographs'"):
        export.save(grey(), photographs / "..")
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ValueError, match="notes' is a file; a path without an ending"):
        export.save(grey(), tmp_path / "notes")
    assert contents(tmp_path) == {
        pathlib.Path("photographs"): False,
        pathlib.Path("photographs/a.png"): b"mine",
        pathlib.Path("notes"): b"mine",
    }


def test_a_folder_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    export.save(grey(), tmp_path / "old")
    before, move, moves = contents(tmp_path), export.os.replace, []

    def second_fails(source, target):
        moves.append(target)
        if len(moves) == 2:
            raise OSError(5, "Input/output error")
        move(source, target)

    monkeypatch.setattr(export.os, "replace", second_fails)
    with pytest.raises(OSError, match="Input/output"):
        export.save(grey(), tmp_path / "old")
    assert len(moves) == 3 and contents(tmp_path) == before


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
    with pytest.raises(ValueError, match=r"folder\.keras' is a folder"):
        export.save(grey(), tmp_path / "folder.keras")
    assert contents(tmp_path) == {pathlib.Path("folder.keras"): False}


def doubled(images):
    return 2 * images


class Doubled(layers.Layer):
    def call(self, images):
        return doubled(images)


@tf.keras.utils.register_keras_serializable("of a test")
class Registered(Doubled):
    pass


class OwnFunctional(tf.keras.Model):
    pass


def with_layer(layer, shape=(14, 12, 3)):
    tail = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return tf.keras.Sequential([layers.InputLayer(shape), layer, *tail])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (layers.Lambda(lambda images: 2 * images), "'lambda' is a Lambda"),
        (Doubled(), "'doubled' is a Doubled"),
        (Registered(), "'registered' is a Registered"),
        (layers.Activation(doubled), "does not work as .keras"),
    ],
)
def test_python_code_stays_out_of_a_keras_file_and_a_saved_model_computes_it(
    layer, message, tmp_path
):
    network = with_layer(layer)
    with pytest.raises(ValueError, match=message):
        export.save(network, tmp_path / "network.keras")
    assert contents(tmp_path) == {}
    export.save(network, tmp_path / "network")
    images = np.ones((2, 14, 12, 3), np.float32)
    found = export.load(tmp_path / "network").logits(images)
    assert np.abs(found - network.predict(images, verbose=0)).max() < 1e-5


def test_a_functional_network_of_a_class_of_its_own_is_none_for_a_keras_file(tmp_path):
    images = tf.keras.Input((14, 12, 3))
    own = OwnFunctional(images, layers.Dense(3)(layers.Flatten()(images)))
    with pytest.raises(ValueError, match="is a OwnFunctional"):
        export.save(own, tmp_path / "network.keras")


def test_what_tflite_cannot_do_is_named(tmp_path):
    cases = {
        r"takes images of any size, \(None, None, 3\)": with_layer(
            layers.Conv2D(4, 3), (None, None, 3)
        ),
        "does not work as .tflite": with_layer(layers.GroupNormalization(3)),
        "has operations that TFLite does not": with_layer(
            layers.Lambda(lambda x: tf.math.real(tf.signal.fft2d(tf.cast(x, tf.complex64))))
        ),
    }
    for message, network in cases.items():
        with pytest.raises(ValueError, match=message):
            export.save(network, tmp_path / "network.tflite")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_other_answers_are_no_copy(kind, tmp_path, monkeypatch):
    other, write = grey(), export._WRITERS
    other.set_weights([weights + 0.1 for weights in other.get_weights()])
    suffix = pathlib.Path(kind).suffix
    wrong = dict(write) | {suffix: lambda _, *more: write[suffix](other, *more)}
    monkeypatch.setattr(export, "_WRITERS", wrong)
    with pytest.raises(ValueError, match="answers otherwise as"):
        export.save(grey(), tmp_path / kind)
    assert contents(tmp_path) == {}


def test_a_network_of_another_form_is_named(tmp_path):
    unbuilt = tf.keras.Sequential([layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match=r"is not built: begin it with tf\.keras\.layers\.Input"):
        export.save(unbuilt, tmp_path / "network.keras")
    images = tf.keras.Input((4, 4, 1))
    flat = layers.Flatten()(images)
    for several in (tf.keras.Model(images, [flat, flat]), tf.keras.Model(images, images)):
        with pytest.raises(ValueError, match=r"it must be \[N, H, W, C\] to \[N, K\]"):
            export.save(several, tmp_path / "network.keras")


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
    tf.saved_model.save(tf.Module(), str(tmp_path / "theirs"))
    with pytest.raises(ValueError, match="the course did not write it"):
        export.load(tmp_path / "theirs")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no network that can be read"):
        export.load(tmp_path / "empty")


def test_python_code_in_somebody_elses_file_is_not_run(tmp_path):
    with_layer(layers.Lambda(lambda images: 2 * images)).save(tmp_path / "theirs.keras")
    with pytest.raises(ValueError, match=r"is no network that can be read: .* Lambda"):
        export.load(tmp_path / "theirs.keras")


def test_a_network_that_takes_no_images(tmp_path):
    tf.keras.Sequential([layers.InputLayer((7,)), layers.Dense(2)]).save(tmp_path / "x.keras")
    with pytest.raises(ValueError, match=r"takes \(7,\); it must take images"):
        export.load(tmp_path / "x.keras")
