"""The worker process that TFF computes in: started here so that it ends with its parent."""

import atexit
import shutil
import subprocess
import tempfile
import types


class Worker(subprocess.Popen):
    """TFF's `worker_binary`, with its own output and a lifetime bound to the process it serves.

    As TFF starts it, the worker keeps its parent's stdout open (a shell pipe then never ends) and
    goes on, 600 MB large, when the parent is killed. Here it writes to a file of its own, and
    `setpriv` (util-linux) asks Linux to kill it when the thread that started it ends.
    """

    def __init__(self, args: list[str], **_streams: object):
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the worker lives)
        setpriv = shutil.which("setpriv")
        if setpriv:
            args = [setpriv, "--pdeathsig", "KILL", *args]
        super().__init__(args, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT)


def own_workers() -> None:
    """Make TFF start its workers as `Worker`, and stop them before Python takes itself apart."""
    from tensorflow_federated.python.core.impl.context_stack import (
        context_stack_impl,
        runtime_error_context,
    )
    from tensorflow_federated.python.core.impl.executor_stacks import executor_factory

    executor_factory.subprocess = types.SimpleNamespace(Popen=Worker)
    atexit.register(
        context_stack_impl.context_stack.set_default_context,
        runtime_error_context.create_runtime_error_context(),
    )
