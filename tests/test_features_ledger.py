import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.features import ledger


@lh.udf(pa.int64(), version="1")
def half(x: int) -> int:
    if x % 2:
        raise ValueError(x)
    return x // 2


@pytest.fixture
def table(lake):
    made = lake.create_table("t", data=[{"x": n} for n in range(10)])
    made.add_columns({"f": half})
    return made


def fill(table, **options):
    return table.backfill("f", udf=half, progress=False, **options)


def state(table):
    row = table.features().to_pylist()[0]
    return row["state"], row["coverage"], row["num_failed"]


def test_a_column_goes_through_its_states(table):
    assert state(table) == ("declared", 0.0, 0)
    fill(table, limit=4)
    assert state(table) == ("partial", 0.2, 2)
    fill(table)
    assert state(table) == ("partial", 0.5, 5)
    table.delete("x % 2 = 1")
    assert state(table) == ("fresh", 1.0, 0)
    table.update("x = 4", {"x": 6})
    assert state(table) == ("stale(inputs)", 0.8, 0)
    fill(table)
    assert state(table) == ("fresh", 1.0, 0)
    table.add([{"x": 100}])
    assert state(table) == ("partial", 5 / 6, 0)
    table.alter_udf("f", lh.udf(pa.int64(), version="2")(lambda x: x))
    assert state(table) == ("stale(code)", 0.0, 0)


def test_the_states_survive_compaction(table):
    fill(table, limit=4)
    table.add([{"x": 12}])
    before = state(table)
    lance.dataset(table.uri).optimize.compact_files()
    assert state(table) == before
    assert fill(table).num_rows == 7


def test_every_column_of_a_feature_has_its_state(lake):
    @lh.udf({"a": pa.int64(), "b": pa.int64()}, version="1")
    def both(x: int) -> tuple[int, int]:
        return x, x

    table = lake.create_table("t", data=[{"x": 1}])
    table.add_columns({"both": both, "c": "x + 1"})
    rows = table.features().to_pylist()
    assert [(row["column"], row["inputs"]) for row in rows] == [("a", ["x"]), ("b", ["x"]), ("c", ["x"])]
    assert table.features().schema == ledger.LEDGER


def test_a_table_without_rows_or_features_has_nothing_to_do(lake):
    table = lake.create_table("t", schema=pa.schema({"x": pa.int64()}))
    assert table.features().num_rows == 0
    table.add_columns({"f": "x + 1"})
    assert state(table) == ("fresh", 1.0, 0)


def test_errors_go_by_any_column_of_a_feature(lake):
    @lh.udf({"a": pa.int64(), "b": pa.int64()}, version="1")
    def both(x: int) -> tuple[int, int]:
        raise ValueError("no")

    table = lake.create_table("t", data=[{"x": 1}])
    table.add_columns({"both": both, "c": "x + 1"})
    table.backfill(["a"], udf=both, progress=False)
    now = table.snapshot()
    for columns, expected in ((None, 1), (["a"], 1), (["b"], 1), (["a", "b"], 1), (["c"], 0)):
        assert ledger.errors(now, columns).num_rows == expected
    with pytest.raises(lh.errors.ColumnNotFoundError):
        ledger.errors(now, ["nope"])


def test_the_state_of_many_fragments_is_read_from_their_stamps_alone(lake):
    table = lake.create_table("t", schema=pa.schema({"x": pa.int64(), "note": pa.large_string()}))
    for start in range(0, 50, 10):
        table.add([{"x": 2 * n, "note": "long " * 5000} for n in range(start, start + 10)])
    table.add_columns({"f": half})
    fill(table)
    dataset = table.snapshot().dataset
    table.features()
    dataset.io_stats_incremental()
    assert table.features()["state"].to_pylist() == ["fresh"]
    assert dataset.io_stats_incremental().read_bytes < 10_000
