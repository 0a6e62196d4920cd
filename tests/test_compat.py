"""Each accommodation: what it does where a piece is missing, and that it does nothing elsewhere."""

from fedcourse import compat, models, runtime, training  # isort: skip  (before TensorFlow)

import concurrent.futures
import ctypes
import importlib.metadata
import importlib.util
import inspect
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy
from google.protobuf import message
from google.protobuf.internal import api_implementation
from tensorflow_federated.python.core.environments.tensorflow_backend import (
    graph_optimizations,
    graph_spec,
)
from tensorflow_federated.python.core.impl.compiler import building_blocks
from tensorflow_federated.python.core.impl.types import computation_types
from tf_keras.src.engine import training_v1 as version_1

ROOT = pathlib.Path(__file__).parents[1]
JAX = "tensorflow_federated.python.core.environments.jax"
VIZIER = "tensorflow_federated.python.learning.programs.vizier_program_logic"


@pytest.fixture
def install(monkeypatch):
    """Let packages look installed, or not."""
    find = importlib.util.find_spec

    def pretend(**packages):
        def spec(name, package=None):
            if name in packages:
                return find("json") if packages[name] else None
            return find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", spec)

    return pretend


# --- importing ------------------------------------------------------------------------------------


def test_import_fedcourse_alone_brings_nothing_heavy(python):
    heavy = "{'tensorflow', 'tensorflow_federated', 'tf_keras', 'keras', 'numpy'}"
    code = f"import sys, fedcourse; print({heavy} & set(sys.modules))"
    run = python("-c", code)
    assert (run.status, run.out, run.err) == (0, "set()\n", "")


HIDDEN = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
hidden = set("{names}".split())
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.split(".")[0] in hidden else find(name, *more)
)
import os
import fedcourse
assert "TF_USE_LEGACY_KERAS" not in os.environ
"""
TFF = "tensorflow_federated tensorflow_privacy dp_accounting tensorflow_model_optimization"


@pytest.mark.parametrize(
    "names",
    [TFF, f"{TFF} tensorflow tf_keras keras grpc", "dp_accounting"],
    ids=["TFF", "TensorFlow too", "a part of it"],
)
def test_without_tff_the_package_imports_and_importing_tff_says_how_to_install_it(python, names):
    code = """
import fedcourse.paths
for _ in range(2):
    try:
        import tensorflow_federated
    except ModuleNotFoundError as error:
        print(error)
import tensorflow_federated
"""
    run = python("-c", HIDDEN.replace("{names}", names) + code)
    assert run.status == 1
    (first, second) = run.out.split("TensorFlow Federated is not installed")[1:]
    assert first == second
    assert f"    {compat.INSTALL}\n" in first
    assert f"Not found: {', '.join(n for n in TFF.split() if n in names.split())}." in first
    assert "ModuleNotFoundError: TensorFlow Federated is not installed" in run.err
    assert run.err.rstrip().endswith(first.rstrip())


@pytest.mark.slow
def test_tff_that_is_installed_later_works_in_the_same_process(python):
    code = """
try:
    import tensorflow_federated
except ImportError:
    hidden.clear()
import tensorflow_federated as tff
from fedcourse import models, runtime, training
assert tff.framework.local_cpp_executor_factory is runtime._local_executor_factory
training.wrap(models.small_cnn)()
print("wrapped")
"""
    run = python("-c", HIDDEN.replace("{names}", TFF) + code)
    assert (run.status, run.out, run.err) == (0, "wrapped\n", "")


def test_install_command_is_that_of_the_requirements_file():
    text = (ROOT / "requirements-tff.txt").read_text()
    pins = [line.split("#")[0].strip() for line in text.splitlines()]
    command, *packages = re.split(r" (?=[a-z-]+==)", compat.INSTALL)
    assert packages == [pin for pin in pins if pin]
    assert f"{command} -r requirements-tff.txt" in text


@pytest.mark.parametrize(
    "used",
    ["import tensorflow as tf; tf.keras.layers.Dense(1)", "from tensorflow.keras import layers"],
)
def test_keras_3_used_before_is_an_error_that_says_what_to_do(python, used):
    run = python("-c", f"{used}\nimport fedcourse")
    assert run.status == 1
    last = run.err.splitlines()[-1]
    assert last.startswith("ImportError: `tf.keras` is already Keras 3")
    assert "Restart the kernel" in last and "`import fedcourse` before" in last


@pytest.mark.slow
def test_tensorflow_imported_before_but_keras_not_touched(python):
    code = """
