"""Each accommodation: what it does where a piece is missing, and that it does nothing elsewhere."""

from fedcourse import compat  # isort: skip  (before TensorFlow)

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
import tensorflow_privacy
from google.protobuf import message
from google.protobuf.internal import api_implementation
from tensorflow_federated.python.core.impl.compiler import building_blocks
from tensorflow_federated.python.core.impl.context_stack import context_stack_impl
from tensorflow_federated.python.core.impl.types import computation_types

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
    assert run.seconds < 3


def test_missing_tff_says_how_to_install_it(python):
    code = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name == "tensorflow_federated" else find(name, *more)
)
import fedcourse
"""
    run = python("-c", code)
    assert run.status == 1
    assert run.err.splitlines()[-3].startswith("ImportError: TensorFlow Federated is not installed")
    assert f"    {compat.INSTALL}\n" in run.err


def test_install_command_is_that_of_the_requirements_file():
    text = (ROOT / "requirements-tff.txt").read_text()
    pins = [line.split("#")[0].strip() for line in text.splitlines()]
    command, *packages = re.split(r" (?=[a-z-]+==)", compat.INSTALL)
    assert packages == [pin for pin in pins if pin]
    assert f"{command} -r requirements-tff.txt" in text


def test_keras_3_used_before_is_an_error_that_says_what_to_do(python):
    run = python("-c", "import tensorflow as tf; tf.keras.layers.Dense(1)\nimport fedcourse")
    assert run.status == 1
    last = run.err.splitlines()[-1]
    assert last.startswith("ImportError: `tf.keras` is already Keras 3")
    assert "Restart the kernel" in last and "`import fedcourse` before" in last


def test_tensorflow_imported_before_but_keras_not_touched(python):
    code = """
import tensorflow as tf
import fedcourse
import tensorflow_federated as tff
from fedcourse import models, training
assert tf.keras.Model.__module__.startswith("tf_keras")
training.wrap(models.small_cnn)()
print("wrapped")
"""
    run = python("-c", code)
    assert (run.status, run.out) == (0, "wrapped\n"), run.err


# --- one by one -----------------------------------------------------------------------------------


def test_missing_tff_is_told_before_anything_is_changed(install, monkeypatch):
    install(tensorflow_federated=False)
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    with pytest.raises(ImportError, match="pip install --no-deps --ignore-requires-python"):
        compat.apply()
    assert "TF_USE_LEGACY_KERAS" not in os.environ


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
    compat.use_keras_2()  # content with it


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


def test_action_follows_an_import_once(tmp_path, monkeypatch, meta_path):
    (tmp_path / "late_module.py").write_text("ready = True")
    monkeypatch.syspath_prepend(tmp_path)
    seen = []

    def action():
        seen.append(sys.modules["late_module"].ready)

    compat.after_import("late_module", action)
    compat.after_import("late_module", action)  # `import fedcourse` again, after a reload
    assert seen == []
    import late_module

    assert seen == [True]
    assert late_module.ready
    compat.after_import("late_module", action)
    assert seen == [True, True]  # it is there: at once
    del sys.modules["late_module"]


def test_import_that_fails_is_not_acted_on_until_it_succeeds(tmp_path, monkeypatch, meta_path):
    module = tmp_path / "failing_module.py"
    module.write_text("raise ValueError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    seen = []
    compat.after_import("failing_module", lambda: seen.append(1))
    with pytest.raises(ValueError, match="broken"):
        importlib.import_module("failing_module")
    assert seen == []
    module.write_text("")
    importlib.import_module("failing_module")
    assert seen == [1]
    del sys.modules["failing_module"]


def test_module_that_is_nowhere_is_still_not_found(meta_path):
    compat.after_import("no_such_module", pytest.fail)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_module")


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


def test_secure_aggregator_with_differential_privacy_runs_and_is_quiet(request, capfd):
    before = context_stack_impl.context_stack.current
    request.addfinalizer(lambda: context_stack_impl.context_stack.set_default_context(before))
    tff.backends.test.set_sync_test_cpp_execution_context()
    factory = tff.learning.ddp_secure_aggregator(
        noise_multiplier=0.1, expected_clients_per_round=10
    )
    process = factory.create(tff.types.to_type([(np.float32, [3])]))
    output = process.next(process.initialize(), [[np.ones(3, np.float32)]] * 10)
    (mean,) = output.result
    assert mean == pytest.approx(np.full(3, 0.1 / 3**0.5), abs=0.01)  # clipped to length 0.1
    assert capfd.readouterr().err == ""  # without the repair, of nodes, loops and unused tensors


# --- quiet ----------------------------------------------------------------------------------------


def test_only_lines_with_the_prefix_are_dropped(capfd):
    with compat._stderr_without(b"I0000", b"WARNING: All"):
        os.write(2, b"I0000 chatter\nan error\nWARNING: All log\nnot I0000\nhalf a line")
    os.write(2, b" and on")
    assert capfd.readouterr().err == "an error\nnot I0000\nhalf a line and on"


def test_stderr_is_back_after_an_error(capfd):
    with pytest.raises(ValueError), compat._stderr_without(b"I0000"):
        os.write(2, b"before\n")
        raise ValueError
    os.write(2, b"I0000 after\n")
    assert capfd.readouterr().err == "before\nI0000 after\n"


def test_graph_optimizer_still_optimizes(capfd):
    from tensorflow_federated.python.core.environments.tensorflow_backend import graph_optimizations

    add = tff.tensorflow.computation(lambda x: x + 1, np.int32)
    assert add(1) == 2
    assert capfd.readouterr().err == ""
    with pytest.raises(TypeError):  # it is the real one: it wants its arguments
        graph_optimizations.tf_optimizer.OptimizeGraph()


def test_what_the_optimizer_leaves_alone_is_not_told(capfd):
    """Without the repair this one writes six lines: nodes not detected, loops not optimized."""
    encoded = tff.aggregators.EncodedSumFactory.quantize_above_threshold(8, threshold=0)
    process = encoded.create(tff.TensorType(np.float32, [10]))
    result = process.next(process.initialize(), [np.ones(10, np.float32)]).result
    np.testing.assert_allclose(result, 1, 0.1)
    assert capfd.readouterr().err == ""
