"""Loaders over days in short: many ranks, thousands of versions, fifty epochs, one topology after the other."""

import datetime as dt
import gc
import json
import os
import threading
from itertools import islice
from pathlib import Path

import lance
import numpy as np
import psutil
import pyarrow as pa
import pytest

from tests.seeded import pictures
from tests.torchrun import NUM_ROWS, alone, committing, make_table, result, torchrun

pytestmark = pytest.mark.soak

NUM_COMMITS = 3_000
NUM_EPOCHS = 50
TOPOLOGIES = (1, 2, 8, 3, 4, 6)  # two batches each are the epoch


def written(path, process):
    """Wait until rank 0 has written; the job ending before is its error."""
    while not path.exists():
        if process.poll() is not None:
            result(process, path)
        threading.Event().wait(0.05)


def clean_up(table):
    """Do what LanceDB's optimize does, as hard as it can."""
    dataset = lance.dataset(table.uri)
    dataset.cleanup_old_versions(older_than=dt.timedelta(0), delete_unverified=True, error_if_tagged_old_versions=False)


def test_eight_ranks_agree_beside_a_writer_and_others_go_on_thousands_of_versions_later(lake, tmp_path):
    table = make_table(lake)
    told, gate = tmp_path / "told.json", tmp_path / "gate"
    os.mkfifo(gate)
    with committing(lake):
        job = torchrun(8, lake, told, commits=True, steps=5, gate=str(gate))
        written(told, job)
    first = json.loads(told.read_text())
    assert len(set(first["found"])) == 8
    assert len(set(first["version"])) == len(set(first["length"])) == 1
    version = first["version"][0]
    whole = alone(lake, version)
    assert first["batches"] == whole[:5]

    for number in range(NUM_COMMITS):
        lance.write_dataset(pa.table({"x": [NUM_ROWS + number]}), table.uri, mode="append")
    table.delete("x % 2 = 0")
    table.compact(progress=False)
    clean_up(table)
    assert lake.open_table("numbers").version > version + NUM_COMMITS
    assert len(lance.dataset(table.uri).versions()) < 10  # the newest, and what the job pins

    state = first["state"][0]
    later = result(torchrun(3, lake, tmp_path / "later.json", state=state), tmp_path / "later.json")
    assert later["version"] == [version] * 3
    assert later["batches"] == whole[5:]
    gate.write_text("go on")
    assert result(job, told)["rest"] == whole[5:]


def test_a_killed_job_of_four_ranks_goes_on_on_two(lake, tmp_path):
    version = make_table(lake).version
    told, gate = tmp_path / "told.json", tmp_path / "gate"
    os.mkfifo(gate)
    job = torchrun(4, lake, told, steps=4, gate=str(gate))
    written(told, job)
    for process in [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]:
        process.kill()
    job.communicate()
    first = json.loads(told.read_text())
    later = result(torchrun(2, lake, tmp_path / "later.json", state=first["state"][0]), tmp_path / "later.json")
    assert first["batches"] + later["batches"] == alone(lake, version)


def test_one_topology_after_the_other_reads_each_batch_once(lake, tmp_path):
    version = make_table(lake).version
    whole, batches, job = alone(lake, version), [], {}
    for number, num_ranks in enumerate(TOPOLOGIES):
        told = tmp_path / f"{number}.json"
        part = result(torchrun(num_ranks, lake, told, steps=2, **job), told)
        batches += part["batches"]
        assert batches == whole[: 2 * (number + 1)]
        job = {"state": part["state"][0]}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_fifty_epochs_hold_no_more_than_five(lake, num_workers):
    table = lake.create_table("pets", schema="images", data=pictures(600))
    loader = table.loader(columns=["image", "caption"], batch_size=32, seed=1, num_workers=num_workers)
    held = []
    for epoch in range(NUM_EPOCHS):
        steps = None if epoch % 3 else 7  # each third one is left early
        assert len(list(islice(loader, steps))) == (steps or len(loader))
        if epoch >= 4:
            gc.collect()
            held.append(holding())
    early, late = np.array(held[:5]), np.array(held[-5:])
    assert late[:, 0].max() <= early[:, 0].max()  # files
    assert late[:, 1].max() <= early[:, 1].max()  # threads
    assert late[:, 2].min() <= early[:, 2].max() + (8 << 20)  # memory, of which an allocator keeps some more or less


def holding():
    """Give descriptors, threads and memory of this process and its workers."""
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return (
        sum(len(list(Path(f"/proc/{process.pid}/fd").iterdir())) for process in family),
        sum(process.num_threads() for process in family),
        sum(process.memory_full_info().uss for process in family),
    )
