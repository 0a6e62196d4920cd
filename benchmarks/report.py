"""What the measurements say: a table, a file of numbers, a picture."""

import pathlib
import statistics
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt

from fedcourse import plots

NAMES = {
    "unrolled": "the best plain TensorFlow loop",
    "floor": "plain tf.function loop",
    "fedcourse": "this course",
    "tff": "TFF as in its tutorials",
    "tff-tuned": "TFF, tuned",
    "fedjax": "FedJAX",
    "flower": "Flower",
    "flower-tuned": "Flower, tuned",
    "pfl": "pfl-research",
    "pfl-tuned": "pfl-research, tuned",
}
LOOPS = ("unrolled", "floor")  # of no framework
COLOURS = {"fedcourse": plots.FEDERATED, "unrolled": "#dddddd"}


def summary(
    version: str, seconds: Sequence[float], cpu_seconds: float, memory: int, accuracy: float
) -> dict:
    """Summarise an engine's rounds.

    Args:
        version: The engine's.
        seconds: Of each round.
        cpu_seconds: Processor time of all of them.
        memory: Bytes of all its processes, at their peak.
        accuracy: On the held-out images, after all of them.
    """
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return {
        "version": version,
        "seconds_per_round": round(median, 4),
        "quartiles": [round(low, 4), round(high, 4)],
        "cpu_seconds_per_round": round(cpu_seconds / len(seconds), 4),
        "peak_gb": round(memory / 1e9, 3),
        "accuracy": accuracy,
    }


def table(results: Mapping) -> str:
    """Return the results as lines for the screen: the fastest first, then those that failed."""
    done, failed = _done(results), results["failed"]
    header = f"{'engine':<31} {'version':<18} {'s/round':>7}  {'quartiles':<12} {'CPU s':>6}"
    lines = [f"{header} {'GB':>5} {'/ course':>8} {'/ best':>8}  accuracy"]
    for name, engine in done:
        median, (low, high) = engine["seconds_per_round"], engine["quartiles"]
        ratios = [
            f"{median / results['engines'][other]['seconds_per_round']:>8.2f}"
            if other in results["engines"]
            else f"{'–':>8}"
            for other in ("fedcourse", "unrolled")
        ]
        lines.append(
            f"{NAMES[name]:<31} {engine['version']:<18} {median:>7.2f}  {low:.2f} – {high:.2f}  "
            f"{engine['cpu_seconds_per_round']:>6.2f} {engine['peak_gb']:>5.2f} "
            f"{' '.join(ratios)}  {engine['accuracy']:.3f}"
        )
    lines += [f"{NAMES[name]:<30} FAILED: {why}" for name, why in failed.items()]
    limit = results["arithmetic_limit"]
    lines.append(
        f"\nArithmetic limit: {limit['gflop_per_round']:.1f} GFLOP a round at "
        f"{limit['gflop_per_second']:.0f} GFLOP/s (float32 matrix product): "
        f"{limit['seconds_per_round']:.2f} s"
    )
    if "fedcourse" in results["engines"]:
        lines[-1] += f". This course: {_over_limit(results):.1f} times that."
    return "\n".join(lines)


def plot(results: Mapping, path: pathlib.Path) -> None:
    """Draw a bar for each engine, the slowest at the bottom; the title says the answer."""
    plots.use_style()
    done = _done(results)
    medians = [engine["seconds_per_round"] for _, engine in done]
    errors = [
        [engine["seconds_per_round"] - engine["quartiles"][0] for _, engine in done],
        [engine["quartiles"][1] - engine["seconds_per_round"] for _, engine in done],
    ]
    colours = [COLOURS.get(name, "#aaaaaa") for name, _ in done]
    figure, axis = plt.subplots(figsize=(8, 0.9 + 0.45 * len(done)))
    bars = axis.barh([NAMES[name] for name, _ in done], medians, color=colours, xerr=errors)
    axis.bar_label(bars, [f"{median:.2f} s" for median in medians], padding=6)
    axis.invert_yaxis()
    limit = results["arithmetic_limit"]["seconds_per_round"]
    axis.axvline(limit, color="black", linestyle="--", linewidth=1)
    axis.annotate(
        f"arithmetic limit, {limit:.2f} s ",
        (limit, 1),
        xycoords=("data", "axes fraction"),
        xytext=(3, -2),
        textcoords="offset points",
        fontsize=9,
        va="bottom",
    )
    cores = results["machine"]["cores"]
    axis.set(xlabel=f"seconds a round of ten clients (median and quartiles), {cores} cores")
    figure.suptitle(title(results), x=0.01, ha="left")
    axis.grid(axis="y", visible=False)
    axis.margins(x=0.12)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def title(results: Mapping) -> str:
    """Return the answer in one line."""
    done = _done(results)
    ours = results["engines"].get("fedcourse")
    if not ours or not {name for name, _ in done} - {"fedcourse", *LOOPS}:
        return "Seconds a round of Federated Averaging"
    others = [
        (name, engine["seconds_per_round"])
        for name, engine in done
        if name not in ("fedcourse", *LOOPS)
    ]
    name, fastest = others[0]
    ratio = fastest / ours["seconds_per_round"]
    if ratio >= 1:
        return f"A round here is {ratio:.1f} times as fast as in the next framework, {NAMES[name]}"
    return f"This course takes {1 / ratio:.1f} times as long as the fastest, {NAMES[name]}"


def _done(results: Mapping) -> list[tuple[str, Mapping]]:
    return sorted(results["engines"].items(), key=lambda pair: pair[1]["seconds_per_round"])


def _over_limit(results: Mapping) -> float:
    ours = results["engines"]["fedcourse"]["seconds_per_round"]
    return ours / results["arithmetic_limit"]["seconds_per_round"]
