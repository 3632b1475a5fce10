import datetime as dt
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import commit, types
from lakehouse.compaction import Size, chosen
from lakehouse.errors import InvalidArgumentError, SchemaError
from lakehouse.leases import lease, leases_of
from tests.killing import run_and_kill
from tests.media_files import picture

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}),
        pa.field("x", pa.int64()),
        pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
        pa.field("words", pa.string()),
        pa.field("vector", pa.list_(pa.float32(), 8)),
    ]
)


def rows(start, stop):
    vectors = np.random.default_rng(start).normal(size=(stop - start, 8))
    return [
        {"id": n, "x": n, "kind": f"kind {n % 3}", "words": f"a word {n}", "vector": vector.tolist()}
        for n, vector in zip(range(start, stop), vectors, strict=True)
    ]


def make(lake, num_fragments=6, rows_each=20):
    table = lake.create_table("t", schema=SCHEMA)
    for start in range(0, num_fragments * rows_each, rows_each):
        table.add(rows(start, start + rows_each), progress=False)
    return table


@pytest.fixture
def table(lake):
    return make(lake)


def compact(table, **sizes):
    return table.compact(progress=False, **sizes)


def everything(table):
    """Return all there is of all rows, stamps and row ids included, in an order of their own."""
    dataset = table.snapshot().dataset
    return dataset.to_table(columns=dataset.schema.names, with_row_id=True).sort_by("_rowid").to_pylist()


def fragment_ids(table):
    return [fragment.fragment_id for fragment in table.snapshot().dataset.get_fragments()]


def before_commit(monkeypatch, action):
    """Run `action` once, between the copy of a task and its commit."""
    retrying = commit.retrying

    def first_the_others(*args, **options):
        monkeypatch.setattr(commit, "retrying", retrying)
        action()
        return retrying(*args, **options)

    monkeypatch.setattr(commit, "retrying", first_the_others)


@settings(max_examples=12)
@given(
    adds=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    deleted=st.sets(st.integers(0, 180), max_size=60),
    filled=st.integers(0, 6),
    target_rows=st.integers(1, 200),
)
def test_compaction_changes_nothing_that_can_be_read(tmp_path_factory, adds, deleted, filled, target_rows):
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", schema=SCHEMA)
    for number, num_rows in enumerate(adds):
        table.add(rows(sum(adds[:number]), sum(adds[: number + 1])), progress=False)
        if number == filled:  # the stamps of later fragments say "to do"
            table.add_columns({"f": "x * 3"})
            table.backfill("f", progress=False)
    table.delete(f"id IN ({', '.join(map(str, {*deleted, 1000}))})")
    before, version, states = everything(table), table.version, table.features().to_pylist()
    done = compact(table, target_rows_per_fragment=target_rows)
    assert everything(table) == before
    assert table.features().to_pylist() == states
    assert (done.num_fragments_after, done.version) == (len(fragment_ids(table)), table.version)
    assert done.num_rows_moved <= len(before)
    assert (done.version == version) == (done.num_rows_moved == 0 and done.num_tasks_lost == 0)
    again = compact(table, target_rows_per_fragment=target_rows)
    assert again.num_fragments_after <= done.num_fragments_after


def test_small_fragments_become_one_and_then_there_is_nothing_to_do(table):
    done = compact(table)
    assert (done.num_fragments_before, done.num_fragments_after, done.num_rows_moved) == (6, 1, 120)
    assert str(done) == "6 fragments became 1: 120 rows moved"
    version = table.version
    done = compact(table)
    assert str(done) == "nothing to do: of 1 fragment none is small beside another or has many deleted rows"
    assert (done.version, table.version, done.nbytes_written) == (version, version, 0)


def test_deleted_rows_are_taken_out(table):
    compact(table)
    table.delete("id % 2 = 0")
    done = compact(table)
    assert (done.num_rows_moved, done.num_fragments_after) == (60, 1)
    (fragment,) = table.snapshot().dataset.get_fragments()
    assert fragment.physical_rows == 60


def test_older_versions_keep_what_they_had(table):
    version, before = table.version, everything(table)
    compact(table)
    assert everything(table.checkout(version)) == before


def test_searches_find_what_they_found_and_no_index_loses_a_row(lake):
    table = make(lake, num_fragments=4, rows_each=100)
    table.create_index("id", lh.BTree())
    table.create_index("words", lh.FTS())
    table.create_index("vector", lh.IvfPq(num_partitions=2, num_sub_vectors=4))

    def found():
        vector = rows(0, 1)[0]["vector"]
        return (
            table.to_arrow(["id"], where="id IN (3, 250, 399)").sort_by("id").to_pylist(),
            sorted(row["id"] for row in table.search("250", column="words", k=5, columns=["id"]).to_pylist()),
            [row["id"] for row in table.search(vector, column="vector", k=5, columns=["id"]).to_pylist()],
        )

    before = found()
    compact(table)
    assert found() == before
    assert table.indexes()["num_rows_not_indexed"].to_pylist() == [0, 0, 0]
    table.add(rows(400, 500), progress=False)
    compact(table)  # a part that no index has beside one that they have
    assert found() == before


