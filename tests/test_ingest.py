import datetime as dt
import json
import os
import threading

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

import lakehouse as lh
from lakehouse import ingest, layout
from lakehouse._lance import lance
from lakehouse.errors import BadRowsError, ConflictError, DuplicateKeyError, InvalidArgumentError, SchemaError
from tests.killing import run_and_kill
from tests.numbered_items import KEYED, Numbers

ROOT = os.path.dirname(os.path.dirname(__file__))
KILLED = """
import sys
sys.path.insert(0, {root!r})
import lakehouse as lh
from lakehouse import commit, ingest
from tests.numbered_items import Numbers
ingest.FRAGMENT_NBYTES = 2_000
before(ingest.Journal, "append", "spooled")
before(ingest.Journal, "seal", "sealed")
before(commit, "has_landed", "committed")
before(ingest.Journal, "discard", "done")
lh.connect("lake").open_table("t").add(Numbers(12, bad=(5,), nbytes=600), on_bad_rows="record", progress=False)
"""


@pytest.mark.parametrize("at", ["spooled.1", "spooled.2", "spooled.3", "sealed.1", "committed.1", "done.1"])
def test_an_add_killed_at_any_moment_and_called_again_stores_each_item_once(tmp_path, at):
    table = lh.connect(tmp_path / "lake").create_table("t", schema=KEYED)
    run_and_kill(KILLED.format(root=ROOT), at, tmp_path)
    source = Numbers(12, bad=(5,), nbytes=600)
    result = table.add(source, on_bad_rows="record", progress=False)
    assert sorted(table.to_arrow(["x"])["x"].to_pylist()) == [n for n in range(12) if n != 5]
    assert (result.num_rows, result.num_failed) == (11, 1)
    assert table.errors().select(["key", "attempt"]).to_pylist() == [{"key": "item-5", "attempt": 1}]
    assert len(source.read) + result.num_resumed + (1 if 5 not in source.read else 0) == 12
    assert result.num_resumed > 0 or at == "spooled.1"
    assert layout.side(table._lake).listdir("ingest/t") == []


@pytest.mark.parametrize(
    ("data_type", "fits", "too_much"),
    [
        (pa.int32(), [1, 2.0, None], [1.5, 2**40, np.float64(2.7), float("nan")]),
        (pa.list_(pa.uint8(), 2), [[1, 2], (3, 4)], [[1.5, 2]]),
        (pa.struct([("a", pa.int8())]), [{"a": 1}, {}], [{"a": 1.5}]),
        (pa.timestamp("s"), [dt.datetime(2026, 1, 1)], [dt.datetime(2026, 1, 1, microsecond=7)]),
    ],
)
def test_a_value_of_a_dictionary_is_stored_as_it_is_or_its_row_is_a_bad_one(lake, data_type, fits, too_much):
    table = lake.create_table("t", schema=pa.schema([("x", data_type)]))
    for value in too_much:
        with pytest.raises(BadRowsError, match="row 0: 'x'"):
            table.add([{"x": value}], progress=False)
        assert table.add([{"x": value}, {"x": fits[0]}], on_bad_rows="skip", progress=False).num_failed == 1
    table.delete("true")
    table.add([{"x": value} for value in fits], progress=False)
    assert table.to_arrow()["x"].equals(pa.chunked_array([pa.array(fits, data_type)]))


def test_where_the_first_rows_made_the_type_a_later_fraction_is_refused_and_not_cut(lake):
    rows = [{"x": n} for n in range(1100)] + [{"x": 1.5}]
    with pytest.raises(SchemaError, match="has 1.5 in column 'x', which is int64"):
        lake.create_table("t", data=rows)
    with pytest.raises(SchemaError, match="has 1.5 in column 'x', which is int64"):
        lake.sql("SELECT sum(x) FROM given", tables={"given": rows}).fetchall()
    assert lake.table_names() == []


def test_items_that_are_not_alike_are_refused(lake):
    table = lake.create_table("t", data=[{"x": 1}])
    for items in ([None], [{"x": 1}, pa.table({"x": [1]})], [pa.table({"x": [1]}), {"x": 1}]):
        with pytest.raises(InvalidArgumentError, match="item is a|later one a"):
            table.add(items, progress=False)
    with pytest.raises(SchemaError, match="would be cut"):
        table.update(values={"x": 1.5})
    assert (table.to_arrow()["x"].to_pylist(), table.version) == ([1], 2)


def test_what_fails_again_is_told_once_with_its_attempts_and_what_was_stored_meanwhile_no_more(lake):
    table = lake.create_table("t", schema=KEYED)

    def told(bad, on_bad_rows="record"):
        table.add(Numbers(8, bad), on_bad_rows=on_bad_rows, on_duplicate_key="skip", progress=False)
        return {row["key"]: row["attempt"] for row in table.errors().to_pylist()}

    assert told(bad=(3, 5)) == {"item-3": 1, "item-5": 1}
    assert told(bad=(5, 6)) == {"item-5": 2, "item-6": 1}
    assert told(bad=(6, 7), on_bad_rows="skip") == {"item-6": 2}  # 7 was not to be recorded
    assert told(bad=(), on_bad_rows="raise") == {}
    assert len(table) == 8


