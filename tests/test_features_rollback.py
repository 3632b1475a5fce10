import itertools
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import ColumnNotFoundError, ConflictError, SchemaError, VersionNotFoundError
from lakehouse.features.storing import staging
from lakehouse.leases import lease, leases_of
from tests.killing import run_and_kill


def times(k):
    return lh.udf(pa.int64(), inputs=["x"], batch=True, version=str(k))(lambda x: pc.multiply(x, k))


TIMES = {times(k).code_hash: times(k) for k in (2, 3, 5, 7)}


def factor(table):
    """What the function that is declared for `f` multiplies with."""
    return int(TIMES[table.snapshot().features["f"].code_hash].version)


def rows_of(lake, ids, x=None):
    return [{"id": i, "x": i if x is None else x, "other": -i} for i in ids]


@pytest.fixture
def table(lake):
    """Make a table of two fragments; `f` is 2 x, `g` is f + 1, both filled."""
    made = lake.create_table("t", data=rows_of(lake, range(10)))
    made.add(rows_of(lake, range(10, 20)), progress=False)
    made.add_columns({"f": times(2)})
    made.add_columns({"g": "f + 1"})
    fill(made)
    return made


def fill(table):
    table.backfill("f", udf=TIMES[table.snapshot().features["f"].code_hash], progress=False)
    table.backfill("g", progress=False)


def compact(table):
    lance.dataset(table.uri).optimize.compact_files()


def read(table, version=None):
    """Return the rows by id, and which of them hold a true `f` and `g`."""
    snapshot = table.snapshot() if version is None else table.checkout(version).snapshot()
    names = [name for name in ("id", "x", "other", "f", "f__stamp", "g", "g__stamp") if name in snapshot.physical.names]
    rows = {row["id"]: row for row in snapshot.dataset.scanner(columns=names).to_table().to_pylist()}
    for row in rows.values():
        for name in ("f", "g"):
            feature, stamp = snapshot.features.get(name), row.pop(f"{name}__stamp", None)
            row[f"{name} is true"] = bool(feature and stamp and stamp >= feature.true_from and stamp % 2 == 0)
    return rows


def check_nothing_false_is_called_true(table):
    for row in read(table).values():
        assert not row["f is true"] or row["f"] == factor(table) * row["x"], row
        assert not row["g is true"] or row["g"] == row["f"] + 1, row


# The law

OPERATIONS = {
    "fill": lambda t, n: fill(t),
    "fill a part": lambda t, n: t.backfill(
        "f", udf=TIMES[t.snapshot().features["f"].code_hash], limit=3, progress=False
    ),
    "append": lambda t, n: t.add(rows_of(None, range(1000 + 10 * n, 1003 + 10 * n)), progress=False),
    "delete": lambda t, n: t.delete(f"id % 7 = {n % 7}"),
    "update input": lambda t, n: t.update(values_sql={"x": f"x + {n + 1}"}, where=f"id % 5 = {n % 5}"),
    "update other": lambda t, n: t.update(values_sql={"other": "other - 1"}, where=f"id % 4 = {n % 4}"),
    "compact": lambda t, n: compact(t),
    "alter": lambda t, n: t.alter_udf("f", list(TIMES.values())[n % 4]),
    "accept": lambda t, n: t.accept("f", TIMES[t.snapshot().features["f"].code_hash]),
}


