import numpy as np
import pytest

from fedcourse import claims

HOLDS = ("It is so.", True, 1)
FAILS = ("It is more than half.", np.float32(0.25) > 0.5, np.float32(0.25))
OPEN = ("It grows.", None, [])


@pytest.fixture
def reader(monkeypatch):
    monkeypatch.delenv("FEDCOURSE_CLAIMS", raising=False)


def test_a_reader_sees_a_table_and_no_error(reader, capsys):
    claims.check(HOLDS, FAILS, OPEN)
    assert capsys.readouterr().out.splitlines() == [
        "✓ It is so.",
        "✗ It is more than half.",
        "    seen: 0.25",
        "– It grows.",
        "    cannot be decided with these settings",
        "What does not hold may be due to the settings, or to the data.",
    ]


def test_where_all_hold_nothing_is_added(reader, capsys):
    claims.check(HOLDS, HOLDS)
    assert capsys.readouterr().out == "✓ It is so.\n✓ It is so.\n"


def test_in_the_tests_a_claim_that_fails_is_an_error_after_the_table(monkeypatch, capsys):
    monkeypatch.setenv("FEDCOURSE_CLAIMS", "raise")
    claims.check(HOLDS, OPEN)
    with pytest.raises(AssertionError, match=r"^It is more than half\. \(seen: 0\.25\)$"):
        claims.check(FAILS, HOLDS)
    assert capsys.readouterr().out.count("✓ It is so.") == 2


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("20 to 30 images", "20 to 30 images"),
        (1234567, "1234567"),
        (0.123456, "0.123"),
        (np.float64(2e-7), "2e-07"),
        ((1, 0.5), "1, 0.5"),
        ({"E = 1": 0.91234, "E = 5": np.nan}, "E = 1: 0.912, E = 5: nan"),
        (np.array([0.25, 1.0]), "0.25, 1"),
        (np.array(0.25), "0.25"),
        (None, "None"),
    ],
)
def test_what_was_seen_is_said_short(reader, capsys, seen, said):
    claims.check(("No.", False, seen))
    assert f"    seen: {said}\n" in capsys.readouterr().out
