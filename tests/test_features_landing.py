"""Staged files become a version once, whole, and only where the ground they were made for is still there."""

import datetime as dt
import logging
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import counted
import pyarrow as pa
import pytest

from lakehouse import commit
from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify
from lakehouse.errors import BackfillError, ConflictError, CorruptTableError, LakehouseError
from lakehouse.features.storing import landing
from lakehouse.features.storing.columnfile import ColumnFile
from lakehouse.features.storing.staging import Staged
from lakehouse.location import Location
from tests.killing import stopped

ROWS, FRAGMENTS = 40, 3
NUM_ROWS = ROWS * FRAGMENTS


@pytest.fixture
def table(lake, tmp_path, monkeypatch):
    """Make a table with a column to fill."""
    monkeypatch.chdir(tmp_path)
    schema = pa.schema([pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}), pa.field("x", pa.int64())])
    made = lake.create_table("t", schema=schema)
    for start in range(0, NUM_ROWS, ROWS):
        made.add(({"id": n, "x": n} for n in range(start, start + ROWS)), progress=False)
    made.add_columns({"f": counted.tripled})
    return made


def fill(table, **options):
    return table.backfill("f", udf=counted.tripled, progress=False, **options)


def values(table):
    return {row["id"]: row["f"] for row in table.to_arrow(["id", "f"]).to_pylist()}


def before_commit(monkeypatch, action):
    """Run `action` on the staged files, between staging and the first commit of a fill."""
    commit_staged = landing.commit_staged

    def first(snapshot, feature, staged, *args):
        monkeypatch.setattr(landing, "commit_staged", commit_staged)
        action(snapshot, feature, staged)
        return commit_staged(snapshot, feature, staged, *args)

    monkeypatch.setattr(landing, "commit_staged", first)


def path_of(table, staged):
    return Path(table.uri) / "data" / staged.data_file.path


# Before the commit: files that are not whole


def remove(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def change_and_wait(path):
    """Change a byte as a disk does, of a file that was staged an hour ago."""
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    then = path.stat().st_mtime - 3600
    os.utime(path, (then, then))


@pytest.mark.parametrize(
    ("damage", "told"),
    [(remove, "is gone"), (cut, "bytes of"), (change_and_wait, "does not hold what was written")],
    ids=["missing", "short", "changed"],
)
def test_a_staged_file_that_is_not_whole_is_never_named_but_staged_again(table, monkeypatch, caplog, damage, told):
    before_commit(monkeypatch, lambda snapshot, feature, staged: damage(path_of(table, staged[1])))
    with caplog.at_level(logging.WARNING, "lakehouse"):
        fill(table)
    assert told in caplog.text
    assert values(table) == {n: 3 * n for n in range(NUM_ROWS)}
    assert sorted(counted.calls()) == list(range(NUM_ROWS))  # what was computed was found in the checkpoints


def test_when_every_staged_file_is_lost_nothing_is_committed_and_nothing_computed_is_lost(table, monkeypatch):
    before_commit(monkeypatch, lambda snapshot, feature, staged: [remove(path_of(table, each)) for each in staged])
    version = table.version
    with pytest.raises(CorruptTableError, match=r"staged files of 'f' were lost before they were committed: \w+.lance"):
        fill(table)
    assert table.version == version
    assert fill(table).num_computed == 0
    assert values(table) == {n: 3 * n for n in range(NUM_ROWS)}


def test_a_file_that_waited_is_read_again_and_committed_when_it_is_what_it_was(table, monkeypatch):
    def wait(snapshot, feature, staged):
        for each in staged:
            then = path_of(table, each).stat().st_mtime - 3600
            os.utime(path_of(table, each), (then, then))

    before_commit(monkeypatch, wait)
    fill(table)
    assert table.features()["state"].to_pylist() == ["fresh"]


def test_on_a_bucket_a_file_is_whole_if_it_is_there_with_all_beside_it(caplog):
    bucket = Location.of("memory://bucket/t.lance")

    def staged(fragment_id, *paths):
        return Staged(fragment_id, "", "", frozenset(), ColumnFile(None, dict.fromkeys(paths, 7), {}), 1, 0)

    for name in ("a.lance", "a/1.blob", "b.lance"):
        bucket.write_bytes(f"data/{name}", b"another size, in bytes on disk")
    both = [staged(0, "a.lance", "a/1.blob"), staged(1, "b.lance", "b/1.blob")]
    assert landing.whole(bucket, "f", both) == both[:1]
    assert "b/1.blob is gone" in caplog.text
    with pytest.raises(CorruptTableError, match="were lost before they were committed: b/1.blob is gone"):
        landing.whole(bucket, "f", both[1:])
    assert landing.whole(bucket, "f", []) == []


# The commit


def test_a_fill_says_what_it_filled_and_in_which_run(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    fill(table)
    (feature,) = table.snapshot().features.values()
    said = commit.transaction_of(table.snapshot().dataset, table.version).transaction_properties
    assert said[commit.AUTHOR] == "ada"
    assert said[commit.FILLED] == feature.token
    assert said["lakehouse:code_hash"] == feature.code_hash
    assert said[commit.OPERATION] == "filling 'f'"


def test_files_committed_twice_at_once_land_once(table, monkeypatch):
    def twice(snapshot, feature, staged):
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda _: landing.commit_staged(snapshot, feature, staged, "filling"), range(2)))
        first, second = sorted(both, key=lambda done: len(done[1]))
        assert first == (None, [])
        assert len(second[1]) == FRAGMENTS

    before_commit(monkeypatch, twice)
    fill(table)
    assert values(table) == {n: 3 * n for n in range(NUM_ROWS)}
    assert table.history()["operation"].to_pylist().count("DataReplacement") == 1


