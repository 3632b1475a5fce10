"""A worker or the whole job is killed in mid-epoch: nobody waits for ever, and what is left is read once."""

import json
import subprocess
import sys

import psutil
import pytest

from tests.killing import run_and_kill, stopped

NUM_ROWS = 600
GLOBAL_BATCH_SIZE = 24


@pytest.fixture
def table(lake):
    made = lake.create_table("numbers", data=[{"x": number} for number in range(NUM_ROWS)])
    return lake.open_table("numbers", version=made.version)


def rows(batches):
    return [batch["x"].tolist() for batch in batches]


# --- a worker

# In a process of its own: torch's signal handler raises wherever the main thread happens to be, in pytest as well.
# The worker holds as many files as it may: closing them takes a while between the moment when its connection is
# reset and the one when it has ended, and everything in between is to be seen as its death.
WORKER_KILLED = """
import json, os, resource, sys
from itertools import islice
import psutil
import lakehouse as lh
from lakehouse.errors import LakehouseError

SPARE = 500  # files that it goes on with
HELD = []

def hold_files(batch):
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    while len(HELD) + SPARE < min(most, 20_000):
        HELD.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(100))
    return batch

def main():
    table = lh.connect("lake").open_table("numbers")
    loader = table.loader(batch_size=24, seed=2, num_workers=1, transform=hold_files)
    batches, got, said = iter(loader), [], ""
    try:
        got += [batch["x"].tolist() for batch in islice(batches, 3)]
        (worker,) = [c for c in psutil.Process().children() if any("spawn_main" in word for word in c.cmdline())]
        worker.kill()
        for batch in batches:
            got.append(batch["x"].tolist())
    except LakehouseError as error:
        said = str(error)
    loader.load_state_dict(loader.state_dict())
    got += [batch["x"].tolist() for batch in loader]
    print(json.dumps({"worker": worker.pid, "said": said, "got": got}))

if __name__ == "__main__":
    main()
"""


def test_a_killed_worker_ends_the_iteration_with_an_error_that_names_it_and_another_one_goes_on(table, tmp_path):
    script = tmp_path / "worker_killed.py"
    script.write_text(WORKER_KILLED)
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert f"worker process {found['worker']} of the loader is gone" in found["said"]
    assert found["got"] == rows(table.loader(batch_size=GLOBAL_BATCH_SIZE, seed=2))


def workers_of(pid):
    """Give the worker processes of a loader; Python starts a process of its own beside them that counts semaphores."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if any("spawn_main" in word for word in child.cmdline())]


# --- the job

JOB = """
import json, sys
if {num_workers} == 0:
    sys.modules["torch"] = None  # it starts the workers, and takes seconds to load
from pathlib import Path
import lakehouse as lh

def main():
    table = lh.connect("lake").open_table("numbers")
    loader = table.loader(batch_size=24, seed=2, num_workers={num_workers})
    for step, batch in enumerate(loader, 1):
        with Path("received").open("a") as file:
            print(json.dumps(batch["x"].tolist()), file=file)
        moment(f"received.{{step}}")
        Path("state.part").write_text(json.dumps(loader.state_dict()))
        Path("state.part").rename("state")
        moment(f"saved.{{step}}")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("at", ["received.7", "saved.7"])
def test_a_killed_job_goes_on_with_the_rows_it_had_not_received_on_other_ranks(table, lake, tmp_path, at):
    run_and_kill(JOB.format(num_workers=0), at, tmp_path)
    received = [json.loads(line) for line in (tmp_path / "received").read_text().splitlines()]
    state = json.loads((tmp_path / "state").read_text())
    saved = 7 if at == "saved.7" else 6  # batches: killed before it saved its state, the job gets the seventh again
    latest = lake.open_table("numbers")
    latest.delete("x % 3 = 0")
    latest.compact()
    parts = [resumed(lake, state, rank, world_size=3) for rank in range(3)]
    rest = [sum(parts, []) for parts in zip(*parts, strict=True)]
    assert received[:saved] + rest == rows(table.loader(batch_size=GLOBAL_BATCH_SIZE, seed=2))
    assert sorted(sum(received[:saved] + rest, [])) == list(range(NUM_ROWS))


def resumed(lake, state, rank, world_size):
    pinned = lake.open_table("numbers", version=lake.open_table("numbers").version)
    loader = pinned.loader(batch_size=GLOBAL_BATCH_SIZE // world_size, seed=2, rank=rank, world_size=world_size)
    loader.load_state_dict(state)
    return rows(loader)


def test_no_worker_outlives_a_killed_job(table, tmp_path):
    with stopped(JOB.format(num_workers=1), "received.2", tmp_path):
        (job,) = [child for child in psutil.Process().children() if "killed.py" in " ".join(child.cmdline())]
        workers = workers_of(job.pid)
        job.kill()
        _, alive = psutil.wait_procs(workers, timeout=240)
        assert (len(workers), alive) == (1, [])
