"""First values of variables are left out where nobody reads them, and nowhere else."""

from fedcourse import graphs, runtime  # isort: skip  (before TensorFlow)

import contextlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from conftest import weights_gap

from fedcourse import data, models, training

v1 = tf.compat.v1


def dropped(build):
    """Build a graph of one variable `v` and an input, run it whole and improved; compare."""
    with tf.Graph().as_default() as graph:
        given = v1.placeholder(tf.float32, [], name="given")
        v = v1.get_variable("v", initializer=5.0, use_resource=True)
        out = tf.identity(build(v, given), name="out")
        start = v1.global_variables_initializer()
    definition = v1.graph_util.extract_sub_graph(graph.as_graph_def(), ["given", "out", start.name])
    names = graphs.drop_unread_starts(definition, start.name)
    for value in (1.0, -1.0):
        with v1.Session(graph=graph) as session:
            session.run(start)
            expected = session.run(out, {given: value})
        with tf.Graph().as_default() as improved:
            tf.import_graph_def(definition, name="")
            with v1.Session(graph=improved) as session:
                session.run(start.name)
                assert session.run("out:0", {"given:0": value}) == expected
    return names


def overwritten(v, given):
    with tf.control_dependencies([v.assign(given)]):
        return v.read_value() * 2


def overwritten_before_a_loop(v, given):
    with tf.control_dependencies([v.assign(given)]):
        start = tf.constant(0)

    def step(number, total):
        with tf.control_dependencies([v.assign_add(1.0)]):
            return number + 1, total + v.read_value()

    return tf.while_loop(lambda n, _: n < 3, step, [start, 0.0], parallel_iterations=1)[1]


def overwritten_before_a_branch(v, given):
    with tf.control_dependencies([v.assign(given)]):
        positive = given > 0
    return tf.cond(positive, lambda: v.read_value() + 1, lambda: v.assign_sub(2.0).read_value())


@pytest.mark.parametrize(
    "build", [overwritten, overwritten_before_a_loop, overwritten_before_a_branch]
)
@pytest.mark.parametrize("control_flow", [1, 2])
def test_a_first_value_that_is_overwritten_is_left_out(build, control_flow):
    with switch_and_merge(control_flow == 1):
        assert dropped(build) == ["v"]


@contextlib.contextmanager
def switch_and_merge(wanted):
    """Build loops and branches as TFF's optimiser leaves them, or as functions."""
    functions = v1.control_flow_v2_enabled()
    (v1.disable_control_flow_v2 if wanted else v1.enable_control_flow_v2)()
    try:
        yield
    finally:
        (v1.enable_control_flow_v2 if functions else v1.disable_control_flow_v2)()


def read_before(v, given):
    first = v.read_value()
    with tf.control_dependencies([first]):
        written = v.assign(given)
    with tf.control_dependencies([written]):
        return first + v.read_value()


def read_at_any_time(v, given):
    written = v.assign(given)
    read = v.read_value() * 0  # before or after
    with tf.control_dependencies([written]):
        return read + v.read_value()


def overwritten_sometimes(v, given):
    written = tf.cond(given > 0, lambda: v.assign(given).read_value(), lambda: tf.constant(0.0))
    with tf.control_dependencies([written]):
        return v.read_value()


def overwritten_after_a_branch(v, given):
    either = tf.cond(given > 0, lambda: tf.constant(1.0), lambda: tf.constant(2.0))
    with tf.control_dependencies([v.assign(either + given)]):
        return v.read_value()


def overwritten_in_a_loop(v, given):
    def step(number):
        with tf.control_dependencies([v.assign(given)]):
            return number + 1

    last = tf.while_loop(lambda n: n < tf.cast(given, tf.int32), step, [tf.constant(0)])
    with tf.control_dependencies(tf.nest.flatten(last)):
        return v.read_value()


def added_to(v, given):
    return v.assign_add(given).read_value()


def another_starts_with_it(v, given):
    with tf.control_dependencies([v.initializer]):
        thrice = v.read_value() * 3
    w = v1.get_variable("w", initializer=thrice, use_resource=True)
    with tf.control_dependencies([v.assign(given)]):
        return v.read_value() + w.read_value()


@pytest.mark.parametrize(
    "build",
    [
        read_before,
        read_at_any_time,
        overwritten_sometimes,
        overwritten_in_a_loop,
        added_to,
        another_starts_with_it,
    ],
)
@pytest.mark.parametrize("control_flow", [1, 2])
def test_a_first_value_that_may_be_read_stays(build, control_flow):
    with switch_and_merge(control_flow == 1):
        assert "v" not in dropped(build)


def test_where_in_doubt_it_stays():
    with switch_and_merge(True):
        assert dropped(overwritten_after_a_branch) == []


def draws(compiled):
    """Tell whether a compiled computation draws random numbers."""
    for part in graphs._tensorflow_parts(tff.framework.ConcreteComputation.get_proto(compiled)):
        graph = tf.compat.v1.GraphDef()
        part.graph_def.Unpack(graph)
        if any("RandomUniform" in node.op for node in graph.node):
            return True
    return False


def test_clients_draw_no_weights_that_they_throw_away():
    process = training.federated_averaging(training.wrap(lambda: models.mcmahan_cnn(seed=1)), 0.1)
    plain = tff.backends.native.desugar_and_transform_to_native(process.next)
    assert draws(plain) and not draws(graphs.compiled(process.next))
    assert draws(graphs.compiled(process.initialize))


def test_a_computation_that_uses_its_first_weights_keeps_them():
    model_fn = training.wrap(lambda: models.small_cnn(seed=1))

    @tff.tensorflow.computation(
        tff.SequenceType(tff.types.tensorflow_to_type(model_fn().input_spec))
    )
    def score(batches):
        model = model_fn()
        return batches.reduce(
            0.0, lambda total, batch: total + model.forward_pass(batch, False).loss
        )

    pixels = np.random.default_rng(0).random((6, 28, 28))
    batches = data.batches(pixels, np.arange(6), 6, seed=0)
    network = models.small_cnn(seed=1)
    ((x, y),) = batches
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, network(x))
    assert score(batches) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [models.small_cnn, models.mcmahan_cnn])
def test_rounds_come_to_the_same_weights_as_compiled_by_tff(make):
    generator = np.random.default_rng(0)
    clients = [
        data.batches(generator.random((n, 28, 28)), generator.integers(0, 10, n), 5, 2, seed=n)
        for n in (7, 10, 15)
    ]
    process = training.federated_averaging(training.wrap(lambda: make(seed=1)), 0.1)

    def two_rounds(compiler):
        context = tff.framework.SyncExecutionContext(
            executor_fn=tff.framework.local_cpp_executor_factory(),
            compiler_fn=compiler,
            transform_args=runtime.tensorflow_computation.transform_args,
            transform_result=runtime.tensorflow_computation.transform_result,
        )
        with tff.framework.get_context_stack().install(context):
            *_, last = training.run(process, lambda number: clients, 2)
        return process.get_model_weights(last.state).trainable

    ours = two_rounds(graphs.compiled)
    assert weights_gap(ours, two_rounds(tff.backends.native.desugar_and_transform_to_native)) == 0
