"""The command line: `fedcourse train` runs Federated Averaging, `fedcourse predict` reads pictures.

The same as `python -m fedcourse`.
"""

import argparse
import json
import sys

from fedcourse import environment


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = parser().parse_args(arguments)
    try:
        environment.check()
        from fedcourse import commands  # TensorFlow and all: not before the options are right

        told = getattr(commands, options.run)(options)
        say = {"train": commands.as_text, "predict": commands.lines_of}[options.run]
    except (ImportError, ValueError, OSError) as error:
        print(f"fedcourse: {error}", file=sys.stderr)
        return 2
    print(json.dumps(told) if options.json else say(told))
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(prog="python -m fedcourse", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="train by Federated Averaging, judge on clients never seen",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    train.set_defaults(run="train")
    add = train.add_argument
    add(
        "--data",
        default="auto",
        help="auto, emnist, emnist62 (letters, too), embedded, an SQLite file in TFF's layout, "
        "a folder of pictures, or a table, …csv",
    )
    add("--model", default="mcmahan_cnn", help="mcmahan_cnn, small_cnn, or package.module:function")
    add("--rounds", type=whole, default=40, help="rounds of training")
    add("--clients-per-round", type=whole, default=10, help="clients drawn for each round")
    add("--local-epochs", type=whole, default=1, help="times a client goes through its images")
    add("--batch-size", type=whole, default=10, help="images in a client's step")
    add("--client-lr", type=positive, default=0.1, help="step size of SGD on a client")
    add("--seed", type=seed, default=0, help="weights, cohorts, order, and who is never seen")
    add("--validation", type=share, metavar="SHARE", help="of the clients, to keep the best round")
    add("--checkpoint", metavar="DIR", help="save here after every round, and go on from here")
    add("--save", metavar="MODEL", help="the network, as ….keras, ….tflite or a folder")
    add("--report", metavar="HTML", help="a page with curves, clients and confusions")
    add("--json", action="store_true", help="print one JSON object")
    own = train.add_argument_group("a folder or a table of pictures").add_argument
    own("--size", type=whole, help="pixels each way; none leaves the pictures as they are")
    own("--colour", action=argparse.BooleanOptionalAction, help="none: if a picture has it")
    own("--invert", action="store_true", help="they show bright ink on a dark ground")
    own("--layout", default="client/label", help="of folders: client/label, label/client or label")
    own("--label", default="label", metavar="COLUMN", help="of a table")
    own("--client", metavar="COLUMN", help="of a table: whose a picture is")
    own("--file", metavar="COLUMN", help="of a table: its file; none where pixels are in columns")
    own("--folder", metavar="DIR", help="where the table's files are; none for beside it")
    own("--deal", type=whole, metavar="N", help="deal all pictures evenly to N simulated clients")
    predict = commands.add_parser("predict", help="say what pictures show")
    predict.set_defaults(run="predict")
    predict.add_argument("network", metavar="MODEL", help="what train --save wrote")
    predict.add_argument("pictures", metavar="PICTURE", nargs="+")
    predict.add_argument("--json", action="store_true", help="print a JSON list")
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


def share(text: str) -> float:
    """Read a share above 0 and below 1."""
    number = positive(text)
    if number >= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share between 0 and 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
