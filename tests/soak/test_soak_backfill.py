"""A column over media, filled by fifty processes of which all are killed, and by one that is not."""

import random
import time

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from tests.killing import run_and_kill
from tests.soak import filling
from tests.soak.checking import ROOT
from tests.soak.reports import save

pytestmark = pytest.mark.soak

NUM_FRAGMENTS, FRAGMENT_ROWS, IMAGE_NBYTES = 10, 1_000, 20_000
NUM_ROWS = NUM_FRAGMENTS * FRAGMENT_ROWS
NUM_KILLS = 50
BATCH_ROWS = 64  # a hundredth of a fragment, at least this many: what a kill can lose

_FILLING = """
sys.path.insert(0, {root!r})
from tests.soak import filling

there = (lambda: moment("there")) if {stands_still} else (lambda: print("reached", flush=True))
filling.stop({num_calls}, {num_operations}, there)
filling.fill({lake!r})
"""


def table_of_media(lake):
    rng = np.random.default_rng(0)
    table = lh.connect(lake).create_table("t", schema="images")
    for fragment in range(NUM_FRAGMENTS):
        ids = [f"{fragment}-{row}" for row in range(FRAGMENT_ROWS)]
        images = [rng.bytes(IMAGE_NBYTES) for _ in ids]
        table.add(pa.table({"id": ids, "image": pa.array(images, pa.large_binary())}), progress=False)
    table.add_columns({"digest": filling.digest})
    return table


def moments(seed):
    """Return when to kill: calls of the function before, file operations after them, whether the process stands still."""
    rng = random.Random(seed)
    found = []
    for num_calls in sorted(rng.sample(range(1, NUM_ROWS), NUM_KILLS)):
        to_come = NUM_ROWS - num_calls > 2 * FRAGMENT_ROWS
        num_operations = rng.randint(1, 40) if to_come and rng.random() < 0.6 else 0
        found.append((num_calls, num_operations, not to_come or rng.random() < 0.5))
    return found


def test_fifty_kills_lose_a_batch_each_at_most_and_change_no_value(tmp_path, monkeypatch):
    table, other = table_of_media(tmp_path / "killed"), table_of_media(tmp_path / "whole")
    seed = random.randrange(2**32)
    monkeypatch.chdir(tmp_path)
    start = time.perf_counter()
    for num_calls, num_operations, stands_still in moments(seed):
        values = {"num_calls": num_calls, "num_operations": num_operations, "stands_still": stands_still}
        run_and_kill(_FILLING.format(root=str(ROOT), lake=str(tmp_path / "killed"), **values), "there", tmp_path)
    result = filling.fill(tmp_path / "killed")
    called = filling.calls()
    save(
        "soak_backfill",
        {
            "seed": seed,
            "num_rows": NUM_ROWS,
            "num_fragments": NUM_FRAGMENTS,
            "media_nbytes": NUM_ROWS * IMAGE_NBYTES,
            "num_kills": NUM_KILLS,
            "num_calls": len(called),
            "num_rows_computed_again": len(called) - NUM_ROWS,
            "num_rows_computed_again_a_kill": round((len(called) - NUM_ROWS) / NUM_KILLS, 1),
            "num_rows_computed_again_if_nothing_were_kept": sum(num_calls for num_calls, _, _ in moments(seed)),
            "num_commits": table.version - other.version,
            "num_rows_left_to_the_last_call": result.num_computed,
            "seconds": round(time.perf_counter() - start, 1),
        },
    )
    assert len(set(called)) == NUM_ROWS
    assert len(called) - NUM_ROWS <= NUM_KILLS * BATCH_ROWS
    filling.fill(tmp_path / "whole")
    assert table.to_arrow(["id", "digest"]).equals(other.to_arrow(["id", "digest"]))
    assert told(table) == told(other)
    assert table.features()["state"].to_pylist() == other.features()["state"].to_pylist()


def told(table):
    return sorted(
        tuple(row.values()) for row in table.errors("digest").select(["key", "message", "attempt"]).to_pylist()
    )
