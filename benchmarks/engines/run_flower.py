"""Flower's simulation: message API, Ray with one worker a core, its FedAvg strategy.

Tuned: TensorFlow keeps to one thread an operation in each worker, so that they leave each other a
core.
"""

import contextlib
import os
import sys

from line import TUNED, Line, Workload

if TUNED:
    os.environ.update(TF_NUM_INTRAOP_THREADS="1", TF_NUM_INTEROP_THREADS="1")
os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0")
os.environ["BENCH_WORKLOAD"] = os.path.abspath(sys.argv[1])
import flwr
from flower_client import app
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation


class Done(Exception):
    """The driver wants no more rounds."""


class InTurn(FedAvg):
    """Federated Averaging that waits for its turn, with the workload's cohorts."""

    def __init__(self, line: Line, work: Workload):
        super().__init__(fraction_evaluate=0.0)
        self._line, self._work = line, work

    def configure_train(self, server_round, arrays, config, grid):
        """Wait for the round; then send each node of it the client whose part it plays."""
        number = self._line.next_round(arrays.to_numpy_ndarrays)
        if number is None:
            raise Done
        return [
            Message(
                RecordDict(
                    {
                        "arrays": arrays,
                        "config": ConfigRecord({"client": int(client), "number": number}),
                    }
                ),
                dst_node_id=node,
                message_type=MessageType.TRAIN,
            )
            for node, client in zip(grid.get_node_ids(), self._work.cohorts[number], strict=True)
        ]


def main() -> None:
    """Run rounds as the driver asks for them."""
    work = Workload(sys.argv[1])
    line = Line(flwr.__version__)
    server = ServerApp()

    @server.main()
    def serve(grid, context):
        strategy = InTurn(line, work)
        strategy.start(grid, ArrayRecord(work.weights), num_rounds=len(work.cohorts) + 1)

    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(Done):
        run_simulation(
            server,
            app,
            num_supernodes=work.cohorts.shape[1],
            backend_config={
                "init_args": {"num_cpus": cores},
                "client_resources": {"num_cpus": 1},
            },
        )


if __name__ == "__main__":
    main()
