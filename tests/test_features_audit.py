"""Whoever writes behind the library's back: nothing wrong is ever called fresh, and the next backfill makes it right."""

import datetime as dt
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import lancedb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import lakehouse as lh
from lakehouse import commit, marks
from lakehouse._lance import lance
from lakehouse.errors import SchemaError
from lakehouse.features.records import audit, ledger
from lakehouse.features.records.rowids import RowIds, union

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("x", pa.int64()), pa.field("y", pa.int64())])
TRUE = {"f": lambda row: row["x"] + 1, "g": lambda row: 2 * (row["x"] + 1), "h": lambda row: -row["y"]}
NO_TIME = dt.timedelta(0)


@lh.udf(pa.int64(), version="1")
def negative(y: int) -> int:
    return -y


def made(folder, rows=6):
    table = lh.connect(Path(folder) / "lake").create_table("t", schema=SCHEMA)
    for start in range(0, rows, 3):
        table.add([{"id": n, "x": n, "y": n} for n in range(start, start + 3)])
    table.add_columns({"f": "x + 1", "h": negative})
    table.add_columns({"g": "f * 2"})
    return table


@pytest.fixture
def table(tmp_path):
    filled = made(tmp_path)
    fill(filled)
    return filled


def fill(table, *columns):
    for name in columns or table.snapshot().features:
        table.backfill(name, udf=negative if name == "h" else None, progress=False)


def states(table):
    told = table.features()
    return dict(zip(told["column"].to_pylist(), told["state"].to_pylist(), strict=True))


def lies(table):
    """Return the features that are told to be fresh and hold a value that is not true."""
    rows = lance.dataset(table.uri).to_table().to_pylist()
    fresh = {name for name, state in states(table).items() if state == "fresh"}
    return {name for name in fresh if any(row[name] != TRUE[name](row) for row in rows)}


def others(table):
    """Open the table as somebody does who does not know this library."""
    return lancedb.connect(Path(table.uri).parent).open_table("t")


FOREIGN = {
    "update of an input": (lambda t: others(t).update(where="id = 1", values={"x": 50}), "fg"),
    "update of another column's input": (lambda t: others(t).update(where="id = 1", values={"y": 50}), "h"),
    "update of a value": (lambda t: others(t).update(where="id = 1", values={"f": 50}), "fg"),
    "update of a stamp": (lambda t: others(t).update(where="id = 1", values={"h__stamp": 2}), "h"),
    "upsert": (
        lambda t: (
            others(t)
            .merge_insert("id")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute(pa.table({"id": [1, 100], "x": [50, 50], "y": [5, 5]}))
        ),
        "fgh",
    ),
    "lance's update": (lambda t: lance.dataset(t.uri).update({"x": "x + 1"}, where="id > 3"), "fg"),
    "columns rewritten in place": (
        lambda t: (
            lance.dataset(t.uri)
            .merge_insert("id")
            .when_matched_update_all()
            .write_mode("rewrite_columns")
            .execute(pa.table({"id": [1], "x": [50]}))
        ),
        "fg",
    ),
    "a column file replaced": (lambda t: replace_column(t, "x", 50), "fg"),
    "rows added with stamps": (
        lambda t: others(t).add([{"id": 9, "x": 9, "y": 9, "f": 1, "f__stamp": 2, "g": 1, "g__stamp": 2}]),
        "fg",
    ),
    "an overwrite": (
        lambda t: lance.write_dataset(lance.dataset(t.uri).to_table(), t.uri, mode="overwrite"),
        "fgh",
    ),
}


def replace_column(table, name, value):
    """Put another file in the place of one column of the first fragment, as `DataReplacement` does."""
    dataset = lance.dataset(table.uri)
    fragment = dataset.get_fragments()[0]
    file = f"{name}-{dataset.version}.lance"
    schema = pa.schema([pa.field(name, pa.int64())])
    with lance.file.LanceFileWriter(f"{table.uri}/data/{file}", schema=schema, version="2.2") as writer:
        writer.write_batch(pa.record_batch([pa.array([value] * fragment.physical_rows)], schema=schema))
    group = lance.LanceOperation.DataReplacementGroup(
        fragment.fragment_id, lance.fragment.DataFile.create(dataset, file)
    )
    lance.LanceDataset.commit(table.uri, lance.LanceOperation.DataReplacement([group]), read_version=dataset.version)


@pytest.mark.parametrize("write", FOREIGN)
def test_what_others_wrote_makes_unverified_what_is_computed_from_it_and_nothing_else(table, write):
    act, touched = FOREIGN[write]
    act(table)
    assert {name for name, state in states(table).items() if state == "unverified"} == set(touched)
    assert not lies(table)
    fill(table)
    assert set(states(table).values()) == {"fresh"}
    assert not lies(table)