@settings(max_examples=6)
@given(st.lists(st.sampled_from(list(OPERATIONS)), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_after_a_rollback_rows_are_as_they_were_where_they_still_are_what_they_were(tmp_path_factory, history, random):
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("t", data=rows_of(lake, range(10)))
    table.add(rows_of(lake, range(10, 20)), progress=False)
    table.add_columns({"f": times(2)})
    table.add_columns({"g": "f + 1"})
    versions = [table.version]
    for n, name in enumerate(history):
        OPERATIONS[name](table, n)
        versions.append(table.version)
    version = random.choice(versions)
    then, before = read(table, version), read(table)
    generation = table.snapshot().features["f"].generation

    result = table.rollback_column("f", version=version, progress=False)

    now = read(table)
    assert {i: (r["x"], r["other"], r["g"]) for i, r in now.items()} == {
        i: (r["x"], r["other"], r["g"]) for i, r in before.items()
    }
    for i, row in now.items():
        was = then.get(i, {"f": None, "f is true": False, "x": row["x"]})
        assert row["f"] == was["f"]
        assert row["f is true"] == (was["f is true"] and was["x"] == row["x"])
        assert not row["g is true"] or row["g"] == row["f"] + 1
    assert (result.num_rows, result.num_true) == (len(now), sum(row["f is true"] for row in now.values()))
    assert table.snapshot().features["f"].generation > generation
    check_nothing_false_is_called_true(table)
    lance.dataset(table.uri).validate()
    fill(table)
    assert all(row["f"] == factor(table) * row["x"] and row["g"] == row["f"] + 1 for row in read(table).values())
    assert table.features()["state"].to_pylist() == ["fresh", "fresh"]


# What it costs


def test_nothing_is_copied_where_rows_and_inputs_are_the_same(lake):
    wide = lh.udf(pa.list_(pa.float32(), 256), batch=True, version="1")(
        lambda x: pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(np.asarray(x), 256), pa.float32()), 256)
    )
    other = lh.udf(pa.list_(pa.float32(), 256), batch=True, version="2")(
        lambda x: pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(256 * len(x)), pa.float32()), 256)
    )
    table = lake.create_table("t", data=rows_of(lake, range(100)))
    for start in (100, 200):
        table.add(rows_of(lake, range(start, start + 100)), progress=False)
    table.add_columns({"f": wide, "n": "array_length(f)"})
    version = table.backfill("f", udf=wide, progress=False).version
    table.backfill("n", progress=False)
    old = table.to_arrow(["id", "f"])
    table.alter_udf("f", other)
    table.backfill("f", udf=other, progress=False)
    table.delete("id = 7")
    files = sorted(path.name for path in Path(table.uri, "data").iterdir())
    result = table.rollback_column("f", version=version, progress=False)
    assert (result.nbytes_written, result.num_true, result.became_stale) == (0, 299, ("n",))
    assert sorted(path.name for path in Path(table.uri, "data").iterdir()) == files
    assert table.to_arrow(["id", "f"]).equals(old.filter(pc.not_equal(old["id"], 7)))


def test_only_stamps_are_written_where_inputs_changed_in_place(table):
    version = table.version
    dataset = lance.dataset(table.uri)
    fragment = dataset.get_fragments()[0]
    changed, fields = fragment.update_columns(
        pa.table({"_rowid": pa.array([3], pa.uint64()), "x": [33]}), left_on="_rowid", right_on="_rowid"
    )
    operation = lance.LanceOperation.Update(updated_fragments=[changed], fields_modified=fields)
    lance.LanceDataset.commit(table.uri, operation, read_version=dataset.version)
    result = table.rollback_column("f", version=version, progress=False)
    assert (result.num_true, result.num_stale) == (19, 1)
    assert 0 < result.nbytes_written < 1000
    assert [i for i, row in read(table).items() if not row["f is true"]] == [3]


def test_an_index_on_the_column_finds_the_old_values(table):
    version = table.version
    table.alter_udf("f", TIMES[times(3).code_hash])
    fill(table)
    table.create_index("f", lh.BTree())
    table.rollback_column("f", version=version, progress=False)
    assert table.to_arrow(["id"], where="f = 8")["id"].to_pylist() == [4]
    assert table.to_arrow(["id"], where="f = 9")["id"].to_pylist() == []
    table.optimize_indices()
    assert table.to_arrow(["id"], where="f = 8")["id"].to_pylist() == [4]


# What it is


