"""A backfill in a process of its own, to be killed on entering a system call, at an event of the interpreter, or any time."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import chdir, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import lakehouse as lh
from lakehouse import leases, pins
from tests.soak.checking import unnamed_nbytes

ROOT = Path(__file__).parents[1]
FRAGMENTS, ROWS, BATCH = 2, 500, 10
NUM_ROWS = FRAGMENTS * ROWS
CALLS = "calls"  # in the working folder

UNLUCKY = frozenset(range(7, NUM_ROWS, 250))


@lh.udf(pa.int64(), version="1", batch=True, batch_size=BATCH)
def tripled(x: pa.Array) -> pa.Array:
    numbers = x.to_pylist()
    if unlucky := UNLUCKY.intersection(numbers):
        raise ValueError(f"{min(unlucky)} is unlucky")
    with open(CALLS, "a") as file:
        file.writelines(f"{number}\n" for number in numbers)
    return pc.multiply(x, 3)


def calls():
    """Return the inputs of all calls that gave an answer, over all processes."""
    return [int(line) for line in Path(CALLS).read_text().split()] if Path(CALLS).exists() else []


def make(folder):
    """Make the table, with the column declared."""
    schema = pa.schema([pa.field("id", pa.int64(), False, {"lakehouse:key": "true"}), pa.field("x", pa.int64())])
    table = lh.connect(folder).create_table("t", schema=schema)
    for start in range(0, NUM_ROWS, ROWS):
        table.add(({"id": n, "x": n} for n in range(start, start + ROWS)), progress=False)
    table.add_columns({"f": tripled})
    return table


def fill(lake, num_workers=0):
    """Fill it in the process that calls this."""
    return lh.connect(lake).open_table("t").backfill("f", udf=tripled, num_workers=num_workers, progress=False)


def begin(lake, num_workers, kill_at_event):
    """Fill it in a process to be killed: at an event of the interpreter, or from outside; return how many there were."""
    assert lh.connect(lake).open_table("t").version
    Path("ready").touch()
    seen = 0

    def watch(event, args):
        nonlocal seen
        seen += 1
        if seen == kill_at_event:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    fill(lake, num_workers)
    return seen


@dataclass(frozen=True)
class Call:
    """A system call by which a backfill writes.

    Parameters
    ----------
    number
        Of all of them.
    name
        What the kernel calls it.
    path
        What was written, below the working folder, with stars for what is random in names.
    """

    number: int
    name: str
    path: str


def write_calls(folder, num_workers=0, kill_at=0):
    """Run it, kill the process that makes call `kill_at`; return the calls until then, and the exit code."""
    tracer = [sys.executable, "-S", str(Path(__file__).with_name("write_calls.py")), str(kill_at)]
    done = subprocess.run(
        [*tracer, *_command(num_workers)], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *seen, (code,) = map(json.loads, done.stdout.splitlines())
    return [Call(number, name, _pattern(path)) for number, name, path in seen], code


def _pattern(path):
    return re.sub(
        r"\d{8}T[\d.]+-[0-9a-f]+|[0-9a-f-]{32,}|[0-9a-f]{16,}|\.tmp\w+|(?<=\.)[a-z0-9_]{8}$|\d{15,}", "*", path
    )


def events(folder, kill_at=0):
    """Run it, and let it kill itself at an event of the interpreter, see `sys.audit`; return how many there were, if it ended."""
    *python, code = _command(0, kill_at)
    command = [*python, f"{code}; print(num_events)"]
    done = subprocess.run(command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, check=False)
    assert done.returncode in (0, -signal.SIGKILL)
    return int(done.stdout) if done.returncode == 0 else None


def kill_after(folder, seconds, num_workers=0):
    """Run it, and kill it some time after it began; return the exit code."""
    with subprocess.Popen(_command(num_workers), cwd=folder, env=_environment()) as process:
        while not (folder / "ready").exists() and process.poll() is None:
            time.sleep(0.001)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        process.kill()
    return process.returncode


def resume(folder, whole, num_workers=0):
    """Fill what a killed run left, in this process; it must come to what `whole`, a table filled at once, holds.

    Returns
    -------
    dict
        What it cost.
    """
    with chdir(folder):
        result = fill("lake")
        table = lh.connect("lake").open_table("t")
        while _runs_below(folder):  # workers whose driver was killed end their call
            time.sleep(0.01)
        called = calls()
    assert table.to_arrow(["id", "f"]).equals(whole.to_arrow(["id", "f"]))
    assert told(table) == told(whole)
    said = ["column", "state", "coverage", "num_failed"]
    assert table.features().select(said).equals(whole.features().select(said))
    assert set(called) == set(range(NUM_ROWS)) - UNLUCKY
    again = len(called) - len(set(called))
    assert again <= BATCH * max(num_workers, 1)
    side = folder / "lake" / "_lakehouse"
    assert not leases.holders(leases.leases_of(table.snapshot()))
    pins.collect(table.snapshot())  # as whoever pins next does
    assert not [tag for tag in table.snapshot().dataset.tags.list() if tag.startswith(pins.PREFIX)]
    if not num_workers:
        assert not list(side.glob("checkpoints/t/*"))
    return {
        "num_rows_computed_again": again,
        "num_rows_left": result.num_rows,
        "num_rows_found_computed": result.num_resumed,
        "nbytes_left_behind": unnamed_nbytes(folder / "lake", "t"),
        "num_files_left_behind": len([path for path in side.rglob(".*") if path.is_file()]),
    }


MOST_CALLS = 1 + (BATCH - 1).bit_length()  # that a row fails in: a batch that raises is halved until the row is alone


def told(table):
    """Return what `errors` says, whatever the order and the run; how often halves failed depends on where a kill cut."""
    rows = table.errors("f").select(["key", "message", "attempt"]).to_pylist()
    assert all(1 <= row["attempt"] <= MOST_CALLS for row in rows), rows
    return sorted((row["key"], row["message"]) for row in rows)


def _runs_below(folder):
    """Whether a process has this as its working folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.name != str(os.getpid()) and Path(os.readlink(process / "cwd")) == folder:
                return True
    return False


def _command(num_workers, kill_at_event=0):
    code = f"from tests.interrupted import begin; num_events = begin('lake', {num_workers}, {kill_at_event})"
    return [sys.executable, "-c", code]


def _environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}
