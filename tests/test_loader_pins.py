"""A loader's version outlives clean-up as long as the loader lives, and no longer."""

import datetime as dt
import gc
import pickle
import subprocess
import sys
import time
from pathlib import Path

import lance
import pytest

import lakehouse as lh
from lakehouse.errors import VersionNotFoundError


@pytest.fixture
def table(lake):
    table = lake.create_table("pets", data=[{"x": i} for i in range(100)])
    table.update(values_sql={"x": "x + 0"})
    return table


def clean_up(table):
    """Do what LanceDB's optimize does, as hard as it can."""
    dataset = lance.dataset(table.uri)
    dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def wait_for_pins(table, count):
    """The collector's callback hands the work to a thread; the test's own time limit ends the wait."""
    gc.collect()
    tags = Path(table.uri, "_refs", "tags")  # listing them by Lance fails while one goes
    while len(list(tags.glob("*.json"))) != count:
        time.sleep(0.005)


def move_on(table):
    table.update(values_sql={"x": "x + 1000"})
    lance.dataset(table.uri).optimize.compact_files()


@pytest.mark.parametrize("make", ["loader", "torch_dataset", "torch_iterable"])
def test_clean_up_spares_the_version_a_loader_reads(table, make):
    reader = getattr(table, make)()
    move_on(table)
    clean_up(table)
    rows = reader if make != "torch_dataset" else reader.__getitems__(range(100))
    found = sorted(int(x) for each in rows for x in (each["x"].reshape(-1) if make != "torch_dataset" else [each["x"]]))
    assert found == list(range(100))[: len(found)] or len(found) == 64  # drop_last leaves one batch of 64
    assert max(found) < 100


def test_a_state_reopens_its_version_and_keeps_it(table):
    first = table.loader(batch_size=10, seed=3)
    begun = iter(first)
    seen = [int(x) for x in next(begun)["x"]]
    state = first.state_dict()
    move_on(table)
    resumed = table.loader(batch_size=10, seed=3)
    resumed.load_state_dict(state)
    del first, begun
    wait_for_pins(table, 1)  # of the version it goes on with
    clean_up(table)
    seen += [int(x) for batch in resumed for x in batch["x"]]
    assert sorted(seen) == list(range(100))


def test_when_the_loader_is_gone_its_version_may_go(table):
    loader = table.loader()
    version = table.version
    assert table.tags() == {}
    move_on(table)
    del loader
    wait_for_pins(table, 0)
    clean_up(table)
    with pytest.raises(VersionNotFoundError):
        table.checkout(version).to_arrow()


def test_a_read_only_lake_is_not_written_to_by_reading(table, lake):
    before = lance.dataset(table.uri).tags.list()
    reader = lh.connect(lake.uri, read_only=True).open_table("pets").loader()
    assert lance.dataset(table.uri).tags.list() == before
    assert len(list(reader)) == 1


def test_a_copy_in_a_worker_holds_nothing(table):
    dataset = table.torch_dataset()
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(lance.dataset(table.uri).tags.list()) == 1
    assert int(copy[3]["x"]) == 3


def test_a_table_may_be_dropped_under_a_loader(table, lake):
    loader = table.loader()
    lake.drop_table("pets")
    del loader
    gc.collect()
    assert lake.table_names() == []


def test_a_process_that_ends_leaves_no_pin(table):
    code = f"""
import sys
sys.modules["torch"] = None  # it has no part in this, and takes seconds to load
import lakehouse as lh
loader = lh.connect({table.uri.rpartition("/")[0]!r}).open_table("pets").loader(batch_size=10)
batches = iter(loader)
next(batches)
import lance
print(len(lance.dataset({table.uri!r}).tags.list()))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "1"
    assert ended.stderr == ""
    assert lance.dataset(table.uri).tags.list() == {}
