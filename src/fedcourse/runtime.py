"""TFF made to compute in workers that this course starts (`worker`), sealed off (`sealing`)."""

import contextlib
import functools
import os
import weakref
from collections.abc import Iterator

import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2
from tensorflow_federated.python.core.backends.native import compiler
from tensorflow_federated.python.core.environments.tensorflow_frontend import tensorflow_computation
from tensorflow_federated.python.core.impl.executor_stacks import executor_factory

from fedcourse import executor, graphs, worker


def _own_workers() -> tff.framework.SyncExecutionContext:
    """Make TFF compute in workers that `worker.Service` starts, compiled by `graphs`."""
    compiler.desugar_and_transform_to_native = lambda comp: graphs.compiled(comp)
    executor_factory.local_cpp_executor_factory = _local_executor_factory
    tff.framework.local_cpp_executor_factory = _local_executor_factory
    tff.backends.native.set_sync_local_cpp_execution_context()
    return tff.framework.get_context_stack().current


@contextlib.contextmanager
def simulated_secure_sums() -> Iterator[None]:
    """Let TFF compute `federated_secure_sum` meanwhile: as a plain sum, without cryptography.

    Elsewhere it refuses, since no runtime in the released package has a protocol for it. Afterwards
    the context is the one from before.

    Lesson: 10
    """
    context = tff.backends.test.create_sync_test_cpp_execution_context()
    with tff.framework.get_context_stack().install(context):
        yield


def _local_executor_factory(
    *,
    default_num_clients: int = 0,
    max_concurrent_computation_calls: int = -1,
    stream_structs: bool = False,
) -> tff.framework.ExecutorFactory:
    """Stand in for TFF's `local_cpp_executor_factory`, with the same arguments.

    Without a limit of the caller's, as many clients compute at a time as there are cores.
    """
    if max_concurrent_computation_calls < 1:
        max_concurrent_computation_calls = worker.CORES
    service = worker.Service(
        f"--max_concurrent_computation_calls={max_concurrent_computation_calls}"
    )
    return _Factory(service, default_num_clients, stream_structs)


class _Factory(tff.framework.ResourceManagingExecutorFactory):
    """Makes an executor for each size of cohort, all of them in one worker."""

    def __init__(self, service: worker.Service, default_num_clients: int, stream_structs: bool):
        stub_of = functools.lru_cache(maxsize=1)(tff.framework.RemoteExecutorGrpcStub)

        def stack(cardinalities):
            stub = stub_of(service.channel())
            link = executor.Executor(stub, stream_structs)
            link.set_cardinalities({tff.CLIENTS: default_num_clients, **cardinalities})
            weakref.finalize(link, _forget, stub, link._executor_id).atexit = False
            return link

        super().__init__(executor_stack_fn=stack)
        self.beside = functools.partial(_Factory, service, default_num_clients, stream_structs)


def context_beside() -> tff.framework.SyncExecutionContext:
    """Return a context that computes at the same time as this course's own, in the same worker.

    A context lets one computation in at a time, so a thread that is to compute beside others has
    one of its own. Where another context is installed, it is that one.

    Lesson: none yet
    """
    current = tff.framework.get_context_stack().current
    if current is not _own:
        return current
    return tff.framework.SyncExecutionContext(
        executor_fn=_own.executor_factory.beside(),
        compiler_fn=compiler.desugar_and_transform_to_native,
        transform_args=tensorflow_computation.transform_args,
        transform_result=tensorflow_computation.transform_result,
    )


def _forget(stub: tff.framework.RemoteExecutorGrpcStub, executor_id: object) -> None:
    """Let the worker give back what it holds for an executor that is gone here.

    TFF keeps executors for the last ten cohort sizes, and drops others without a word to the
    worker. Where sizes vary, as in Poisson sampling, its memory would grow with each round.
    """
    if worker.forked():
        return  # it is the parent's
    request = executor_pb2.DisposeExecutorRequest(executor=executor_id)
    with contextlib.suppress(Exception):  # the worker is gone too, or has forgotten already
        stub.dispose_executor(request)


# --- after a fork ---------------------------------------------------------------------------------


class _Forked(tff.framework.SyncContext):
    """The context of a forked process: TFF's own would wait for threads that are not there."""

    def invoke(self, comp, arg):
        raise RuntimeError(worker.FORKED)


_for_good = contextlib.ExitStack()


def _refuse() -> None:
    _for_good.enter_context(tff.framework.get_context_stack().install(_Forked()))


_own = _own_workers()  # here, so that it happens whichever is imported first, TFF or this module
os.register_at_fork(after_in_child=_refuse)