# Media


def test_blobs_are_what_they_were_and_full_fragments_of_them_are_not_copied(lake):
    table = lake.create_table("clips", schema=pa.schema([pa.field("id", pa.int64()), types.field("clip", "video")]))
    sizes = (70_000, 80_000, 3_000, 10)  # a large one or two in a fragment lie beside it
    for number, size in enumerate(sizes):
        table.add([{"id": number, "clip": os.urandom(size)}, {"id": 10 + number, "clip": None}], progress=False)

    def clips():
        return {row["id"]: row["clip"] for row in table.to_arrow(["id", "clip"]).to_pylist()}

    before, large = clips(), set(fragment_ids(table)[:2])
    folder = Path(table.uri) / "data"
    nbytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    done = compact(table, max_nbytes_per_fragment=140_000)
    assert clips() == before
    assert large < set(fragment_ids(table))
    assert (done.num_fragments_after, done.num_rows_moved) == (3, 4)
    assert 150_000 < done.nbytes_untouched < 160_000
    added = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) - nbytes
    assert done.nbytes_written == added < 10_000
    done = compact(table)
    assert clips() == before
    assert done.num_fragments_after == 1
    assert done.nbytes_written > 153_000  # Lance copies them with the rows


def test_inline_pictures_are_what_they_were(lake):
    table = lake.create_table("pets", schema="images")
    for seed in range(3):
        file = picture(seed=seed)
        table.add([{"id": str(seed), "image": file, "width": 40, "height": 30, "format": "JPEG"}], progress=False)
    before = everything(table)
    assert compact(table).num_fragments_after == 1
    assert everything(table) == before


@given(
    st.lists(st.builds(Size, st.integers(0, 99), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**10))),
    st.integers(1, 10**7),
    st.integers(1, 10**10),
)
def test_what_is_full_is_left_out_and_the_rest_is_cut_by_rows_and_bytes(sizes, target_rows, max_nbytes):
    plan = chosen(sizes, target_rows, max_nbytes)
    small = [size for size in sizes if not size.is_full(max_nbytes)]
    assert plan.fragment_ids == {size.fragment_id for size in small}
    assert 1 <= plan.target_rows <= target_rows
    num_rows, nbytes = sum(size.num_rows for size in small), sum(size.nbytes for size in small)
    if num_rows and plan.target_rows > 1:
        assert plan.target_rows * nbytes / num_rows <= max_nbytes * (1 + 1e-9)


def test_a_full_fragment_is_copied_only_when_most_of_it_is_deleted():
    assert Size(0, 50, 50, 600).is_full(1000)
    assert not Size(0, 49, 51, 600).is_full(1000)
    assert not Size(0, 100, 0, 499).is_full(1000)


@pytest.mark.parametrize("sizes", [{"target_rows_per_fragment": 0}, {"max_nbytes_per_fragment": -1}])
def test_sizes_that_cannot_be_are_refused(table, sizes):
    with pytest.raises(InvalidArgumentError, match=r"fragments of (0 rows|-1 bytes) cannot be; give 1 or more"):
        compact(table, **sizes)


# Others at work


