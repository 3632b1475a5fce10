"""Jobs of several ranks by a real `torchrun`, and a process that commits beside them all the time."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from lakehouse.loader import Loader, LoaderOptions

RANK = Path(__file__).with_name("torchrun_rank.py")
NUM_ROWS = 600
GLOBAL_BATCH_SIZE = 48  # of 1, 2, 3, 4 and 8 ranks

_COMMITS = """
import sys, threading
import lakehouse as lh

ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
table = lh.connect(sys.argv[1]).open_table("numbers")
number = len(table)
table.add([{"x": number}], progress=False)
print("begun", flush=True)
while not ended.wait(float(sys.argv[2])):
    number += 1
    table.add([{"x": number}], progress=False)
"""


def make_table(lake):
    """Make a table whose rows hold their own row ids; give the handle."""
    return lake.create_table("numbers", data=[{"x": number} for number in range(NUM_ROWS)])


@contextmanager
def committing(lake, every_s=0.05):
    """Have another process append a row every so often; the block starts when it has begun."""
    command = [sys.executable, "-c", _COMMITS, str(lake.uri), str(every_s)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "begun\n"
        yield
        writer.communicate()  # closes its input, which ends it


def torchrun(num_ranks, lake, told, **job):
    """Start a job; give the process. ``job`` goes to the ranks as it is."""
    job = {"lake": str(lake.uri), "told": str(told), "commits": False, "global_batch_size": GLOBAL_BATCH_SIZE, **job}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    return subprocess.Popen(
        [*command, str(RANK), json.dumps(job)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(RANK.parents[1])},
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process, told):
    """Wait for a job and read what rank 0 wrote down."""
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors[-3000:]
    return json.loads(Path(told).read_text())


def alone(lake, version):
    """Give the global batches of a version as one rank receives them: row ids."""
    options = LoaderOptions(columns=["_rowid"], batch_size=GLOBAL_BATCH_SIZE, seed=5)
    return [batch["_rowid"].tolist() for batch in Loader(lake.open_table("numbers", version).snapshot(), options)]