import tensorflow as tf
import fedcourse
from tensorflow.keras import layers
from tensorflow.keras.optimizers import SGD
import tensorflow.keras.metrics as metrics
import tensorflow_federated as tff
from fedcourse import models, training
for each in (tf.keras.Model, layers.Dense, SGD, metrics.Mean, tf.keras.layers.Dense):
    assert each.__module__.startswith("tf_keras"), each.__module__
training.wrap(models.small_cnn)()
print("wrapped")
"""
    run = python("-c", code)
    assert (run.status, run.out) == (0, "wrapped\n"), run.err


# --- one by one -----------------------------------------------------------------------------------


def test_quiet_tensorflow_leaves_a_level_that_was_chosen(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    compat.quiet_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    compat.quiet_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"


@pytest.mark.parametrize("value", [None, "0"])
def test_keras_2_is_asked_for_whatever_was_set(monkeypatch, value):
    if value is None:
        monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    else:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)
    monkeypatch.delitem(sys.modules, "tensorflow")
    compat.use_keras_2()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "1"


def test_keras_2_is_what_tf_keras_is():
    assert tf.keras.Model.__module__.startswith("tf_keras")
    path = list(tf.__path__)
    compat.use_keras_2()  # content with it
    assert tf.__path__ == path


def test_jax_says_what_to_use():
    with pytest.raises(NotImplementedError, match=r"jax 0\.4\.14.*Use tff\.tensorflow\.computa"):
        tff.jax.computation(lambda x: x)


@pytest.mark.parametrize(("version", "stands_in"), [("0.4.14", False), ("0.7.0", True)])
def test_jax_stands_in_for_other_versions_only(monkeypatch, version, stands_in):
    monkeypatch.delitem(sys.modules, JAX)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version)
    compat.do_without_jax()
    assert (JAX in sys.modules) == stands_in
    sys.modules.pop(JAX, None)  # monkeypatch puts the first one back


def test_vizier_says_what_to_use():
    with pytest.raises(NotImplementedError, match=r"google-vizier 0\.1\.11.*Tune with a loop"):
        tff.learning.programs.train_model_with_vizier(rounds=1)


@pytest.mark.parametrize("there", [True, False])
def test_vizier_stands_in_where_it_is_missing_only(install, monkeypatch, there):
    monkeypatch.delitem(sys.modules, VIZIER)
    install(vizier=there)
    compat.do_without_vizier()
    assert (VIZIER in sys.modules) != there
    sys.modules.pop(VIZIER, None)


def test_a_module_that_is_there_is_not_replaced(monkeypatch):
    theirs = types.ModuleType("theirs")
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    compat._stand_in("theirs", "function", "no")
    assert sys.modules["theirs"] is theirs and not hasattr(theirs, "function")


def dp_queries():
    """The names of all DP queries, as the source of `tensorflow_privacy` lists them."""
    source = pathlib.Path(tensorflow_privacy.__file__).read_text()
    names = re.findall(r"from tensorflow_privacy\.privacy\.dp_query\S* import (\w+)", source)
    return sorted(set(names))


def test_dp_queries_are_all_there():
    assert len(dp_queries()) == 20
    for name in dp_queries():
        found = getattr(tensorflow_privacy, name)
        assert found.__name__.split(".")[-1] == name
    query = tensorflow_privacy.GaussianSumQuery(l2_norm_clip=1.0, stddev=0.0)
    assert isinstance(query, tensorflow_privacy.DPQuery)


def test_another_name_of_tensorflow_privacy_is_a_clear_error():
    with pytest.raises(AttributeError, match=r"tensorflow_privacy\.DPKerasSGDOptimizer is not ava"):
        _ = tensorflow_privacy.DPKerasSGDOptimizer
    assert not hasattr(tensorflow_privacy, "__wrapped__")
    assert not hasattr(sys, "skip_tf_privacy_import")


def test_tensorflow_privacy_is_left_alone_where_estimators_are(install, monkeypatch):
    monkeypatch.setitem(vars(tensorflow_privacy), "__getattr__", "as it was")
    install(tensorflow_estimator=True)
    compat.do_without_estimators()
    assert vars(tensorflow_privacy)["__getattr__"] == "as it was"
    install(tensorflow_estimator=False)
    compat.do_without_estimators()
    assert vars(tensorflow_privacy)["__getattr__"] != "as it was"


def test_encodings_of_model_optimization_come_alone(python):
    run = python(
        "-c",
        "import fedcourse, sys; import tensorflow_federated as tff\n"
        "from tensorflow_model_optimization.python.core.internal import tensor_encoding as te\n"
        "import tensorflow as tf\n"
        "spec = tf.TensorSpec([20], tf.float32)\n"
        "te.encoders.as_gather_encoder(te.encoders.uniform_quantization(8), spec)\n"
        "print('keras.src' in sys.modules)",
    )
    assert (run.status, run.out) == (0, "False\n"), run.err


def test_model_optimization_that_was_imported_before_is_left_alone(monkeypatch):
    before = sys.modules["tensorflow_model_optimization"]
    compat.do_without_pruning()
    assert sys.modules["tensorflow_model_optimization"] is before
    monkeypatch.delitem(sys.modules, "tensorflow_model_optimization")
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", lambda name, path: None)
    compat.do_without_pruning()
    assert "tensorflow_model_optimization" not in sys.modules


@pytest.mark.parametrize("chosen", [None, "0"])
def test_onednn_is_on_where_nothing_else_was_chosen(monkeypatch, chosen):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if chosen:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", chosen)
    compat.use_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == (chosen or "1")


def test_modules_traced_plainly_exist_and_are_left_to_python():
    from tensorflow.python.autograph.impl import conversion

    assert conversion.is_allowlisted(tff.learning.optimizers.build_sgdm(0.1).next)
    assert not conversion.is_allowlisted(tff.learning.optimizers.build_adafactor(0.1).next)
    compat.trace_plainly()  # a second time changes nothing
    from tensorflow.python.autograph.core import config

    names = [rule._prefix for rule in config.CONVERSION_RULES]
    for name in names[-5:]:
        assert importlib.util.find_spec(name)


# --- after an import ------------------------------------------------------------------------------


@pytest.fixture
def meta_path(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))


def test_actions_go_before_and_after_an_import_once(tmp_path, monkeypatch, meta_path):
    (tmp_path / "late_module.py").write_text("ready = True")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []

    def before():
        assert "late_module" not in sys.modules
        seen.append("before")

    def after():
        seen.append(sys.modules["late_module"].ready)

    compat.around_import("late_module", before, after)
    compat.around_import("late_module", before, after)  # `import fedcourse` again, after a reload
    assert seen == []
    import late_module

    assert seen == ["before", True]
    assert late_module.ready
    compat.around_import("late_module", before, after)
    assert seen == ["before", True, True]  # it is there: at once
    del sys.modules["late_module"]


def test_import_that_fails_is_not_acted_on_until_it_succeeds(tmp_path, monkeypatch, meta_path):
    module = tmp_path / "failing_module.py"
    module.write_text("raise ValueError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    seen = []
    compat.around_import("failing_module", list, lambda: seen.append(1))
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module("failing_module")
    assert seen == []
    module.write_text("")
    importlib.import_module("failing_module")
    assert seen == [1]
    del sys.modules["failing_module"]


def test_module_that_is_nowhere_is_still_not_found(meta_path):
    compat.around_import("no_such_module", list, pytest.fail)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module")


# --- what is not as expected ----------------------------------------------------------------------

IMPROVEMENTS = ["name_optimizers", "nest_deeply", "quiet_graphs", "restore_keras", "trace_plainly"]


@pytest.mark.parametrize(
    ("improvement", "owner", "name"),
    [
        ("name_optimizers", "tensorflow_federated.python.learning.algorithms", "build_fed_sgd"),
        ("nest_deeply", "tensorflow_federated.python.core.impl.compiler.building_blocks", "Block"),
        ("quiet_graphs", "ctypes", "CDLL"),
        ("quiet_graphs", "tensorflow.sysconfig", "get_include"),
        ("restore_keras", "tf_keras.src.utils.version_utils", "swap_class"),
        ("trace_plainly", "tensorflow.python.autograph.core.config", "DoNotConvert"),
        ("trace_plainly", "tensorflow.python.autograph.core.config", "CONVERSION_RULES"),
    ],
)
def test_a_private_name_that_is_gone_is_a_warning(monkeypatch, improvement, owner, name):
    others = []
    for other in IMPROVEMENTS:
        if other != improvement:
            monkeypatch.setattr(compat, other, lambda other=other: others.append(other))
    monkeypatch.delattr(importlib.import_module(owner), name)
    if name == "CDLL":  # the library is there, without the function
        monkeypatch.setattr(ctypes, name, lambda path: types.SimpleNamespace(), raising=False)
    with pytest.warns(UserWarning, match=f"not the one that {improvement} of .*AttributeError"):
        compat.repair()
    assert sorted([improvement, *others]) == IMPROVEMENTS, "the others are applied"


def test_all_that_is_expected_is_there(python):
    run = python("-W", "error:This release", "-c", "import fedcourse, tensorflow_federated")
    assert (run.status, run.err) == (0, "")


@pytest.mark.parametrize("builder", compat._TAKE_OPTIMIZERS)
@pytest.mark.parametrize(
    "form", [lambda: tf.keras.optimizers.SGD(0.1), tf.keras.optimizers.SGD(0.1)]
)
def test_keras_optimizers_are_refused_with_what_to_use(builder, form):
    build = getattr(tff.learning.algorithms, builder)
    name = next(n for n in inspect.signature(build).parameters if "optimizer" in n)
    with pytest.raises(TypeError, match=rf"{name} is '.*tff\.learning\.optimizers\.build_sgdm"):
        build(training.wrap(models.small_cnn), **{name: form})


# --- networks made before ---


class Own(tf.keras.Model):
    def __init__(self):
        super().__init__()
        self.layer = tf.keras.layers.Dense(2)

    def call(self, images):
        return self.layer(images)


def sequential():
    return tf.keras.Sequential([tf.keras.Input([3]), tf.keras.layers.Dense(2)])


def functional():
    images = tf.keras.Input([3])
    return tf.keras.Model(images, tf.keras.layers.Dense(2)(images))


def wrapped(make):
    """Wrap a network for TFF as it is documented there, without anything of this course."""

    def model_fn():
        network = make()
        network.build([None, 3])
        return tff.learning.models.from_keras_model(
            network,
            loss=tf.keras.losses.MeanSquaredError(),
            input_spec=(tf.TensorSpec([None, 3]), tf.TensorSpec([None, 2])),
        )

    return model_fn


def averaging(make):
    return tff.learning.algorithms.build_weighted_fed_avg(
        wrapped(make), tff.learning.optimizers.build_sgdm(0.1)
    )


def evaluation(make):
    return tff.learning.algorithms.build_fed_eval(wrapped(make))


@pytest.mark.parametrize("make", [sequential, functional, Own])
@pytest.mark.parametrize("build", [averaging, evaluation])
def test_a_network_made_before_works_after_tff_has_built_with_its_like(make, build):
    images = np.ones([4, 3], np.float32)
    network = make()
    network.build([None, 3])
    network.compile("sgd", "mse")
    weights, outputs = network.get_weights(), network.predict(images, verbose=0)
    process = build(make)
    assert network.trainable_variables[0].shape == (3, 2)
    assert all(map(np.array_equal, network.get_weights(), weights))
    assert np.array_equal(network.predict(images, verbose=0), outputs)
    network.fit(images, outputs + 1, verbose=0)
    assert not np.array_equal(network.predict(images, verbose=0), outputs)
    trained = process.get_model_weights(process.initialize()).trainable
    assert [weight.shape for weight in trained] == [(3, 2), (2,)], "TFF's has its weights, too"


def test_a_network_made_before_works_after_an_error_in_a_graph():
    network = sequential()
    with pytest.raises(ZeroDivisionError), tf.Graph().as_default(), tf.Graph().as_default():
        sequential()
        assert tf.keras.Sequential.__mro__.index(version_1.Model), "now it is one of TensorFlow 1"
        1 / 0  # noqa: B018
    assert version_1.Model not in tf.keras.Sequential.__mro__
    assert len(network.get_weights()) == 2


# --- nesting --------------------------------------------------------------------------------------

KINDS = ["Selection", "Struct", "Call", "Lambda", "Block"]
INT = computation_types.TensorType(np.int32)


@pytest.fixture(scope="module")
def original():
    """TFF's own building blocks: their module, run once more under another name."""
    spec = importlib.util.spec_from_file_location("unrepaired_blocks", building_blocks.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tower(levels):
    """A computation in which every kind of block holds the next, to a depth of 5 x levels."""
    block = building_blocks.Reference("x", INT)
    for _ in range(levels):
        pair = building_blocks.Struct([("a", block), (None, building_blocks.Reference("y", INT))])
        function = building_blocks.Lambda(
            None, None, building_blocks.Selection(pair, name="a")
        )  # without a parameter
        block = building_blocks.Block(
            [("z", building_blocks.Call(function))], building_blocks.Reference("z", INT)
        )
    return block


@pytest.mark.parametrize("kind", KINDS)
def test_nesting_fails_without_the_repair_of_each_kind(original, monkeypatch, kind):
    assert tower(40).proto.ByteSize() > 0
    monkeypatch.setattr(getattr(building_blocks, kind), "_proto", getattr(original, kind)._proto)
    with pytest.raises(message.DecodeError):
        _ = tower(40).proto


@pytest.mark.parametrize(
    "block",
    [
        tower(3),
        tower(1).locals[0][1],
        tower(1).locals[0][1].function,
        building_blocks.Struct([]),
        building_blocks.Struct([(None, tower(1)), ("a", tower(1))]),
        building_blocks.Lambda("x", INT, building_blocks.Reference("x", INT)),
        building_blocks.Call(
            building_blocks.Lambda("x", INT, building_blocks.Reference("x", INT)), tower(1)
        ),
        building_blocks.Selection(
            building_blocks.Reference("s", computation_types.StructType([("a", INT), INT])), index=1
        ),
        building_blocks.Block([], building_blocks.Reference("x", INT)),
    ],
    ids=lambda block: type(block).__name__,
)
def test_repaired_blocks_say_the_same(original, block):
    theirs = getattr(original, type(block).__name__)._proto(block)
    assert block._proto() == theirs
    assert block._proto().SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_another_protobuf_needs_no_repair(monkeypatch):
    monkeypatch.setattr(building_blocks.Call, "_proto", "as it was")
    with monkeypatch.context() as patch:
        patch.setattr(api_implementation, "Type", lambda: "python")
        compat.nest_deeply()
    assert building_blocks.Call._proto == "as it was"


@pytest.mark.slow
def test_secure_aggregator_with_differential_privacy_runs_and_is_quiet(capfd):
    factory = tff.learning.ddp_secure_aggregator(
        noise_multiplier=0.1, expected_clients_per_round=10
    )
    process = factory.create(tff.types.to_type([(np.float32, [3])]))
    with runtime.simulated_secure_sums():
        output = process.next(process.initialize(), [[np.ones(3, np.float32)]] * 10)
    (mean,) = output.result
    assert mean == pytest.approx(np.full(3, 0.1 / 3**0.5), abs=0.01)  # clipped to length 0.1
    assert capfd.readouterr().err == ""  # without the repair, of nodes, loops and unused tensors


# --- quiet ----------------------------------------------------------------------------------------


def optimize_a_graph():
    with tf.Graph().as_default() as graph:
        tf.identity(tf.compat.v1.placeholder(tf.float32, [2], "x") + 1, "y")
    spec = graph_spec.GraphSpec(graph.as_graph_def(), "", ["x:0"], ["y:0"])
    return graph_optimizations.optimize_graph_spec(spec, tf.compat.v1.ConfigProto())


def test_graphs_optimized_in_many_threads_add_no_line_and_lose_none(capfd):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for number, job in enumerate([pool.submit(optimize_a_graph) for _ in range(100)]):
            os.write(2, f"line {number}\n".encode())
            if number % 20 == 0:
                subprocess.run(["sh", "-c", f"echo child {number} >&2"], check=True)
            job.result()
    os.write(2, b"the end\n")
    lines = capfd.readouterr().err.splitlines()
    assert lines.pop() == "the end"
    assert [line for line in lines if "line" in line] == [f"line {n}" for n in range(100)]
    assert [line for line in lines if "line" not in line] == [
        f"child {n}" for n in range(0, 100, 20)
    ]


@pytest.mark.parametrize(("level", "told"), [("3", False), ("0", True)])
@pytest.mark.slow
def test_the_optimizer_is_heard_again_where_that_was_chosen(python, level, told):
    code = """
import fedcourse, tensorflow_federated as tff
assert tff.tensorflow.computation(lambda: 1)() == 1
"""
    run = python("-c", code, TF_CPP_MIN_LOG_LEVEL=level)
    assert run.status == 0, run.err
    assert ("Starting new session" in run.err) == told


def test_what_the_optimizer_leaves_alone_is_not_told(capfd):
    """Without the repair this one writes six lines: nodes not detected, loops not optimized."""
    encoded = tff.aggregators.EncodedSumFactory.quantize_above_threshold(8, threshold=0)
    process = encoded.create(tff.TensorType(np.float32, [10]))
    result = process.next(process.initialize(), [np.ones(10, np.float32)]).result
    np.testing.assert_allclose(result, 1, 0.1)
    assert capfd.readouterr().err == ""
