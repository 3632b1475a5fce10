"""The process that is measured, in the arm's own environment: ``python -m benchmarks.loader_readers.measured TASK_JSON ANSWER_PATH``."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.loader_readers import READERS, Job
from benchmarks.loader_readers.mixing import mixing
from benchmarks.loader_readers.usage import memory_nbytes, tree_usage
from benchmarks.loader_rows import NUM_LABELS, LoaderRows, augmented, decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.loader_readers import Reader
    from benchmarks.loader_readers.usage import TreeUsage

_CHECKED_BATCHES = 2
_FEWEST_BATCHES = 8  # to judge the mixing by


@dataclass(frozen=True)
class Task:
    """Build the layout of an arm, or load from it until the budget or the epoch is over; then the file `loaded` appears."""

    action: str
    arm: str
    folder: str
    rows: dict[str, Any]
    job: dict[str, Any]
    budget_s: float
    loaded: str

    def run(self) -> Mapping[str, float]:
        kind, rows, folder = READERS[self.arm], LoaderRows(**self.rows), Path(self.folder)
        if self.action == "build":
            kind.build(folder, rows)
            return {}
        job = Job(**self.job)
        kind.load()
        import torch

        torch.set_num_threads(1)  # each arm has threads or processes of its own, and torch's would fight them
        return measure(lambda: kind(folder, rows, job), rows, job, self.budget_s, Path(self.loaded).touch)


def measure(
    opened: Callable[[], Reader], rows: LoaderRows, job: Job, budget_s: float, loaded: Callable[[], None]
) -> dict[str, float]:
    """Time an epoch from the opening on, its first batch, and resuming in its middle; check what is delivered afterwards.

    `loaded` is called when the epoch is over, and memory need not be watched any more.
    """
    baseline, started = memory_nbytes(os.getpid()), tree_usage()
    start_s = time.perf_counter()
    reader = opened()
    batches = reader.batches()
    ids = [_ids(reader, next(batches))]
    first_s = time.perf_counter()
    half, state = rows.num_rows // job.batch_size // 2, None
    for batch in batches:
        ids.append(_ids(reader, batch))
        if len(ids) == half:
            state = reader.state()
        if len(ids) >= _FEWEST_BATCHES and time.perf_counter() - first_s > budget_s:
            break
    last_s, last = time.perf_counter(), tree_usage()
    loaded()
    found = _figures(ids, rows, last_s - start_s, last - started)
    found |= {"first_batch_s": first_s - start_s, "baseline_nbytes": baseline}
    if state is None:  # the budget ended before the middle
        state, half = reader.state(), len(ids)
    if state is not None:
        if half == len(ids):
            ids.append(_ids(reader, next(batches)))
        found |= _resumed(opened, state, ids[half])
    if (nbytes := reader.plan_nbytes()) is not None:
        found["plan_nbytes_per_row"] = nbytes / rows.num_rows
    _check(opened(), rows, job)
    return found


def _figures(ids: list[Any], rows: LoaderRows, wall_s: float, used: TreeUsage) -> dict[str, float]:
    # From the opening on: what is read ahead of the first batch belongs to rows that come later, and planning to all.
    num_rows = sum(map(len, ids))
    return {
        "wall_s": wall_s / num_rows * 1000,
        "cpu_s": used.cpu_s / num_rows * 1000,
        "rows_per_s": num_rows / wall_s,
        "rows_per_cpu_s": num_rows / used.cpu_s,
        "reads_per_row": used.reads / num_rows,
        "read_nbytes_per_payload_nbyte": used.read_nbytes / (num_rows * (rows.nbytes + 8)),
        "page_faults_per_row": used.page_faults / num_rows,
        "num_rows": num_rows,
        **mixing(np.concatenate(ids), rows.num_rows, NUM_LABELS),
    }


def _resumed(opened: Callable[[], Reader], state: Any, expected: Any) -> dict[str, float]:
    start_s = time.perf_counter()
    reader = opened()
    reader.resume(state)
    found = _ids(reader, next(reader.batches()))
    resume_s = time.perf_counter() - start_s
    return {"resume_s": resume_s, "resumed_exactly": float(np.array_equal(found, expected))}


def _ids(reader: Reader, batch: Any) -> Any:
    return np.asarray(reader.samples(batch)["id"]).copy()  # a view would keep the batch


def _check(reader: Reader, rows: LoaderRows, job: Job) -> None:
    """Raise unless each payload is that of its id."""
    for batch in islice(reader.batches(), _CHECKED_BATCHES):
        samples = reader.samples(batch)
        for number, payload in zip(np.asarray(samples["id"]).tolist(), samples["payload"], strict=True):
            stored = rows.payload(number)
            if job.level == "augment":
                right = tuple(payload.shape) == tuple(augmented(decoded(stored), np.random.default_rng(0)).shape)
            elif job.level == "decode":
                right = np.array_equal(payload, decoded(stored))
            else:
                right = payload == stored
            if not right:
                raise AssertionError(f"row {number} has another row's payload")


def main(task_json: str, answer: str) -> None:
    found = Task(**json.loads(task_json)).run()
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)  # some peers' threads and processes outlive their loader, and shutting them down is not measured
