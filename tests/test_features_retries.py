"""What a function names in `retry_on` is tried again, a few times, with random pauses."""

import random
from collections import Counter

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

import lakehouse as lh
from lakehouse.features.udfs import calls
from lakehouse.features.udfs.calls import call_rows


class Busy(Exception):
    """The server has no time."""


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Note the bounds of the pauses, and make none."""
    bounds = []
    monkeypatch.setattr(random, "uniform", lambda low, high: bounds.append((low, high)) or 0.0)
    return bounds


def failing(times, error=Busy, **options):
    """Make a function that raises so often for each value before it returns it."""
    seen = Counter()

    @lh.udf(pa.int64(), version="1", retry_on=(Busy, TimeoutError), **options)
    def f(x):
        values = x.to_pylist() if options else [x]
        for value in values:
            seen[value] += 1
        for value in values:
            if seen[value] <= times.get(value, 0):
                raise error(f"not yet {value}")
        return values if options else x

    return f, seen


def test_a_row_is_called_three_times_with_growing_pauses(pauses):
    f, seen = failing({1: 2, 2: 9})
    outcome = call_rows(f, {"x": pa.array([0, 1, 2])})
    assert outcome.arrays["f"].to_pylist() == [0, 1, None]
    assert seen == {0: 1, 1: 3, 2: 3}
    ((error,),) = [outcome.errors]
    assert (error.row_index, error.error, error.attempts) == (2, "Busy", 3)
    assert pauses == [(0, 1.0), (0, 2.0)] * 2


def test_other_errors_are_not_tried_again(pauses):
    f, seen = failing({1: 1}, ValueError)
    outcome = call_rows(f, {"x": pa.array([0, 1])})
    assert (outcome.errors[0].error, outcome.errors[0].attempts, seen[1]) == ("ValueError", 1, 1)
    assert pauses == []


def test_an_outage_costs_a_batch_two_pauses_and_not_every_row(pauses):
    f, seen = failing(dict.fromkeys(range(64), 1000), batch=True)
    outcome = call_rows(f, {"x": pa.array(range(64))})
    assert outcome.failed.all()
    assert len(pauses) == 2
    assert {error.attempts for error in outcome.errors} == {3 + 6}  # then in halves of halves, until it stands alone
    assert seen[0] == 9


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.booleans())
def test_rows_that_succeed_in_time_have_their_value_and_the_others_their_error(times, batch):
    options = {"batch": True} if batch else {}
    f, _ = failing(dict(enumerate(times)), **options)
    outcome = call_rows(f, {"x": pa.array(range(len(times)))})
    values = outcome.arrays["f"].to_pylist()
    failed = {error.row_index for error in outcome.errors}
    assert [value for row, value in enumerate(values) if row not in failed] == [
        row for row in range(len(times)) if row not in failed
    ]
    assert failed == set(outcome.failed.nonzero()[0].tolist())
    assert all(error.error == "Busy" for error in outcome.errors)
    assert not any(times[row] < 3 for row in failed)
    if not batch:
        assert failed == {row for row, count in enumerate(times) if count >= 3}


def test_what_the_user_stops_is_not_tried_again():
    @lh.udf(pa.int64(), version="1", retry_on=[Exception])
    def f(x: int) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_rows(f, {"x": pa.array([1])})


@pytest.mark.parametrize("num_workers", [0, 1])
def test_attempts_of_all_runs_are_in_errors(lake, tmp_path, num_workers):
    log = str(tmp_path / "calls")

    @lh.udf(pa.int64(), version="1", retry_on=(ConnectionError,))
    def f(x: int) -> int:
        import random as chance

        chance.uniform = lambda *_: 0.0  # no pauses, in the worker too
        with open(log, "a") as file:
            file.write("called\n")
        raise ConnectionError("no route")

    table = lake.create_table("t", data=pa.table({"x": [1]}))
    table.add_columns({"f": f})
    for run in (1, 2):
        table.backfill("f", udf=f, only=None if run == 1 else "failed", num_workers=num_workers, progress=False)
        (error,) = table.errors("f").to_pylist()
        assert error["attempt"] == 3 * run
        assert "no route" in error["message"]
    assert (tmp_path / "calls").read_text().count("called") == 6


def test_the_pauses_are_what_is_documented():
    assert (calls._CALLS, calls._LONGEST_FIRST_WAIT_S) == (3, 1.0)
