"""A page that tells how a run went: one HTML file that opens by itself."""

import base64
import html
import io
import os
import pathlib
import warnings
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np

from fedcourse import confusion, plots

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 58rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .2rem .8rem; border-bottom: 1px solid #8886; text-align: left }
td { overflow-wrap: anywhere }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100%; background: white; border-radius: 4px }
.columns { columns: 16rem }
"""


def page(
    settings: Mapping[str, object],
    rounds: Sequence[tuple[int, float]],
    scores: Sequence[tuple[int, float]],
    accuracies: Mapping[str, float],
    matrix: np.ndarray,
    classes: Sequence[str],
) -> str:
    """Return the page, which refers to nothing outside itself.

    Args:
        settings: What the run was started with.
        rounds: (round, accuracy on the cohort's images while it trained).
        scores: (round, accuracy on the validation clients); none where nothing was judged.
        accuracies: Accuracy by client that was never seen.
        matrix: Their confusion matrices' sum, int64 [K, K], see `confusion`.
        classes: K names.

    Lesson: none yet
    """
    with plt.rc_context(), warnings.catch_warnings():
        plots.use_style()
        plt.rcParams["svg.fonttype"] = "none"  # the browser has letters that matplotlib has not
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        return _page(settings, rounds, scores, accuracies, matrix, classes)


def _page(settings, rounds, scores, accuracies, matrix, classes) -> str:
    found = confusion.scores(matrix)
    values = np.array(list(accuracies.values()))
    worst = sorted(accuracies, key=accuracies.get)[: -(-len(accuracies) // 10)]
    served = sorted(accuracies.items(), key=lambda pair: pair[1])
    parts = [
        "<h1>Federated training</h1>",
        f"<p><strong>{values.mean():.3f}</strong> is the mean accuracy over {len(values)} clients "
        f"never seen; <strong>{np.mean([accuracies[c] for c in worst]):.3f}</strong> over the "
        f"tenth of them served worst: {_some(worst)}.</p>",
        _curve(rounds, scores),
        "<h2>Client by client</h2>",
        _bars(accuracies),
        "<details><summary>All of them, the worst first</summary>",
        '<div class="columns">',
        *(f"{_words(client)} {accuracy:.3f}<br>" for client, accuracy in served),
        "</div></details>",
        "<h2>Class by class</h2>",
        _picture(
            plots.confusion(matrix, list(classes), "Which class is taken for which"),
            "Confusion matrix: "
            + "; ".join(
                f"{name} {recall:.0%} right"
                for name, recall in zip(classes, found.recall, strict=True)
            ),
        ),
        _confused(matrix, classes),
        f"<p>Of all {found.support.sum()} images {found.accuracy:.3f} are taken for what they are; "
        f"the mean of F1 over the classes is {found.macro_f1:.3f}.</p>",
        _table(
            ("class", "precision", "recall", "F1", "images"),
            zip(classes, *found[:4], strict=True),
        ),
        "<h2>Settings</h2>",
        _table(("setting", "value"), ((k, str(v)) for k, v in settings.items())),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Federated training</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def write(path: str | os.PathLike, text: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        OSError: It cannot be written.

    Lesson: none yet
    """
    path = pathlib.Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _words(text: object) -> str:
    return html.escape(str(text))


def _some(names: Sequence[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more, listed below" if len(names) > most else ""
    return _words(", ".join(names[:most])) + more


def _confused(matrix: np.ndarray, classes: Sequence[str], most: int = 10) -> str:
    """Say which confusions are the most frequent."""
    matrix = np.asarray(matrix)
    wrong = matrix - np.diag(np.diag(matrix))
    places = [place for place in np.argsort(-wrong, axis=None, kind="stable") if wrong.flat[place]]
    if not places:
        return "<p>No image is taken for another class.</p>"
    pairs = [divmod(int(place), len(matrix)) for place in places[:most]]
    return "<p>Most often confused:</p>" + _table(
        ("what it is", "taken for", "images", "share of its class"),
        [(classes[t], classes[p], wrong[t, p], wrong[t, p] / matrix[t].sum()) for t, p in pairs],
    )


def _table(head: Sequence[str], rows) -> str:
    def cell(value: object) -> str:
        if isinstance(value, str):
            return f"<td>{_words(value)}</td>"
        whole = isinstance(value, int | np.integer)
        return f'<td class="n">{value if whole else format(value, ".3f")}</td>'

    rows = [tuple(row) for row in rows]
    if not rows:
        return ""
    kinds = [isinstance(value, str) for value in rows[0]]
    lines = [
        "".join(
            f"<th>{name}</th>" if words else f'<th class="n">{name}</th>'
            for name, words in zip(head, kinds, strict=True)
        )
    ]
    lines += ["".join(cell(value) for value in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _curve(rounds: Sequence[tuple[int, float]], scores: Sequence[tuple[int, float]]) -> str:
    if not rounds and not scores:
        return ""
    figure, axis = plt.subplots(figsize=(8, 3))
    if rounds:
        axis.plot(*zip(*rounds, strict=True), color=plots.SEEN, label="cohorts, while they train")
    said = "Accuracy by round"
    if scores:
        axis.plot(
            *zip(*scores, strict=True), "o-", color=plots.FEDERATED, label="validation clients"
        )
        best = max(scores, key=lambda pair: pair[1])
        said += f"; best by validation clients {best[1]:.3f} after round {best[0]}"
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="round", ylabel="accuracy", ylim=(0, 1.02), title=said)
    axis.legend(loc="lower right")
    return _picture(figure, said)


def _bars(accuracies: Mapping[str, float]) -> str:
    figure, axis = plt.subplots(figsize=(8, 2.4))
    axis.hist(list(accuracies.values()), np.linspace(0, 1, 41), color=plots.FEDERATED)
    said = f"How {len(accuracies)} clients that were never seen are served"
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set(
        xlabel="accuracy on a client's images", ylabel="clients", title=said, xlim=(-0.02, 1.02)
    )
    return _picture(figure, said)


def _picture(figure: plt.Figure, said: str) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    plt.close(figure)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<p><img alt="{_words(said)}" src="data:image/svg+xml;base64,{data}"></p>'
