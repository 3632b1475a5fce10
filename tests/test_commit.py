import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import commit, marks, transactions
from lakehouse._lance import lance
from lakehouse.commit import Budget
from lakehouse.errors import ConflictError, LakehouseError, StorageError
from lakehouse.location import Location
from lakehouse.transactions import Trace

NO_TIME = Budget(timeout_s=0)


@pytest.fixture
def place(tmp_path):
    location = Location.of(tmp_path / "t.lance")
    append(location, 0)
    return location


def append(place, value):
    return lance.write_dataset(
        pa.table({"x": pa.array([value], pa.int64())}), place.uri, mode="append", enable_stable_row_ids=True
    )


def staged(place, *values):
    data = pa.table({"x": pa.array(values, pa.int64())})
    fragments = lance.fragment.write_fragments(data, place.uri, mode="append", enable_stable_row_ids=True)
    return lambda _: lance.LanceOperation.Append(fragments)


def values(place):
    return sorted(lance.dataset(place.uri).to_table()["x"].to_pylist())


def failing_once(monkeypatch, error, *, after):
    """Let the first commit fail, `after` it was carried out or before."""
    real = lance.LanceDataset.commit

    def commit_once(*args, **options):
        monkeypatch.setattr(lance.LanceDataset, "commit", real)
        if after:
            real(*args, **options)
        raise error

    monkeypatch.setattr(lance.LanceDataset, "commit", commit_once)


def test_a_commit_is_in_the_history_with_who_and_what(place, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    done = commit.commit_operation(place, staged(place, 1), {"job": "j"}, "adding", commit_id="abc")
    assert (done.version, done.id, done.attempts) == (2, "abc", 1)
    dataset = lance.dataset(place.uri)
    properties = commit.transaction_of(dataset, 2).transaction_properties
    assert (properties[commit.AUTHOR], properties["job"]) == ("ada", "j")
    assert (commit.id_of(dataset, 2), commit.id_of(dataset, 1)) == ("abc", None)
    assert commit.find(place, "abc", 0) == 2
    assert commit.find(place, "abc", 2) is None


@pytest.mark.parametrize(
    "error", [OSError("connection reset"), OSError("Retryable commit conflict for version 2")], ids=str
)
def test_a_lost_answer_is_looked_up_and_not_applied_twice(place, monkeypatch, error):
    failing_once(monkeypatch, error, after=True)
    assert commit.commit_operation(place, staged(place, 1), {}, "adding").version == 2
    assert values(place) == [0, 1]


def test_an_unknown_failure_that_did_not_land_is_raised_as_ours(place, monkeypatch):
    failing_once(monkeypatch, OSError("disk on fire"), after=False)
    with pytest.raises(LakehouseError, match="adding: disk on fire"):
        commit.commit_operation(place, staged(place, 1), {}, "adding")
    assert values(place) == [0]


def test_a_conflict_is_tried_again_from_the_newest_version(place, monkeypatch):
    built = []

    def build(dataset):
        """Delete the row of every fragment there is, and have somebody append after the first look."""
        fragments = dataset.get_fragments()
        built.append(len(fragments))
        if len(built) == 1:
            lance.dataset(place.uri).update({"x": "x + 1"})
        return lance.LanceOperation.Delete([], [fragment.fragment_id for fragment in fragments], "true")

    done = commit.commit_operation(place, build, {}, "deleting")
    assert (done.attempts, len(built), values(place)) == (2, 2, [])


def test_when_others_always_come_first_the_budget_ends_it_and_staged_files_stay(place, monkeypatch):
    build = staged(place, 1)
    files = Trace.of(build(None), None).files
    conflict = OSError("Retryable commit conflict for version 2")
    monkeypatch.setattr(lance.LanceDataset, "commit", lambda *_, **__: (_ for _ in ()).throw(conflict))
    with pytest.raises(ConflictError, match="adding: other commits kept coming first for 0 s; nothing staged is lost"):
        commit.commit_operation(place, build, {}, "adding", budget=NO_TIME)
    monkeypatch.undo()
    assert all((Path(place.uri) / "data" / name).exists() for name in files)
    commit.commit_operation(place, build, {}, "adding")
    assert values(place) == [0, 1]


def test_nothing_to_commit_is_no_version(place):
    assert commit.commit_operation(place, lambda _: None, {}, "nothing") is None
    assert lance.dataset(place.uri).version == 1


def test_operations_of_lance_are_tried_again_until_they_are_through(place):
    attempts = []

    def attempt(dataset):
        attempts.append(dataset.version)
        if len(attempts) == 1:
            lance.dataset(place.uri).update({"x": "x + 1"})
        return dataset.update({"x": "x * 10"}, conflict_retries=0)["num_rows_updated"]

    assert commit.retrying(place, attempt, "updating") == 1
    assert (attempts, values(place)) == ([1, 2], [10])
    with pytest.raises(ConflictError, match="updating: other commits kept coming first"):
        commit.retrying(
            place, lambda _: (_ for _ in ()).throw(OSError("Too many concurrent writers")), "updating", NO_TIME
        )


# Operations that Lance builds and commits itself


def said(place, version):
    dataset = lance.dataset(place.uri)
    return commit.properties_of(place, version, dataset.read_transaction(version))


def test_what_lance_commits_itself_is_signed_beside_the_table(place, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    monkeypatch.setenv("LAKEHOUSE_JOB", "nightly")
    commit.retrying(place, lambda dataset: dataset.update({"x": "x + 1"}), "updating")
    properties = said(place, 2)
    assert (properties[commit.AUTHOR], properties[commit.OPERATION]) == ("ada", "updating")
    assert properties[commit.JOB] == "nightly"
    assert commit.ID in properties
    append(place, 5)  # somebody else
    assert commit.ID not in said(place, 3)


def test_an_attempt_that_commits_nothing_signs_nobodys_commit(place):
    append(place, 5)
    commit.retrying(place, lambda dataset: int(dataset.version), "looking")
    assert commit.ID not in said(place, 2)


def test_a_mark_belongs_to_one_transaction(place):
    commit.retrying(place, lambda dataset: dataset.delete("x = 0"), "deleting")
    mine = lance.dataset(place.uri).read_transaction(2)
    assert marks.read(place, 2, mine.uuid)
    assert not marks.read(place, 2, "another")


def test_a_mark_that_cannot_be_written_does_not_undo_the_commit(place, monkeypatch):
    monkeypatch.setattr(Location, "write_bytes", lambda *_, **__: (_ for _ in ()).throw(StorageError("full")))
    commit.retrying(place, lambda dataset: dataset.update({"x": "7"}), "updating")
    assert values(place) == [7]


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lambda ds: ds.update({"x": "x + 1"}), [2]),
        (lambda ds: ds.delete("x = 0"), []),
        (lambda ds: ds.add_columns(pa.schema([pa.field(f"c{ds.version}", pa.int32())])), [0]),
    ],
    ids=["update", "delete", "declare"],
)
def test_what_did_not_land_is_done_again(place, monkeypatch, act, expected):
    """The first time its number turns out to be one that was used before."""
    lost = []

    def lost_the_first_time(table, version, left):
        if lost:
            return transactions.has_landed(table, version, left)
        lost.append(version)
        return False

    monkeypatch.setattr(commit, "has_landed", lost_the_first_time)
    commit.retrying(place, act, "acting")
    assert (len(lost), values(place)) == (1, expected)


