"""Six gigabytes of mixed files, one in a hundred broken: what they take in memory, and what ten kills leave."""

import json
import random
import shutil
import subprocess
import sys
import time

import pytest

from benchmarks.building import built_once
from tests import broken_files
from tests.soak import folders
from tests.soak.checking import MEDIA, ROOT, add_and_kill, check, random_files, unnamed_nbytes
from tests.soak.ingesting import add
from tests.soak.reports import DATA, save

pytestmark = pytest.mark.soak

NBYTES = 6_000_000_000
PEAK_NBYTES = 600_000_000
NUM_KILLS = 10
MOMENTS = ("sealed.1", "committed.1", "done.1")


@pytest.fixture(scope="module")
def folder():
    sources = [folders.Path(module.__file__) for module in (folders, broken_files)]
    return built_once(DATA / "soak", lambda made: folders.build(made, folders.Plan(NBYTES)), sources)


@pytest.fixture
def lake():
    """Beside the files: pytest would keep three of it."""
    made = DATA / "soak-lake"
    shutil.rmtree(made, ignore_errors=True)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def test_memory_stays_within_600_mb_and_every_broken_file_is_named(folder, lake):
    content = folders.load(folder)
    command = [sys.executable, "-m", "tests.soak.ingesting", str(lake), str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    peak = max(each["peak_over_baseline_nbytes"] for each in figures["tables"].values())
    about = {
        table: {
            "num_good": len(each.good),
            "num_broken": len(each.broken),
            "nbytes": each.nbytes,
            "largest_file_nbytes": max(each.sizes.values()),
        }
        for table, each in content.items()
    }
    save("soak_ingest", {"files": about, "uninterrupted": {**figures, "peak_over_baseline_nbytes": peak}})
    check(lake, content)
    assert peak <= PEAK_NBYTES, figures


def test_ten_kills_at_random_bytes_and_one_at_each_commit_lose_and_repeat_nothing(folder, lake, tmp_path):
    content = folders.load(folder)
    kills = random_files(content, NUM_KILLS, seed=random.randrange(2**32))
    start, figures = time.perf_counter(), {}
    for table, files in kills.items():
        at_commit = random.choice(MOMENTS)
        for at in (*files, at_commit):
            add_and_kill(lake, folder, table, at, tmp_path)
        result = add(lake, folder, table)
        assert (result.num_rows, result.num_failed) == (len(content[table].good), len(content[table].broken))
        figures[table] = {
            "num_kills": len(files) + 1,
            "killed_at": [*(path.removeprefix(f"{folder}/") for path in files), at_commit],
            "num_rows": result.num_rows,
            "num_rows_resumed_by_the_last_call": result.num_resumed,
            "nbytes_left_behind": unnamed_nbytes(lake, table),
        }
    figures["seconds"] = round(time.perf_counter() - start, 1)
    check(lake, content)
    save("soak_ingest", {"killed": figures})
    assert set(MEDIA) < set(figures)
