"""What the worker has is not sent to it again, and what changed is."""

from fedcourse import executor, runtime  # noqa: F401  # isort: skip  (before TensorFlow)

import collections

import numpy as np
import pytest
import tensorflow_federated as tff
from workers import new_context, own_worker

WIDTH = 2**18  # a megabyte


@tff.federated_computation(
    tff.FederatedType(
        collections.OrderedDict(weights=tff.TensorType(np.float32, [WIDTH]), steps=np.int32),
        tff.SERVER,
    ),
    tff.FederatedType(np.float32, tff.CLIENTS),
)
def grow(state, additions):
    """Add the clients' sum to every weight."""

    @tff.tensorflow.computation
    def add(state, more):
        return collections.OrderedDict(weights=state["weights"] + more, steps=state["steps"] + 1)

    total = tff.federated_sum(additions)
    return tff.federated_map(add, (state, total)), total


START = collections.OrderedDict(weights=np.zeros(WIDTH, np.float32), steps=np.int32(0))


@pytest.fixture
def sent(monkeypatch):
    """The sizes of what is sent to the worker."""
    sizes = []
    create = tff.framework.RemoteExecutorGrpcStub.create_value

    def count(stub, request):
        sizes.append(request.ByteSize())
        return create(stub, request)

    monkeypatch.setattr(tff.framework.RemoteExecutorGrpcStub, "create_value", count)
    with new_context():
        yield sizes


def test_a_state_from_the_worker_is_not_sent_back(sent):
    state, _ = grow(START, [1.0, 2.0])
    assert max(sent) > 4 * WIDTH
    del sent[:]
    for _ in range(5):
        state, total = grow(state, [1.0, 2.0])
    assert max(sent) < 1000 and len(sent) == 5  # the additions; the computation is there
    assert total == 3 and (state["weights"] == 18).all() and state["steps"] == 6


def test_another_state_is_sent(sent):
    first, _ = grow(START, [1.0])
    second, _ = grow(first, [1.0])
    back, _ = grow(first, [10.0])  # not the last that came
    assert (back["weights"] == 11).all()
    mixed = collections.OrderedDict(weights=second["weights"], steps=back["steps"] * 0)
    assert grow(mixed, [0.5])[0]["steps"] == 1
    changed = collections.OrderedDict(back)
    changed["weights"] = back["weights"] + 1
    assert (grow(changed, [0.0])[0]["weights"] == 12).all()


def test_nobody_can_change_what_the_worker_has():
    with new_context():
        state, _ = grow(START, [1.0])
        with pytest.raises(ValueError, match="read-only"):
            state["weights"][0] = 7


def test_cohorts_of_other_sizes_in_between(sent):
    state = START
    for size in (2, 3, 2, 1, 3):
        state, _ = grow(state, [1.0] * size)
    assert (state["weights"] == 11).all() and state["steps"] == 5


@pytest.mark.slow
def test_states_that_are_behind_a_state_are_given_back():
    """Four hundred states of a megabyte, of which the worker may hold 64 at a time."""
    with new_context():
        state, _ = grow(START, [1.0])
        for _ in range(100):
            state, _ = grow(state, [1.0])
        before = own_worker().memory_info().rss
        for _ in range(300):
            state, _ = grow(state, [1.0])
        assert own_worker().memory_info().rss < before + 100 * 2**20


def adding(number):
    @tff.tensorflow.computation(np.int32)
    def add(value):
        return value + number

    return add


@pytest.mark.slow
def test_many_computations_are_not_all_kept():
    many = list(map(adding, range(executor.COMPUTATIONS + 8)))
    with new_context():
        for _ in range(2):
            assert [add(1) for add in many] == [number + 1 for number in range(len(many))]