@pytest.mark.parametrize(
    "mine",
    [
        lambda ds: ds.update({"x": "x + 1"}, where="x = 0"),
        lambda ds: ds.delete("x = 0"),
        lambda ds: ds.delete("x < 100"),
        lambda ds: ds.add_columns(pa.schema([pa.field("c", pa.int32())])),
        lambda ds: ds.optimize.compact_files(),
        lambda ds: ds.update_field_metadata({"x": {"a": "b"}}),
    ],
    ids=["update", "delete some", "delete all", "declare", "compact", "describe"],
)
@pytest.mark.parametrize(
    "then",
    [
        lambda ds: append(Location.of(ds.uri), 5),
        lambda ds: ds.delete("x = 1"),
        lambda ds: ds.update({"x": "x + 10"}),
        lambda ds: ds.optimize.compact_files(),
        lambda ds: ds.checkout_version(2).restore(),
        lambda ds: (ds.update({"x": "1"}), lance.dataset(ds.uri).cleanup_old_versions(older_than=dt.timedelta(0))),
    ],
    ids=["append", "delete", "update", "compact", "restore", "update, clean-up"],
)
def test_what_comes_right_after_any_commit_does_not_make_it_look_lost(place, mine, then):
    append(place, 1)
    before = lance.dataset(place.uri)
    after = before.checkout_version(before.version)
    mine(after)
    left = transactions.Trace.of(after.read_transaction(after.version).operation, before)
    then(lance.dataset(place.uri))
    assert transactions.has_landed(place, after.version, lambda: left)


@pytest.mark.parametrize(
    "mine",
    [
        lambda ds: ds.update({"x": "777"}, where="x = 0"),
        lambda ds: ds.delete("x = 0"),
        lambda ds: ds.add_columns(pa.schema([pa.field("c", pa.int32())])),
    ],
    ids=["update", "delete", "declare"],
)
def test_any_commit_under_a_recycled_number_has_not_landed(place, mine):
    for value in (1, 2):
        append(place, value)
    before = lance.dataset(place.uri)
    after = before.checkout_version(before.version)
    mine(after)
    left = transactions.Trace.of(after.read_transaction(after.version).operation, before)
    manifest = lose(place, after.version)
    lost = manifest.read_bytes()
    manifest.unlink()
    for value in (3, 4, 5):
        append(place, value)
    manifest.write_bytes(lost)
    assert not transactions.has_landed(place, after.version, lambda: left)


