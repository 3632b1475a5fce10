import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lakehouse import failures
from lakehouse.failures import RowFailure
from lakehouse.location import Location


@pytest.fixture
def lake(tmp_path):
    return Location.of(tmp_path)


def failed(row_id, column="f"):
    return RowFailure(f"key {row_id}", "ValueError", "no", column, row_id)


def rows_of(lake, columns=None):
    return {(row["row_id"], row["attempt"]) for row in failures.read(lake, "t", columns).to_pylist()}


def test_what_is_recorded_is_read(lake):
    assert failures.read(lake, "t").schema == failures.SCHEMA
    failures.record(lake, "t", "add-1", [RowFailure("a.jpg", "MediaError", "cut short")])
    failures.record(lake, "t", "f-1", [failed(7)])
    told = failures.read(lake, "t").sort_by("key").to_pylist()
    assert told == [
        {"row_id": None, "key": "a.jpg", "column": None, "error": "MediaError", "message": "cut short"}
        | {"attempt": 1, "run": "add-1"},
        {
            "row_id": 7,
            "key": "key 7",
            "column": "f",
            "error": "ValueError",
            "message": "no",
            "attempt": 1,
            "run": "f-1",
        },
    ]
    assert rows_of(lake, ["f"]) == {(7, 1)}
    assert rows_of(lake, []) == set()


def test_a_run_recorded_again_counts_once(lake):
    for _ in range(2):
        failures.record(lake, "t", "f-1", [failed(1), failed(2)])
    assert rows_of(lake) == {(1, 1), (2, 1)}


def test_calls_recorded_by_two_runs_count_once(lake):
    """The first one was killed before it could commit, and the second one goes on with what it computed."""
    failures.record(lake, "t", "f-0", [RowFailure("k", "ValueError", "", "f", 1, 2, "older")])
    for run in ("f-1", "f-2"):
        before = failures.attempts(lake, "t", "f-", {1: "newer"})
        failures.record(lake, "t", run, [RowFailure("k", "ValueError", "", "f", 1, 3, "newer")], before)
        assert (1, 2 + 3) in rows_of(lake)
    assert max(rows_of(lake)) == (1, 5)


def test_no_failures_leave_no_file(lake):
    failures.record(lake, "t", "f-1", [])
    assert lake.listdir() == []


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(runs=st.lists(st.tuples(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))), max_size=6))
def test_rows_computed_again_are_settled_and_counted(tmp_path_factory, runs):
    """Each run computes some rows and fails on some of them; the model is a dictionary of attempts."""
    lake, model = Location.of(tmp_path_factory.mktemp("l")), {}
    failures.record(lake, "t", "other-1", [failed(3, "g")])
    for number, (computed, bad) in enumerate(runs):
        ids = np.array(sorted(computed), dtype=np.uint64)
        before = failures.attempts(lake, "t", "f-", dict.fromkeys(computed))
        assert before == {row: model[row] for row in computed if row in model}
        failures.record(lake, "t", f"f-{number}", [failed(row) for row in sorted(bad & computed)], before)
        failures.settle(lake, "t", "f-", ids, but=f"f-{number}")
        for row in computed:
            tried = model.pop(row, 0)
            if row in bad:
                model[row] = tried + 1
        assert rows_of(lake, ["f"]) == set(model.items())
    assert rows_of(lake, ["g"]) == {(3, 1)}


def test_what_is_forgotten_is_gone(lake):
    failures.record(lake, "t", "f-1", [failed(1)])
    failures.record(lake, "t", "g-1", [failed(2, "g")])
    failures.forget(lake, "t", "f-")
    assert rows_of(lake) == {(2, 1)}
    failures.forget(lake, "t")
    assert rows_of(lake) == set()