numbers = st.integers(-9, 9)
ids = st.integers(0, 11)


class Everybody(RuleBasedStateMachine):
    """Writes of ours and of others in any order; the truth is computed from what the table holds."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.table = made(self.folder)
        self.next_id = 100
        self.declared = self.table.version

    def teardown(self):
        shutil.rmtree(self.folder)

    @rule(feature=st.sampled_from(["f", "g", "h"]))
    def fill_one(self, feature):
        fill(self.table, feature)

    @rule()
    def fill_all(self):
        fill(self.table)
        assert set(states(self.table).values()) == {"fresh"}

    @rule(feature=st.sampled_from(["f", "h"]), write=st.sampled_from(sorted(FOREIGN)))
    def fill_while_others_write(self, feature, write):
        """They come between the look at the table and the commit."""
        real = lance.LanceDataset.commit

        def commit_after_them(*args, **options):
            lance.LanceDataset.commit = real
            FOREIGN[write][0](self.table)
            return real(*args, **options)

        lance.LanceDataset.commit = commit_after_them
        try:
            fill(self.table, feature)
        finally:
            lance.LanceDataset.commit = real

    @rule(write=st.sampled_from(sorted(FOREIGN)))
    def write_as_others_do(self, write):
        FOREIGN[write][0](self.table)

    @rule(row=ids, column=st.sampled_from("xy"), value=numbers)
    def update(self, row, column, value):
        self.table.update(f"id = {row}", {column: value})

    @rule(row=ids)
    def delete(self, row):
        self.table.delete(f"id = {row}")

    @rule(x=numbers, y=numbers)
    def add(self, x, y):
        self.table.add([{"id": self.next_id, "x": x, "y": y}], progress=False)
        self.next_id += 1

    @rule()
    def compact(self):
        self.table.compact(progress=False)

    @rule(feature=st.sampled_from(["f", "g", "h"]), back=st.integers(1, 12))
    def roll_back(self, feature, back):
        before = [v["version"] for v in lance.dataset(self.table.uri).versions() if v["version"] >= self.declared]
        self.table.rollback_column(feature, before[-min(back, len(before))])

    @rule()
    def others_delete_and_compact(self):
        others(self.table).delete("id = 2")
        others(self.table).optimize()

    @rule()
    def others_clean_up(self):
        lance.dataset(self.table.uri).cleanup_old_versions(older_than=NO_TIME)

    @rule()
    def others_restore(self):
        dataset = lance.dataset(self.table.uri)
        before = [v["version"] for v in dataset.versions() if v["version"] >= self.declared][-4:]
        lance.dataset(self.table.uri, version=before[0]).restore()

    @rule()
    def what_is_remembered_is_deleted(self):
        forget(self.table)

    @rule()
    def remember(self):
        ledger.features(self.table.snapshot(), remember=True)

    @invariant()
    def nothing_wrong_is_called_fresh(self):
        assert not lies(self.table)


Everybody.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestEverybody = Everybody.TestCase


def test_others_who_touch_no_input_change_nothing(table):
    others(table).add([{"id": 50, "x": 1, "y": 2}])
    others(table).delete("id = 1")
    others(table).optimize()
    lance.dataset(table.uri).create_scalar_index("id", "BTREE")
    others(table).add_columns({"note": "'n'"})
    others(table).update(where="id = 2", values={"note": "new"})
    others(table).drop_columns(["note"])
    assert set(states(table).values()) == {"partial"}  # the row that was added
    before = table.version
    fill(table)
    assert not any("resetting" in (message or "") for message in table.history()["message"].to_pylist())
    assert table.version > before
    assert not lies(table)


def test_one_row_they_changed_is_one_row_to_compute_even_after_they_compact(table):
    others(table).update(where="id = 1", values={"y": 50})
    others(table).optimize()
    assert others(table).count_rows() == 6
    row = table.features().to_pylist()[1]
    assert (row["column"], row["state"], row["coverage"]) == ("h", "unverified", 5 / 6)
    result = table.backfill("h", udf=negative, progress=False)
    assert (result.num_computed, states(table)["h"]) == (1, "fresh")


def test_a_fill_of_ours_does_not_launder_what_others_wrote(table):
    """Whoever fills only what was missing before the reset leaves the rest unverified."""
    others(table).update(where="id = 1", values={"x": 50})
    table.add([{"id": 70, "x": 7, "y": 7}])
    table.update("id = 1", {"y": 3})
    assert (states(table)["f"], states(table)["g"]) == ("unverified", "unverified")
    others(table).optimize()
    assert (states(table)["f"], states(table)["g"]) == ("unverified", "unverified")
    fill(table)
    assert set(states(table).values()) == {"fresh"}
    assert not lies(table)


def test_a_column_in_the_place_of_a_dropped_input_is_not_taken_for_it(table):
    dataset = lance.dataset(table.uri)
    dataset.drop_columns(["x"])
    dataset.add_columns({"x": "id * 100"})
    assert states(table) == {"f": "unverified", "g": "unverified", "h": "fresh"}
    with pytest.raises(SchemaError, match=r"'f' was declared on x, which others dropped or replaced"):
        fill(table, "f")
    with pytest.raises(SchemaError, match=r"'f' was declared on x"):
        fill(table, "g")
    fill(table, "h")  # goes on
    table.drop_columns(["g"])
    table.drop_columns(["f"])
    table.add_columns({"f": "x + 1"})
    fill(table, "f")
    assert states(table) == {"f": "fresh", "h": "fresh"}


def test_ids_that_an_overwrite_gave_to_other_columns_are_noticed(table):
    rows = lance.dataset(table.uri).to_table()
    lance.write_dataset(rows.select(["id", "y", "x", *rows.schema.names[3:]]), table.uri, mode="overwrite")
    assert set(states(table).values()) == {"unverified"}
    with pytest.raises(SchemaError, match=r"'f' was declared on x, which others dropped or replaced"):
        fill(table, "f")
    table.accept("f")
    assert states(table)["f"] != "unverified"  # whoever says so means it


def test_accept_declares_right_what_others_wrote_up_to_then(table):
    others(table).update(where="id = 1", values={"f": 2})
    others(table).update(where="id = 2", values={"y": 5})
    table.accept("f")
    assert states(table) == {"f": "fresh", "g": "unverified", "h": "unverified"}
    others(table).update(where="id = 3", values={"f": 4})
    assert states(table)["f"] == "unverified"
    table.accept("f")
    table.accept("g")
    assert states(table) == {"f": "fresh", "g": "fresh", "h": "unverified"}
    fill(table)
    assert set(states(table).values()) == {"fresh"}
    assert not lies(table)


def test_a_rollback_to_what_nobody_vouched_for_brings_back_the_doubt(table):
    others(table).update(where="id = 1", values={"x": 50})
    doubted = table.version
    fill(table)
    table.rollback_column("f", doubted)
    assert lance.dataset(table.uri).to_table(filter="id = 1")["f"].to_pylist() == [2]
    assert (states(table)["f"], states(table)["h"]) == ("unverified", "fresh")
    fill(table)
    assert set(states(table).values()) == {"fresh"}
    assert not lies(table)


# The log and what is remembered of it


def test_the_history_names_who_made_each_version_with_this_library(lake, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    schema = lh.Schema.parse(
        'name = "t"\nkey = "id"\n[columns]\nid = { type = "int64", nullable = false }\nx = { type = "int64" }'
    )
    table = lake.create_table("t", schema=schema)
    table.add([{"id": n, "x": n} for n in range(9)])
    table.add_columns({"f": "x + 1", "note": pa.field("note", pa.string())})
    table.backfill(progress=False)
    table.update("id = 1", {"x": 5})
    table.delete("id = 2")
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute([{"id": 3, "x": 0}])
    table.rename_column("note", "remark")
    table.drop_columns(["remark"])
    table.create_index("id", lh.BTree())
    table.compact(progress=False)
    table.optimize_indices()
    unsigned = [row for row in table.history().to_pylist() if row["author"] != "ada" or not row["message"]]
    # A compaction is two commits; the first gives out numbers for fragments and moves no row.
    assert {row["operation"] for row in unsigned} <= {"BaseOperation"}
    lance.dataset(table.uri).delete("id = 4")
    assert table.history()["author"][0].as_py() is None


def test_a_write_of_ours_that_was_killed_before_its_mark_counts_as_somebody_elses(table, monkeypatch):
    monkeypatch.setattr(marks, "leave", lambda *_: None)
    table.update("id = 1", {"x": 50})
    monkeypatch.undo()
    # It reset the stamps itself, so nothing is claimed; and what it moved along is not vouched for.
    assert states(table) == {"f": "stale(inputs)", "g": "stale(inputs)", "h": "fresh"}
    fill(table)
    assert set(states(table).values()) == {"fresh"}


def test_the_log_is_read_once(table, monkeypatch):
    for n in range(5):
        others(table).update(where=f"id = {n}", values={"y": -n})
    told = ledger.features(table.snapshot(), remember=True)
    asked = []
    real = lance.LanceDataset.read_transaction
    monkeypatch.setattr(lance.LanceDataset, "read_transaction", lambda *args: asked.append(args[1]) or real(*args))
    assert ledger.features(table.snapshot(), remember=True) == told
    assert asked == [table.version]  # is it still the table it was?
    others(table).update(where="id = 1", values={"x": 0})
    asked.clear()
    ledger.features(table.snapshot())
    assert set(asked) == {table.version - 1, table.version}


def test_after_a_clean_up_what_was_remembered_holds(table):
    others(table).update(where="id = 1", values={"y": 50})
    audit.known(table.snapshot(), remember=True)
    lance.dataset(table.uri).cleanup_old_versions(older_than=NO_TIME)
    assert states(table) == {"f": "fresh", "g": "fresh", "h": "unverified"}
    table.add([{"id": 90, "x": 1, "y": 1}])
    lance.dataset(table.uri).cleanup_old_versions(older_than=NO_TIME)
    assert states(table)["f"] == "partial"


def test_where_the_log_is_gone_and_nothing_is_remembered_nobody_vouches_for_anything(table):
    forget(table)
    others(table).update(where="id = 1", values={"y": 50})
    lance.dataset(table.uri).cleanup_old_versions(older_than=NO_TIME)
    assert set(states(table).values()) == {"unverified"}
    fill(table, "h")
    assert states(table)["h"] == "fresh"
    assert not lies(table)
    table.accept("f")
    table.accept("g")
    assert set(states(table).values()) == {"fresh"}


def test_what_is_remembered_of_a_dropped_table_is_not_believed_of_another(tmp_path):
    first = made(tmp_path)
    fill(first)
    ledger.features(first.snapshot(), remember=True)
    kept = Path(first.uri).parent / "_lakehouse" / "audit" / "t" / "known.json"
    text = kept.read_text()
    lh.connect(Path(first.uri).parent).drop_table("t")
    second = made(tmp_path, rows=30)
    fill(second)
    others(second).update(where="id = 1", values={"y": 50})
    kept.parent.mkdir(exist_ok=True, parents=True)
    kept.write_text(text)
    assert states(second) == {"f": "fresh", "g": "fresh", "h": "unverified"}


def test_a_pinned_handle_tells_what_was_known_then_and_writes_nothing(table):
    others(table).update(where="id = 1", values={"y": 50})
    version = table.version
    fill(table)
    forget(table)
    pinned = table.checkout(version)
    assert states(pinned) == {"f": "fresh", "g": "fresh", "h": "unverified"}
    assert not (Path(table.uri).parent / "_lakehouse" / "audit").exists()
    lance.dataset(table.uri, version=version).restore()
    assert states(table) == {"f": "fresh", "g": "fresh", "h": "unverified"}


def forget(table):
    for room in ("audit", "counts"):
        shutil.rmtree(Path(table.uri).parent / "_lakehouse" / room, ignore_errors=True)


def test_a_table_nobody_else_wrote_to_pays_a_file_and_the_new_transactions(table):
    ledger.features(table.snapshot(), remember=True)
    table.update("id = 1", {"x": 3})
    now = table.snapshot()
    now.dataset.io_stats_incremental()
    audit.known(now)
    assert now.dataset.io_stats_incremental().read_iops <= 2 * 2  # the last one known, and the new one


def test_restores_of_restored_versions_do_not_multiply_what_is_read_of_the_log(table, monkeypatch):
    for _ in range(12):
        lance.dataset(table.uri, version=table.version - 1).restore()
    read, reads_one = [], commit.transaction_of
    monkeypatch.setattr(commit, "transaction_of", lambda *at: read.append(at[1]) or reads_one(*at))
    forget(table)
    assert lies(table) == set()
    assert len(read) <= 4 * table.version


# Sets of row ids

sets = st.lists(st.integers(0, 40)).map(set)


@given(sets, sets, st.lists(st.integers(0, 45)))
def test_sets_of_row_ids_are_sets(one, other, asked):
    a, b = RowIds.of(sorted(one)), RowIds.of(sorted(other))
    for ours, theirs in ((a | b, one | other), (a - b, one - other), (a, one)):
        assert ours.contains(asked).tolist() == [each in theirs for each in asked]
        assert ours == RowIds.of(sorted(theirs))
        assert bool(ours) == bool(theirs)


@given(st.lists(sets))
def test_a_union_of_many_sets_is_one(many):
    assert union(map(RowIds.of, map(sorted, many))) == RowIds.of(sorted(set().union(*many)))
