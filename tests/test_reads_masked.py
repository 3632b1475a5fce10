"""Rows by a scan that skips all others are those that a take finds."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import reads
from lakehouse.errors import RowNotFoundError
from lakehouse.reads.masked import is_worth_a_scan, masked

NUM_ROWS = 3_000


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Open a table of several fragments that lost rows, and whose changed rows lie behind all others."""
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("numbers", schema=pa.schema([("id", pa.int64()), ("text", pa.string())]))
    for part in np.array_split(np.arange(NUM_ROWS), 3):
        table.add(pa.table({"id": part, "text": [f"row {i}" for i in part]}), progress=False)
    table.delete("id % 3 = 0")
    table.update(where="id % 12 = 1", values={"text": "changed"})
    table.delete("id % 7 = 0")
    return table.snapshot()


@pytest.fixture(scope="module")
def row_ids(snapshot):
    ids = reads.row_ids(snapshot)
    assert (np.diff(ids.astype(np.int64)) < 0).any(), "rows that were changed lie out of the order of their ids"
    return ids


@given(places=st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_a_masked_scan_gives_the_rows_of_a_take_in_the_order_asked(snapshot, row_ids, places):
    ids = row_ids[np.array(places) % len(row_ids)]
    for columns in (["id", "text"], ["text", "_rowaddr"], ["_rowid"]):
        taken = snapshot.dataset._take_rows(ids, columns=columns)
        assert masked(snapshot, ids, columns).to_pylist() == taken.to_pylist()


def test_many_rows_of_a_table_that_lost_many_are_scanned_for(tmp_path):
    import lakehouse as lh

    table = lh.connect(tmp_path).create_table("numbers", data=pa.table({"x": np.arange(20_000)}))
    assert not is_worth_a_scan(table.snapshot(), 10**9), "nothing was deleted"
    table.delete("x % 2 = 0")
    snapshot = table.snapshot()
    assert not is_worth_a_scan(snapshot, 399)
    assert is_worth_a_scan(snapshot, 400)
    assert table.take_row_ids([19_999, 1] * 200)["x"].to_pylist() == [19_999, 1] * 200
    with pytest.raises(RowNotFoundError, match="the row id 2 "):
        table.take_row_ids([2, *range(1, 1001, 2)])
