"""What goes to the worker: a computation once, and not the state that has just come from it."""

import collections
from typing import NamedTuple

import numpy as np
import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2
from tensorflow_federated.python.core.impl.executors import remote_executor

COMPUTATIONS = 32  # that the worker keeps for one size of cohort
STATES = 2**26  # bytes: in the worker, parts of a state hold the state that they were made from


class Executor(tff.framework.RemoteExecutor):
    """TFF's executor that hands everything to a worker, without sending things twice."""

    def __init__(self, stub: tff.framework.RemoteExecutorGrpcStub, stream_structs: bool = False):
        super().__init__(stub, stream_structs=stream_structs)
        self._computations = collections.OrderedDict()  # id -> (computation, its value there)
        self._state: _State | None = None
        self._behind = 0  # bytes of the states that `_state` was made from

    async def create_value(self, value: object, type_spec: tff.Type | None = None) -> object:
        """Give the worker a value, or find the one that it has."""
        if isinstance(value, tff.framework.ConcreteComputation):
            return self._computation(value, type_spec)
        if self._state and self._state.type_signature == type_spec:
            leaves = _leaves(value)
            if len(leaves) == len(self._state.leaves) and all(
                new is old for new, old in zip(leaves, self._state.leaves, strict=True)
            ):
                return _Held(self._state.reference, type_spec)
            self._behind = 0
        return await super().create_value(value, type_spec)

    def _computation(self, comp: tff.framework.ConcreteComputation, type_spec: tff.Type) -> "_Held":
        if id(comp) not in self._computations:
            value, _ = tff.framework.serialize_value(comp, type_spec)
            request = executor_pb2.CreateValueRequest(executor=self._executor_id, value=value)
            reference = self._stub.create_value(request).value_ref
            self._computations[id(comp)] = comp, reference
            if len(self._computations) > COMPUTATIONS:
                _, (_, oldest) = self._computations.popitem(last=False)
                self._dispose(oldest, self._executor_id)
        self._computations.move_to_end(id(comp))
        return _Held(self._computations[id(comp)][1], comp.type_signature)

    async def _compute(self, value_ref: executor_pb2.ValueRef, type_spec: tff.Type) -> object:
        value = await super()._compute(value_ref, type_spec)
        if _starts_with_a_state(type_spec):
            self._keep(value_ref, type_spec[0], _leaves(value[0]))
        return value

    def _keep(self, result: executor_pb2.ValueRef, kind: tff.Type, leaves: list[object]) -> None:
        """Have the worker keep the first part of a result, in the place of the one before."""
        if self._state:
            self._dispose(self._state.reference, self._executor_id)
            self._state = None
        self._behind += sum(np.asarray(leaf).nbytes for leaf in leaves)
        if self._behind > STATES or any(map(_can_change, leaves)):
            self._behind = 0
            return
        request = executor_pb2.CreateSelectionRequest(
            executor=self._executor_id, source_ref=result, index=0
        )
        self._state = _State(self._stub.create_selection(request).value_ref, kind, leaves)


class _State(NamedTuple):
    """A state that the worker has."""

    reference: executor_pb2.ValueRef
    type_signature: tff.Type
    leaves: list[object]  # the very objects that were handed to the caller


class _Held(remote_executor.RemoteValue):
    """A value in the worker that the executor lets go of, and not Python's garbage collector."""

    def __init__(self, reference: executor_pb2.ValueRef, type_signature: tff.Type):
        self._value_ref = reference
        self._type_signature = type_signature


def _starts_with_a_state(kind: tff.Type) -> bool:
    return (
        isinstance(kind, tff.StructType)
        and len(kind) > 0
        and isinstance(kind[0], tff.FederatedType)
        and kind[0].placement is tff.SERVER
    )


def _leaves(value: object) -> list[object]:
    return tff.structure.flatten(tff.structure.from_container(value, recursive=True))


def _can_change(leaf: object) -> bool:
    return isinstance(leaf, np.ndarray) and leaf.flags.writeable