def test_a_column_dropped_meanwhile_stops_the_job_before_it_writes(table, monkeypatch):
    before_commit(monkeypatch, lambda snapshot, feature, staged: table.drop_columns(["f"]))
    with pytest.raises(BackfillError, match="'f' was dropped while it was being filled; nothing more is written"):
        fill(table)
    assert table.history(limit=1)["operation"].to_pylist() == ["Project"]


# Each outcome of a commit, as Lance has it


@contextmanager
def files_of_at_most(nbytes):
    """Have the system refuse larger files, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def replacing(staged, read_version):
    groups = [lance.LanceOperation.DataReplacementGroup(each.fragment_id, each.data_file) for each in staged]
    return lance.Transaction(read_version, lance.LanceOperation.DataReplacement(groups))


def cleaned_up(table):
    """Remove the version that a job is pinning, by force."""
    for tag in table.snapshot().dataset.tags.list():
        table.snapshot().dataset.tags.delete(tag)
    table.update("id = 1", values={"x": 1})
    table.snapshot().dataset.cleanup_old_versions(dt.timedelta(0))


@pytest.mark.parametrize(
    ("meanwhile", "outcome"),
    [
        (lambda table, again: again(), Outcome.RETRYABLE),
        (lambda table, again: table.drop_columns(["f"]), Outcome.INCOMPATIBLE),
        (lambda table, again: table.delete(f"id < {ROWS}"), Outcome.INCOMPATIBLE),
        (lambda table, again: table.checkout(2).snapshot().dataset.restore(), Outcome.INCOMPATIBLE),
        (lambda table, again: cleaned_up(table), Outcome.GONE),
    ],
    ids=["filled", "dropped", "fragment deleted", "restored", "cleaned up"],
)
def test_what_came_first_is_told_from_what_lance_raises(table, monkeypatch, meanwhile, outcome):
    def action(snapshot, feature, staged):
        transaction = replacing(staged, snapshot.version)
        meanwhile(table, lambda: landing.commit_staged(snapshot, feature, staged, "filling"))
        lance.LanceDataset.commit(table.uri, transaction)

    before_commit(monkeypatch, action)
    with pytest.raises(Exception, match="concurrent|manifest was not found") as caught:
        fill(table)
    assert classify(caught.value) is outcome


def test_a_failure_that_says_nothing_is_unknown_and_costs_no_staged_file(table, monkeypatch):
    told = []

    def action(snapshot, feature, staged):
        with files_of_at_most(100), pytest.raises(LakehouseError) as caught:
            landing.commit_staged(snapshot, feature, staged, "filling 'f'")
        told.append(classify(caught.value.__cause__))

    before_commit(monkeypatch, action)
    fill(table)
    assert told == [Outcome.UNKNOWN]
    assert values(table) == {n: 3 * n for n in range(NUM_ROWS)}
    assert sorted(counted.calls()) == list(range(NUM_ROWS))


# A driver that was paused, taken for dead, and wakes up

FILLING = """
import sys
sys.path.insert(0, {tests!r})
import lakehouse as lh
from counted import tripled
from lakehouse._lance import lance
from lakehouse.features.storing import landing, staging
before(staging, "stage", "computed")
before(landing, "commit_staged", "staged")
before(lance.LanceDataset, "commit", "committing")
lh.connect("lake").open_table("t").backfill("f", udf=tripled, progress=False)
"""


@pytest.mark.parametrize(
    ("at", "then"),
    [("computed.3", "nothing"), ("staged.1", "update"), ("staged.1", "compact"), ("committing.1", "nothing")],
)
def test_a_driver_paused_and_taken_for_dead_writes_nothing_when_it_wakes_up(table, tmp_path, at, then):
    """SIGSTOP before it looks at its lease, right after, or with its commit on the way; meanwhile others fill all."""
    with stopped(FILLING.format(tests=os.path.dirname(__file__)), at, tmp_path) as go_on:
        with pytest.raises(ConflictError, match=r"or take over with table.release\('f'\)"):
            fill(table)
        assert "pid" in table.release("f")
        result = fill(table)
        assert (result.num_resumed, result.num_computed) == (NUM_ROWS, 0)
        if then == "update":
            table.update(f"id < {ROWS + 1}", values_sql={"x": "x + 1000"})
            fill(table)
        elif then == "compact":
            table.compact(progress=False)
        version, expected = table.version, values(table)
        status, errors = go_on()
    assert (
        ("the lease on filling 'f' of 't' was released by somebody" in errors) == (at == "computed.3") == (status != 0)
    )
    assert (table.version, values(table)) == (version, expected)
    assert all(row["f"] == 3 * row["x"] for row in table.to_arrow(["x", "f"]).to_pylist())
    assert table.features()["state"].to_pylist() == ["fresh"]