def test_outputs_of_one_function_go_back_together_and_renames_do_not_matter(lake):
    both = lh.udf({"two": pa.int64(), "three": pa.int64()}, inputs=["x"], version="1")(lambda x: (2 * x, 3 * x))
    none = lh.udf({"two": pa.int64(), "three": pa.int64()}, inputs=["x"], version="2")(lambda x: (0, 0))
    table = lake.create_table("t", data=rows_of(lake, range(4)))
    table.add_columns({"both": both})
    version = table.backfill("two", udf=both, progress=False).version
    table.alter_udf("two", none)
    table.backfill("two", udf=none, progress=False)
    table.rename_column("three", "drei")
    table.rollback_column("drei", version=version, progress=False)
    assert table.to_arrow(["two", "drei"]).to_pydict() == {"two": [0, 2, 4, 6], "drei": [0, 3, 6, 9]}
    assert table.features()["state"].to_pylist() == ["fresh", "fresh"]


def test_large_media_go_back_without_being_copied(lake):
    made = lh.udf("blob", inputs=["x"], version="1")(lambda x: bytes([x]) * 100_000)
    empty = lh.udf("blob", inputs=["x"], version="2")(lambda x: b"")
    table = lake.create_table("t", data=rows_of(lake, range(4)))
    table.add_columns({"f": made})
    version = table.backfill("f", udf=made, progress=False).version
    table.alter_udf("f", empty)
    table.backfill("f", udf=empty, progress=False)
    assert table.rollback_column("f", version=version, progress=False).nbytes_written == 0
    assert table.to_arrow(["f"])["f"].to_pylist() == [bytes([x]) * 100_000 for x in range(4)]
    compact(table)
    table.add(rows_of(lake, [9]), progress=False)
    table.update(values={"other": 1}, where="id = 2")
    assert table.rollback_column("f", version=version, progress=False).nbytes_written > 100_000
    assert table.to_arrow(["id", "f"]).sort_by("id")["f"].to_pylist() == [bytes([x]) * 100_000 for x in range(4)] + [
        None
    ]


def test_failures_are_failures_again_and_messages_of_later_runs_go(lake):
    @lh.udf(pa.int64(), version="1")
    def odd(x: int) -> int:
        if x % 2:
            return x
        raise ValueError(x)

    @lh.udf(pa.int64(), version="2")
    def never(x: int) -> int:
        raise ValueError(x)

    table = lake.create_table("t", data=rows_of(lake, range(4)))
    table.add_columns({"f": odd})
    version = table.backfill("f", udf=odd, progress=False).version
    table.alter_udf("f", never)
    table.backfill("f", udf=never, progress=False)
    assert table.errors("f").num_rows == 4
    table.rollback_column("f", version=version, progress=False)
    assert table.features().select(["num_failed", "coverage"]).to_pylist() == [{"num_failed": 2, "coverage": 0.5}]
    assert table.errors("f").num_rows == 0
    assert table.backfill("f", udf=odd, only="failed", progress=False).num_failed == 2


# What it refuses


def test_what_cannot_be_is_refused_and_changes_nothing(lake, table):
    before = table.version
    with pytest.raises(SchemaError, match="'x' is not computed"):
        table.rollback_column("x", version=before)
    with pytest.raises(SchemaError, match=r"'f' did not exist at version 1: it was declared later$"):
        table.rollback_column("f", version=1)
    with pytest.raises(VersionNotFoundError, match="no version 999"):
        table.rollback_column("f", version=999)
    assert table.version == before
    table.drop_columns(["f"], cascade=True)
    table.add_columns({"f": times(3)})
    with pytest.raises(SchemaError, match="what was called so then was another column"):
        table.rollback_column("f", version=before)


def test_a_version_that_was_cleaned_up_is_named(table):
    version = table.version
    table.update(values={"other": 1})
    lance.dataset(table.uri).cleanup_old_versions(older_than=__import__("datetime").timedelta(0))
    with pytest.raises(VersionNotFoundError, match=f"version {version} of 't' was cleaned up"):
        table.rollback_column("f", version=version)


