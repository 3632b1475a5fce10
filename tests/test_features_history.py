import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse._lance import lance
from lakehouse.errors import ColumnNotFoundError
from lakehouse.features.evolution import history

TWICE, THRICE = (
    lh.udf(pa.int64(), inputs=["x"], version="2")(lambda x: 2 * x),
    lh.udf(pa.int64(), inputs=["x"], version="3")(lambda x: 3 * x),
)


@pytest.fixture
def table(lake):
    return lake.create_table("t", data=[{"id": i, "x": i} for i in range(10)])


def told(table, column, *names):
    rows = table.column_history(column).select(list(names) or ["what"]).to_pylist()
    return [tuple(row.values()) if len(row) > 1 else next(iter(row.values())) for row in rows]


def clean_up(table):
    """Take away all versions but the newest, as others may do."""
    lance.dataset(table.uri).cleanup_old_versions(older_than=dt.timedelta(0))


def test_all_that_happens_to_a_feature_is_told_in_order_with_who_and_what(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    declared = table.add_columns({"f": TWICE})
    filled = table.backfill("f", udf=TWICE, progress=False).version
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "bob")
    altered = table.alter_udf("f", THRICE)
    refilled = table.backfill("f", udf=THRICE, progress=False).version
    renamed = table.rename_column("f", "ff")
    back = table.rollback_column("ff", version=filled, progress=False).version
    table.alter_udf("ff", THRICE)
    accepted = table.accept("ff")
    assert told(table, "ff", "what", "who", "generation", "version") == [
        ("declared", "ada", 1, declared),
        ("filled", "ada", 1, filled),
        ("altered", "bob", 2, altered),
        ("filled", "bob", 2, refilled),
        ("renamed", "bob", 2, renamed),
        ("rolled back", "bob", 3, back),
        ("altered", "bob", 4, accepted - 1),
        ("accepted", "bob", 4, accepted),
    ]
    found = table.column_history("ff")
    assert found.schema == history.HISTORY
    hashes = [TWICE.code_hash] * 2 + [THRICE.code_hash] * 3 + [TWICE.code_hash] + [THRICE.code_hash] * 2
    assert found["code_hash"].to_pylist() == hashes
    assert found["when"].to_pylist() == sorted(found["when"].to_pylist())
    assert found["message"].to_pylist()[5] == f"rolling back 'ff' of 't' to version {filled}"


def test_a_fill_tells_rows_failures_bytes_and_its_run(table):
    @lh.udf(pa.int64(), version="1")
    def odd(x: int) -> int:
        if x % 2:
            return x
        raise ValueError(x)

    table.add_columns({"f": odd})
    result = table.backfill("f", udf=odd, progress=False)
    (row,) = table.column_history("f").slice(1).to_pylist()
    assert (row["what"], row["num_rows"], row["num_failed"]) == ("filled", 10, 5)
    assert row["nbytes"] == result.nbytes_written
    assert row["run"] == table.runs("f")["run"][0].as_py()


def test_a_run_that_failed_is_told_with_its_error(table):
    @lh.udf(pa.int64(), version="1")
    def never(x: int) -> int:
        raise ValueError("no")

    table.add_columns({"f": never})
    with pytest.raises(lh.errors.BackfillError):
        table.backfill("f", udf=never, on_error="raise", progress=False)
    what, message = table.column_history("f").slice(1).select(["what", "message"]).to_pylist()[0].values()
    assert (what, "failed on row" in message) == ("failed", True)


def test_what_was_remembered_outlives_a_clean_up(table):
    table.add_columns({"f": TWICE})
    table.backfill("f", udf=TWICE, progress=False)
    table.alter_udf("f", THRICE)
    table.backfill("f", udf=THRICE, progress=False)
    table.rename_column("f", "ff")
    before = history.column_history(table.snapshot(), "ff", remember=True).to_pylist()
    assert history.column_history(table.snapshot(), "ff", remember=True).to_pylist() == before
    table.update(values={"x": 7}, where="id = 0")
    clean_up(table)
    assert table.column_history("ff").to_pylist() == before
    table.backfill("ff", udf=THRICE, progress=False)
    clean_up(table)
    assert told(table, "ff")[:-1] == [row["what"] for row in before]
    assert told(table, "ff")[-1] == "filled"


