"""A trained network as a file that works without this course, the names of its classes with it."""

import contextlib
import io
import json
import logging
import os
import pathlib
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

ABOUT = (
    "fedcourse.json"  # in a .keras file, which is a zip, and in a .tflite, to which one is added
)
_SAVED_MODEL = {"assets", "assets.extra", "fingerprint.pb", "saved_model.pb", "variables"}


def save(
    network: tf.keras.Model,
    path: str | os.PathLike,
    classes: Sequence[str] = (),
    about: Mapping[str, object] | None = None,
) -> None:
    """Write a network to a file, whole or not at all, and read it back before it counts.

    Args:
        network: Keras 2 network, functional or sequential, from images, float32 [N, H, W, C], to
            logits, float32 [N, K].
        path: "….keras", which Keras 2 reads, and Keras 3 too where every step is a layer of both
            (not `x / 255`, not MultiHeadAttention); "….tflite" for phones; without an ending the
            folder of a SavedModel. One that exists is replaced.
        classes: The names of its outputs, in order.
        about: What else is to be remembered, in JSON's types.

    Raises:
        ValueError: Another ending, a place that holds something else, another number of classes
            than outputs, or a network that is not built, cannot be read elsewhere, or would answer
            otherwise there.
        OSError: The place cannot be written to.

    Lesson: 05
    """
    path = pathlib.Path(path)
    check_path(path)
    if not (isinstance(network, tf.keras.Sequential) or hasattr(network, "_nodes_by_depth")):
        raise ValueError(
            f"the network {network.name!r} is a class of its own, which nobody could read without "
            "its code: build it of layers, by tf.keras.Sequential or tf.keras.Model(inputs, …)"
        )
    if not network.inputs:
        raise ValueError(
            f"the network {network.name!r} is not built: begin it with "
            "tf.keras.layers.InputLayer((height, width, channels))"
        )
    ends = [*network.inputs, *network.outputs]
    if [len(end.shape) for end in ends] != [4, 2]:
        raise ValueError(
            f"the network {network.name!r} has inputs and outputs of the shapes "
            f"{[tuple(end.shape) for end in ends]}; it must be [N, H, W, C] to [N, K]"
        )
    if len(classes) not in (0, network.output_shape[-1]):
        raise ValueError(
            f"classes has {len(classes)} names, and the network {network.output_shape[-1]} outputs"
        )
    remembered = {
        **(about or {}),
        "classes": list(classes),
        "image_shape": list(network.input_shape[1:]),
    }
    with _in_one_step(path) as unfinished:
        _WRITERS[path.suffix](network, unfinished, json.dumps(remembered))
        _check_answers(network, unfinished)


def check_path(path: str | os.PathLike) -> None:
    """Check that a path says what kind of file is wanted, and holds nothing else.

    Raises:
        ValueError: It has another ending than `save` knows, or would replace what is no network:
            a folder of other things, a folder by a file or a file by a folder.

    Lesson: none yet
    """
    path = pathlib.Path(path)
    suffix = path.suffix
    if suffix not in _WRITERS:
        raise ValueError(
            f"path={str(path)!r} ends in {suffix!r}; it must end in .keras or .tflite, or "
            "have no ending, for the folder of a SavedModel"
        )
    if suffix and path.is_dir():
        raise ValueError(
            f"path={str(path)!r} is a folder; a network that ends in {suffix} is a file"
        )
    if not suffix and path.exists() and not path.is_dir():
        raise ValueError(
            f"path={str(path)!r} is a file; a path without an ending is to be a folder"
        )
    if not suffix and path.is_dir() and (others := set(os.listdir(path)) - _SAVED_MODEL):
        raise ValueError(
            f"path={str(path)!r} is a folder that holds {min(others)!r}, which no SavedModel does: "
            "name a folder that is not there yet"
        )


class Loaded(NamedTuple):
    """A network out of a file.

    Attributes:
        logits: From images, float32 [N, H, W] or [N, H, W, C], to logits, float32 [N, K].
        classes: The names of its outputs; none where the file has none.
        image_shape: (H, W, C).
        about: All that was remembered.

    Lesson: 05
    """

    logits: Callable[[np.ndarray], np.ndarray]
    classes: tuple[str, ...]
    image_shape: tuple[int, int, int]
    about: dict[str, object]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the softmax of the logits, float32 [N, K]."""
        return tf.nn.softmax(self.logits(images)).numpy()


def load(path: str | os.PathLike) -> Loaded:
    """Read what `save` wrote, or a .keras file of somebody else's.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is none of the three kinds, is damaged, takes no images, or is a .tflite that
            `save` did not write.

    Lesson: 05
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path={str(path)!r}: no such file")
    read = _READERS.get(path.suffix)
    if read is None:
        raise ValueError(f"path={str(path)!r} must end in .keras or .tflite, or be a SavedModel")
    try:
        predict, shape, remembered = read(path)
    except Exception as error:  # each of the three readers raises kinds of its own
        raise ValueError(
            f"path={str(path)!r} is no network that can be read: {_first_line(error)}"
        ) from error
    if len(shape) != 3:
        raise ValueError(f"path={str(path)!r} takes {shape}; it must take images, (H, W, C)")

    def logits(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images, np.float32)
        return np.asarray(predict(images[..., None] if images.ndim == 3 else images), np.float32)

    return Loaded(logits, tuple(remembered.get("classes", ())), tuple(shape), remembered)


