import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from lakehouse import leases
from lakehouse.errors import ConflictError, StorageError
from lakehouse.leases import EXPIRES_S, Owner, holder, holders, lease, release
from lakehouse.location import Location
from tests.killing import run_and_kill


@pytest.fixture
def folder(tmp_path):
    return Location.of(tmp_path / "leases")


HOLDING = """
from lakehouse.leases import lease
from lakehouse.location import Location
with lease(Location.of("leases"), "job", "working") as held:
    moment("held")
"""


def test_a_lease_has_one_owner_and_others_are_told_who(folder, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    with lease(folder, "job", "filling 'f'") as held:
        told = (
            rf"filling 'f' is being done by ada \(pid {held.owner.pid} on .*\) since \d\d:\d\d:\d\d, last heard from "
            r"0 s ago\. Wait for it to end; or stop that process and call again, .* elsewhere after 60 s of silence\)"
        )
        with pytest.raises(ConflictError, match=told + "$"), lease(folder, "job", "filling 'f'"):
            pass
        told += r"; or take over with table.release\('f'\), and it stops before its next commit"
        taking = lease(folder, "job", "filling 'f'", take_over="table.release('f')")
        with pytest.raises(ConflictError, match=told + "$"), taking:
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
    with lease(folder, "job", "working") as held:
        assert holder(folder, "job").id == held.owner.id
    assert folder.listdir() == []


def test_of_many_who_find_a_dead_owner_one_gets_the_lease(tmp_path, folder):
    barrier, inside, most = threading.Barrier(8), [], []

    def take(_):
        barrier.wait()
        try:
            with lease(folder, "job", "working") as held:
                inside.append(held.owner.id)
                most.append(len(inside))
                barrier.wait()
                inside.remove(held.owner.id)
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
    with lease(folder, "job", "working") as held:
        for _ in range(4):
            assert beats.acquire(timeout=240)
        assert holder(folder, "job").seen > held.owner.seen


def test_the_holder_tells_which_fragments_it_works_on(folder):
    with lease(folder, "job", "working") as held:
        assert holder(folder, "job").fragments == ()
        held.cover([3, 1])
        assert holders(folder)["job"].fragments == (1, 3)
        held.cover([3])
        assert holders(folder)["job"].fragments == (3,)
    assert folder.listdir() == []


def test_a_heartbeat_says_again_which_fragments_are_worked_on(folder, monkeypatch):
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.001)
    with lease(folder, "job", "working") as held:
        held.cover([7])
        told = holder(folder, "job").seen
        while (now := holder(folder, "job")).seen == told:
            pass
        assert now.fragments == (7,)


def test_a_beat_that_a_power_cut_left_empty_is_no_beat(folder):
    with lease(folder, "job", "working") as held:
        folder.write_bytes(f"{held.owner.id}.beat", b"")
        assert holder(folder, "job") == held.owner


def test_a_lease_released_by_somebody_is_lost_to_its_holder(folder):
    with lease(folder, "job", "filling 'f'") as held:
        held.cover([1])
        held.check()
        assert release(folder, "job").id == held.owner.id
        assert release(folder, "job") is None
        with pytest.raises(ConflictError, match="the lease on filling 'f' was released by somebody; nothing more is"):
            held.check()
        held.cover([2])  # says nothing to anybody now
        assert holders(folder) == {}
        with lease(folder, "job", "filling 'f'") as other:
            with pytest.raises(ConflictError, match="was taken over by "):
                held.check()
            other.check()
    assert folder.listdir() == []


def test_releasing_the_lease_of_a_dead_process_clears_its_files_away(tmp_path, folder):
    run_and_kill(HOLDING.replace("as held:", "as held:\n    held.cover([1])"), "held", tmp_path)
    assert len(folder.listdir()) == 2
    assert release(folder, "job") is None
    assert folder.listdir() == []


def test_whoever_takes_over_from_a_dead_process_inherits_no_fragments(tmp_path, folder):
    run_and_kill(HOLDING.replace("as held:", "as held:\n    held.cover([1])"), "held", tmp_path)
    assert leases.owners(folder)["job"].fragments == (1,)
    with lease(folder, "job", "working"):
        assert holder(folder, "job").fragments == ()
    assert folder.listdir() == []


def test_a_lease_taken_over_is_neither_renewed_nor_given_back_by_its_old_owner(folder, monkeypatch):
    """Whoever was silent for too long and wakes up writes to nothing that is not its own."""
    with lease(folder, "job", "working") as held:
        other = replace(held.owner, id="other")
        folder.write_bytes("job.json", leases._encode(other))
        held.cover([1])
        monkeypatch.setattr(leases, "HEARTBEAT_S", 0.001)
        held.keep_alive(threading.Event())  # returns: the lease is not its any more
    assert holder(folder, "job") == other
    assert folder.listdir() == ["job.json"]