# lance#3718: clean-up recycles the number of a version under a stalled writer


def lose(place, version):
    """What a stalled writer leaves: its manifest under a number that was cleaned up, in no version after it."""
    folder = Path(place.uri) / "_versions"
    return folder / f"{2**64 - 1 - version}.manifest"


def test_a_commit_under_a_recycled_number_has_not_landed(place, tmp_path):
    mine = commit.commit_operation(place, staged(place, 777), {}, "mine")
    files = frozenset(
        file.path for fragment in lance.dataset(place.uri).get_fragments()[1:] for file in fragment.data_files()
    )
    assert transactions.has_landed(place, mine.version, lambda: Trace(files))
    manifest = lose(place, mine.version)
    lost = manifest.read_bytes()
    manifest.unlink()  # as if it had not come through yet: others commit, then clean up
    for value in (1, 2, 3):
        append(place, value)
    lance.dataset(place.uri).cleanup_old_versions(older_than=dt.timedelta(0))
    manifest.write_bytes(lost)
    assert lance.dataset(place.uri, version=mine.version).count_rows() == 2
    assert values(place) == [0, 1, 2, 3]
    assert not transactions.has_landed(place, mine.version, lambda: Trace(files))


def test_a_commit_that_did_not_land_is_committed_again(place, monkeypatch):
    has_landed = transactions.has_landed
    build = staged(place, 777)

    def lost_the_first_time(table, version, files):
        monkeypatch.setattr(commit, "has_landed", has_landed)
        lance.dataset(place.uri, version=version - 1).restore()
        return False

    monkeypatch.setattr(commit, "has_landed", lost_the_first_time)
    done = commit.commit_operation(place, build, {}, "mine")
    assert done.attempts == 2
    assert values(place) == [0, 777]


@pytest.mark.parametrize(
    "then",
    [
        lambda ds: append(Location.of(ds.uri), 5),
        lambda ds: ds.optimize.compact_files(),
        lambda ds: ds.delete("x = 777"),
        lambda ds: ds.update({"x": "x + 1"}),
        lambda ds: ds.checkout_version(1).restore(),
        lambda ds: (ds.delete("x = 777"), lance.dataset(ds.uri).cleanup_old_versions(older_than=dt.timedelta(0))),
        lambda ds: (
            ds.optimize.compact_files(),
            lance.dataset(ds.uri).cleanup_old_versions(older_than=dt.timedelta(0)),
        ),
    ],
    ids=["append", "compaction", "delete", "update", "restore", "delete, clean-up", "compaction, clean-up"],
)
def test_what_comes_right_after_a_commit_does_not_make_it_look_lost(place, monkeypatch, then):
    """Else an append would be committed a second time."""
    has_landed = transactions.has_landed

    def after_the_others(*args):
        then(lance.dataset(place.uri))
        return has_landed(*args)

    monkeypatch.setattr(commit, "has_landed", after_the_others)
    assert commit.commit_operation(place, staged(place, 777), {}, "mine").attempts == 1


def test_a_store_out_of_reach_does_not_read_as_never_committed(place, monkeypatch):
    dataset = lance.dataset(place.uri)
    assert commit.transaction_of(dataset, 99) is None
    unreachable = OSError("Generic S3 error: connection refused")
    monkeypatch.setattr(lance.LanceDataset, "read_transaction", lambda *_: (_ for _ in ()).throw(unreachable))
    with pytest.raises(OSError, match="connection refused"):
        commit.transaction_of(dataset, 1)


def test_whoever_sees_a_commit_before_its_mark_waits_for_it(tmp_path, monkeypatch):
    """Else a job beside it takes the commit for somebody else's, and has values made again that are true."""
    table = lh.connect(tmp_path).create_table("t", data=[{"x": 1}])
    looked, leave, read = threading.Event(), marks.leave, marks._read

    def leave_late(*told):
        assert looked.wait(240)
        leave(*told)

    def read_and_tell(*asked):
        try:
            return read(*asked)
        finally:
            looked.set()

    monkeypatch.setattr(marks, "leave", leave_late)
    monkeypatch.setattr(marks, "_read", read_and_tell)
    with ThreadPoolExecutor() as threads:
        updating = threads.submit(table.update, values={"x": 2})
        while table.version < 3 and not updating.done():
            pass
        (newest, *_) = table.history(1).to_pylist()
        assert newest["message"] == "updating x of 't'"
        assert updating.result().version == newest["version"]
    assert not list(tmp_path.rglob("*.announced"))
