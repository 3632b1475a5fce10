"""Saved selections: the same batches later and elsewhere, spared by clean-up, whole or not there."""

import datetime as dt
import pickle
import shutil
import subprocess
import sys
import threading

import lance
import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import (
    AlreadyExistsError,
    ConflictError,
    DataError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
)
from lakehouse.loader import LoaderOptions, saving
from lakehouse.loader.rows.arrayfiles import ArrayFile
from lakehouse.loader.saved import Changes, Generation
from tests.killing import run_and_kill, stopped

WHERE = "x % 3 = 1"


@lh.udf(pa.int64(), version="1")
def double(x: int) -> int:
    return 2 * x


@pytest.fixture
def table(lake):
    table = lake.create_table("pets", data=pa.table({"x": range(200), "name": [f"n{i}" for i in range(200)]}))
    table.update(where="x < 20", values_sql={"name": "name"})  # these move behind the others
    return table


def save(table, name="a", **options):
    return saving.save(table.snapshot(), name, LoaderOptions(**options))


def opened(lake, name="a"):
    return saving.open_saved(lake._location, name)


def tags_of(table):
    return [tag for tag in lance.dataset(table.uri).tags.list() if tag.startswith(saving.TAG)]


def clean_up(table):
    table.update(values_sql={"x": "x + 1000"})
    table.compact(progress=False)
    dataset = lance.dataset(table.uri)
    dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def batches_of(loader):
    return [batch["x"].tolist() for batch in loader]


def test_the_same_batches_come_later_whatever_became_of_the_table(table, lake):
    first = table.loader(columns=["x"], where=WHERE, batch_size=8, seed=3)
    expected = [batches_of(first), batches_of(first)]
    save(table, where=WHERE, columns=["x"], seed=3)
    del first
    clean_up(table)
    again = opened(lake).loader(batch_size=8)
    assert [batches_of(again), batches_of(again)] == expected


