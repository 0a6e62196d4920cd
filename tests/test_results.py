import pytest

from fedcourse import results


@pytest.mark.parametrize("name", ["privacy", "rounds_to_target"])
def test_a_table_says_what_it_is_and_has_rows(name):
    about, rows = results.read(name)
    assert len(about.splitlines()) >= 2 and "#" not in about
    assert len(rows) > 10
    assert all(None not in row and None not in row.values() for row in rows)


def test_a_table_that_is_not_there():
    with pytest.raises(ValueError, match=r"name='x' is none of .*: privacy, rounds_to_target"):
        results.read("x")
