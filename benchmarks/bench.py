"""Seconds per round of Federated Averaging here and elsewhere, on one workload, in one go.

python benchmarks/bench.py [--rounds 20] [--engines floor,fedcourse]

Every engine is a process of its own, the other frameworks in environments of their own. They take
turns of four rounds, so that a busy moment of the machine meets them all, and are stopped while
others have theirs. The first round after that is not counted.
"""

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np
import report
import tensorflow as tf
import workload
from engine import Engine, EngineError, environment, python_for

HERE = pathlib.Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"
WARM_UP = 2  # rounds that are not counted: the first one compiles
TURN = 4  # rounds that an engine runs in a row, after one to be at home again in the caches
PATIENCE = 180  # seconds without an answer after which an engine is given up


def main() -> int:
    """Measure, print the table, write `results.json` and `results.png`; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="to be measured, of each engine")
    parser.add_argument(
        "--engines", default=",".join(report.NAMES), help="names with commas; all: %(default)s"
    )
    parser.add_argument(
        "--into",
        type=pathlib.Path,
        help="folder for results.json and results.png; "
        "benchmarks/ where all engines run, build/bench/ where some do",
    )
    options = parser.parse_args()
    names = list(dict.fromkeys(options.engines.split(",")))
    if unknown := set(names) - set(report.NAMES):
        parser.error(f"--engines: no {', '.join(unknown)}; there are {', '.join(report.NAMES)}")
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: it takes two to have quartiles")
    into = options.into or (HERE if set(names) == set(report.NAMES) else BUILD)
    into.mkdir(parents=True, exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the engines end with it then too
    try:
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            results = measure(names, options.rounds, pathlib.Path(folder))
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was written.")
        return 130
    print("\n" + report.table(results))
    (into / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    if results["engines"]:
        report.plot(results, into / "results.png")
    return bool(results["failed"])


def measure(names: Sequence[str], rounds: int, folder: pathlib.Path) -> dict:
    """Run the engines in turns, with files in a folder; return what `results.json` holds."""
    work = folder / "workload.npz"
    workload.make(work, WARM_UP + rounds + -(-rounds // TURN))
    running: dict[str, Engine] = {}
    failed: dict[str, str] = {}
    versions: dict[str, str] = {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    cpu = dict.fromkeys(names, 0.0)
    memory = dict.fromkeys(names, 0)
    weights: dict[str, list[np.ndarray]] = {}
    gflops = 0.0

    def each(doing: str, action) -> None:
        """Let every engine that still runs do something, one after the other."""
        for name in list(running):
            show(f"{doing}: {name}")
            try:
                with running[name].awake():
                    action(name, running[name])
            except EngineError as error:
                fail(name, error)

    def fail(name: str, error: EngineError) -> None:
        failed[name] = str(error)
        print(f"\n{name} failed. {error}")
        if name in running:
            running.pop(name).end()

    def warm_up(name, engine):
        engine.run(WARM_UP, PATIENCE)

    def take_turn(name, engine):
        engine.run(1, PATIENCE)
        before = engine.cpu_seconds()
        seconds[name] += engine.run(min(TURN, rounds - len(seconds[name])), PATIENCE)
        cpu[name] += engine.cpu_seconds() - before
        memory[name] = engine.peak_memory()

    def finish(name, engine):
        path = folder / f"{name}.npz"
        engine.save(path, PATIENCE)
        with np.load(path) as saved:
            weights[name] = list(saved.values())

    try:
        pythons = {}
        for name in names:
            try:
                pythons[name] = python_for(name, BUILD)
            except EngineError as error:
                fail(name, error)
        for name, python in pythons.items():
            running[name] = Engine(name, python, work, environment(), BUILD / f"{name}.log")
        each("starting", lambda name, engine: versions.update({name: engine.version(PATIENCE)}))
        each("warming up", warm_up)
        for engine in running.values():
            engine.halt()  # until its turn: some work when they are idle
        for done in range(0, rounds, TURN):
            each(f"round {done + 1} of {rounds}", take_turn)
            show("matrix product")
            gflops = max(gflops, matrix_product())
        each("saving", finish)
    finally:
        for engine in running.values():
            engine.end()
    show("")
    engines = {
        name: report.summary(
            versions[name],
            seconds[name],
            cpu[name],
            memory[name],
            workload.accuracy(work, weights[name]),
        )
        for name in weights
    }
    if "floor" in engines:
        for name, engine in engines.items():
            engine["weights_from_floor"] = workload.apart(work, weights[name], weights["floor"])
    flop = workload.flop_of_a_round()
    return {
        "engines": engines,
        "failed": failed,
        "arithmetic_limit": {
            "gflop_per_round": flop / 1e9,
            "gflop_per_second": gflops,
            "seconds_per_round": flop / 1e9 / gflops,
        },
        "rounds": rounds,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "cpu": cpu_name(),
            "python": platform.python_version(),
        },
        "command": shlex.join(["python", "benchmarks/bench.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
    }


def matrix_product(size: int = 2048, times: int = 4) -> float:
    """Return the best GFLOP/s of TensorFlow's product of two square float32 matrices."""
    matrix = tf.random.stateless_uniform([size, size], seed=[0, 0])
    best = float("inf")
    for _ in range(times):
        begun = time.perf_counter()
        tf.linalg.matmul(matrix, matrix)[0, 0].numpy()
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best / 1e9


def cpu_name() -> str:
    """Return what Linux calls the processor."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), "?")


def show(what: str) -> None:
    """Write what goes on over the last thing written."""
    print(f"\r{what:<40}", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
