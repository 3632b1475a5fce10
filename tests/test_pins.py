import datetime as dt
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import leases, pins
from lakehouse._lance import lance
from lakehouse.errors import InvalidArgumentError, VersionNotFoundError
from lakehouse.pins import pinned
from tests.killing import run_and_kill

PINNING = """
import lakehouse as lh
from lakehouse.pins import pinned
with pinned(lh.connect("lake").open_table("t").snapshot()):
    moment("pinned")
"""


@pytest.fixture
def table(lake):
    """Make a table of two fragments."""
    made = lake.create_table("t", schema=pa.schema({"x": pa.int64()}))
    made.add([{"x": 1}], progress=False)
    made.add([{"x": 2}], progress=False)
    return made


def clean_up(table):
    """Remove whatever may be removed, as Lance does it and spares tags."""
    return table.snapshot().dataset.cleanup_old_versions(dt.timedelta(0), error_if_tagged_old_versions=False)


def pin_tags(table):
    return [name for name in table.snapshot().dataset.tags.list() if name.startswith("lakehouse-pin-")]


def records(table):
    folder = leases.leases_of(table.snapshot()).child("pins")
    return folder.listdir()


def replace_all(table):
    """Make the files of the version before unnecessary for the newest one."""
    table.delete("true")
    table.add([{"x": 3}], progress=False)


def test_a_pinned_version_survives_any_clean_up(table):
    snapshot = table.snapshot()
    with pinned(snapshot):
        replace_all(table)
        assert clean_up(table).old_versions > 0
        assert snapshot.dataset.to_table()["x"].to_pylist() == [1, 2]
        assert lance.dataset(table.uri, version=snapshot.version).to_table()["x"].to_pylist() == [1, 2]
    clean_up(table)
    assert snapshot.version not in {v["version"] for v in table.snapshot().dataset.versions()}


def test_lancedb_does_not_clean_a_pinned_version_up(lake, table):
    """Its `optimize` compacts, then says which tag it met; without a pin the same call removes the version."""
    import lancedb

    def optimize():
        lancedb.connect(lake.uri).open_table("t").optimize(cleanup_older_than=dt.timedelta(0), delete_unverified=True)

    snapshot = table.snapshot()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # "removes every version except the latest"
        with pinned(snapshot):
            replace_all(table)
            with pytest.raises(RuntimeError, match="tagged version"):
                optimize()
            assert lance.dataset(table.uri, version=snapshot.version).to_table()["x"].to_pylist() == [1, 2]
        optimize()
    with pytest.raises(ValueError, match="manifest"):
        lance.dataset(table.uri, version=snapshot.version)


def test_people_see_no_pins_among_their_tags(table):
    table.tag("mine")
    with pinned(table.snapshot()):
        assert len(pin_tags(table)) == 1
        assert table.tags() == {"mine": table.version}
        assert table.history(limit=1)["tags"].to_pylist() == [["mine"]]
        with pytest.raises(VersionNotFoundError, match="it has mine;"):
            table.checkout("mien")
    with pytest.raises(InvalidArgumentError, match="names the versions that jobs are reading"):
        table.tag("lakehouse-pin-of-mine")


def test_a_version_stays_pinned_until_the_last_one_lets_go(table):
    snapshot = table.snapshot()
    with pinned(snapshot):
        with pinned(snapshot):
            replace_all(table)
        clean_up(table)
        assert snapshot.dataset.to_table().num_rows == 2
    assert (pin_tags(table), records(table)) == ([], [])


def test_an_object_holds_pins_as_long_as_it_lives_by_an_exit_stack(table):
    held = ExitStack()
    held.enter_context(pinned(table.snapshot()))
    replace_all(table)
    held.enter_context(pinned(table.snapshot()))
    assert len(pin_tags(table)) == 2
    held.close()
    assert pin_tags(table) == []


def test_a_version_that_was_cleaned_up_cannot_be_pinned(table):
    old = table.snapshot()
    replace_all(table)
    clean_up(table)
    with pytest.raises(VersionNotFoundError, match="no version 3 of table 't'; the newest is 5"), pinned(old):
        pass
    assert records(table) == []


def test_a_handle_that_others_read_by_can_be_pinned(table):
    """Lance lets nobody write by a dataset that a thread is reading by."""
    snapshot, done = table.snapshot(), threading.Event()

    def read():
        while not done.is_set():
            snapshot.dataset.to_table()

    with ThreadPoolExecutor(2) as pool:
        reading = [pool.submit(read) for _ in range(2)]
        try:
            for _ in range(10):
                with pinned(snapshot):
                    pass
        finally:
            done.set()
        assert [each.result() for each in reading] == [None, None]


def test_a_table_dropped_meanwhile_has_no_pins_to_remove(lake, table):
    with pinned(table.snapshot()):
        lake.drop_table("t")


def test_the_pin_of_a_killed_process_is_removed_by_the_next_one(tmp_path, table):
    run_and_kill(PINNING, "pinned", tmp_path)
    (dead,) = pin_tags(table)
    with pinned(table.snapshot()):
        assert dead not in pin_tags(table)
        assert len(pin_tags(table)) == 1
    assert records(table) == []


def test_a_kill_before_the_tag_leaves_a_record_that_is_removed_too(tmp_path, table):
    code = PINNING.replace("with pinned", "from lakehouse import pins\nbefore(pins, '_tag', 'tagging')\nwith pinned")
    run_and_kill(code, "tagging.1", tmp_path)
    assert (len(records(table)), pin_tags(table)) == (1, [])
    assert pins.collect(table.snapshot()) == 1
    assert records(table) == []


def test_a_silent_process_elsewhere_keeps_its_pin_for_an_hour(table):
    with pinned(table.snapshot()):
        folder = leases.leases_of(table.snapshot()).child("pins")
        (file,) = folder.listdir()
        owner = leases.owners(folder)[file.removesuffix(".json")]
        folder.write_bytes(file, leases._encode(replace(owner, place="elsewhere", seen=owner.seen - 3500)))
        assert pins.collect(table.snapshot()) == 0
        folder.write_bytes(file, leases._encode(replace(owner, place="elsewhere", seen=owner.seen - 3700)))
        assert pins.collect(table.snapshot()) == 1
    assert pin_tags(table) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_lets_go_of_nothing(tmp_path, table):
    code = """
        import os, warnings
        import lakehouse as lh
        from lakehouse.pins import pinned
        warnings.simplefilter("ignore")
        with pinned(lh.connect("lake").open_table("t").snapshot()):
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                dataset = lh.connect("lake").open_table("t").snapshot().dataset
                print(sum(name.startswith("lakehouse-pin-") for name in dataset.tags.list()))
        if not child:
            os._exit(0)
    """
    lines = "\n".join(line[8:] for line in code.splitlines())
    done = subprocess.run([sys.executable, "-c", lines], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
    assert pin_tags(table) == []


def pin_often(uri, times):
    """Pin, read the tags and let go; return what was read."""
    table = lh.connect(uri).open_table("t")
    read = set()
    for _ in range(times):
        with pinned(table.snapshot()):
            read |= set(table.tags())
            assert table.snapshot().dataset.count_rows() == 2
    return read


@pytest.mark.parametrize("num_processes", [3, pytest.param(8, marks=pytest.mark.soak)])
def test_processes_pin_and_let_go_at_once(lake, table, num_processes):
    table.tag("mine")
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        read = list(pool.map(pin_often, [lake.uri] * num_processes, [8] * num_processes))
    assert read == [{"mine"}] * num_processes
    assert (pin_tags(table), records(table)) == ([], [])