def test_another_process_on_a_lake_that_was_moved_reads_the_same(table, lake, tmp_path):
    expected = batches_of(table.loader(columns=["x"], where=WHERE, batch_size=8))
    save(table, where=WHERE, columns=["x"])
    moved = shutil.move(lake.uri, tmp_path / "elsewhere")
    code = f"""
import sys
sys.modules["torch"] = None  # it has no part in this, and takes seconds to load
import lakehouse as lh
from lakehouse.loader.saving import open_saved
loader = open_saved(lh.connect({str(moved)!r})._location, "a").loader(batch_size=8)
print([batch["x"].tolist() for batch in loader])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(expected)


def test_what_was_frozen_is_told(table, lake):
    table.add_columns({"double": double})
    table.backfill("double", progress=False)
    save(table, where=("x > $low", {"low": 150}), columns=["x", "double"], shuffle=False, seed=7)
    found = opened(lake)
    (feature,) = table.snapshot().features.values()
    assert (found.table, found.version, found.num_rows, found.where) == ("pets", table.version, 49, "x > 150")
    assert (found.columns, found.shuffle, found.seed) == (("x", "double"), "none", 7)
    assert found.features == (Generation("double", 1, feature.code_hash, feature.token),)
    assert np.array_equal(found.row_ids(), np.arange(151, 200))
    listed = saving.saved(lake._location).to_pylist()
    assert [(each["name"], each["num_rows"], each["columns"]) for each in listed] == [("a", 49, ["x", "double"])]
    assert found.saved_by == listed[0]["saved_by"] != ""


def test_rows_are_saved_as_the_policy_for_missing_features_chose_them(table, lake):
    table.add_columns({"double": double})
    table.backfill("double", where="x < 100", progress=False)
    with pytest.raises(DataError, match="missing in 100"):
        save(table, columns=["double"])
    assert tags_of(table) == []
    expected = batches_of(table.loader(columns=["x", "double"], on_missing="skip", batch_size=4))
    save(table, columns=["x", "double"], on_missing="skip")
    table.backfill("double", progress=False)
    assert batches_of(opened(lake).loader(batch_size=4)) == expected


def test_a_loader_of_a_selection_resumes_and_knows_its_state_again(table, lake):
    save(table, where=WHERE, columns=["x"])
    loader = opened(lake).loader(batch_size=8)
    batches = iter(loader)
    first = [next(batches)["x"].tolist()]
    state = loader.state_dict()
    clean_up(table)
    for again in (opened(lake).loader(batch_size=8), table.loader(columns=["x"], where=WHERE, batch_size=8)):
        again.load_state_dict(state)
        assert first + batches_of(again) == batches_of(opened(lake).loader(batch_size=8))


def test_what_is_frozen_cannot_be_asked_for_otherwise(table, lake):
    save(table, where=WHERE)
    with pytest.raises(InvalidArgumentError, match=r"where of the selection 'a' is frozen \('x % 3 = 1'\)"):
        opened(lake).loader(where="x > 3")
    other = opened(lake).loader(batch_size=8, seed=5)
    assert batches_of(other) == batches_of(table.loader(where=WHERE, batch_size=8, seed=5))
    weighted = opened(lake).loader(batch_size=8, weights="x")
    assert len(weighted) == sum(range(1, 200, 3)) // 8


@pytest.mark.parametrize("density", [0.5, 0.05, 0.003])
def test_three_bytes_a_row_are_enough(lake, density):
    rows = np.random.default_rng(0).random(400_000) < density
    table = lake.create_table("many", data=pa.table({"chosen": rows}))
    found = saving.save(table.snapshot(), "a", LoaderOptions(where="chosen"))
    folder = saving._folder(lake._location)
    assert found.num_rows == rows.sum()
    assert (
        folder.nbytes("a.arrow") <= 3 * found.num_rows + 3000
    )  # of which the record and Arrow's frame take some 2,500


def test_clean_up_may_take_the_version_of_a_selection_that_was_dropped(table, lake):
    version = table.version
    save(table)
    assert tags_of(table) == [saving.TAG + "a"]
    saving.drop(lake._location, "a")
    assert (tags_of(table), saving.saved(lake._location).num_rows) == ([], 0)
    clean_up(table)
    with pytest.raises(VersionNotFoundError):
        table.checkout(version).to_arrow()
    with pytest.raises(NotFoundError, match="no selection 'a'"):
        saving.drop(lake._location, "a")


def test_a_name_is_taken_until_it_is_dropped(table, lake):
    save(table, where=WHERE)
    with pytest.raises(
        AlreadyExistsError, match=r"'a' already, of 67 rows of 'pets' at version \d+, saved by .*drop_sel"
    ):
        save(table)
    saving.drop(lake._location, "a")
    assert save(table).num_rows == 200


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "ä"])
def test_a_name_that_would_leave_its_folder_is_refused(table, name):
    with pytest.raises(InvalidArgumentError, match="cannot be"):
        save(table, name)


@pytest.mark.parametrize("name", ["../../pets", "a/b"])
def test_no_name_reaches_out_of_the_folder(table, lake, name):
    for reach in (opened, lambda lake, name: saving.drop(lake._location, name)):
        with pytest.raises(InvalidArgumentError, match="cannot be"):
            reach(lake, name)


def test_a_selection_of_a_table_that_was_dropped_says_so(table, lake):
    save(table, where=WHERE)
    lake.drop_table("pets")
    with pytest.raises(VersionNotFoundError, match="'a' is of what is gone: no table 'pets'"):
        opened(lake).loader()
    other = lake.create_table("pets", data=pa.table({"x": range(200)}))
    other.update(values={"x": 0})
    with pytest.raises(VersionNotFoundError, match="a table 'pets' that was dropped"):
        opened(lake).loader()
    saving.drop(lake._location, "a")


def test_a_version_that_others_took_in_spite_of_the_tag_is_missed_by_name(table, lake):
    save(table)
    lance.dataset(table.uri).tags.delete(saving.TAG + "a")
    clean_up(table)
    with pytest.raises(VersionNotFoundError, match="the selection 'a' is of what is gone: no version"):
        opened(lake).loader()


def test_a_file_of_a_newer_release_is_refused(table, lake):
    save(table)
    folder = saving._folder(lake._location)
    file = ArrayFile.of(folder.read_bytes("a.arrow"))
    folder.write_bytes("a.arrow", ArrayFile({**file.record, "format": 2}, file.arrays).to_bytes().to_pybytes())
    with pytest.raises(UnsupportedTableError, match="format 2"):
        opened(lake)


def test_what_changed_since_is_told(table, lake):
    table.add_columns({"double": double, "note": pa.field("note", pa.string())})
    table.backfill("double", progress=False)
    save(table, where=WHERE)
    assert str(opened(lake).changes()) == f"up to version {table.version}: nothing changed"
    table.delete("x < 10")
    table.compact(progress=False)
    table.drop_columns(["note"])
    table.alter_udf("double", lh.udf(pa.int64(), inputs=["x"], version="2")(double.target))
    changes = opened(lake).changes()
    assert changes == Changes(table.version, 3, ("note",), ("double",))
    assert str(changes).endswith("3 rows deleted, no 'note' any more, 'double' made anew")


def test_a_selection_of_a_lake_that_may_only_be_read_is_read(table, lake):
    save(table, where=WHERE, columns=["x"])
    before = lance.dataset(table.uri).tags.list()
    found = saving.open_saved(lake._location, "a", read_only=True)
    assert len(batches_of(found.loader(batch_size=8))) == 8
    assert lance.dataset(table.uri).tags.list() == before


SAVE = """
    import lakehouse as lh
    from lakehouse.location import Location
    from lakehouse.loader import LoaderOptions, saving
    from lakehouse.loader.rows.arrayfiles import ArrayFile
    table = lh.connect("lake").open_table("pets")
    before(Location, "put_if_absent", "put")
    before(saving, "_untag", "tag")
    before(ArrayFile, "to_bytes", "file")
    before(Location, "delete", "delete")
    saving.save(table.snapshot(), "a", LoaderOptions(where="x % 3 = 1"))
    saving.drop(table._lake, "a")
