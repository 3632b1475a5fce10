"""What a process of a backfill soak runs: a function that leaves a line for each call, and the call that fills its column."""

import hashlib
import sys
from pathlib import Path

import pyarrow as pa

import lakehouse as lh
from lakehouse.features.jobs import grouping

CALLS = "calls.log"  # in the working folder


@lh.udf(pa.int64(), inputs=["id", "image"], version="1")
def digest(key: str, image: bytes) -> int:
    with open(CALLS, "a") as log:
        log.write(f"{key}\n")
    value = int.from_bytes(hashlib.sha256(image).digest()[:7])
    if value % 100 == 7:
        raise ValueError(f"{key} is unlucky")
    return value


def fill(lake):
    """Fill the column, committing fragment by fragment as a job of hours would."""
    grouping.is_due = lambda *_: True
    return lh.connect(lake).open_table("t").backfill("digest", udf=digest, progress=False)


def calls():
    """Return the id of every row the function was called on, in order, over all processes."""
    return Path(CALLS).read_text().split() if Path(CALLS).exists() else []


def stop(num_calls, num_operations, there):
    """Call `there` once, at a file operation of the job after the function was called `num_calls` times by all processes.

    Operations before that one and after the last call are `num_operations`: checkpoints, staging, what surrounds a commit.
    """
    called, passed = len(calls()), 0

    def watch(event, args):
        nonlocal called, passed
        if event == "open" and args[0] == CALLS:
            called += 1
        if called < num_calls or (num_operations and args and args[0] == CALLS):
            return
        if event == "open" or event.startswith("os."):
            passed += 1
            if passed == num_operations + 1:
                there()

    sys.addaudithook(watch)