def test_fragments_that_somebody_fills_are_left_alone(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    ids = fragment_ids(table)
    with lease(leases_of(table.snapshot()), "token", "filling 'f'") as held:
        held.cover([ids[2], 77])
        done = compact(table)
        assert ids[2] in fragment_ids(table)
        assert (done.num_fragments_after, done.num_rows_moved) == (3, 100)
        (left,) = done.left
        assert left.fragment_ids == (ids[2],)
        assert "1 fragment left alone, ada (pid" in str(done)
        held.cover(fragment_ids(table))
        done = compact(table)
        assert str(done).startswith("3 fragments, none compacted; 3 fragments left alone, ada (pid")
    assert compact(table).num_fragments_after == 1


def test_a_filler_that_begins_meanwhile_is_not_disturbed_by_the_tasks_to_come(table, monkeypatch):
    ids = fragment_ids(table)
    with lease(leases_of(table.snapshot()), "token", "filling 'f'") as held:
        before_commit(monkeypatch, lambda: held.cover(ids[4:]))
        done = compact(table, target_rows_per_fragment=40)
        assert set(ids[4:]) < set(fragment_ids(table))
        assert (done.num_rows_moved, done.num_tasks_lost, done.left[0].fragment_ids) == (80, 0, tuple(ids[4:]))


@pytest.mark.parametrize(
    "action",
    [
        lambda table: table.delete("id = 3"),
        lambda table: table.update("id = 3", values={"x": 70}),
        lambda table: table.add_columns({"f": "x + 1"}),
        lambda table: table.drop_index("x"),
        lambda table: table.create_index("id", lh.BTree()),
        lambda table: table.snapshot().dataset.optimize.compact_files(target_rows_per_fragment=40),
    ],
    ids=["delete", "update", "declare", "index dropped", "index built", "compaction"],
)
def test_what_others_change_meanwhile_costs_one_task_which_is_planned_again(table, monkeypatch, action):
    table.create_index("x", lh.BTree())
    before_commit(monkeypatch, lambda: action(table))
    done = compact(table, target_rows_per_fragment=40)
    assert done.num_tasks_lost == 1
    assert "1 group changed by others meanwhile" in str(done)
    assert len(fragment_ids(table)) <= 4
    after = {row["id"]: row["x"] for row in table.to_arrow(["id", "x"]).to_pylist()}
    expected = {n: n for n in range(120)}
    if table.history(limit=30)["operation"].to_pylist().count("Delete"):
        del expected[3]
    if after.get(3) == 70:
        expected[3] = 70
    assert after == expected


def test_an_append_meanwhile_costs_nothing(table, monkeypatch):
    before_commit(monkeypatch, lambda: table.add(rows(120, 140), progress=False))
    done = compact(table)
    assert (done.num_tasks_lost, done.num_fragments_after, len(table)) == (0, 2, 140)


def test_a_version_that_is_cleaned_up_under_the_copy_costs_the_task(table, monkeypatch):
    def others():
        table.delete("id = 3")
        table.snapshot().dataset.cleanup_old_versions(dt.timedelta(0))

    before_commit(monkeypatch, others)
    done = compact(table)
    assert (done.num_tasks_lost, done.num_fragments_after, len(table)) == (1, 1, 119)


def test_a_killed_compaction_leaves_the_table_as_it_was(tmp_path, table):
    code = """
    import lakehouse as lh
    from lakehouse import commit, maintenance, types
    before(commit, "retrying", "committing")
    maintenance.compact(lh.connect("lake").open_table("t").snapshot(), target_rows_per_fragment=40, progress=False)
    """
    before = everything(table)
    run_and_kill(code, "committing.2", tmp_path)
    assert everything(table) == before
    assert compact(table).num_fragments_after == 1
    assert everything(table) == before


# A column each, in a process each, while the table is compacted again and again

ROWS, FRAGMENTS, FILLERS, APPENDS = 400, 10, 4, 20


@lh.udf(pa.int64(), batch=True, batch_size=20, version="1")
def tripled(x: pa.Array) -> pa.Array:
    with Path(os.environ["COUNTED"]).open("ab") as file:
        file.write(b"." * len(x))
    return pc.multiply(x, 3)


def fill(uri, column, counted):
    os.environ["COUNTED"] = counted
    table = lh.connect(uri).open_table("t")
    table.add_columns({column: tripled})
    table.backfill(column, udf=tripled, progress=False)


def test_four_fillers_and_a_compactor_spoil_nothing_and_compute_next_to_nothing_twice(lake, tmp_path, monkeypatch):
    table = make(lake, FRAGMENTS, ROWS // FRAGMENTS)
    columns = [f"f{number}" for number in range(FILLERS)]
    counted = tmp_path / "counted"
    with ProcessPoolExecutor(FILLERS, mp_context=multiprocessing.get_context("spawn")) as pool:
        filling = [pool.submit(fill, lake.uri, column, str(counted)) for column in columns]
        num_rows, num_compacted = ROWS, 0
        while not all(future.done() for future in filling):
            if num_rows < ROWS + APPENDS:
                table.add(rows(num_rows, num_rows + 1), progress=False)
                num_rows += 1
            num_compacted += compact(table).num_rows_moved
        for future in filling:
            future.result()
    monkeypatch.setenv("COUNTED", str(counted))
    for column in columns:
        table.backfill(column, udf=tripled, progress=False)
    assert num_compacted > 0
    for row in table.to_arrow(["x", *columns]).to_pylist():
        assert [row[column] for column in columns] == [3 * row["x"]] * FILLERS
    assert set(table.features()["state"].to_pylist()) == {"fresh"}
    assert counted.stat().st_size <= 1.05 * num_rows * FILLERS


# The ledger


def test_a_compaction_is_signed(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    done = compact(table)
    row = table.history(limit=1).to_pylist()[0]
    assert (row["version"], row["operation"], row["author"]) == (done.version, "Rewrite", "ada")
    assert row["message"] == "compacting 't'"


def test_what_nobody_vouches_for_is_unverified_after_a_compaction_too(table):
    table.add_columns({"f": "x * 3"})
    table.backfill("f", progress=False)
    dataset = table.snapshot().dataset
    dataset.update({"x": "x + 1"}, where="id = 3")  # not by the library: `f` is not reset
    assert table.features()["state"].to_pylist() == ["unverified"]
    compact(table)
    assert table.features()["state"].to_pylist() == ["unverified"]
    table.backfill("f", progress=False)
    assert table.features()["state"].to_pylist() == ["fresh"]
    assert all(row["f"] == 3 * row["x"] for row in table.to_arrow(["x", "f"]).to_pylist())


# Taking over


def test_releasing_says_who_held_the_column(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    table.add_columns({"f": "x + 1"})
    (feature,) = table.snapshot().features.values()
    assert table.release("f") is None
    with lease(leases_of(table.snapshot()), feature.token, "filling 'f'"):
        assert table.release("f").startswith("ada (pid ")
        assert table.release("f") is None
    with pytest.raises(SchemaError, match="'x' is not computed by anything"):
        table.release("x")
