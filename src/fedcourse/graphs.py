"""What TFF compiles for its worker, without work whose result nobody uses.

Clients draw their network's random first weights and throw them away for those that were sent; and
TFF asks for a saving of memory by which parts of the forward pass are computed twice.
"""

import collections
import functools
import graphlib
import operator
from collections.abc import Iterator

import tensorflow as tf
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import computation_pb2
from tensorflow_federated.python.core.environments.tensorflow_backend import (
    tensorflow_tree_transformations as intrinsics,
)

_PASS_ON = ("Identity", "Switch", "Enter")  # operations that hand on a variable as it is
_MAYBE = ("Switch", "Merge", "Enter", "RefSwitch", "RefMerge", "RefEnter")  # not run, or often


@functools.lru_cache(maxsize=128)  # contexts that compute side by side compile once
def compiled(comp: tff.framework.ConcreteComputation) -> tff.framework.ConcreteComputation:
    """Compile a computation for the worker: stands in for TFF's `desugar_and_transform_to_native`.

    What it computes is the same, to the last bit.
    """
    config = tf.compat.v1.ConfigProto()
    rewrite = config.graph_options.rewrite_options
    rewrite.memory_optimization = rewrite.NO_MEM_OPT
    rewrite.constant_folding = rewrite.AGGRESSIVE
    rewrite.arithmetic_optimization = rewrite.AGGRESSIVE
    rewrite.loop_optimization = rewrite.AGGRESSIVE
    rewrite.function_optimization = rewrite.AGGRESSIVE
    plain, _ = intrinsics.replace_intrinsics_with_bodies(comp.to_building_block())
    native = tff.backends.native.transform_to_native_form(_computation(plain.proto), False, config)
    proto = computation_pb2.Computation()
    proto.CopyFrom(tff.framework.ConcreteComputation.get_proto(native))
    for part in _tensorflow_parts(proto):
        if part.initialize_op:
            graph = tf.compat.v1.GraphDef()
            part.graph_def.Unpack(graph)
            if drop_unread_starts(graph, part.initialize_op):
                part.graph_def.Pack(graph)
    return _computation(proto)


def _computation(proto: computation_pb2.Computation) -> tff.framework.ConcreteComputation:
    return tff.framework.ConcreteComputation(
        computation_proto=proto, context_stack=tff.framework.get_context_stack()
    )


def _tensorflow_parts(message: object) -> Iterator[computation_pb2.TensorFlow]:
    """Yield the TensorFlow graphs within a computation."""
    if isinstance(message, computation_pb2.TensorFlow):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type:
            for part in value if field.label == field.LABEL_REPEATED else [value]:
                yield from _tensorflow_parts(part)


def drop_unread_starts(graph: tf.compat.v1.GraphDef, start: str) -> list[str]:
    """Take out first values of variables that are always overwritten before they are read.

    Args:
        graph: A graph that is run after its operation `start`; changed in place.
        start: The name of the operation that gives variables their first values.

    Returns:
        The names of the variables.
    """
    nodes = {node.name: node for node in graph.node}
    inputs = {name: list(map(_name, node.input)) for name, node in nodes.items()}
    users = collections.defaultdict(list)
    for name, sources in inputs.items():
        for source in sources:
            users[source].append(name)
    first = _needed([start], inputs)
    writes = [n for n, node in nodes.items() if node.op == "AssignVariableOp" and n not in first]
    bits = {name: 1 << number for number, name in enumerate(writes)}
    after, unsure = _history(nodes, inputs, bits)

    def surely_first(write: str, others: list[str]) -> bool:
        return not unsure[write] and all(after[name] & bits[write] for name in others)

    dropped = {}
    for variable in (name for name, node in nodes.items() if node.op == "VarHandleOp"):
        uses = _uses(variable, nodes, users)
        starts = [n for n in uses if n in first and nodes[n].op == "AssignVariableOp"]
        others = [n for n in uses if n not in starts]
        if len(starts) == 1 and any(surely_first(n, others) for n in others if n in bits):
            dropped[starts[0]] = variable
    if dropped:
        group = nodes[start]
        left = [source for source in group.input if _name(source) not in dropped]
        del group.input[:]
        group.input.extend(left)
        inputs[start] = list(map(_name, left))
        gone = _needed(dropped, inputs)
        gone -= _needed([name for name in nodes if name not in gone], inputs)
        kept = [node for node in graph.node if node.name not in gone]
        del graph.node[:]
        graph.node.extend(kept)
    return list(dropped.values())


def _name(source: str) -> str:
    """Return the name of the node that a node's input comes from, or waits for."""
    return source.removeprefix("^").partition(":")[0]


def _needed(names: list[str], inputs: dict[str, list[str]]) -> set[str]:
    """Return nodes and all that come before them."""
    found, left = set(), list(names)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += inputs[name]
    return found


def _uses(variable: str, nodes: dict, users: dict[str, list[str]]) -> set[str]:
    """Return the nodes that take a variable, and do more than hand it on or wait for it."""
    found, handles = set(), [variable]
    for handle in handles:
        for name in users[handle]:
            sources = [_name(s) for s in nodes[name].input if not s.startswith("^")]
            if handle not in sources:
                continue
            if nodes[name].op not in _PASS_ON:
                found.add(name)
            elif name not in handles:
                handles.append(name)
    return found


def _history(
    nodes: dict, inputs: dict[str, list[str]], bits: dict[str, int]
) -> tuple[dict[str, int], dict[str, bool]]:
    """Say of each node which of some nodes have surely run when it has, and if it may not run.

    Args:
        nodes: Name -> node.
        inputs: Name -> the nodes it takes something from or waits for.
        bits: Name -> bit, of the nodes that are asked about.

    Returns:
        after: Name -> the bits of those that have run, itself among them.
        unsure: Name -> whether it comes after a branch or stands in a loop.
    """
    loops = {name for name, node in nodes.items() if node.op == "NextIteration"}
    forward = {n: [] if n in loops else sources for n, sources in inputs.items()}
    after, unsure = {}, {}
    for name in graphlib.TopologicalSorter(forward).static_order():
        ran = [after[source] for source in forward[name]]
        if nodes[name].op in ("Merge", "RefMerge"):  # runs when one of its values has come
            values = {_name(s) for s in nodes[name].input if not s.startswith("^")}
            waits = [after[source] for source in forward[name] if source not in values]
            ways = [after[source] for source in values - loops]
            ran = [*waits, functools.reduce(operator.and_, ways)]
        after[name] = functools.reduce(operator.or_, ran, bits.get(name, 0))
        unsure[name] = nodes[name].op in _MAYBE or any(unsure[s] for s in forward[name])
    return after, unsure
