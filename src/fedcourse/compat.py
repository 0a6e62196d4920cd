"""Make TensorFlow Federated 0.87.0 import, and work, on today's TensorFlow.

TFF's newest release pins a 2023 stack that no installer can put together any more. Its code runs on
current TensorFlow once a few missing neighbours are dealt with, each by one function below. A
function does nothing where the piece it stands in for is there.

`import fedcourse` applies all of them. Nothing heavy is imported until TFF itself is.
"""

import contextlib
import ctypes
import functools
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import os
import pathlib
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator

TFF_PINS = {
    "tensorflow-federated": "0.87.0",
    "tensorflow-privacy": "0.9.0",
    "dp-accounting": "0.6.0",
    "tensorflow-model-optimization": "0.8.1",
}
INSTALL = " ".join(
    ["pip install --no-deps --ignore-requires-python", *map("==".join, TFF_PINS.items())]
)


def apply() -> None:
    """Prepare this process so that `import tensorflow_federated` works.

    Where TFF is not installed, importing it says how to install it, and nothing else is changed.

    Raises:
        ImportError: TensorFlow was imported first, and its Keras 3 used.

    Lesson: 03
    """
    if not _missing():
        prepare()
    around_import("tensorflow_federated", before=_prepare_or_say_how, after=repair)


def _missing() -> list[str]:
    """Name the packages of TFF's that are not installed."""
    names = [package.replace("-", "_") for package in TFF_PINS]
    return [name for name in names if importlib.machinery.PathFinder.find_spec(name) is None]


def _prepare_or_say_how() -> None:
    if missing := _missing():
        raise ModuleNotFoundError(
            "TensorFlow Federated is not installed, or not all of it. Its own requirements can no "
            f"longer be met, so install it without them:\n    {INSTALL}\n"
            f"(Linux on x86-64, or Colab. Not found: {', '.join(missing)}.)",
            name=missing[0],
        )
    prepare()


def prepare() -> None:
    """Apply what must be there before TFF is imported, and partly before TensorFlow is."""
    quiet_tensorflow()
    use_onednn()
    use_keras_2()
    do_without_jax()
    do_without_vizier()
    do_without_estimators()
    do_without_pruning()


def repair() -> None:
    """Apply what needs TFF's own modules: called once, right after TFF was imported.

    These functions replace private parts of TensorFlow and TFF. A release without such a part works
    all the same, more slowly or with more words: hence a warning.
    """
    for improve in (name_optimizers, nest_deeply, quiet_graphs, restore_keras, trace_plainly):
        try:
            improve()
        except Exception as error:
            warnings.warn(
                f"This release of TensorFlow or TFF is not the one that {improve.__name__} of "
                f"fedcourse.compat is made for: {type(error).__name__}: {error}",
                stacklevel=2,
            )
    importlib.import_module("fedcourse.runtime")  # from here on, workers are its own


# --- before TFF is imported -----------------------------------------------------------------------


def quiet_tensorflow() -> None:
    """Keep what TensorFlow's C++ says of the machine (no GPU, …) off the screen.

    Errors in a computation are Python exceptions and stay. `TF_CPP_MIN_LOG_LEVEL=0` in the
    environment brings everything back.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def use_onednn() -> None:
    """Compute with oneDNN on every processor, here and in TFF's worker, which inherits this.

    TensorFlow has it built in, and turns it on by itself only where there is AVX-512. Convolutions
    take about half the time with it. `TF_ENABLE_ONEDNN_OPTS=0` in the environment keeps it off.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def use_keras_2() -> None:
    """Make `tf.keras` Keras 2 (tf_keras): TFF cannot read Keras 3 models.

    Raises:
        ImportError: `tf.keras` is already Keras 3 in this process.
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return
    if not tensorflow.keras.Model.__module__.startswith("tf_keras"):
        raise ImportError(
            "`tf.keras` is already Keras 3 here, and TFF needs Keras 2. Restart the kernel and "
            "put `import fedcourse` before `import tensorflow`."
        )
    # `from tensorflow.keras import …` finds Keras along a path that was laid by the first import.
    keras = pathlib.Path(tensorflow.keras.__file__).parents[1]
    if str(keras) not in tensorflow.__path__:
        tensorflow.__path__.insert(0, str(keras))


def do_without_jax() -> None:
    """Stand in for `tff.jax`, which needs jax 0.4.14; its jaxlib is gone from PyPI."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if importlib.metadata.version("jaxlib") == "0.4.14":
            return
    _stand_in(
        "tensorflow_federated.python.core.environments.jax",
        "computation",
        "tff.jax.computation needs jax 0.4.14, which can no longer be installed. "
        "Use tff.tensorflow.computation.",
    )


