import dataclasses
import json
import os
import threading
from pathlib import Path

import counted
import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import lakehouse as lh
from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import BackfillError, ConflictError, InvalidArgumentError, SchemaError
from lakehouse.features.jobs import job
from lakehouse.features.storing import landing, staging
from tests.killing import run_and_kill
from tests.seeded import pictures

ROWS, FRAGMENTS = 40, 3


@lh.udf(pa.int64(), version="1")
def tripled(x: int) -> int:
    return 3 * x


@pytest.fixture
def table(lake):
    schema = pa.schema([pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}), pa.field("x", pa.int64())])
    made = lake.create_table("t", schema=schema)
    for start in range(0, ROWS * FRAGMENTS, ROWS):
        made.add({"id": n, "x": n} for n in range(start, start + ROWS))
    return made


def fill(table, *args, **options):
    return table.backfill(*args, progress=False, **options)


def values(table, column="f"):
    rows = table.to_arrow(["id", "x", column]).to_pylist()
    return {row["id"]: row[column] for row in rows}


def check_true(table, column="f", function=lambda x: 3 * x):
    """Every value that is called true is what the function gives now."""
    for row in table.to_arrow(["x", column], where=f"{column}__stamp >= 2").to_pylist():
        assert row[column] == function(row["x"])


def before_commit(monkeypatch, action):
    """Run `action` once, between staging and the first commit of a fill."""
    commit_staged = landing.commit_staged

    def first_the_others(*args):
        monkeypatch.setattr(landing, "commit_staged", commit_staged)
        action()
        return commit_staged(*args)

    monkeypatch.setattr(landing, "commit_staged", first_the_others)


def compacted(table):
    table.snapshot().dataset.optimize.compact_files(target_rows_per_fragment=1_000_000)


# Resuming

KILLED = """
import sys
sys.path.insert(0, {tests!r})
import lakehouse as lh
from counted import tripled
from lakehouse.features.jobs import runs
from lakehouse.features.storing import checkpoints, landing, staging
before(checkpoints.Checkpoints, "save", "saved")
before(staging, "stage", "staging")
before(landing, "commit_staged", "committing")
before(runs.Run, "committed", "committed")
lh.connect("lake").open_table("t").backfill("f", udf=tripled, progress=False)
"""


@pytest.mark.parametrize(
    "at", ["saved.1", "saved.2", "saved.7", "staging.1", "staging.3", "committing.1", "committed.1"]
)
def test_a_backfill_killed_anywhere_and_resumed_equals_one_run(tmp_path, monkeypatch, table, at):
    table.add_columns({"f": counted.tripled})
    run_and_kill(KILLED.format(tests=os.path.dirname(__file__)), at, tmp_path)
    monkeypatch.chdir(tmp_path)
    result = fill(table, "f")
    assert values(table) == {n: 3 * n for n in range(ROWS * FRAGMENTS)}
    assert table.features()["state"].to_pylist() == ["fresh"]
    assert len(counted.calls()) <= ROWS * FRAGMENTS + counted.BATCH
    assert result.num_computed + result.num_resumed == (0 if at == "committed.1" else ROWS * FRAGMENTS)
    assert not list((tmp_path / "lake" / "_lakehouse" / "checkpoints" / "t").iterdir())
    assert fill(table, "f").num_rows == 0


TRIED_AGAIN = """
import sys
sys.path.insert(0, {tests!r})
import lakehouse as lh
from counted import even
from lakehouse import failures
before(failures, "settle", "committed")
lh.connect("lake").open_table("t").backfill("f", udf=even, only="failed", progress=False)
"""


@pytest.mark.parametrize("is_mended", [False, True])
def test_failures_that_a_job_killed_right_after_its_commit_made_void_are_gone_with_the_next_one(
    tmp_path, monkeypatch, lake, is_mended
):
    monkeypatch.chdir(tmp_path)
    table = lake.create_table("t", data=pa.table({"x": range(4)}))
    table.add_columns({"f": counted.even})
    fill(table, "f")
    if is_mended:
        (tmp_path / "mended").touch()
    run_and_kill(TRIED_AGAIN.format(tests=os.path.dirname(__file__)), "committed.1", tmp_path)
    assert table.features()["num_failed"].to_pylist() == [0 if is_mended else 2]
    assert fill(table, "f").num_rows == 0
    assert table.errors("f")["attempt"].to_pylist() == ([] if is_mended else [2, 2])


