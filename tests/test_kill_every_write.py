"""A backfill killed on entering a system call by which it writes, or at any moment, and resumed equals one uninterrupted run."""

import random
import shutil
from contextlib import chdir

import pytest

from tests import interrupted

NUM_KILLS = 8  # of each kind; `make soak` kills at every call and at 200 moments
SEED = 3
WITH_WORKERS = (7,)  # of those at calls; a run with two workers costs three starts of Python


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    interrupted.make(folder / "lake")
    return folder


@pytest.fixture(scope="module")
def whole(base, tmp_path_factory):
    """Return the table of a run that nobody interrupted."""
    folder = copied(base, tmp_path_factory.mktemp("whole"))
    with chdir(folder):
        interrupted.fill("lake")
        table = interrupted.lh.connect(folder / "lake").open_table("t")
    assert len(interrupted.told(table)) == len(interrupted.UNLUCKY)
    return table


@pytest.fixture(scope="module")
def seen(base, tmp_path_factory):
    """Return the system calls by which an uninterrupted run writes."""
    calls, code = interrupted.write_calls(copied(base, tmp_path_factory.mktemp("seen")))
    assert code == 0
    return calls


def copied(base, folder):
    """Copy the lake that all runs begin with."""
    shutil.copytree(base / "lake", folder / "lake")
    return folder


def _one_of_each_part(number, which):
    """Choose from 1 to `number`, well spread."""
    rng = random.Random(SEED + which)
    return 1 + which * number // NUM_KILLS + rng.randrange(number // NUM_KILLS)


def test_a_run_writes_what_is_known_to_be_written(seen):
    """A call that the tracer does not know would be one that nobody is killed at."""
    places = {(call.name, call.path.split("/")[-2]) for call in seen if "/" in call.path}
    assert {("link", "t"), ("rename", "*"), ("renameat", "data"), ("fsync", "data"), ("linkat", "_versions")} <= places


@pytest.mark.parametrize("which", range(NUM_KILLS))
def test_killed_on_entering_a_call_that_writes_and_resumed_it_equals_one_run(tmp_path, base, whole, seen, which):
    num_workers = 2 if which in WITH_WORKERS else 0
    call = _one_of_each_part(len(seen), which)
    done, code = interrupted.write_calls(copied(base, tmp_path), num_workers, call)
    assert done[call - 1].number == call
    assert code == -9 or num_workers  # a worker may be killed; the run goes on
    interrupted.resume(tmp_path, whole, num_workers)


def test_killed_on_entering_the_very_commit_no_failure_counts_twice(tmp_path, base, whole, seen):
    """The failures are recorded by then, and the run that goes on finds them computed and recorded."""
    (commit,) = (call.number for call in seen if call.name == "linkat" and "_versions" in call.path)
    assert interrupted.write_calls(copied(base, tmp_path), kill_at=commit)[1] == -9
    assert interrupted.resume(tmp_path, whole)["num_rows_computed_again"] == 0
    resumed = interrupted.lh.connect(tmp_path / "lake").open_table("t")
    counted = [sorted(table.errors("f")["attempt"].to_pylist()) for table in (resumed, whole)]
    assert counted[0] == counted[1]  # nothing was halved anew, so exactly


@pytest.fixture(scope="module")
def num_events(base, tmp_path_factory):
    return interrupted.events(copied(base, tmp_path_factory.mktemp("events")))


@pytest.mark.parametrize("which", range(NUM_KILLS))
def test_killed_at_a_random_moment_and_resumed_it_equals_one_run(tmp_path, base, whole, num_events, which):
    assert interrupted.events(copied(base, tmp_path), kill_at=_one_of_each_part(num_events, which)) is None
    interrupted.resume(tmp_path, whole)
