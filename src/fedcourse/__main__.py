"""The command line: `python -m fedcourse train` runs Federated Averaging outside a notebook."""

import argparse
import functools
import json
import statistics
import sys

from fedcourse import environment

MODELS = ("mcmahan_cnn", "small_cnn")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        environment.check()
        report = train(options)
    except (ImportError, ValueError, OSError) as error:
        print(f"fedcourse: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report) if options.json else as_text(report))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m fedcourse", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train by Federated Averaging, judge on writers never seen",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = train.add_argument
    add("--data", default="auto", help="auto, emnist, embedded, or the path of an SQLite file")
    add("--model", choices=MODELS, default=MODELS[0], help="the network")
    add("--rounds", type=whole, default=40, help="rounds of training")
    add("--clients-per-round", type=whole, default=10, help="clients drawn for each round")
    add("--local-epochs", type=whole, default=1, help="times a client goes through its images")
    add("--batch-size", type=whole, default=10, help="images in a client's step")
    add("--client-lr", type=positive, default=0.1, help="step size of SGD on a client")
    add("--seed", type=seed, default=0, help="weights, cohorts, order, and who is never seen")
    add("--checkpoint", metavar="DIR", help="save here after every round, and go on from here")
    add("--json", action="store_true", help="print one JSON object")
    return top


def whole(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def seed(text: str) -> int:
    """Read a whole number that all random generators take."""
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {2**31 - 1}")
    return int(text)


def positive(text: str) -> float:
    """Read a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def train(options: argparse.Namespace) -> dict:
    """Train as the options say; show progress on standard error; return the report."""
    import contextlib

    with contextlib.redirect_stdout(sys.stderr):  # stdout is for the report alone
        from fedcourse import data, evaluation, models, training

        seen, held = data.load(options.data)
        training_writers, unseen_writers = data.split_writers(seen.client_ids, seed=options.seed)
        if options.clients_per_round > len(training_writers):
            raise ValueError(
                f"--clients-per-round is {options.clients_per_round}, but there are only "
                f"{len(training_writers)} training writers: ask for at most that many."
            )
        unseen_images = {writer: digits_of((seen, held), writer) for writer in unseen_writers}

        def cohort(number: int) -> list:
            writers = data.sample_clients(
                training_writers, options.clients_per_round, options.seed, number
            )
            return [
                data.batches(
                    *digits_of(seen, writer),
                    batch_size=options.batch_size,
                    epochs=options.local_epochs,
                    seed=number,
                )
                for writer in writers
            ]

        make_model = functools.partial(getattr(models, options.model), seed=options.seed)
        process = training.federated_averaging(training.wrap(make_model), options.client_lr)
        trained = training.train(
            process, cohort, options.rounds, options.checkpoint, settings_of(options)
        )
        model = training.network_of(process, trained.state, make_model)
        unseen = evaluation.accuracy_by_writer(model, unseen_images)
        result = evaluation.summary(unseen)
    seconds = [step.seconds for step in trained.history]
    return {
        "rounds": max(trained.done, options.rounds),
        "seconds_per_round": statistics.median(seconds) if seconds else None,
        "unseen_writers": {
            "count": len(unseen),
            "mean_accuracy": result.mean,
            "median_accuracy": result.median,
            "worst_tenth_accuracy": result.worst_tenth,
        },
    }


def settings_of(options: argparse.Namespace) -> dict:
    """Return what a run must not change on its way; more rounds are the point of resuming."""
    other = ("rounds", "checkpoint", "json")
    return {name: value for name, value in vars(options).items() if name not in other}


def digits_of(clients: object, writer: str) -> tuple:
    """Return a writer's pixels and labels.

    Raises:
        ValueError: A label is no digit: the networks have no output for it.
    """
    from fedcourse import data

    pixels, labels = data.images_of(clients, writer)
    if labels.max() > 9:
        raise ValueError(
            f"--data: an image of {writer!r} has the label {labels.max()}; "
            "the networks know the digits 0 to 9."
        )
    return pixels, labels


def as_text(report: dict) -> str:
    """Say the report in two lines."""
    unseen = report["unseen_writers"]
    pace = report["seconds_per_round"]
    return (
        f"{report['rounds']} rounds" + (f", {pace:.2f} s each" if pace else "") + "\n"
        f"accuracy on {unseen['count']} writers never seen: mean {unseen['mean_accuracy']:.3f}, "
        f"median {unseen['median_accuracy']:.3f}, worst tenth {unseen['worst_tenth_accuracy']:.3f}"
    )


if __name__ == "__main__":
    sys.exit(main())
