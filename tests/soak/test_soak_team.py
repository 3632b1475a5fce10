"""The whole team: 32 writers of 200 fills each, in every mode; the figures of a mode are kept when it ends."""

import random
import shutil
import time

import pytest

from benchmarks.harness import environment
from tests.soak.reports import save
from tests.team.checker import check
from tests.team.plan import Plan
from tests.team.running import run

pytestmark = pytest.mark.soak

NUM_WRITERS, NUM_FILLS = 32, 200
# Rows computed for one needed. A compaction moves rows whose values are staged; they are found again by their ids.
MOST_COMPUTED = {
    "quiet": 1.02,
    "append and delete": 1.02,
    "update of an input": 1.02,
    "compaction": 1.05,
    "everything": 1.05,
}


@pytest.mark.parametrize("mode", MOST_COMPUTED)
def test_32_writers_lose_no_column_and_no_cell_and_compute_hardly_a_row_twice(tmp_path, mode):
    seed = random.randrange(2**32)
    print(f"{mode}: seed {seed}, histories in {tmp_path}")
    plan = Plan(
        str(tmp_path), mode, seed, NUM_WRITERS, NUM_FILLS, every=200, read_every=32, num_slices=16, slice_rows=12
    )
    start = time.monotonic()
    run(plan)
    seconds = round(time.monotonic() - start)
    verdict = check(plan)
    save(
        "soak_team",
        {
            mode: {
                "seed": seed,
                "num_writers": NUM_WRITERS,
                **verdict.figures,
                "seconds": seconds,
                "commit": environment.versions()["commit"],
            }
        },
    )
    assert not verdict.violations
    assert verdict.least_fills_a_writer >= NUM_FILLS
    assert verdict.num_rows_compacted or "compact" not in plan.roles
    assert verdict.computed_per_needed <= MOST_COMPUTED[mode]
    shutil.rmtree(plan.lake)  # gigabytes of manifests; the histories stay with pytest
