"""What each rank of a `torchrun` runs: open the table, read some batches, and have rank 0 write down what all received.

``torchrun torchrun_rank.py JOB_JSON``; with ``gate`` in the job rank 0 stops after its batches until somebody writes to
that pipe, and then all read on to the end of the epoch.
"""

import json
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist

import lakehouse as lh


def main(job):
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    table, found = opened_in_turn(lh.connect(job["lake"]), job["commits"])
    loader = table.loader(columns=["x", "_rowid"], batch_size=job["global_batch_size"] // world_size, seed=5)
    if "state" in job:
        loader.load_state_dict(job["state"])
    batches = iter(loader)
    told = {
        "found": everywhere(found),
        "version": everywhere(loader.state_dict()["version"]),
        "length": everywhere(len(loader)),
        "batches": [together(batch) for batch in islice(batches, job.get("steps"))],
        "state": everywhere(loader.state_dict()),
    }
    if "gate" in job:
        write(job, rank, told)
        if rank == 0:
            Path(job["gate"]).read_text()
        dist.barrier()
        told["rest"] = [together(batch) for batch in batches]
    write(job, rank, told)
    dist.barrier()
    dist.destroy_process_group()


def opened_in_turn(lake, commits):
    """Open the table, with somebody committing after the rank before did, so that each finds another version."""
    last = [-1]
    for turn in range(dist.get_world_size()):
        if turn == dist.get_rank():
            while (table := lake.open_table("numbers")).version == last[0] and commits:
                pass
            last = [table.version]
            mine = table, table.version
        dist.broadcast_object_list(last, src=turn)
    return mine


def everywhere(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def together(batch):
    """Put the ranks' parts of a global batch together: its row ids in order."""
    mine = batch["_rowid"].contiguous()
    assert mine.tolist() == batch["x"].tolist(), "a row id with another row's value"
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine)
    return torch.cat(parts).tolist()


def write(job, rank, told):
    if rank == 0:
        path = Path(job["told"])
        path.with_suffix(".part").write_text(json.dumps(told))
        path.with_suffix(".part").rename(path)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
