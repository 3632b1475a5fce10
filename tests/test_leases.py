import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lakehouse import leases
from lakehouse.errors import ConflictError, StorageError
from lakehouse.leases import EXPIRES_S, Owner, holder, holders, lease
from lakehouse.location import Location
from tests.killing import run_and_kill


@pytest.fixture
def folder(tmp_path):
    return Location.of(tmp_path / "leases")


HOLDING = """
from lakehouse.leases import lease
from lakehouse.location import Location
with lease(Location.of("leases"), "job", "working"):
    moment("held")
"""


def test_a_lease_has_one_owner_and_others_are_told_who(folder, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    with lease(folder, "job", "filling 'f'") as owner:
        told = rf"filling 'f' is being done by ada \(pid {owner.pid} on "
        with pytest.raises(ConflictError, match=told), lease(folder, "job", "filling 'f'"):
            pass
        assert list(holders(folder)) == ["job"]
        with lease(folder, "other", "something else"):
            assert sorted(holders(folder)) == ["job", "other"]
    assert (holder(folder, "job"), folder.listdir()) == (None, [])


def test_a_lease_ends_with_an_error_too(folder):
    with pytest.raises(ZeroDivisionError), lease(folder, "job", "working"):
        raise ZeroDivisionError
    assert folder.listdir() == []


def test_the_lease_of_a_killed_process_is_taken_over_at_once(tmp_path, folder):
    run_and_kill(HOLDING, "held", tmp_path)
    assert folder.listdir() == ["job.json"]
    assert holder(folder, "job") is None
    with lease(folder, "job", "working") as owner:
        assert holder(folder, "job").id == owner.id
    assert folder.listdir() == []


def test_of_many_who_find_a_dead_owner_one_gets_the_lease(tmp_path, folder):
    barrier, inside, most = threading.Barrier(8), [], []

    def take(_):
        barrier.wait()
        try:
            with lease(folder, "job", "working") as owner:
                inside.append(owner.id)
                most.append(len(inside))
                barrier.wait()
                inside.remove(owner.id)
        except ConflictError:
            barrier.wait()
            return False
        return True

    run_and_kill(HOLDING, "held", tmp_path)
    dead = folder.read_bytes("job.json")
    for _ in range(10):
        folder.write_bytes("job.json", dead)
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(take, range(8))).count(True) == 1
    assert set(most) == {1}
    assert folder.listdir() == []


def test_an_heir_that_died_while_taking_over_has_heirs_too(tmp_path, folder):
    run_and_kill(HOLDING, "held", tmp_path)
    code = HOLDING.replace("with lease(", "before(Location, 'write_bytes', 'replacing')\nwith lease(")
    run_and_kill(code, "replacing.1", tmp_path)
    assert len(folder.listdir()) == 2
    with lease(folder, "job", "working"):
        pass
    assert folder.listdir() == []


def test_a_number_given_to_another_process_is_not_the_owner():
    me = Owner.this_process()
    assert not me.is_gone(me.seen)
    assert replace(me, started=me.started - 1).is_gone(me.seen)


def test_an_owner_elsewhere_is_gone_when_it_was_silent_for_too_long():
    there = replace(Owner.this_process(), place="another machine")
    assert not there.is_gone(there.seen + EXPIRES_S)
    assert there.is_gone(there.seen + EXPIRES_S + 1)


def test_the_heartbeat_renews_the_lease_and_outlives_a_store_out_of_reach(folder, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.001)
    beats, write = threading.Semaphore(0), Location.write_bytes
    fails = [True]

    def beating(self, name, data, **options):
        beats.release()
        if fails and fails.pop():
            raise StorageError("out of reach")
        write(self, name, data, **options)

    monkeypatch.setattr(Location, "write_bytes", beating)
    with lease(folder, "job", "working") as owner:
        for _ in range(4):
            assert beats.acquire(timeout=30)
        assert holder(folder, "job").seen > owner.seen


def test_a_lease_taken_over_is_neither_renewed_nor_released_by_its_old_owner(folder, monkeypatch):
    with lease(folder, "job", "working") as owner:
        other = replace(owner, id="other")
        folder.write_bytes("job.json", leases._encode(other))
        monkeypatch.setattr(leases, "HEARTBEAT_S", 0.001)
        leases._keep_alive(folder, "job.json", owner, threading.Event())  # returns: the lease is not its any more
    assert leases._read(folder, "job.json") == other