def test_another_type_is_refused(lake):
    small = lh.udf(pa.int32(), inputs=["x"], version="1")(lambda x: x)
    table = lake.create_table("t", data=rows_of(lake, range(3)))
    table.add_columns({"f": small})
    version = table.backfill("f", udf=small, progress=False).version
    dataset = lance.dataset(table.uri)
    token = dataset.schema.field("f").metadata
    dataset.alter_columns({"path": "f", "data_type": pa.int64()})  # type: ignore[dict-item]  # one alteration, not several
    dataset.update_field_metadata({"f": {k.decode(): v.decode() for k, v in token.items()}})
    with pytest.raises(SchemaError, match=f"'f' was int32 at version {version} and is int64 now"):
        table.rollback_column("f", version=version)


@pytest.mark.parametrize("name", ["f", "g"])
def test_a_column_that_is_being_filled_or_feeds_one_that_is_says_by_whom(table, name):
    feature = table.snapshot().features[name]
    with (
        lease(leases_of(table.snapshot()), feature.token, "filling"),
        pytest.raises(ConflictError, match=f"filling '{name}' of 't' is being done by .*pid"),
    ):
        table.rollback_column("f", version=table.version)


# Others at the same time


def before_the(monkeypatch, number, act):
    """Run `act` right before the n-th commit that this process makes itself."""
    real, calls = lance.LanceDataset.commit, itertools.count(1)

    def commits(*args, **kwargs):
        if next(calls) == number:
            monkeypatch.setattr(lance.LanceDataset, "commit", real)
            act()
        return real(*args, **kwargs)

    monkeypatch.setattr(lance.LanceDataset, "commit", commits)


ACTS = {
    "append": lambda t: t.add(rows_of(None, [100, 101]), progress=False),
    "delete": lambda t: t.delete("id = 3"),
    "update input": lambda t: t.update(values={"x": 50}, where="id = 4"),
    "update other": lambda t: t.update(values={"other": 50}, where="id = 5"),
    "compact": compact,
    "index": lambda t: t.create_index("f", lh.BTree()),
    "rename": lambda t: t.rename_column("g", "gg"),
    "declare": lambda t: t.add_columns({"h": "f + 2"}),
}


@pytest.mark.parametrize(("name", "number"), [*((name, 2) for name in ACTS), ("compact", 1), ("declare", 3)])
def test_whatever_others_do_in_between_nothing_of_theirs_is_lost(table, monkeypatch, name, number):
    version = table.version
    table.alter_udf("f", times(3))
    fill(table)
    monkeypatch_act = ACTS[name]
    before_the(monkeypatch, number, lambda: monkeypatch_act(table))
    result = table.rollback_column("f", version=version, progress=False)
    rows = {row["id"]: row for row in table.to_arrow(["id", "x", "other", "f"]).to_pylist()}
    assert sorted(rows) == [i for i in range(20) if (name, i) != ("delete", 3)] + [100, 101] * (name == "append")
    assert {i: row["f"] for i, row in rows.items()} == {i: 2 * i if i < 20 else None for i in rows}
    if name == "update input":
        assert (rows[4]["x"], result.num_true) == (50, 19)
    if name == "update other":
        assert (rows[5]["other"], result.num_true) == (50, 20)
    assert table.to_arrow(["id"], where="f = 8")["id"].to_pylist() == [4]
    states = dict(zip(*table.features().select(["column", "state"]).to_pydict().values(), strict=True))
    assert states.pop("f") == {"append": "partial", "update input": "stale(inputs)"}.get(name, "fresh")
    assert set(states.values()) <= {"stale(inputs)", "declared"}


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda t: t.alter_udf("f", times(5)), "given another function while it was being rolled back"),
        (lambda t: t.drop_columns(["f"], cascade=True), "dropped"),
    ],
)
@pytest.mark.parametrize("number", [2, 3])
def test_a_function_or_drop_of_somebody_else_wins_and_nothing_false_is_called_true(
    table, monkeypatch, act, message, number
):
    version = table.version
    before_the(monkeypatch, number, lambda: act(table))
    with pytest.raises((ConflictError, ColumnNotFoundError), match=message):
        table.rollback_column("f", version=version, progress=False)
    if "f" in table.schema.names:
        assert not any(row["f is true"] for row in read(table).values())


