"""A backfill killed on entering each of the system calls by which it writes, and at two hundred random moments."""

import random
import shutil
import time
from collections import Counter
from itertools import chain

import pytest

from tests import interrupted
from tests.soak.reports import save
from tests.test_kill_every_write import base, copied, seen, whole

pytestmark = pytest.mark.soak

__all__ = ["base", "seen", "whole"]  # the fixtures

NUM_RANDOM = 200
NUM_WITH_WORKERS = 50  # of the random ones
NUM_CALLS_WITH_WORKERS = 100


class Figures:
    """What the kills cost, added up."""

    def __init__(self, base, whole, folder):
        self._base, self._whole, self._folder = base, whole, folder
        self._costs, self._started = [], time.perf_counter()
        self.num_ended_before = 0

    def kill(self, kill, num_workers=0):
        """Kill a run in a folder of its own, and resume it; `kill` tells whether somebody was killed."""
        folder = copied(self._base, self._folder / "run")
        if kill(folder):
            self._costs.append(interrupted.resume(folder, self._whole, num_workers))
        else:
            self.num_ended_before += 1
        shutil.rmtree(folder)

    def summary(self, num_workers):
        """Return them as they go into the report."""
        again = [cost["num_rows_computed_again"] for cost in self._costs]
        return {
            "num_kills": len(self._costs),
            "num_workers": num_workers,
            "num_rows": interrupted.NUM_ROWS,
            "batch_size": interrupted.BATCH,
            "num_rows_computed_again_at_most": max(again),
            "num_rows_computed_again_a_kill": round(sum(again) / len(again), 2),
            "share_of_the_column_computed_again_at_most": max(again) / interrupted.NUM_ROWS,
            "num_rows_left_a_kill": round(sum(cost["num_rows_left"] for cost in self._costs) / len(again), 1),
            "nbytes_left_behind_at_most": max(cost["nbytes_left_behind"] for cost in self._costs),
            "num_files_left_behind_at_most": max(cost["num_files_left_behind"] for cost in self._costs),
            "seconds": round(time.perf_counter() - self._started, 1),
        }


@pytest.fixture
def figures(base, whole, tmp_path):
    return Figures(base, whole, tmp_path)


def test_a_run_killed_on_entering_any_call_that_writes_and_resumed_equals_one_run(figures, seen):
    places = Counter()

    def kill(folder):
        done, code = interrupted.write_calls(folder, kill_at=number)
        assert code == -9
        places[f"{done[-1].name} {done[-1].path}"] += 1
        return True

    for number in range(1, len(seen) + 1):
        figures.kill(kill)
    save("soak_kills", {"at_every_write_call": {**figures.summary(0), "places": dict(sorted(places.items()))}})
    assert sum(places.values()) == len(seen)


def test_a_run_with_workers_of_which_one_process_is_killed_at_a_call_equals_one_run(base, figures, tmp_path):
    calls, code = interrupted.write_calls(copied(base, tmp_path / "seen"), num_workers=2)
    assert code == 0
    killed = Counter()

    def kill(folder):
        _, code = interrupted.write_calls(folder, 2, number)
        killed["driver" if code else "worker"] += 1
        return True

    step = len(calls) / NUM_CALLS_WITH_WORKERS
    for number in (1 + int(n * step) for n in range(NUM_CALLS_WITH_WORKERS)):
        figures.kill(kill, 2)
    save("soak_kills", {"at_write_calls_with_workers": {**figures.summary(2), "killed": dict(killed)}})


def test_a_run_killed_at_two_hundred_random_moments_and_resumed_equals_one_run(base, figures, tmp_path):
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    num_events = interrupted.events(copied(base, tmp_path / "events"))
    start = time.perf_counter()
    assert not interrupted.kill_after(copied(base, tmp_path / "clock"), 600)
    seconds = time.perf_counter() - start

    def at_an_event(folder):
        return interrupted.events(folder, kill_at=rng.randint(1, num_events)) is None

    def at_a_time(folder, num_workers=0):
        return interrupted.kill_after(folder, rng.uniform(0, seconds), num_workers) == -9

    half = (NUM_RANDOM - NUM_WITH_WORKERS) // 2
    for kill in chain([at_an_event] * half, [at_a_time] * half):
        figures.kill(kill)
    with_workers = Figures(base, figures._whole, tmp_path)
    for _ in range(NUM_WITH_WORKERS):
        with_workers.kill(lambda folder: at_a_time(folder, 2), 2)
    save(
        "soak_kills",
        {
            "at_random_moments": {
                **figures.summary(0),
                "seed": seed,
                "num_ended_before": figures.num_ended_before,
            },
            "at_random_moments_with_workers": {
                **with_workers.summary(2),
                "num_ended_before": with_workers.num_ended_before,
            },
        },
    )
