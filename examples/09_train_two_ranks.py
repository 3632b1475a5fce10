"""Train on two ranks: torchrun starts them, each gets its half of the same global batches, however it is called again."""

import subprocess
import sys

import numpy as np
import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import lakehouse as lh

if len(sys.argv) == 1:
    pixels, labels = load_digits(return_X_y=True)
    rows = [{"pixels": p.astype(np.float32), "label": int(n)} for p, n in zip(pixels, labels, strict=True)]
    schema = lh.Schema.parse(
        'name = "digits"\n[columns]\npixels = {type = "vector<float32>[64]"}\nlabel = {type = "int64"}'
    )
    lh.connect("lake").create_table("digits", schema=schema, data=rows)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, __file__, "rank"], check=True)
    sys.exit()

dist.init_process_group("gloo")
torch.manual_seed(0)
torch.set_num_threads(1)
table = lh.connect("lake").open_table("digits")
loader = table.loader(columns=["_rowid", "pixels", "label"], batch_size=64, seed=7)  # 128 rows over both
model = DistributedDataParallel(torch.nn.Linear(64, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(5):
    for batch in loader:
        loss = cross_entropy(model(batch["pixels"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no type here
        optimizer.step()
print(f"rank {dist.get_rank()}: {len(loader)} batches an epoch, loss {loss.item():.2f}, {loader.stats()}")
dist.destroy_process_group()
