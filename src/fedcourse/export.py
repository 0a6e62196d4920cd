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


def save(
    network: tf.keras.Model,
    path: str | os.PathLike,
    classes: Sequence[str] = (),
    about: Mapping[str, object] | None = None,
) -> None:
    """Write a network to a file, whole or not at all.

    Args:
        network: Keras 2 network, functional or sequential, from images to logits.
        path: "….keras", which Keras 2 and Keras 3 read; "….tflite" for phones; without an ending
            the folder of a SavedModel. One that exists is replaced.
        classes: The names of its outputs, in order.
        about: What else is to be remembered, in JSON's types.

    Raises:
        ValueError: Another ending, another number of classes than outputs, or a network that
            cannot be read elsewhere.
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


def check_path(path: str | os.PathLike) -> None:
    """Check that a path says what kind of file is wanted.

    Raises:
        ValueError: It has another ending than `save` knows.

    Lesson: none yet
    """
    suffix = pathlib.Path(path).suffix
    if suffix not in _WRITERS:
        raise ValueError(
            f"path={str(path)!r} ends in {suffix!r}; it must end in .keras or .tflite, or "
            "have no ending, for the folder of a SavedModel"
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
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"path={str(path)!r} is no network that can be read: {first}") from error
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
        unfinished = pathlib.Path(folder) / path.name
        yield unfinished
        if path.is_dir() and unfinished.is_dir():  # a folder cannot take the place of a full one
            os.replace(path, pathlib.Path(folder) / "old")
        os.replace(unfinished, path)


# --- .keras ---------------------------------------------------------------------------------------


def _write_keras(network: tf.keras.Model, path: pathlib.Path, about: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / path.name
        network.save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(path, "w") as archive:
            for name in source.namelist():
                content = source.read(name)
                archive.writestr(name, _for_keras_3(content) if name == "config.json" else content)
            archive.writestr(ABOUT, about)


def _for_keras_3(config: bytes) -> str:
    """Say a network's layers so that Keras 3 understands them; Keras 2 does all the same.

    It knows no `rng_type` of layers that augment, and takes one axis of BatchNormalization, which
    Keras 2 writes as a list of one.
    """

    def understood(pairs: dict) -> dict:
        pairs.pop("rng_type", None)
        axis = pairs.get("axis")
        return {**pairs, "axis": axis[0]} if isinstance(axis, list) and len(axis) == 1 else pairs

    return json.dumps(json.loads(config, object_hook=understood))


def _read_keras(path: pathlib.Path) -> tuple:
    network = tf.keras.models.load_model(path, compile=False)
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
    about = json.loads(beside.read_text()) if beside.exists() else {}
    return lambda images: module.serve(tf.constant(images)), about["image_shape"], about


# --- TFLite ---------------------------------------------------------------------------------------


def _write_tflite(network: tf.keras.Model, path: pathlib.Path, about: str) -> None:
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        _export(network, folder)
        content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:  # behind the network, as TFLite's metadata has it
        archive.writestr(ABOUT, about)
        archive.comment = f"{zlib.crc32(content):08x} {len(content)}".encode()


def _read_tflite(path: pathlib.Path) -> tuple:
    with zipfile.ZipFile(path) as archive:
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
