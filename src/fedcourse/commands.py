"""What the command line does: train federatedly on whatever images, and read pictures."""

import argparse
import contextlib
import functools
import importlib
import inspect
import os
import pathlib
import statistics
import sys
from collections.abc import Callable

import numpy as np

from fedcourse import confusion, data, evaluation, export, models, report, training
from fedcourse.data import pictures

MODELS = ("mcmahan_cnn", "small_cnn")
_WORDS = ("auto", "emnist", "emnist62", "embedded")
_NOT_SETTINGS = ("rounds", "checkpoint", "json", "save", "report", "run")


def train(options: argparse.Namespace) -> dict:
    """Train as the options say; show progress on standard error; return the report.

    Raises:
        ValueError: The options cannot be followed; names the one.
        OSError: A place cannot be read or written.

    Lesson: none yet
    """
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the report alone
        _check_places(options)
        make_model = _maker(options.model)
        seen, held = _load(options)
        training_clients, unseen_clients = data.split_writers(seen.client_ids, seed=options.seed)
        validation_clients = []
        if options.validation:
            training_clients, validation_clients = data.split_writers(
                training_clients, options.validation, options.seed
            )
        if options.clients_per_round > len(training_clients):
            raise ValueError(
                f"--clients-per-round is {options.clients_per_round}, but there are only "
                f"{len(training_clients)} training writers: ask for at most that many."
            )
        images = _Reading(seen)
        make_model = _for_data(make_model, seen, options.seed)
        process = training.federated_averaging(training.wrap(make_model, seen), options.client_lr)
        judged = {client: images[client] for client in validation_clients}
        unseen = {client: data.images_of(held, client) for client in unseen_clients}

        def network(state: object):
            return training.network_of(process, state, make_model, seen)

        evaluation.predicted(network(process.initialize()), unseen)  # labels it has no output for

        def cohort(number: int) -> list:
            clients = data.sample_clients(
                training_clients, options.clients_per_round, options.seed, number
            )
            return [
                data.batches(*images[client], options.batch_size, options.local_epochs, seed=number)
                for client in clients
            ]

        trained = training.train(
            process,
            cohort,
            options.rounds,
            options.checkpoint,
            settings_of(options),
            validate=(lambda state: evaluation.mean_accuracy(network(state), judged))
            if judged
            else None,
        )
        final = network(trained.best.state if trained.best else trained.state)
        accuracies = evaluation.accuracy_by_writer(final, unseen)
        result = evaluation.summary(accuracies)
        if options.save:
            export.save(final, options.save, seen.classes, {"invert": options.invert})
        if options.report:
            matrix = sum(confusion.by_client(final, unseen).values())
            report.write(
                options.report,
                report.page(
                    {k: v for k, v in vars(options).items() if k != "run" and v is not None},
                    [(step.number, step.accuracy) for step in trained.history],
                    trained.scores,
                    accuracies,
                    matrix,
                    seen.classes,
                ),
            )
    seconds = [step.seconds for step in trained.history]
    return {
        "rounds": max(trained.done, options.rounds),
        "seconds_per_round": statistics.median(seconds) if seconds else None,
        "unseen_writers": {
            "count": len(accuracies),
            "mean_accuracy": result.mean,
            "median_accuracy": result.median,
            "worst_tenth_accuracy": result.worst_tenth,
        },
    } | (
        {"best_round": {"round": trained.best.number, "validation_accuracy": trained.best.score}}
        if trained.best
        else {}
    )


def settings_of(options: argparse.Namespace) -> dict:
    """Return what a run must not change on its way; more rounds are the point of resuming.

    Lesson: none yet
    """
    return {name: value for name, value in vars(options).items() if name not in _NOT_SETTINGS}


def as_text(told: dict) -> str:
    """Say a report in two lines, or three.

    Lesson: none yet
    """
    unseen, pace = told["unseen_writers"], told["seconds_per_round"]
    lines = [
        f"{told['rounds']} rounds" + (f", {pace:.2f} s each" if pace else ""),
        f"accuracy on {unseen['count']} writers never seen: mean {unseen['mean_accuracy']:.3f}, "
        f"median {unseen['median_accuracy']:.3f}, worst tenth {unseen['worst_tenth_accuracy']:.3f}",
    ]
    if best := told.get("best_round"):
        lines.insert(
            1,
            f"best round by validation clients: {best['round']}, {best['validation_accuracy']:.3f}",
        )
    return "\n".join(lines)


