"""Units of work: what is saved, what is left, and what a death costs."""

from concurrent.futures import Future

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given

import lakehouse as lh
from lakehouse.errors import BackfillError
from lakehouse.features.computing.asked import Asked
from lakehouse.features.computing.dispatch import Dispatch, UnitSize
from lakehouse.features.computing.spread import Spread
from lakehouse.features.computing.units import Unit, UnitResult, run_unit, save_lost, unsaved
from lakehouse.features.computing.workers import WorkerLostError
from lakehouse.features.storing import checkpoints, staging


@lh.udf(pa.int64())
def square(x: int) -> int:
    return x * x


@lh.udf(pa.int64())
def inverse(x: int) -> int:
    return 100 // x


def table_with(lake, udf, num_rows=200):
    table = lake.create_table("t", data=pa.table({"x": np.arange(num_rows)}))
    table.add_columns({next(iter(udf.outputs)): udf})
    return table


def token_of(table):
    return next(iter(table.snapshot().features.values())).token


def unit_of(table, **changes):
    """Make the unit of the table's one fragment, for all its features."""
    snapshot = table.snapshot()
    fragment = snapshot.dataset.get_fragments()[0]
    rows = snapshot.dataset.scanner(columns=[], with_row_id=True, with_row_address=True).to_table()
    wanted = np.asarray(rows["_rowid"], dtype=np.uint64), staging.offsets_of(rows["_rowaddr"])
    return Unit(
        lake=snapshot.lake,
        table=snapshot.name,
        version=snapshot.version,
        fragment_id=fragment.fragment_id,
        asked=Asked.of({feature.token: wanted for feature in snapshot.features.values()}),
        **changes,
    )


def plain_unit(num_rows, deaths=0, tokens=("token",)):
    rows = np.arange(num_rows)
    asked = Asked.of(dict.fromkeys(tokens, (rows.astype(np.uint64), rows)))
    return Unit(None, "t", 1, 0, asked, deaths=deaths)


def kept_of(table):
    snapshot = table.snapshot()
    feature = next(iter(snapshot.features.values()))
    fragment = snapshot.dataset.get_fragments()[0]
    inputs = checkpoints.fingerprint(fragment, checkpoints.input_ids(snapshot.dataset, feature))
    schema = checkpoints.part_schema(feature, snapshot.physical)
    return checkpoints.Checkpoints(snapshot, feature).load(inputs, schema).sort_by("_row_id")


def test_values_are_saved_and_only_counts_come_back(lake):
    table = table_with(lake, square)
    unit = unit_of(table)
    result = run_unit(unit, {token_of(table): square})
    assert result.num_rows == 200
    assert result.seconds > 0
    kept = kept_of(table)
    assert kept["square"].to_pylist() == [x * x for x in range(200)]
    assert kept["_row_id"].to_pylist() == unit.asked.row_ids.tolist()


def test_failed_rows_are_saved_with_their_reason(lake):
    table = table_with(lake, inverse)
    run_unit(unit_of(table), {token_of(table): inverse})
    kept = kept_of(table)
    assert kept["_failed"].to_pylist() == [True] + 199 * [False]
    assert kept["_error"].to_pylist() == ["ZeroDivisionError"] + 199 * [None]


def test_what_was_saved_before_a_death_is_not_asked_for_again(lake):
    table = table_with(lake, square)
    unit = unit_of(table)
    run_unit(unit.only(slice(0, 60)), {token_of(table): square})
    assert unsaved(unit).asked.row_ids.tolist() == unit.asked.row_ids[60:].tolist()


def test_a_row_that_workers_die_of_is_saved_as_failed(lake):
    table = table_with(lake, square)
    unit = unit_of(table).only(slice(7, 8))
    save_lost(unit, "the worker was killed by signal 9 (SIGKILL)")
    (row,) = kept_of(table).to_pylist()
    assert (row["_row_id"], row["_failed"], row["_error"], row["square"]) == (
        unit.asked.row_ids[0],
        True,
        "WorkerLostError",
        None,
    )
    assert row["_message"].startswith("the worker was killed by signal 9 (SIGKILL) while computing row id ")


def test_a_table_made_again_under_its_name_is_another(lake):
    first = table_with(lake, square, 10)
    run_unit(unit_of(first), {token_of(first): square})
    lake.drop_table("t")
    again = table_with(lake, inverse, 20)
    assert again.version == first.version
    assert run_unit(unit_of(again), {token_of(again): inverse}).num_rows == 20


durations = st.lists(st.floats(1e-6, 1e4), max_size=20)


