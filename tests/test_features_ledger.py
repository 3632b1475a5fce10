import tempfile
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.errors import StorageError
from lakehouse.features.records import counts, ledger
from lakehouse.location import Location


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
    now = table.snapshot()
    now.dataset.io_stats_incremental()
    assert ledger.features(now)["state"].to_pylist() == ["fresh"]
    assert now.dataset.io_stats_incremental().read_bytes < 15_000  # the log of its few versions with it


def reads(table):
    """Tell the state, and how many reads of data files it took; opening a version reads its manifest."""
    now = table.snapshot()
    now.dataset.io_stats_incremental()
    counted = counts.stamps(now, now.features.values(), remember=True)
    requests = now.dataset.io_stats_incremental().read_iops
    return counted, requests


def test_what_was_counted_is_not_read_again_and_of_what_changed_only_that(lake):
    table = lake.create_table("t", schema=pa.schema({"x": pa.int64()}))
    for start in range(0, 50, 10):
        table.add([{"x": 2 * n} for n in range(start, start + 10)])
    table.add_columns({"f": half, "g": "x + 1"})
    assert reads(table)[1] == 0  # nobody filled anything: the manifest says it
    table.backfill(udf={"f": half}, progress=False)
    first, all_of_them = reads(table)
    again, none = reads(table)
    assert (none, again) == (0, first)
    table.delete("x = 2")  # one of five fragments has a deletion file now
    after, one = reads(table)
    assert 0 < one <= all_of_them / 4
    assert after != first
    table.add([{"x": 500}])
    assert reads(table)[1] == 0
    assert reads(table)[1] == 0


def test_whoever_may_not_write_is_told_all_the_same(table, monkeypatch):
    fill(table, limit=4)
    monkeypatch.setattr(Location, "write_bytes", lambda *_, **__: (_ for _ in ()).throw(StorageError("read-only")))
    assert state(table) == ("partial", 0.2, 2)


values = st.integers(0, 9)


@settings(max_examples=15)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["add", "delete", "update", "in place", "fill some"]), values),
            st.tuples(st.sampled_from(["fill", "compact", "alter"]), st.none()),
        ),
        max_size=8,
    )
)
def test_remembered_counts_are_those_of_a_full_scan(operations):
    with tempfile.TemporaryDirectory() as folder:
        table = lh.connect(Path(folder) / "lake").create_table("t", data=[{"x": n} for n in range(6)])
        table.add_columns({"f": half})
        function = half
        for version, (operation, value) in enumerate(operations, 2):
            match operation:
                case "add":
                    table.add([{"x": value}, {"x": 7}], progress=False)
                case "delete":
                    table.delete(f"x = {value}")
                case "update":
                    table.update(f"x = {value}", {"x": 3})
                case "in place":
                    lance.dataset(table.uri).merge_insert("x").when_matched_update_all().write_mode(
                        "rewrite_columns"
                    ).execute(pa.table({"x": [value], "f__stamp": pa.array([0], pa.int32())}))
                case "fill some":
                    table.backfill("f", udf=function, where=f"x < {value}", progress=False)
                case "fill":
                    table.backfill("f", udf=function, progress=False)
                case "compact":
                    lance.dataset(table.uri).optimize.compact_files()
                case "alter":
                    function = lh.udf(pa.int64(), version=str(version))(half.target)
                    table.alter_udf("f", function)
            now = table.snapshot()
            kept = ledger.counts(now, now.features["f"], remember=True)
            assert kept == counted(now)


def counted(now):
    feature, rows = now.features["f"], now.dataset.to_table(columns=["f", "f__stamp"]).to_pylist()
    stamps = [row["f__stamp"] or 0 for row in rows]
    true = [stamp for stamp in stamps if stamp >= feature.true_from]
    return ledger.Counts(
        num_rows=len(rows),
        done=sum(stamp % 2 == 0 for stamp in true),
        failed=sum(stamp % 2 == 1 for stamp in true),
        older=sum(0 < stamp < feature.true_from for stamp in stamps),
        reset=sum(row["f"] is not None and not row["f__stamp"] for row in rows),
    )


# Columns computed from columns


@pytest.fixture
def chain(lake):
    table = lake.create_table("t", data=[{"x": 2 * n} for n in range(10)])
    table.add_columns({"f": half})
    table.add_columns({"g": "f + 1"})
    table.backfill(udf={"f": half}, progress=False)
    return table


def both(table):
    return [(row["column"], row["state"], row["coverage"]) for row in table.features().to_pylist()]


def test_what_is_computed_from_a_changed_function_is_stale_without_being_rewritten(chain):
    files = sorted(Path(chain.uri, "data").iterdir())
    chain.alter_udf("f", lh.udf(pa.int64(), version="2")(lambda x: x))
    assert both(chain) == [("f", "stale(code)", 0.0), ("g", "stale(inputs)", 0.0)]
    assert sorted(Path(chain.uri, "data").iterdir()) == files
    chain.accept("f")
    assert both(chain) == [("f", "fresh", 1.0), ("g", "fresh", 1.0)]


def test_a_column_filled_before_the_one_it_is_computed_from_is_not_called_fresh(chain):
    chain.update("x = 4", {"x": 8})
    assert both(chain) == [("f", "stale(inputs)", 0.9), ("g", "stale(inputs)", 0.9)]
    chain.backfill("g", progress=False)
    assert both(chain) == [("f", "stale(inputs)", 0.9), ("g", "stale(inputs)", 0.9)]
    chain.backfill(udf={"f": half}, progress=False)
    assert both(chain) == [("f", "fresh", 1.0), ("g", "fresh", 1.0)]
    assert chain.to_arrow(where="x = 8")["g"].to_pylist() == [5, 5]


def test_rows_that_wait_for_both_make_neither_stale(chain):
    chain.add([{"x": 40}])
    assert [state for _, state, _ in both(chain)] == ["partial", "partial"]


def test_who_and_when_are_of_whoever_filled_it_last(chain, monkeypatch):
    declared = chain.snapshot().features["g"].declared_at
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    chain.add([{"x": 40}])
    chain.backfill(udf={"f": half}, progress=False)
    rows = chain.features().to_pylist()
    assert {row["who"] for row in rows} == {"ada"}
    assert all(row["when"] >= declared for row in rows)
