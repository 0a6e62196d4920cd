"""Seconds and memory of a round: against clients per round, population, and rounds already run.

python benchmarks/growth.py

Each case runs in a process of its own, so that peaks are its own. Numbers go to growth.json beside
this file, the figure to growth.png.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import fedcourse  # noqa: F401  # isort: skip  (before TensorFlow)
import matplotlib.pyplot as plt
import numpy as np
import psutil
import tqdm

from fedcourse import data, models, plots, training
from fedcourse.data import arrays, clients, digits

HERE = pathlib.Path(__file__).parent
IMAGES = 80  # of each client
CASES = {
    "clients_per_round": {
        count: {"cohort": count, "population": 536, "rounds": 6, "model": "mcmahan_cnn"}
        for count in (10, 30, 100)
    },
    "population": {
        count: {"cohort": 10, "population": count, "rounds": 30, "model": "small_cnn"}
        for count in (60, 536, 100_000)
    },
    "rounds": {300: {"cohort": 10, "population": 536, "rounds": 300, "model": "small_cnn"}},
}


def main() -> None:
    """Measure every case, write the numbers, draw them."""
    if len(sys.argv) > 1:
        return measure(**json.loads(sys.argv[1]))
    results = {}
    cases = [(kind, count) for kind, counts in CASES.items() for count in counts]
    for kind, count in tqdm.tqdm(cases, desc="cases"):
        with tempfile.NamedTemporaryFile("r") as out:
            arguments = json.dumps(CASES[kind][count] | {"out": out.name})
            subprocess.run(
                [sys.executable, __file__, arguments], stdin=subprocess.DEVNULL, check=True
            )
            results.setdefault(kind, {})[count] = json.load(out)
    (HERE / "growth.json").write_text(json.dumps(results) + "\n")
    draw(results)
    print(table(results))


def simulated_writers(count: int) -> clients.ClientData:
    """Return clients of 80 digits each, drawn from the embedded ones when a client is asked for."""
    images, labels = digits.read()
    pixels, labels = arrays.checked(255 - images, labels, "embedded digits")

    def read(client_id: str) -> arrays.Arrays:
        own = np.random.default_rng(int(client_id)).choice(len(labels), IMAGES)
        return pixels[own], labels[own]

    return clients.ArraysByClient([f"{number:06}" for number in range(count)], read, None)


def measure(cohort: int, population: int, rounds: int, model: str, out: str) -> None:
    """Run rounds; write seconds of each, memory after each, and peaks, to the file `out`."""
    writers = simulated_writers(population)
    ids = writers.client_ids

    def datasets(number: int) -> list:
        drawn = data.sample_clients(ids, cohort, 0, number)
        return [data.batches(*data.images_of(writers, one), 10, seed=number) for one in drawn]

    process = training.federated_averaging(training.wrap(getattr(models, model)), 0.05)
    seconds, memory, me = [], [], psutil.Process()
    begun = time.perf_counter()
    for _ in training.run(process, datasets, rounds):
        seconds.append(time.perf_counter() - begun)  # drawing and batching too
        (worker,) = me.children()
        memory.append([one.memory_info().rss / 1e9 for one in (me, worker)])
        begun = time.perf_counter()
    pathlib.Path(out).write_text(
        json.dumps(
            {
                "seconds": statistics.median(seconds[1:]),
                "python_gb": peak(me.pid),
                "worker_gb": peak(worker.pid),
                "seconds_by_round": [round(value, 4) for value in seconds],
                "gb_by_round": [[round(value, 3) for value in pair] for pair in memory],
            }
        )
    )


def peak(pid: int) -> float:
    """Return the most memory a process ever had resident, in GB."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def table(results: dict) -> str:
    """Return the numbers as lines for the screen."""
    lines = [f"{'':<26} {'s/round':>8} {'Python GB':>10} {'worker GB':>10}  (peaks)"]
    for kind, cases in results.items():
        for count, case in cases.items():
            name = f"{kind.replace('_', ' ')} {int(count):,}"
            lines.append(
                f"{name:<26} {case['seconds']:>8.2f} {case['python_gb']:>10.2f} "
                f"{case['worker_gb']:>10.2f}"
            )
    long = results["rounds"][300]
    seconds, memory = np.array(long["seconds_by_round"]), np.sum(long["gb_by_round"], axis=1)
    early, late = slice(10, 40), slice(-30, None)
    lines.append(
        f"rounds 11 to 40: {np.median(seconds[early]):.3f} s, {memory[early].mean():.2f} GB; "
        f"271 to 300: {np.median(seconds[late]):.3f} s, {memory[late].mean():.2f} GB"
    )
    return "\n".join(lines)


def draw(results: dict) -> None:
    """Draw seconds above, memory below: three questions side by side."""
    plots.use_style()
    figure, axes = plt.subplots(2, 3, figsize=(11, 5), sharey="row")
    for column, kind in enumerate(("clients_per_round", "population")):
        counts = list(results[kind])
        cases = [results[kind][count] for count in counts]
        axes[0, column].plot(counts, [case["seconds"] for case in cases], "o-", c=plots.FEDERATED)
        for name, colour in (("python", plots.NEUTRAL), ("worker", plots.FEDERATED)):
            peaks = [case[f"{name}_gb"] for case in cases]
            axes[1, column].plot(counts, peaks, "o-", color=colour, label=name.title())
        for axis in axes[:, column]:
            axis.set_xscale("log")
            axis.set_xticks(counts, [f"{count:,}" for count in counts])
            axis.minorticks_off()
    long = results["rounds"][300]
    axes[0, 2].plot(long["seconds_by_round"][1:], color=plots.FEDERATED, linewidth=1)
    for part, colour in enumerate((plots.NEUTRAL, plots.FEDERATED)):
        axes[1, 2].plot([pair[part] for pair in long["gb_by_round"]], color=colour)
    titles = ("Clients per round: in proportion", "Population: no matter", "300 rounds: flat")
    labels = ("clients per round, McMahan's CNN", "clients to draw from, small network", "round")
    for column, (title, label) in enumerate(zip(titles, labels, strict=True)):
        axes[0, column].set(title=title, yscale="log")
        axes[1, column].set(xlabel=label, ylim=(0, None))
    axes[0, 0].set_ylabel("seconds a round")
    axes[1, 0].set_ylabel("memory, GB (peak)")
    axes[1, 0].legend()
    figure.savefig(HERE / "growth.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