def predict(options: argparse.Namespace) -> list[dict]:
    """Read pictures with a network from a file.

    Returns:
        For each picture its name, the likeliest class and its probability.

    Raises:
        ValueError: The file is no network, takes other than grey or colour, or a picture cannot be
            read.
        OSError: A file is not there.

    Lesson: none yet
    """
    network = export.load(options.network)
    height, width, channels = network.image_shape
    if channels not in (1, 3) or height is None or width is None:
        raise ValueError(f"{options.network} takes {network.image_shape}, neither grey nor colour")
    invert = bool(network.about.get("invert"))
    found = []
    for picture in options.pictures:
        pixels = pictures.read(picture, (height, width), colour=channels == 3)
        shares = network.probabilities((1 - pixels if invert else pixels)[None])[0]
        likeliest = int(shares.argmax())
        name = network.classes[likeliest] if network.classes else str(likeliest)
        found.append({"picture": str(picture), "class": name, "probability": float(shares.max())})
    return found


def lines_of(found: list[dict]) -> str:
    """Say what pictures show, a line each: name, probability, file.

    Lesson: none yet
    """
    widest = max(len(each["class"]) for each in found)
    return "\n".join(
        f"{each['class']:<{widest}}  {each['probability']:.3f}  {each['picture']}" for each in found
    )


# --- what the options name ------------------------------------------------------------------------


def _check_places(options: argparse.Namespace) -> None:
    """Refuse a place that cannot be written to before anything is trained."""
    if options.save:
        export.check_path(options.save)
    for option, place in (("--save", options.save), ("--report", options.report)):
        if place and not pathlib.Path(place).absolute().parent.is_dir():
            raise ValueError(f"{option} {place}: there is no folder {pathlib.Path(place).parent}")
    if options.report and pathlib.Path(options.report).is_dir():
        raise ValueError(f"--report {options.report} is a folder; give a file, such as report.html")


def _load(options: argparse.Namespace) -> tuple:
    """Return what is trained on, and what clients that are never seen are judged on."""
    source = options.data
    own = {"size": options.size, "colour": options.colour, "invert": options.invert}
    if source in _WORDS or os.path.splitext(source)[1] in (".sqlite", ".db"):
        seen, held = data.load(source)
        return seen, (seen, held)
    if os.path.isdir(source):
        clients = data.from_folders(source, layout=options.layout, **own)
    elif source.lower().endswith((".csv", ".tsv", ".txt")):
        clients = data.from_table(
            source, options.label, options.client, options.file, folder=options.folder, **own
        )
    else:
        seen, held = data.load(source)
        return seen, (seen, held)
    if options.deal:
        together = [data.images_of(clients, client) for client in clients.client_ids]
        pixels, labels = (np.concatenate(part) for part in zip(*together, strict=True))
        dealt = data.partition.iid(pixels, labels, options.deal, options.seed)
        clients = data.from_arrays(dealt, clients.classes or None)
    elif len(clients.client_ids) < 3:
        raise ValueError(
            f"--data {source} has {len(clients.client_ids)} client(s), and it takes three, to "
            "train and to judge. --client names the column that says whose an image is; "
            "--deal 50 deals images that nobody owns to 50 simulated clients"
        )
    return clients, clients


class _Reading(dict):
    """Clients' arrays, read when they are first asked for."""

    def __init__(self, clients: object):
        super().__init__()
        self._clients = clients

    def __missing__(self, client: str) -> tuple:
        self[client] = data.images_of(self._clients, client)
        return self[client]


def _maker(name: str) -> Callable:
    """Return the function that makes the network."""
    if ":" not in name:
        if name not in MODELS:
            raise ValueError(
                f"--model: {name!r} is none of {', '.join(MODELS)}; for a function of your own "
                "give package.module:function"
            )
        return getattr(models, name)
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"--model {name}: {error}") from error
    finally:
        sys.path.pop(0)


def _for_data(make: Callable, clients: object, seed: int) -> Callable:
    """Give the function what it takes of the seed, the images' shape and the number of classes."""
    known = {"seed": seed, "image_shape": clients.image_shape, "classes": len(clients.classes)}
    takes = inspect.signature(make).parameters
    return functools.partial(make, **{k: v for k, v in known.items() if k in takes})