def do_without_vizier() -> None:
    """Stand in for TFF's hyperparameter tuning service, which needs google-vizier 0.1.11."""
    if importlib.util.find_spec("vizier"):
        return
    _stand_in(
        "tensorflow_federated.python.learning.programs.vizier_program_logic",
        "train_model_with_vizier",
        "tff.learning.programs.train_model_with_vizier needs google-vizier 0.1.11, "
        "which is not installed. Tune with a loop, as lesson 07 does.",
    )


def do_without_estimators() -> None:
    """Give `tensorflow_privacy` its DP queries only.

    On import it also wants `tensorflow_estimator`, which ended with TensorFlow 2.15. Its own switch
    skips all submodules; the queries that TFF uses are then found when they are asked for.
    """
    if importlib.util.find_spec("tensorflow_estimator"):
        return
    sys.skip_tf_privacy_import = True
    try:
        privacy = importlib.import_module("tensorflow_privacy")
    finally:
        del sys.skip_tf_privacy_import

    def find(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("restart_query", "tree_aggregation"):
            return importlib.import_module(f"tensorflow_privacy.privacy.dp_query.{name}")
        for module, names in _DP_QUERIES.items():
            if name in names.split():
                module = importlib.import_module(f"tensorflow_privacy.privacy.dp_query.{module}")
                return getattr(module, name)
        raise AttributeError(
            f"tensorflow_privacy.{name} is not available: only its DP queries work without "
            "tensorflow_estimator, which ended with TensorFlow 2.15."
        )

    privacy.__getattr__ = find


_DP_QUERIES = {
    "discrete_gaussian_query": "DiscreteGaussianSumQuery",
    "distributed_discrete_gaussian_query": "DistributedDiscreteGaussianSumQuery",
    "distributed_skellam_query": "DistributedSkellamSumQuery",
    "dp_query": "DPQuery SumAggregationDPQuery",
    "gaussian_query": "GaussianSumQuery",
    "nested_query": "NestedQuery",
    "no_privacy_query": "NoPrivacySumQuery NoPrivacyAverageQuery",
    "normalized_query": "NormalizedQuery",
    "quantile_adaptive_clip_sum_query": "QuantileAdaptiveClipSumQuery",
    "quantile_adaptive_clip_tree_query": "QAdaClipTreeResSumQuery",
    "quantile_estimator_query": "QuantileEstimatorQuery NoPrivacyQuantileEstimatorQuery",
    "restart_query": "RestartQuery",
    "tree_aggregation_query": "TreeCumulativeSumQuery TreeResidualSumQuery",
    "tree_range_query": "TreeRangeSumQuery",
}


def do_without_pruning() -> None:
    """Give TFF the encodings of `tensorflow_model_optimization` without the rest of it.

    Importing all of it loads Keras 3 beside Keras 2, a second of a reader's time. With empty
    packages above it, `tensor_encoding` is found by itself.
    """
    name, path = "tensorflow_model_optimization", None
    if name in sys.modules:
        return
    for package in (name, f"{name}.python", f"{name}.python.core"):
        spec = importlib.machinery.PathFinder.find_spec(package, path)
        if spec is None:
            return
        sys.modules[package] = importlib.util.module_from_spec(spec)  # and not executed
        path = spec.submodule_search_locations


def _stand_in(module: str, function: str, message: str) -> None:
    """Put a module in place whose one function raises `message` when it is called."""

    def unavailable(*_args: object, **_kwargs: object) -> None:
        raise NotImplementedError(message)

    if module not in sys.modules:
        sys.modules[module] = types.ModuleType(module, message)
        setattr(sys.modules[module], function, unavailable)


# --- after TFF was imported -----------------------------------------------------------------------


def around_import(name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Call `before` and `after` when module `name` is imported; `after` at once where it is."""
    if name in sys.modules:
        after()
    elif not any(getattr(finder, "name", None) == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _AroundImport(name, before, after))


class _AroundImport:
    """An import finder that finds what Python would, and calls back before and after."""

    def __init__(self, name: str, before: Callable[[], None], after: Callable[[], None]):
        self.name, self.before, self.after = name, before, after

    def find_spec(self, name, path=None, target=None):
        if name != self.name:
            return None
        self.before()
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec:
            run = spec.loader.exec_module

            def run_then_act(module):
                run(module)
                self.after()

            spec.loader.exec_module = run_then_act
        return spec


def name_optimizers() -> None:
    """Say what takes the place of Keras optimizers, which tutorials for older TFF pass.

    TFF 0.87 fails on them with "object has no attribute 'initialize'".
    """
    import tensorflow_federated as tff

    algorithms = tff.learning.algorithms
    for name in _TAKE_OPTIMIZERS:
        setattr(algorithms, name, _with_optimizers_checked(getattr(algorithms, name)))


_TAKE_OPTIMIZERS = (
    *("build_weighted_fed_avg", "build_unweighted_fed_avg", "build_fed_sgd"),
    *("build_weighted_fed_prox", "build_unweighted_fed_prox"),
    *("build_weighted_mime_lite", "build_unweighted_mime_lite"),
)


def _with_optimizers_checked(build: Callable) -> Callable:
    signature = inspect.signature(build)

    @functools.wraps(build)
    def checked(*arguments: object, **options: object) -> object:
        for name, value in signature.bind_partial(*arguments, **options).arguments.items():
            if "optimizer" in name and not hasattr(value, "initialize") and value is not None:
                raise TypeError(
                    f"{name} is {type(value).__name__!r}, and TFF 0.87 takes its own optimizers "
                    "alone: tff.learning.optimizers.build_sgdm(0.1) in place of "
                    "lambda: tf.keras.optimizers.SGD(0.1)"
                )
        return build(*arguments, **options)

    return checked


def nest_deeply() -> None:
    """Build TFF's nested protocol buffers without parsing, which refuses more than 100 levels.

    TFF composes a computation by passing built parts to a message's constructor. The C (upb)
    implementation of protobuf serialises and re-parses them there, and its parser has a depth limit
    that deep aggregators such as `ddp_secure_aggregator` exceed. `CopyFrom` has none.
    """
    from google.protobuf.internal import api_implementation

    if api_implementation.Type() != "upb":
        return
    from tensorflow_federated.proto.v0 import computation_pb2
    from tensorflow_federated.python.common_libs import structure
    from tensorflow_federated.python.core.impl.compiler import building_blocks
    from tensorflow_federated.python.core.impl.types import type_serialization

    def start(block):
        proto = computation_pb2.Computation()
        proto.type.CopyFrom(type_serialization.serialize_type(block.type_signature))
        return proto

    def selection(block):
        proto = start(block)
        proto.selection.source.CopyFrom(block.source.proto)
        proto.selection.index = block.as_index()
        return proto

    def struct(block):
        proto = start(block)
        proto.struct.SetInParent()
        for name, value in structure.iter_elements(block):
            element = proto.struct.element.add()
            if name is not None:
                element.name = name
            element.value.CopyFrom(value.proto)
        return proto

    def call(block):
        proto = start(block)
        proto.call.function.CopyFrom(block.function.proto)
        if block.argument is not None:
            proto.call.argument.CopyFrom(block.argument.proto)
        return proto

    def function(block):
        proto = start(block)
        function = getattr(proto, "lambda")
        if block.parameter_name is not None:
            function.parameter_name = block.parameter_name
        function.result.CopyFrom(block.result.proto)
        return proto

    def block_of_locals(block):
        proto = start(block)
        proto.block.SetInParent()
        for name, value in block.locals:
            local = proto.block.local.add()
            local.name = name
            local.value.CopyFrom(value.proto)
        proto.block.result.CopyFrom(block.result.proto)
        return proto

    _replace(building_blocks.Selection, "_proto", selection)
    _replace(building_blocks.Struct, "_proto", struct)
    _replace(building_blocks.Call, "_proto", call)
    _replace(building_blocks.Lambda, "_proto", function)
    _replace(building_blocks.Block, "_proto", block_of_locals)


def _replace(owner: object, name: str, new: object) -> object:
    """Put `new` in the place of an attribute that must be there; return the old one."""
    old = getattr(owner, name)
    setattr(owner, name, new)
    return old


def trace_plainly() -> None:
    """Trace modules of TFF that never branch on a tensor as they are, without AutoGraph.

    Rewriting their source takes most of the seconds in which the first learning process of a kernel
    is built.
    """
    from tensorflow.python.autograph.core import config

    tff = "tensorflow_federated.python"
    plain = [
        "attr",
        f"{tff}.common_libs",
        f"{tff}.learning.metrics.keras_finalizer",
        f"{tff}.learning.optimizers.optimizer",
        f"{tff}.learning.optimizers.sgdm",
    ]
    config.CONVERSION_RULES += tuple(config.DoNotConvert(module) for module in plain)


def quiet_graphs() -> None:
    """Hide what TensorFlow says of the graphs TFF hands it.

    Its graph optimiser writes of what it did and of what it left as it was; its Python side warns
    of functions traced anew and of tensors that are not used, which is TFF's way of working. A
    graph that cannot run is a Python exception, and stays one.

    The optimiser logs through the library Abseil, which has the levels of `TF_CPP_MIN_LOG_LEVEL`
    and does not read them: it is told here.
    """
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.get_logger().addFilter(lambda record: "Object was never used" not in record.getMessage())
    options = pathlib.Path(tf.sysconfig.get_include(), "absl/base/options.h").read_text()
    release = re.search(r"lts_\d+", options)[0]  # is part of the names of its functions
    library = ctypes.CDLL("libtensorflow_framework.so.2")
    set_level = f"_ZN4absl{len(release)}{release}14SetMinLogLevelENS0_18LogSeverityAtLeastE"
    getattr(library, set_level)(int(os.environ["TF_CPP_MIN_LOG_LEVEL"]))


def restore_keras() -> None:
    """Undo what Keras 2 does to its classes inside a graph, when the graph is left.

    A network that is made inside a graph of TFF's turns the classes it shares with all networks
    into those of TensorFlow 1, and nothing turns them back: networks made before would fail in
    `predict`, `fit` and `get_weights`.
    """
    import tensorflow as tf
    from tf_keras.src.utils import version_utils

    changed = threading.local()

    def swap_class(cls, v2_cls, v1_cls, use_v2):
        before = cls.__bases__
        swapped = swap(cls, v2_cls, v1_cls, use_v2)
        if not use_v2 and cls.__bases__ != before:
            vars(changed).setdefault("bases", {}).setdefault(cls, before)
        return swapped

    @contextlib.contextmanager
    def as_default(graph: tf.Graph) -> Iterator[tf.Graph]:
        try:
            with enter(graph) as entered:
                yield entered
        finally:
            if vars(changed) and tf.executing_eagerly():
                for cls, bases in vars(changed).pop("bases").items():
                    cls.__bases__ = bases

    swap = _replace(version_utils, "swap_class", swap_class)
    enter = _replace(tf.Graph, "as_default", as_default)