def test_without_anything_remembered_the_record_itself_and_the_runs_are_left(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    table.add_columns({"f": TWICE})
    table.backfill("f", udf=TWICE, progress=False)
    table.update(values={"id": 70}, where="id = 0")
    clean_up(table)
    assert told(table, "f", "what", "who", "generation") == [("declared", "ada", 1), ("filled", "ada", 1)]


def test_outputs_of_one_function_have_one_history_and_a_lost_sibling_is_told(lake, table):
    both = lh.udf({"two": pa.int64(), "three": pa.int64()}, inputs=["x"], version="1")(lambda x: (2 * x, 3 * x))
    table.add_columns({"both": both})
    table.backfill("two", udf=both, progress=False)
    table.rename_column("three", "drei")
    lance.dataset(table.uri).drop_columns(["two"])
    assert told(table, "drei") == ["declared", "filled", "renamed", "lost a column"]


def test_plain_columns_are_told_as_far_as_the_log_goes(table):
    table.add_columns({"note": pa.field("note", pa.string())})
    table.rename_column("note", "remark")
    assert told(table, "remark") == ["added", "renamed"]
    assert told(table, "id") == ["added"]
    table.drop_columns(["remark"])
    table.add_columns({"remark": pa.field("remark", pa.string())})
    assert told(table, "remark") == ["added"]


def test_a_column_of_the_same_name_does_not_inherit_a_history(table):
    table.add_columns({"f": TWICE})
    table.backfill("f", udf=TWICE, progress=False)
    table.drop_columns(["f"])
    table.add_columns({"f": "x + 1"})
    assert told(table, "f", "what", "source") == [("declared", "x + 1")]


def test_what_others_write_is_told_without_a_name(table):
    table.add_columns({"f": TWICE})
    table.backfill("f", udf=TWICE, progress=False)
    dataset = lance.dataset(table.uri)
    new, fields = dataset.get_fragments()[0].update_columns(
        pa.table({"_rowid": pa.array([3], pa.uint64()), "f": [33]}), left_on="_rowid", right_on="_rowid"
    )
    operation = lance.LanceOperation.Update(updated_fragments=[new], fields_modified=fields)
    lance.LanceDataset.commit(table.uri, operation, read_version=dataset.version)
    assert told(table, "f") == ["declared", "filled", "changed"]
    assert table.column_history("f")["who"][-1].as_py() is None


def test_an_older_handle_sees_the_history_up_to_its_version(table):
    table.add_columns({"f": TWICE})
    version = table.backfill("f", udf=TWICE, progress=False).version
    table.rename_column("f", "ff")
    assert told(table.checkout(version), "f") == ["declared", "filled"]
    with pytest.raises(ColumnNotFoundError):
        table.column_history("f")


@settings(max_examples=10)
@given(
    st.lists(
        st.sampled_from(["fill", "alter", "rename", "rename x", "append", "update", "compact", "remember"]), max_size=8
    )
)
def test_any_history_is_told_completely_whatever_else_happens(tmp_path_factory, steps):
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", data=[{"id": i, "x": i} for i in range(10)])
    twice, thrice = (
        lh.udf(pa.int64(), inputs=["x"], version=v)(f) for v, f in (("2", lambda x: 2 * x), ("3", lambda x: 3 * x))
    )
    table.add_columns({"f": twice})
    expected, name, given_name, function = ["declared"], "f", "x", twice
    for n, step in enumerate(steps):
        match step:
            case "fill":
                result = table.backfill(name, udf=function, progress=False)
                expected += ["filled"] if result.num_rows else []
            case "alter":
                function = thrice if function is twice else twice
                function = lh.udf(pa.int64(), inputs=[given_name], version=function.version)(lambda x: x)
                table.alter_udf(name, function)
                expected.append("altered")
            case "rename":
                table.rename_column(name, name := f"f{n}")
                expected.append("renamed")
            case "rename x":
                table.rename_column(given_name, given_name := f"x{n}")
            case "append":
                table.add([{"id": 100 + n, given_name: n}], progress=False)
            case "update":
                table.update(values={given_name: n}, where="id = 1")
            case "compact":
                lance.dataset(table.uri).optimize.compact_files()
            case "remember":
                history.column_history(table.snapshot(), name, remember=True)
                clean_up(table)
    assert told(table, name) == expected
