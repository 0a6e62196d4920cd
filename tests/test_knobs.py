import numpy as np
import pytest

from fedcourse import knobs


def test_what_can_work_is_taken():
    knobs.whole(ROUNDS=1, SEEDS=np.int64(3))
    knobs.whole(0, 9, DIGIT=0)
    knobs.number(above=0, most=1, SHARE=1.0)
    knobs.number(least=0, below=1, DROPOUT=0)
    knobs.number(SHIFT=-5)
    knobs.choice("a", "b", MODEL="b")
    knobs.several(knobs.whole, SIZES=[1, 4, 16])


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (
            lambda: knobs.whole(ROUNDS=0),
            "ROUNDS = 0 cannot work: give a whole number of at least 1.",
        ),
        (lambda: knobs.whole(ROUNDS=2.5), "ROUNDS = 2.5 cannot"),
        (lambda: knobs.whole(ROUNDS=True), "ROUNDS = True cannot"),
        (lambda: knobs.whole(ROUNDS="9"), "ROUNDS = '9' cannot"),
        (lambda: knobs.whole(0, 9, SEED=1, DIGIT=10), "DIGIT = 10 cannot.* from 0 to 9"),
        (lambda: knobs.number(above=0, RATE=0), "RATE = 0 cannot work: give a number above 0."),
        (lambda: knobs.number(above=0, RATE=float("nan")), "RATE = nan"),
        (lambda: knobs.number(above=0, RATE=float("inf")), "RATE = inf"),
        (lambda: knobs.number(least=0, below=1, LOSS=1), "of at least 0 and below 1"),
        (lambda: knobs.choice("a", "b", MODEL="c"), "MODEL = 'c' cannot work: give 'a' or 'b'."),
        (lambda: knobs.several(knobs.whole, SIZES=[]), r"SIZES = \[\] .*1 or more different"),
        (lambda: knobs.several(knobs.whole, SIZES=[4, 4]), r"SIZES = \[4, 4\] .*different"),
        (lambda: knobs.several(knobs.whole, SIZES=4), "SIZES = 4 .*give a list"),
        (lambda: knobs.several(knobs.whole, SIZES=[4, 0]), "SIZES = 0 cannot .*whole number"),
    ],
)
def test_what_cannot_work_is_refused_in_the_knobs_name(check, said):
    with pytest.raises(knobs.KnobError, match=said):
        check()


def test_a_notebook_shows_one_line_and_no_traceback(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell()
    shell.run_cell("from fedcourse import knobs\nknobs.whole(ROUNDS=0)")
    shown = capsys.readouterr().out.strip().splitlines()
    assert shown == ["ROUNDS = 0 cannot work: give a whole number of at least 1."]


def test_more_than_there_is_takes_all_and_says_so(capsys):
    assert knobs.at_most(50, "training writers", CLIENTS_PER_ROUND=10) == 10
    assert capsys.readouterr().out == ""
    assert knobs.at_most(50, "training writers", CLIENTS_PER_ROUND=60) == 50
    assert capsys.readouterr().out == (
        "CLIENTS_PER_ROUND = 60, but there are 50 training writers: all of them are taken.\n"
    )