def test_what_one_function_computed_is_not_taken_for_another(tmp_path, monkeypatch, table):
    table.add_columns({"f": counted.tripled})
    run_and_kill(KILLED.format(tests=os.path.dirname(__file__)), "staging.2", tmp_path)
    doubled = lh.udf(pa.int64(), version="2")(lambda x: 2 * x)
    table.alter_udf("f", doubled)
    assert fill(table, "f", udf=doubled).num_resumed == 0
    assert values(table) == {n: 2 * n for n in range(ROWS * FRAGMENTS)}


def test_a_checkpoint_cut_short_is_computed_again(tmp_path, monkeypatch, table):
    table.add_columns({"f": counted.tripled})
    run_and_kill(KILLED.format(tests=os.path.dirname(__file__)), "saved.5", tmp_path)
    parts = sorted((tmp_path / "lake" / "_lakehouse" / "checkpoints").rglob("*.arrow"))
    parts[0].write_bytes(b"")
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    monkeypatch.chdir(tmp_path)
    assert fill(table, "f").num_resumed == (len(parts) - 2) * counted.BATCH
    assert values(table) == {n: 3 * n for n in range(ROWS * FRAGMENTS)}


def test_ctrl_c_commits_what_is_staged_and_keeps_what_is_computed(table):
    seen = []

    @lh.udf(pa.int64(), batch=True, batch_size=10, version="1")
    def stopping(x: pa.Array) -> pa.Array:
        seen.extend(x.to_pylist())
        if len(seen) == ROWS + 20:
            raise KeyboardInterrupt
        return pc.multiply(x, 3)

    table.add_columns({"f": stopping})
    with pytest.raises(KeyboardInterrupt):
        fill(table, "f", udf=stopping)
    assert table.count_rows("f IS NOT NULL") == ROWS
    result = fill(table, "f", udf=stopping)
    assert (result.num_rows, result.num_resumed) == (ROWS * FRAGMENTS - ROWS, 10)
    assert len(seen) == ROWS * FRAGMENTS + 10
    check_true(table)


# Others write meanwhile


@pytest.mark.parametrize(
    ("others", "again"),
    [
        (lambda t: t.delete("x % 7 = 0"), 0),
        (lambda t: t.delete(f"id < {ROWS}"), 0),
        (lambda t: t.add([{"id": 1000, "x": 1000}], progress=False), 1),
        (compacted, 0),
        (lambda t: (t.delete("x % 7 = 0"), compacted(t)), 0),
        (lambda t: t.update("id IN (3, 50)", values_sql={"x": "x + 1000"}), 2),
        (lambda t: (t.update("id IN (3, 50)", values_sql={"x": "x + 1000"}), compacted(t)), 2),
        (lambda t: t.merge_insert("id").when_matched_update_all().execute([{"id": 3, "x": -1}]), 1),
        (lambda t: (t.add_columns({"other": "x + 1"}), fill(t, "other")), 0),
        (lambda t: t.rename_column("f", "g"), 0),
        (lambda t: t.rename_column("x", "z"), 0),
        (lambda t: t.snapshot().dataset.create_scalar_index("x", "BTREE"), 0),
    ],
    ids=[
        "delete",
        "delete a fragment",
        "append",
        "compaction",
        "delete and compaction",
        "update",
        "update and compaction",
        "upsert",
        "another feature",
        "rename",
        "rename of the input",
        "index",
    ],
)
def test_what_others_do_between_compute_and_commit_costs_only_rows_whose_inputs_changed(
    tmp_path, monkeypatch, table, others, again
):
    monkeypatch.chdir(tmp_path)
    table.add_columns({"f": counted.tripled})
    before_commit(monkeypatch, lambda: others(table))
    fill(table, "f", udf=counted.tripled)
    names = table.schema.names
    f, x = ("g" if "g" in names else "f"), ("z" if "z" in names else "x")
    rows = table.to_arrow([f, x]).to_pylist()
    assert rows == [{f: 3 * row[x], x: row[x]} for row in rows]
    assert table.features()["state"][0].as_py() == "fresh"
    assert len(counted.calls()) == ROWS * FRAGMENTS + again