"""


@pytest.mark.parametrize("at", ["tag.1", "put.2", "delete.1", "delete.3"])
def test_a_kill_leaves_it_whole_or_not_there_and_the_next_save_puts_all_right(table, lake, tmp_path, at):
    run_and_kill(SAVE, at, tmp_path)
    names = saving.saved(lake._location)["name"].to_pylist()
    assert names == (["a"] if at in ("delete.1", "delete.3") else [])
    if names:
        assert opened(lake).num_rows == 67
        saving.drop(lake._location, "a")
    else:
        save(table, "another")
        assert tags_of(table) == [saving.TAG + "another"]
        save(table, where=WHERE)
        assert opened(lake).num_rows == 67


def test_a_kill_between_the_file_and_the_tag_of_a_drop_leaves_a_tag_that_the_next_save_removes(table, lake, tmp_path):
    run_and_kill(SAVE, "tag.2", tmp_path)
    assert saving.saved(lake._location).num_rows == 0
    assert tags_of(table) == [saving.TAG + "a"]
    save(table, "another")
    assert tags_of(table) == [saving.TAG + "another"]


def test_of_two_who_save_a_name_at_once_one_is_told_about_the_other(table, lake, tmp_path):
    with stopped(SAVE.partition("    saving.drop")[0], "file.1", tmp_path) as go_on:
        with pytest.raises(ConflictError, match="saving the selection 'a' is being done by .*pid"):
            save(table)
        save(table, "another")  # spares the tag of the save under way
        assert sorted(tags_of(table)) == [saving.TAG + "a", saving.TAG + "another"]
        assert go_on() == (0, "")
    assert opened(lake).num_rows == 67


def test_of_many_who_save_a_name_at_once_one_wins(table, lake):
    errors, told = [], []

    def try_it(number):
        try:
            told.append(save(table, where=f"x < {number}").num_rows)
        except (AlreadyExistsError, ConflictError) as error:
            errors.append(error)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(told), len(errors)) == (1, 7)
    assert opened(lake).num_rows == told[0]


def test_workers_get_a_saved_selection_by_its_place(table, lake):
    save(table, where=WHERE, columns=["x"])
    source = opened(lake).loader()._source
    there = pickle.loads(pickle.dumps(source))
    assert np.array_equal(there.selection.row_ids(there.ranks(np.arange(67), 0)), opened(lake).row_ids())