@given(st.integers(1, 10**8), st.integers(1, 64), st.sampled_from([1, 10]), durations)
def test_units_hold_whole_batches_and_leave_some_for_every_worker(num_rows, num_workers, batch, seconds):
    size, waiting = UnitSize(batch, num_workers), num_rows
    even, largest = -(-num_rows // num_workers), 0
    for each in seconds:
        rows = size.of(waiting, num_rows)
        largest = max(largest, 4 * rows)
        assert 1 <= rows <= min(even, 65_536)
        assert rows % batch == 0 or rows == even
        waiting = max(waiting - rows, 1)
        size.took(rows, each)
        after = size.of(waiting, num_rows)
        assert after <= max(4 * rows, largest, batch)
        assert int(after * each / rows) <= 2 or after <= batch


@given(st.integers(1, 10**6), st.integers(1, 16), st.floats(1e-6, 10), st.floats(1, 20_000))
def test_the_last_units_are_small_and_not_many(num_rows, num_workers, row_s, most_s):
    num_rows = max(1, min(num_rows, int(most_s / row_s)))  # a job of months is as many units as seconds
    size, waiting, units = UnitSize(1, num_workers), num_rows, []
    while waiting:
        units.append(min(waiting, size.of(waiting, num_rows)))
        waiting -= units[-1]
        size.took(units[-1], units[-1] * row_s)
    assert units[-1] * row_s <= 0.1 or units[-1] == 1
    assert all(rows * row_s <= 2.0 or rows == 1 for rows in units[1:])
    assert len(units) <= 10 + num_rows * row_s + 41 * num_workers + num_rows / 1000


@given(st.integers(1, 5000))
def test_the_pieces_of_a_unit_are_its_rows_in_order(num_rows):
    unit = plain_unit(num_rows)
    pieces = unit.after_death()
    assert np.concatenate([piece.asked.row_ids for piece in pieces]).tolist() == unit.asked.row_ids.tolist()
    assert len(pieces) <= 16
    assert all(piece.deaths == 1 and piece.num_rows <= -(-num_rows // 16) for piece in pieces)


# Going on after deaths: the law, without processes


class Mortal:
    """Computes rows one by one and remembers them; dies of those that are deadly."""

    num_workers, in_flight = 2, 4

    def __init__(self, deadly):
        self.deadly, self.saved, self.lost, self.deaths = set(deadly), [], [], 0

    def submit(self, unit):
        future = Future()
        for row in unit.asked.row_ids.tolist():
            if row in self.deadly:
                self.deaths += 1
                future.set_exception(WorkerLostError("killed"))
                return future
            self.saved.append(row)
        future.set_result(UnitResult(unit.num_rows, 1e-3 * unit.num_rows))
        return future

    def unsaved(self, unit):
        return unit.only(~np.isin(unit.asked.row_ids, self.saved))

    def save_lost(self, unit, how):
        self.lost += unit.asked.row_ids.tolist()


def dispatched(runner, *units):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lakehouse.features.computing.dispatch.unsaved", runner.unsaved)
        patch.setattr("lakehouse.features.computing.dispatch.save_lost", runner.save_lost)
        dispatch = Dispatch(runner, UnitSize(1, runner.num_workers))
        for unit in units:
            dispatch.add(unit)
        while not dispatch.idle:
            dispatch.wait()


@given(st.data(), st.integers(1, 2000))
def test_every_row_is_computed_once_or_failed_once_whichever_workers_die(data, num_rows):
    deadly = data.draw(st.sets(st.integers(0, num_rows - 1), max_size=5))
    runner = Mortal(deadly)
    dispatched(runner, *plain_unit(num_rows).cut(300))
    assert sorted(runner.lost) == sorted(deadly)
    assert sorted(runner.saved) == sorted(set(range(num_rows)) - deadly)
    assert runner.deaths <= 5 * len(deadly)


def test_a_function_that_workers_always_die_of_ends_the_job():
    runner = Mortal(range(5000))
    with pytest.raises(BackfillError, match="workers died one after the other with nothing computed, at last: killed"):
        dispatched(runner, plain_unit(5000))
    assert runner.deaths < 50


class Forgetful:
    """Says that units are done and saves nothing, as if somebody removed it."""

    num_workers, in_flight = 2, 4

    def submit(self, unit):
        future = Future()
        future.set_result(UnitResult(unit.num_rows, 1e-3))
        return future


def test_values_that_somebody_removed_are_missed_and_not_waited_for(lake):
    table = table_with(lake, square)
    snapshot, unit = table.snapshot(), unit_of(table)
    feature = snapshot.features["square"]
    spread = Spread(Dispatch(Forgetful(), UnitSize(1, 2)))
    fragment = snapshot.dataset.get_fragment(unit.fragment_id)
    ((token, error),) = spread.run(snapshot, fragment, unit.asked)
    assert token == feature.token
    with pytest.raises(BackfillError, match="200 rows of 'square' were computed and what was kept of them is gone"):
        raise error