def test_items_that_appear_after_a_landed_commit_are_added_by_the_repeated_call(tmp_path):
    table = lh.connect(tmp_path / "lake").create_table("t", schema=KEYED)
    run_and_kill(KILLED.format(root=ROOT), "done.1", tmp_path)
    table.add(Numbers(15, bad=(5,), nbytes=600), on_bad_rows="record", progress=False)
    assert sorted(table.to_arrow(["x"])["x"].to_pylist()) == [n for n in range(15) if n != 5]


def test_a_bad_row_raises_before_anything_is_added(lake):
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(BadRowsError, match="item-3: broken on purpose"):
        table.add(Numbers(6, bad=(3,)), progress=False)
    assert (len(table), table.version) == (0, 1)


def test_after_a_raise_the_same_call_with_skip_reads_no_finished_item_again(lake, monkeypatch):
    monkeypatch.setattr(ingest, "FRAGMENT_NBYTES", 1_500)
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(BadRowsError):
        table.add(Numbers(6, bad=(5,), nbytes=600), progress=False)
    again = Numbers(6, bad=(5,), nbytes=600)
    result = table.add(again, on_bad_rows="skip", progress=False)
    assert (len(table), result.num_failed) == (5, 1)
    assert len(again.read) < 6


@pytest.mark.parametrize(
    "data",
    [
        pa.table({"id": ["a", "b"], "x": [1, 2]}),
        pa.RecordBatch.from_pydict({"id": ["a", "b"], "x": [1, 2]}),
        pa.table({"id": ["a", "b"], "x": [1, 2]}).to_reader(),
        [{"id": "a", "x": 1}, {"id": "b", "x": 2}],
        ({"id": key, "x": x} for key, x in (("a", 1), ("b", 2))),
        (pa.RecordBatch.from_pydict({"id": [key], "x": [x]}) for key, x in (("a", 1), ("b", 2))),
    ],
    ids=["table", "batch", "reader", "list", "generator of rows", "generator of batches"],
)
def test_every_kind_of_input_is_added(lake, data):
    table = lake.create_table("t", schema=KEYED)
    table.add(data, progress=False)
    assert table.to_arrow(["id", "x"]).to_pydict() == {"id": ["a", "b"], "x": [1, 2]}


def test_a_slice_of_nested_rows_is_added(lake):
    """Lance itself stops inside over some of them."""
    mask = pa.array([number % 3 == 0 for number in range(120)])
    inner = pa.StructArray.from_arrays([pa.array(range(120))], names=["number"], mask=mask)
    outer = pa.StructArray.from_arrays(
        [inner, pa.array([[n] * (n % 3) for n in range(120)])], ["inner", "list"], mask=mask
    )
    for rows in (
        pa.table({"s": outer})[50:],
        pa.table({"s": outer[3:90]}),
        pa.table({"s": pa.chunked_array([outer] * 2)})[60:],
    ):
        table = lake.create_table(f"from_{rows.num_rows}", data=rows)
        table.add(rows[5:], progress=False)
        assert table.to_arrow()["s"].to_pylist() == (rows["s"].to_pylist() + rows["s"][5:].to_pylist())


def test_a_data_frame_is_added_without_its_index(lake):
    import pandas as pd

    table = lake.create_table("t", schema=KEYED)
    table.add(pd.DataFrame({"id": ["a"], "x": [1]}, index=[7]), progress=False)
    assert table.to_arrow(["id", "x"]).to_pydict() == {"id": ["a"], "x": [1]}


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.integers(0, 9), max_size=5), max_size=5))
def test_skipping_duplicates_keeps_the_first_of_each_key(tmp_path_factory, batches):
    table = lh.connect(tmp_path_factory.mktemp("l")).create_table("t", schema=KEYED)
    seen = {}
    for number, batch in enumerate(batches):
        result = table.add([{"id": f"k{key}", "x": number} for key in batch], on_duplicate_key="skip", progress=False)
        fresh = dict.fromkeys(key for key in batch if key not in seen)
        seen |= dict.fromkeys(fresh, number)
        assert (result.num_rows, result.num_failed) == (len(fresh), len(batch) - len(fresh))
    assert {row["id"]: row["x"] for row in table.to_arrow(["id", "x"]).to_pylist()} == {
        f"k{k}": n for k, n in seen.items()
    }


def test_a_duplicate_key_raises_and_names_the_row(lake):
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(DuplicateKeyError, match=r"row 1: the key 'a'"):
        table.add([{"id": "a"}, {"id": "a"}], progress=False)
    assert len(table) == 0