@contextlib.contextmanager
def _in_one_step(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Give a place beside `path` to write to; in the end it takes the place of `path`."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        unfinished, old = pathlib.Path(folder) / f"new{path.suffix}", pathlib.Path(folder) / "old"
        yield unfinished
        if path.is_dir():  # a folder cannot take the place of a full one
            os.replace(path, old)
        try:
            os.replace(unfinished, path)
        except OSError:
            if old.exists():
                os.replace(old, path)
            raise


def _check_answers(network: tf.keras.Model, path: pathlib.Path) -> None:
    """Check that what was written says what the network says."""
    shape = [side or 32 for side in network.input_shape[1:]]
    images = np.random.default_rng(0).random((3, *shape), np.float32)
    expected = np.asarray(network(images, training=False), np.float32)
    kind = path.suffix or "SavedModel"
    try:
        found = np.asarray(_READERS[path.suffix](path)[0](images), np.float32)
    except Exception as error:  # each of the three readers raises kinds of its own
        raise ValueError(
            f"the network {network.name!r} does not work as {kind}, try another kind of file: "
            + _first_line(error)
        ) from error
    if not np.allclose(found, expected, 1e-3, 1e-3 * np.abs(expected).max(), equal_nan=True):
        raise ValueError(
            f"the network {network.name!r} answers otherwise as {kind}, by up to "
            f"{np.abs(found - expected).max():.1e}: try another kind of file"
        )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# --- .keras ---------------------------------------------------------------------------------------


def _write_keras(network: tf.keras.Model, path: pathlib.Path, about: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / path.name
        network.save(plain)
        with zipfile.ZipFile(plain) as source, _compressed(path) as archive:
            for name in source.namelist():
                content = source.read(name)
                archive.writestr(name, _for_keras_3(content) if name == "config.json" else content)
            archive.writestr(ABOUT, about)


# What Keras 2 writes of these layers and Keras 3 does not take. None of it changes what they do:
# the layers do not use it, or it is always the same.
_NOT_IN_KERAS_3 = {
    "Conv2DTranspose": ("groups",),
    "DepthwiseConv2D": ("groups",),
    "SeparableConv2D": (
        "groups",
        *(f"kernel_{x}" for x in ("initializer", "regularizer", "constraint")),
    ),
    "SpatialDropout2D": ("trainable", "noise_shape"),
}


def _compressed(path: pathlib.Path) -> zipfile.ZipFile:
    """Open a new zip. In one that is not compressed Python 3.13.0 loses count when it seeks."""
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)


def _for_keras_3(config: bytes) -> str:
    """Say a network's layers so that Keras 3 understands them; Keras 2 does all the same.

    Raises:
        ValueError: One of them is a class of the user's own, or holds Python code.
    """

    def understood(said: dict) -> dict:
        kind, own = said.get("class_name"), said.get("config")
        if kind is None or not isinstance(own, dict):
            return said
        module = said.get("module", "keras") or ""
        if kind == "Lambda" or module.split(".")[0] not in ("keras", "tf_keras", "builtins"):
            raise ValueError(
                f"the network's {own.get('name', kind)!r} is a {kind}, which nobody could read "
                "without its code: take layers of tf.keras.layers, or a path without an ending, "
                "for a SavedModel, which holds what is computed"
            )
        for name in ("rng_type", *_NOT_IN_KERAS_3.get(kind, ())):
            own.pop(name, None)
        if kind != "InputLayer":  # there is always one that says it, too
            own.pop("batch_input_shape", None)
        if isinstance(axis := own.get("axis"), list) and len(axis) == 1:
            (own["axis"],) = axis
            if kind == "LayerNormalization":  # Keras 3 counts from the end alone
                own["axis"] -= len(said["build_config"]["input_shape"])
        if kind == "Functional":
            said |= {"module": "keras", "class_name": "Model", "registered_name": None}
            for ends in ("input_layers", "output_layers"):
                if len(own[ends]) == 1:  # else Keras 3 gives a list of one tensor
                    (own[ends],) = own[ends]
            for layer in own["layers"]:
                # Keras 2 counts the uses of a network within a network from 1, Keras 3 from 0:
                # used twice, the same use has either's number.
                if (
                    layer["class_name"] in ("Model", "Sequential")
                    and len(layer["inbound_nodes"]) == 1
                ):
                    layer["inbound_nodes"] *= 2
        return said

    return json.dumps(json.loads(config, object_hook=understood))


def _read_keras(path: pathlib.Path) -> tuple:
    weights = "model.weights.h5"
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        said = json.loads(archive.read("config.json"))
        said.pop("compile_config", None)
        network = tf.keras.saving.deserialize_keras_object(said)
        # Keras reads the weights inside the zip, here and there: minutes where it is compressed.
        network.load_weights(archive.extract(weights, folder))
    return _from_keras(network), network.input_shape[1:], _read_zip(path)


def _from_keras(network: tf.keras.Model) -> Callable:
    return lambda images: network.predict(images, batch_size=500, verbose=0)


def _read_zip(path: pathlib.Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(ABOUT)) if ABOUT in archive.namelist() else {}


# --- SavedModel -----------------------------------------------------------------------------------


def _export(network: tf.keras.Model, path: str | os.PathLike) -> None:
    """Write a SavedModel that never trains: what augments or drops is off."""
    module = tf.Module()
    module.network = network
    shape = tf.TensorSpec([None, *network.input_shape[1:]], tf.float32, name="images")
    module.serve = tf.function(lambda images: network(images, training=False), [shape])
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})