def test_an_input_updated_in_place_by_others_is_computed_again(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    table.add_columns({"f": counted.tripled})

    def in_place():
        """Columns rewritten without moving rows, as Lance's `update_columns` does it."""
        dataset = lance.dataset(table.uri)
        fragment = dataset.get_fragments()[1]
        ids = dataset.scanner(columns=[], fragments=[fragment], with_row_id=True).to_table()["_rowid"][:2]
        new = pa.table({"_rowid": ids, "x": pa.array([-1, -2], pa.int64())})
        changed, modified = fragment.update_columns(new)[:2]
        operation = lance.LanceOperation.Update(
            updated_fragments=[changed], fields_modified=modified, update_mode="rewrite_columns"
        )
        lance.LanceDataset.commit(table.uri, operation, read_version=dataset.version)

    before_commit(monkeypatch, in_place)
    fill(table, "f", udf=counted.tripled)
    assert values(table)[ROWS] == -3
    check_true(table)
    assert len(counted.calls()) == ROWS * FRAGMENTS + 2


def test_nothing_true_goes_back_to_an_older_input_after_a_restore(tmp_path, monkeypatch, table):
    monkeypatch.chdir(tmp_path)
    version = table.version
    table.update("id = 5", {"x": 555})
    table.add_columns({"f": counted.tripled})
    declared = table.version
    table.update("id = 6", {"x": 666})
    before_commit(monkeypatch, lambda: lance.dataset(table.uri, version=declared).restore())
    fill(table, "f", udf=counted.tripled)
    assert version < declared
    assert (values(table)[5], values(table)[6]) == (3 * 555, 3 * 6)
    check_true(table)


@pytest.mark.parametrize("again", [None, pa.float32(), pa.int64()], ids=["dropped", "other type", "same type"])
def test_a_column_dropped_meanwhile_gets_no_cell(monkeypatch, table, again):
    table.add_columns({"f": tripled})

    def drop():
        table.drop_columns(["f"])
        if again is not None:
            table.add_columns({"f": pa.field("f", again)})

    before_commit(monkeypatch, drop)
    with pytest.raises(BackfillError, match="'f' was dropped"):
        fill(table, "f", udf=tripled)
    if again is not None:
        assert set(values(table).values()) == {None}


def test_a_function_altered_meanwhile_stops_the_old_one(monkeypatch, table):
    table.add_columns({"f": tripled})
    newer = lh.udf(pa.int64(), version="2")(lambda x: 2 * x)
    before_commit(monkeypatch, lambda: table.alter_udf("f", newer))
    with pytest.raises(BackfillError, match="another function"):
        fill(table, "f", udf=tripled)
    fill(table, "f", udf=newer)
    check_true(table, function=lambda x: 2 * x)


def test_eight_threads_fill_a_column_each_and_lose_nothing(lake, table):
    def one(n):
        own = lake.open_table("t")
        own.add_columns({f"f{n}": f"x * {n}"})
        fill(own, f"f{n}")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.to_arrow().num_rows == ROWS * FRAGMENTS
    for n in range(8):
        assert values(table, f"f{n}") == {x: x * n for x in range(ROWS * FRAGMENTS)}


def test_a_column_has_one_filler_at_a_time_and_the_second_is_told_who(lake, table):
    other = lake.open_table("t")

    @lh.udf(pa.int64(), version="1")
    def second(x: int) -> int:
        if x == 0:
            with pytest.raises(ConflictError, match=f"filling 'f' of 't' is being done by .*pid {os.getpid()}"):
                fill(other, "f", udf=second)
            assert other.features()["state"].to_pylist() == ["running"]
        return x

    table.add_columns({"f": second})
    fill(table, "f", udf=second)
    assert table.features()["state"].to_pylist() == ["fresh"]


def before_the_very_commit(monkeypatch, action):
    """Run `action` once, after the last look of a fill at the table and before its commit."""
    real = lance.LanceDataset.commit

    def first_the_others(*args, **options):
        monkeypatch.setattr(lance.LanceDataset, "commit", real)
        action()
        return real(*args, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", first_the_others)


@pytest.mark.parametrize("filled_before", [False, True])
@pytest.mark.parametrize(
    "others",
    [
        lambda t: t.update("id IN (3, 50)", values_sql={"x": "x + 1000"}),
        lambda t: t.merge_insert("id").when_matched_update_all().execute([{"id": 3, "x": -1}]),
        lambda t: t.delete(f"id < {ROWS}"),
        lambda t: t.delete("x % 7 = 0"),
        compacted,
        lambda t: t.add_columns({"g": "f + 1"}),
        lambda t: (t.add_columns({"g": "coalesce(f, 0) + 1"}), fill(t, "g")),
    ],
    ids=["update", "upsert", "delete a fragment", "delete", "compaction", "dependent declared", "dependent filled"],
)
def test_no_wrong_value_is_called_true_whoever_is_first_by_a_hair(monkeypatch, table, others, filled_before):
    table.add_columns({"f": tripled})
    newer = tripled
    if filled_before:
        fill(table, "f", udf=tripled)
        newer = lh.udf(pa.int64(), version="2")(lambda x: 3 * x)
        table.alter_udf("f", newer)
    before_the_very_commit(monkeypatch, lambda: others(table))
    fill(table, "f", udf=newer)
    assert table.features()["state"][0].as_py() == "fresh"
    check_true(table)
    if "g" in table.schema.names:
        assert table.features()["state"][1].as_py() in ("declared", "stale(inputs)")
        fill(table, "g")
        check_true(table, "g", lambda x: 3 * x + 1)


def test_a_dependent_filled_while_its_input_is_filled_anew_does_not_keep_the_old_one(monkeypatch, table):
    table.add_columns({"f": tripled})
    table.add_columns({"g": "f + 1"})
    fill(table, "f", udf=tripled)
    newer = lh.udf(pa.int64(), version="2")(lambda x: 5 * x)

    def refill():
        table.alter_udf("f", newer)
        fill(table, "f", udf=newer)

    before_the_very_commit(monkeypatch, refill)
    fill(table, "g")
    assert table.features()["state"].to_pylist() == ["fresh", "fresh"]
    check_true(table, "g", lambda x: 5 * x + 1)


# Features of features


def test_filling_a_feature_anew_makes_what_is_computed_from_it_stale_in_the_same_commit(table):
    table.add_columns({"f": tripled})
    table.add_columns({"g": "f + 1"})
    table.add_columns({"h": "g * 2"})
    fill(table)
    newer = lh.udf(pa.int64(), version="2")(lambda x: 5 * x)
    table.alter_udf("f", newer)
    assert table.features()["state"].to_pylist() == ["stale(code)", "stale(inputs)", "stale(inputs)"]
    assert table.count_rows("g__stamp = 0") == 0
    fill(table, "f", udf=newer, where="x < 10")
    states = dict(zip(*(table.features()[c].to_pylist() for c in ("column", "state")), strict=True))
    assert states == {"f": "stale(code)", "g": "stale(inputs)", "h": "stale(inputs)"}
    assert table.count_rows("g__stamp = 0") == table.count_rows("h__stamp = 0") == 10
    fill(table, "f", udf=newer)
    fill(table, ["h", "g"])
    assert values(table, "h") == {x: 2 * (5 * x + 1) for x in range(ROWS * FRAGMENTS)}


def test_all_features_are_filled_inputs_first(table):
    table.add_columns({"z": "x + 1"})
    table.add_columns({"a": "z * 2"})
    result = fill(table)
    assert result.num_filled == 2 * ROWS * FRAGMENTS
    assert values(table, "a") == {x: 2 * (x + 1) for x in range(ROWS * FRAGMENTS)}


def test_a_feature_declared_on_this_one_while_it_is_filled_does_not_miss_the_change(monkeypatch, table):
    table.add_columns({"f": tripled})

    def declare_and_fill_from_nothing():
        table.add_columns({"g": "coalesce(f, -1)"})
        fill(table, "g")

    before_commit(monkeypatch, declare_and_fill_from_nothing)
    fill(table, "f", udf=tripled)
    assert table.features()["state"].to_pylist() == ["fresh", "stale(inputs)"]
    fill(table, "g")
    assert values(table, "g") == {x: 3 * x for x in range(ROWS * FRAGMENTS)}


# Cover first


def test_a_value_appended_by_others_without_a_stamp_is_computed(table):
    table.add_columns({"f": tripled})
    fill(table, "f", udf=tripled)
    lance.write_dataset(pa.table({"id": [900, 901], "x": [900, 901], "f": [1, None]}), table.uri, mode="append")
    assert fill(table, "f", udf=tripled).num_computed == 2
    check_true(table)
    assert table.features()["state"].to_pylist() == ["fresh"]


def test_an_output_that_was_dropped_and_added_again_by_others_is_computed_again(table):
    @lh.udf({"two": pa.int64(), "three": pa.int64()}, version="1")
    def both(x: int) -> tuple[int, int]:
        return 2 * x, 3 * x

    table.add_columns({"both": both})
    fill(table, udf=both)
    field = table.snapshot().physical.field("three")
    lance.dataset(table.uri).drop_columns(["three"])
    with pytest.raises(BackfillError, match="declared with 2 columns and has two"):
        fill(table, "two", udf=both)
    lance.dataset(table.uri).add_columns(pa.schema([field]))
    assert fill(table, "two", udf=both).num_computed == ROWS * FRAGMENTS
    check_true(table, "two", lambda x: 2 * x)
    assert values(table, "three") == {x: 3 * x for x in range(ROWS * FRAGMENTS)}


def test_a_killed_cover_leaves_nothing_that_is_called_true(monkeypatch, table):
    @lh.udf({"two": pa.int64(), "three": pa.int64()}, version="1")
    def both(x: int) -> tuple[int, int]:
        return 2 * x, 3 * x

    table.add_columns({"both": both})
    fill(table, udf=both)
    field = table.snapshot().physical.field("three")
    lance.dataset(table.uri).drop_columns(["three"])
    lance.dataset(table.uri).add_columns(pa.schema([field]))
    monkeypatch.setattr(job.Job, "_round", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        fill(table, "two", udf=both)
    assert table.count_rows("two__stamp >= 2") == 0


def test_a_cover_does_not_wipe_what_somebody_filled_meanwhile(monkeypatch, lake, table):
    table.add_columns({"f": tripled})
    dataset = lance.dataset(table.uri)
    lance.write_dataset(pa.table({"id": [900], "x": [900], "f": [1]}), table.uri, mode="append")
    snapshot = lake.open_table("t").snapshot()
    fill(table, "f", udf=tripled)
    feature = snapshot.features["f"]
    assert not landing.cover(snapshot, feature, snapshot.dataset.get_fragments())
    assert dataset.version < snapshot.version
    assert len(values(table)) == ROWS * FRAGMENTS + 1
    check_true(table)


# Which rows


def test_limit_fills_that_many_rows(table):
    table.add_columns({"f": tripled})
    result = fill(table, "f", udf=tripled, limit=50)
    assert (result.num_rows, result.num_skipped) == (50, ROWS * FRAGMENTS - 50)
    assert table.count_rows("f__stamp = 2") == 50
    assert fill(table, "f", udf=tripled).num_rows == ROWS * FRAGMENTS - 50


@pytest.mark.parametrize(
    ("only", "expected"), [(None, {1, 2}), ("missing", {2}), ("stale", {1}), ("failed", {3}), ("all", {0, 1, 2, 3})]
)
def test_only_chooses_rows_by_their_state(table, only, expected):
    asked = []

    @lh.udf(pa.int64(), version="1")
    def asking(x: int) -> int:
        asked.append(x)
        if x == 3:
            raise ValueError(x)
        return x

    table.delete("id > 3")
    table.add_columns({"f": asking})
    fill(table, "f", udf=asking, where="id != 2")
    table.update("id = 1", {"x": 11})
    asked.clear()
    result = fill(table, "f", udf=asking, only=only)
    assert {11: 1}.get(asked[0], asked[0]) in expected
    assert {{11: 1}.get(x, x) for x in asked} == expected
    assert result.num_rows == len(expected)


def test_where_restricts_and_is_checked_before_anything_is_done(table):
    table.add_columns({"f": tripled})
    with pytest.raises(lh.errors.FilterError, match="where 'x <'") as refused:
        fill(table, "f", udf=tripled, where="x <")
    assert "__stamp" not in str(refused.value)
    assert fill(table, "f", udf=tripled, where=("x < $n", {"n": 7})).num_rows == 7


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(tmp_path, table):
    table.add_columns({"f": tripled})
    table.add_columns({"g": "f + 1"})
    before = sorted(path for path in (tmp_path / "lake").rglob("*"))
    plan = fill(table, "f", udf=tripled, limit=30, dry_run=True)
    assert (plan.num_rows, plan.becomes_stale) == (30, ("g",))
    assert plan.seconds > 0
    assert plan.nbytes == 30 * 8
    assert sorted(path for path in (tmp_path / "lake").rglob("*")) == before


def test_a_dry_run_counts_what_others_made_untrue(table):
    table.add_columns({"f": tripled})
    fill(table, "f", udf=tripled)
    lance.dataset(table.uri).update({"x": "x + 1000"}, where="id < 3")
    before = table.version
    plan = fill(table, "f", udf=tripled, dry_run=True)
    assert (plan.num_rows, table.version) == (3, before)
    assert fill(table, "f", udf=tripled).num_rows == 3
    check_true(table)


# Changed functions


def test_another_function_raises_and_names_the_two_ways_out(table):
    table.add_columns({"f": tripled})
    other = lh.udf(pa.int64(), version="2")(lambda x: x)
    with pytest.raises(SchemaError, match=r"alter_udf\('f'.*accept\('f'"):
        fill(table, "f", udf=other)


def test_an_altered_function_makes_the_column_stale_until_it_is_filled(table):
    table.add_columns({"f": tripled})
    fill(table, "f", udf=tripled)
    newer = lh.udf(pa.int64(), version="2")(lambda x: 2 * x)
    table.alter_udf("f", newer)
    assert table.features()["state"].to_pylist() == ["stale(code)"]
    with pytest.raises(SchemaError, match='only="missing" would leave two generations'):
        fill(table, "f", udf=newer, only="missing")
    assert fill(table, "f", udf=newer, only="stale").num_filled == ROWS * FRAGMENTS
    assert table.features()["state"].to_pylist() == ["fresh"]
    assert values(table) == {x: 2 * x for x in range(ROWS * FRAGMENTS)}


def test_nothing_is_filled_if_one_of_several_functions_cannot_be_had(table):
    table.add_columns({"a": "x + 1", "f": dataclasses.replace(tripled, name="nowhere:tripled")})
    with pytest.raises(InvalidArgumentError, match="nowhere"):
        fill(table)
    assert table.count_rows("a IS NOT NULL") == 0


# Failures


@lh.udf(pa.int64(), version="1")
def picky(x: int) -> int:
    if x % 10 == 3:
        raise ValueError(f"no {x}")
    return x


def test_failures_are_recorded_with_key_and_line_and_go_when_they_are_mended(table):
    table.add_columns({"f": picky})
    result = fill(table, "f", udf=picky)
    assert (result.num_filled, result.num_failed) == (108, 12)
    told = table.errors("f").sort_by("row_id")
    assert told["key"].to_pylist() == [str(n) for n in range(3, 120, 10)]
    assert "test_features_backfill.py" in told["message"][0].as_py()
    assert set(told["attempt"].to_pylist()) == {1}
    assert table.features()["num_failed"].to_pylist() == [12]
    assert fill(table, "f", udf=picky).num_rows == 0
    assert fill(table, "f", udf=picky, only="failed").num_failed == 12
    assert set(table.errors("f")["attempt"].to_pylist()) == {2}
    table.update("x % 10 = 3", values_sql={"x": "0"})
    fill(table, "f", udf=picky)
    assert table.errors("f").num_rows == 0
    check_true(table, function=lambda x: x)


def test_raise_stops_at_the_first_failure_and_keeps_what_was_computed(table):
    broken = [True]

    @lh.udf(pa.int64(), batch=True, batch_size=5, version="1")
    def flaky(x: pa.Array) -> pa.Array:
        if broken[0] and 47 in x.to_pylist():
            raise ConnectionError("no network")
        return pc.multiply(x, 3)

    table.add_columns({"f": flaky})
    with pytest.raises(BackfillError, match=r"failed on row 47: .*no network"):
        fill(table, "f", udf=flaky, on_error="raise")
    assert table.features()["num_failed"].to_pylist() == [0]
    broken[0] = False
    result = fill(table, "f", udf=flaky, on_error="raise")
    assert result.num_resumed == 9
    assert values(table) == {x: 3 * x for x in range(ROWS * FRAGMENTS)}


def test_null_stores_a_null_that_counts_as_done(table):
    table.add_columns({"f": picky})
    result = fill(table, "f", udf=picky, on_error="null")
    assert (result.num_filled, result.num_failed) == (108, 12)
    assert table.features()["state"].to_pylist() == ["fresh"]
    assert table.errors("f").num_rows == 0
    assert table.count_rows("f IS NULL") == 12


@pytest.mark.parametrize("num_rows", [ROWS * FRAGMENTS, 20])
def test_too_many_failures_stop_the_job_even_in_a_small_table(table, num_rows):
    table.delete(f"id >= {num_rows}")
    table.add_columns({"f": picky})
    with pytest.raises(BackfillError, match="more than max_error_rate=0.05; the last one: .*ValueError"):
        fill(table, "f", udf=picky, max_error_rate=0.05)
    fill(table, "f", udf=picky, max_error_rate=0.2)
    assert table.features()["num_failed"].to_pylist() == [num_rows // 10]


def test_failures_of_a_killed_job_are_in_errors_after_the_next(tmp_path, monkeypatch, table):
    table.add_columns({"f": picky})
    monkeypatch.setattr(staging, "stage", lambda *_: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        fill(table, "f", udf=picky)
    monkeypatch.undo()
    result = fill(table, "f", udf=picky)
    assert result.num_resumed >= ROWS  # the next fragment is computed while one is staged
    assert table.errors("f").num_rows == 12


# Kinds of functions, inputs and outputs


@lh.udf({"even": pa.bool_(), "name": pa.string()}, version="1")
def described(x: int) -> tuple[bool, str]:
    return x % 2 == 0, f"no {x}"


def test_several_outputs_are_filled_together_under_one_stamp(table):
    table.add_columns({"described": described})
    fill(table, udf=described)
    assert table.schema.names == ["id", "x", "even", "name"]
    row = table[7]
    assert (row["even"], row["name"]) == (False, "no 7")
    assert [n for n in table.snapshot().physical.names if n.endswith("__stamp")] == ["even__stamp"]


@lh.udf(pa.int64(), batch=True, version="1")
class Adding:
    def __init__(self, amount):
        self.amount = amount

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x + self.amount


def test_a_class_is_built_with_its_recorded_arguments(table):
    table.add_columns({"f": Adding(amount=5)})
    fill(table, "f")
    assert values(table) == {x: x + 5 for x in range(ROWS * FRAGMENTS)}
    with pytest.raises(SchemaError):
        fill(table, "f", udf=Adding(amount=6), only="all")


@pytest.mark.parametrize("storage", ["inline", "blob"])
def test_pictures_are_decoded_for_the_function(lake, storage):
    data = pictures(6).to_pylist()
    schema = lh.Schema.parse(
        f"""
        name = "p"
        key = "id"
        [columns]
        id = {{ type = "string", nullable = false }}
        image = {{ type = "image", storage = "{storage}" }}
        """
    )
    table = lake.create_table("p", schema=schema)
    table.add([{"id": row["id"], "image": row["image"]} for row in data] + [{"id": "none", "image": None}])

    @lh.udf(pa.int32(), version="1")
    def width(image: PIL.Image.Image) -> int:
        return image.width

    table.add_columns({"width": width})
    fill(table, udf=width)
    expected = {row["id"]: row["width"] for row in data} | {"none": None}
    assert {row["id"]: row["width"] for row in table.to_arrow(["id", "width"]).to_pylist()} == expected


@pytest.mark.parametrize(
    ("data_type", "function"),
    [
        (pa.list_(pa.float32(), 3), lambda x: [x, x + 1, x + 2]),
        (pa.struct({"a": pa.int32(), "b": pa.list_(pa.string())}), lambda x: {"a": x, "b": [str(x)] * (x % 3)}),
        (pa.list_(pa.struct({"q": pa.int64()})), lambda x: [{"q": x}] * (x % 3)),
        (pa.large_binary(), lambda x: bytes([x]) * x),
        (pa.dictionary(pa.int32(), pa.string()), lambda x: "ab"[x % 2]),
    ],
    ids=["vector", "struct", "list of structs", "bytes", "dictionary"],
)
def test_nested_outputs_keep_their_values_through_partial_fills(table, data_type, function):
    udf = lh.udf(data_type, version="1")(lambda x: None if x % 5 == 0 else function(x))
    table.add_columns({"f": udf})
    fill(table, udf=udf, where="x % 2 = 0")
    table.delete("x % 7 = 1")
    table.add([{"id": 100 + ROWS * FRAGMENTS, "x": 8}], progress=False)
    compacted(table)
    fill(table, udf=udf)
    got = {row["x"]: row["f"] for row in table.to_arrow(["x", "f"]).to_pylist()}
    assert got == {x: None if x % 5 == 0 else function(x) for x in range(ROWS * FRAGMENTS) if x % 7 != 1 or x == 8}


@pytest.mark.parametrize("kind", ["struct<a: int64>", "list<int64>", "vector<float32>[1]", "blob"])
def test_changed_inputs_are_seen_whatever_their_type(lake, monkeypatch, kind):
    schema = lh.Schema.parse(
        f'name = "t"\nkey = "id"\n[columns]\nid = {{ type = "int64", nullable = false }}\nx = {{ type = "{kind}" }}'
    )
    table = lake.create_table("t", schema=schema)

    def of(n):
        return {"struct": {"a": n}, "blob": bytes([n])}.get(kind[:6].rstrip("<"), [n])

    table.add([{"id": n, "x": of(n)} for n in range(5)])
    calls = []

    @lh.udf(pa.string(), version="1")
    def shown(x) -> str:
        calls.append(x)
        return repr(x)

    table.add_columns({"f": shown})
    upsert = table.merge_insert("id").when_matched_update_all()
    before_commit(monkeypatch, lambda: (upsert.execute([{"id": 2, "x": of(77)}]), compacted(table)))
    fill(table, "f", udf=shown)
    rows = table.to_arrow(["id", "x", "f"]).sort_by("id").to_pylist()
    assert [row["f"] for row in rows] == [repr(row["x"]) for row in rows]
    assert rows[2]["x"] == of(77)
    assert len(calls) == 6


def test_a_table_without_rows_is_filled_at_once(lake):
    table = lake.create_table("t", schema=pa.schema({"x": pa.int64()}))
    table.add_columns({"f": tripled, "g": "x + 1"})
    assert fill(table, "f", udf=tripled).num_rows == 0
    assert fill(table, "g").num_rows == 0


def test_sql_features_read_renamed_inputs(table):
    table.add_columns({"f": "x * 3 + length('x')"})
    table.rename_column("x", "number of things")
    fill(table, "f")
    rows = table.to_arrow(["number of things", "f"]).to_pylist()
    assert all(row["f"] == 3 * row["number of things"] + 1 for row in rows)
    assert table.features()["inputs"].to_pylist() == [["number of things"]]


def test_an_input_dropped_by_others_is_named(table):
    table.add_columns({"f": tripled})
    lance.dataset(table.uri).drop_columns(["x"])
    with pytest.raises(SchemaError, match="'f' was declared on x"):
        fill(table, "f", udf=tripled)


# What it costs


def test_a_fill_is_one_commit_that_adds_little_more_than_the_column(lake, tmp_path):
    num_rows = 20_000
    table = lake.create_table("t", schema=pa.schema({"x": pa.int64(), "note": pa.string()}))
    for start in range(0, num_rows, num_rows // 10):
        table.add(pa.table({"x": range(start, start + num_rows // 10), "note": ["n"] * (num_rows // 10)}))
    table.add_columns({"f": "CAST(x AS DOUBLE) * 1.5"})
    version, before = table.version, _nbytes(tmp_path)
    fill(table, "f")
    assert table.version == version + 1
    assert _nbytes(tmp_path) - before <= 8 * num_rows + 12_000  # the side folder's record of the run included


def _nbytes(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def test_the_transaction_says_who_and_what(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    table.add_columns({"f": "x + 1"})
    fill(table, "f")
    last = table.history(limit=1).to_pylist()[0]
    assert (last["operation"], last["author"], last["message"]) == ("DataReplacement", "ada", "filling 'f'")
    properties = commit.transaction_of(table.snapshot().dataset, table.version).transaction_properties
    assert json.dumps(properties)
    assert properties["lakehouse:column"] == "f"
