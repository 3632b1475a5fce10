"""Which rows: the same ids in the same order as a scan gives, in a handful of runs."""

import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import reads
from lakehouse.errors import FilterError
from lakehouse.loader.selection import _from_row_ids, select


@pytest.fixture
def numbers(lake):
    table = lake.create_table("numbers", data=pa.table({"x": range(100), "y": [None, 1.0] * 50}))
    table.add(pa.table({"x": range(100, 300), "y": [2.0] * 200}))
    return table


def ids_of(selection):
    return selection.row_ids(np.arange(selection.num_rows))


ids = st.lists(st.integers(0, 400), unique=True, max_size=200).map(lambda v: np.array(v, np.uint64))


@given(ids, st.data())
def test_any_ids_in_any_order_come_back(row_ids, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(row_ids)), max_size=5)))
    selection = _from_row_ids(np.split(row_ids, cuts))
    assert selection.num_rows == len(row_ids)
    assert np.array_equal(ids_of(selection), row_ids)
    some = np.array(data.draw(st.lists(st.integers(0, len(row_ids) - 1), max_size=9)) if len(row_ids) else [], np.int64)
    assert np.array_equal(selection.row_ids(some), row_ids[some])


@given(ids, st.data())
def test_the_digest_tells_rows_and_order_and_nothing_else(row_ids, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(row_ids)), max_size=5)))
    whole = _from_row_ids([row_ids])
    assert _from_row_ids(np.split(row_ids, cuts)).digest == whole.digest
    assert (_from_row_ids([row_ids[::-1]]).digest == whole.digest) == (len(row_ids) < 2)
    assert _from_row_ids([row_ids[1:]]).digest != whole.digest or not len(row_ids)


def test_a_whole_table_is_a_few_runs_however_long(lake):
    table = lake.create_table("long", data=pa.table({"x": np.zeros(300_000, np.int8)}))
    assert select(table.snapshot()).nbytes <= 64


@pytest.mark.parametrize("where", [None, "x % 3 = 1", "x < 0", "x = 7", ("x >= $low", {"low": 250})])
def test_the_rows_are_those_of_a_scan(numbers, where):
    snapshot = numbers.snapshot()
    assert np.array_equal(ids_of(select(snapshot, where)), reads.row_ids(snapshot, where))


@pytest.mark.parametrize("limit", [1 << 20, 0])
def test_a_selection_is_pickled_or_mapped(monkeypatch, limit):
    monkeypatch.setattr("lakehouse.loader.selection._PICKLED_NBYTES", limit)
    selection = _from_row_ids([np.arange(0, 900, 3, dtype=np.uint64)])
    there = pickle.loads(pickle.dumps(selection))
    assert there.digest == selection.digest
    assert np.array_equal(ids_of(there), ids_of(selection))
    assert isinstance(there.starts.base, np.memmap) == (limit == 0)


def test_deleted_and_updated_rows_keep_their_ids(numbers):
    numbers.delete("x % 7 = 0")
    numbers.update(where="x < 50", values={"y": 5.0})
    snapshot = numbers.snapshot()
    selection = select(snapshot)
    assert np.array_equal(ids_of(selection), reads.row_ids(snapshot))
    rows = reads.take_row_ids(snapshot, ids_of(selection), ["x"])
    assert rows["x"].to_pylist() == numbers.to_arrow(columns=["x"])["x"].to_pylist()


def test_rows_with_nulls_can_be_left_out(numbers):
    snapshot = numbers.snapshot()
    assert select(snapshot, without_nulls=["x", "y"]).num_rows == 250
    assert select(snapshot, "x < 100 OR x > 290", without_nulls=["y"]).num_rows == 59


def test_a_predicate_that_does_not_parse_says_so(numbers):
    with pytest.raises(FilterError, match="x >"):
        select(numbers.snapshot(), "x >")