def _write_folder(network: tf.keras.Model, path: pathlib.Path, about: str) -> None:
    with _quiet():
        _export(network, path)
    (path / "assets.extra").mkdir(exist_ok=True)  # TensorFlow's place for what is not its own
    (path / "assets.extra" / ABOUT).write_text(about)


def _read_folder(path: pathlib.Path) -> tuple:
    module = tf.saved_model.load(str(path))
    beside = path / "assets.extra" / ABOUT
    if not beside.exists():
        raise ValueError(f"it has no {ABOUT}: the course did not write it")
    about = json.loads(beside.read_text())
    return lambda images: module.serve(tf.constant(images)), about["image_shape"], about


# --- TFLite ---------------------------------------------------------------------------------------


def _write_tflite(network: tf.keras.Model, path: pathlib.Path, about: str) -> None:
    if None in network.input_shape[1:]:  # TFLite would crash on it
        raise ValueError(
            f"the network takes images of any size, {network.input_shape[1:]}, and a .tflite of "
            "one: build it with InputLayer((height, width, channels))"
        )
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        _export(network, folder)
        try:
            content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
        except Exception as error:  # a kind of its own, and pages of text
            raise ValueError(
                f"the network {network.name!r} has operations that TFLite does not, try another "
                f"kind of file: {_first_line(error)[:200]}"
            ) from error
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:  # behind the network, as TFLite's metadata has it
        archive.writestr(ABOUT, about)
        archive.comment = f"{zlib.crc32(content):08x} {len(content)}".encode()


def _read_tflite(path: pathlib.Path) -> tuple:
    with zipfile.ZipFile(path) as archive:
        if ABOUT not in archive.namelist():
            raise ValueError(f"it has no {ABOUT}: the course did not write it")
        crc, length = archive.comment.split()
    if zlib.crc32(path.read_bytes()[: int(length)]) != int(crc, 16):  # TFLite would crash on it
        raise ValueError("its checksum is another")
    with _quiet():
        interpreter = tf.lite.Interpreter(str(path))
        run = interpreter.get_signature_runner()
        (name, given), *_ = run.get_input_details().items()
        run(**{name: np.zeros(given["shape"], np.float32)})  # says at its first call what it uses

    def predict(images: np.ndarray) -> np.ndarray:
        (logits,) = run(**{name: images}).values()
        return logits

    return predict, given["shape_signature"][1:].tolist(), _read_zip(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converters' reports off the screen; what fails is an exception, and stays one."""
    logger = logging.getLogger("absl")
    level, disabled = logger.level, logger.disabled
    kept, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    logger.disabled = True
    os.dup2(sink, 2)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that TFLite is to move to a package of its own
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
        logger.level, logger.disabled = level, disabled


_WRITERS = {".keras": _write_keras, ".tflite": _write_tflite, "": _write_folder}
_READERS = {".keras": _read_keras, ".tflite": _read_tflite, "": _read_folder}