def test_of_two_adds_of_the_same_key_at_once_one_raises(lake, monkeypatch):
    table = lake.create_table("t", schema=KEYED)
    other = lake.open_table("t")
    commit = ingest._commit

    def after_somebody_else(*args):
        monkeypatch.setattr(ingest, "_commit", commit)
        other.add([{"id": "a", "x": 2}], progress=False)
        return commit(*args)

    monkeypatch.setattr(ingest, "_commit", after_somebody_else)
    with pytest.raises(DuplicateKeyError, match="by somebody else while this ran"):
        table.add([{"id": "a", "x": 1}], progress=False)
    assert table.to_arrow(["x"])["x"].to_pylist() == [2]


def test_rows_that_do_not_fit_are_told_apart(lake):
    table = lake.create_table(
        "t",
        schema=lh.Schema.parse(
            'name = "t"\n[columns]\nv = {type = "vector<float32>[2]"}\nk = {type = "category", values = ["a"]}\nn = {type = "int8"}'
        ),
    )
    data = pa.table({"v": [[1.0, 2.0], [1.0], [3.0, 4.0], None], "k": ["a", "a", "z", None], "n": [1, 2, 3, 4000]})
    result = table.add(data, on_bad_rows="record", progress=False)
    assert (result.num_rows, result.num_failed) == (1, 3)
    assert table.to_arrow().to_pylist() == [{"v": [1.0, 2.0], "k": "a", "n": 1}]
    told = table.errors().select(["key", "column"]).to_pylist()
    assert told == [{"key": "row 1", "column": "v"}, {"key": "row 2", "column": "k"}, {"key": "row 3", "column": "n"}]


def test_columns_that_are_not_in_the_table_are_refused_with_the_nearest_name(lake):
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(SchemaError, match="has a column 'dta'.*did you mean 'data'"):
        table.add([{"id": "a", "dta": b""}], progress=False)


def test_numbers_are_not_turned_into_text(lake):
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(SchemaError, match="'id' is int64 in the data and string in the table"):
        table.add(pa.table({"id": [1]}), progress=False)


def test_an_unknown_policy_is_refused(lake):
    table = lake.create_table("t", schema=KEYED)
    with pytest.raises(InvalidArgumentError, match="on_bad_rows='ignore'"):
        table.add([{"id": "a"}], on_bad_rows="ignore", progress=False)


def test_adding_a_source_that_somebody_else_is_adding_says_who(lake):
    table = lake.create_table("t", schema=KEYED)
    with ingest._journal_of(table.snapshot(), Numbers(3)), pytest.raises(ConflictError, match=f"pid {os.getpid()}"):
        table.add(Numbers(3), progress=False)
    table.add(Numbers(3), progress=False)
    assert len(table) == 3


def test_a_journal_whose_files_are_gone_is_forgotten(tmp_path):
    table = lh.connect(tmp_path / "lake").create_table("t", schema=KEYED)
    run_and_kill(KILLED.format(root=ROOT), "sealed.1", tmp_path)
    for file in (tmp_path / "lake" / "t.lance" / "data").iterdir():
        file.unlink()
    result = table.add(Numbers(12, bad=(5,), nbytes=600), on_bad_rows="skip", progress=False)
    assert (result.num_rows, result.num_resumed, len(table)) == (11, 0, 11)


def test_journal_entries_are_plain_json(tmp_path):
    lh.connect(tmp_path / "lake").create_table("t", schema=KEYED)
    run_and_kill(KILLED.format(root=ROOT), "sealed.1", tmp_path)
    (run,) = (p for p in (tmp_path / "lake" / "_lakehouse" / "ingest" / "t").iterdir() if p.is_dir())
    covered = [item for part in run.glob("*.json") for item in json.loads(part.read_text())["items"]]
    assert sorted(covered) == sorted(f"item-{n}" for n in range(12))


def test_eight_threads_adding_at_once_lose_nothing(lake):
    table = lake.create_table("t", schema=KEYED)
    threads = [
        threading.Thread(
            target=lambda n=n: lake.open_table("t").add([{"id": f"{n}-{i}", "x": n} for i in range(20)], progress=False)
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(table.to_arrow(["id"])["id"].to_pylist())) == len(table) == 160


def test_rows_handed_over_at_once_are_stored_in_pages_that_a_scan_can_hold(lake):
    """Lance makes a page of what it is handed; one of 737 MB was read whole by every scan of the column."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(20_000 * 1024, np.float32)), 1024)  # 82 MB
    table = lake.create_table("vectors", data=pa.table({"v": vectors}))
    (fragment,) = table.snapshot().dataset.get_fragments()
    (file,) = fragment.metadata.files
    (column,) = lance.file.LanceFileReader(f"{table.uri}/data/{file.path}").metadata().columns
    assert max(sum(each.size for each in page.buffers) for page in column.pages) <= 33 << 20