@pytest.mark.parametrize("column", ["f", "g"])
def test_a_fill_that_was_planned_before_and_is_late_does_not_land(table, column):
    version = table.version
    dataset = lance.dataset(table.uri)
    feature = table.snapshot().features[column]
    late = [
        lance.LanceOperation.DataReplacementGroup(
            f.fragment_id,
            staging.stage_rows(table.snapshot(), (column, feature.stamp), f).data_file,
        )
        for f in dataset.get_fragments()
    ]
    transaction = lance.Transaction(dataset.version, lance.LanceOperation.DataReplacement(late))
    table.rollback_column("f", version=version, progress=False)
    with pytest.raises(Exception, match="conflict"):
        lance.LanceDataset.commit(table.uri, transaction)


# Kills

ROLLBACK = """
    import lakehouse as lh
    from lakehouse._lance import lance
    before(lance.LanceDataset, "commit", "commit")
    lh.connect("lake").open_table("t").rollback_column("f", version={version}, progress=False)
"""


@pytest.mark.parametrize("at", ["commit.1", "commit.2", "commit.3"])
def test_a_kill_at_any_step_calls_nothing_false_true_and_the_same_call_finishes(table, tmp_path, at):
    version = table.version
    then = read(table)
    table.alter_udf("f", times(3))
    fill(table)
    table.update(values={"x": 70}, where="id = 7")
    run_and_kill(ROLLBACK.format(version=version), at, tmp_path)
    check_nothing_false_is_called_true(table)
    table.rollback_column("f", version=version, progress=False)
    check_nothing_false_is_called_true(table)
    now = read(table)
    assert {i: row["f"] for i, row in now.items()} == {i: row["f"] for i, row in then.items()}
    assert [i for i, row in now.items() if not row["f is true"]] == [7]


WRITER = """
    import sys
    import lakehouse as lh
    table = lh.connect("lake").open_table("t")
    for n in range(4):
        start = 1000 * int(sys.argv[1]) + 10 * n
        table.add([{"id": i, "x": i, "other": -i} for i in range(start, start + 5)], progress=False)
        table.add_columns({f"own{sys.argv[1]}": "other * 2"})
        table.backfill(f"own{sys.argv[1]}", progress=False)
        table.update(values_sql={"x": "x + 1"}, where=f"id % 5 = {n % 5}")
"""


def test_writers_in_other_processes_lose_nothing_and_gain_no_false_value(table, tmp_path):
    version = table.version
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    writers = [
        subprocess.Popen([sys.executable, str(script), str(n)], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    while any(writer.poll() is None for writer in writers):
        table.rollback_column("f", version=version, progress=False)
        check_nothing_false_is_called_true(table)
    assert [(writer.returncode, writer.communicate()[1]) for writer in writers] == [(0, ""), (0, "")]
    table.rollback_column("f", version=version, progress=False)
    rows = read(table)
    assert len(rows) == 20 + 2 * 4 * 5
    assert all(rows[i]["f"] == 2 * i for i in range(20))
    for n in (1, 2):
        own = table.to_arrow(["other", f"own{n}"])
        assert own[f"own{n}"].fill_null(0).to_pylist() == [
            2 * o if v else 0
            for o, v in zip(own["other"].to_pylist(), own[f"own{n}"].is_valid().to_pylist(), strict=True)
        ]
    check_nothing_false_is_called_true(table)
    fill(table)
    assert all(row["f"] == 2 * row["x"] for row in read(table).values())


def test_the_rollback_is_told_in_the_log(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    version = table.version
    table.rollback_column("f", version=version, progress=False)
    properties = lance.dataset(table.uri).read_transaction(table.version - 1).transaction_properties
    assert properties is not None
    assert (properties[commit.AUTHOR], properties[commit.FROM_VERSION]) == ("ada", str(version))
    assert table.history(limit=1)["message"].to_pylist() == [f"rolling back 'f' of 't' to version {version}"]
