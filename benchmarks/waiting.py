"""Seconds from the start of Python to the first trained round, step by step.

python benchmarks/waiting.py [--times 5]

Warm: the files are in memory. Cold: Linux was told to forget them before, which takes root.
"""

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
FORGET = pathlib.Path("/proc/sys/vm/drop_caches")


def main() -> None:
    """Measure in new processes, print a table, write `waiting.json`."""
    if sys.argv[1:] == ["once"]:
        return once()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5, help="processes of each kind")
    options = parser.parse_args()
    kinds = ["warm", "cold"] if os.access(FORGET, os.W_OK) else ["warm"]
    steps = {kind: [measure(kind) for _ in range(options.times)] for kind in kinds}
    medians = {
        kind: {name: statistics.median(each[name] for each in some) for name in some[0]}
        for kind, some in steps.items()
    }
    (HERE / "waiting.json").write_text(json.dumps(medians, indent=2) + "\n")
    print(f"{'median seconds of ' + str(options.times):<30}", *(f"{kind:>6}" for kind in kinds))
    for name in medians["warm"]:
        print(f"{name:<30}", *(f"{medians[kind][name]:>6.2f}" for kind in kinds))


def measure(kind: str) -> dict[str, float]:
    """Return the seconds of each step in a new process, and their sum."""
    if kind == "cold":
        os.sync()
        FORGET.write_text("3")
    begun = time.time()
    said = subprocess.run(
        [sys.executable, __file__, "once"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    moments = [["", begun], *json.loads(said)]
    steps = {name: moment - before for (_, before), (name, moment) in itertools.pairwise(moments)}
    first = sum(seconds for name, seconds in steps.items() if name != "the second round")
    return steps | {"to the end of the first round": first}


def once() -> None:
    """Do what lesson 04 does up to its second round; print when each step ended."""
    moments = []

    def done(name: str) -> None:
        moments.append((name, time.time()))

    done("Python")
    import fedcourse

    fedcourse.environment.check()
    done("fedcourse")
    import tensorflow  # noqa: F401

    done("TensorFlow")
    import tensorflow_federated  # noqa: F401

    from fedcourse import data, models, training

    done("TFF")
    images, _ = data.load_writers("embedded", 60, 0)
    done("sixty writers")
    process = training.federated_averaging(training.wrap(models.small_cnn), 0.1)
    done("the process")
    rounds = training.run(process, lambda n: data.cohort(images, 10, 10, 1, 0, n), 2)
    next(rounds)
    done("the first round")
    next(rounds)
    done("the second round")
    print(json.dumps(moments))


if __name__ == "__main__":
    main()
