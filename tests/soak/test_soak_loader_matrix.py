"""The loader's faces in real processes: any number of workers, any way to start them, torchdata, Lightning, forks."""

import json
import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pyarrow as pa
import pytest
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import lakehouse as lh
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import BatchSampler, TableDataset
from lakehouse.loader.iterable import TableIterable
from tests.test_loader_matrix import BLOCK, fork, torchdata_warns

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("numbers", data=pa.table({"x": np.arange(403)}))
    return lake.open_table("numbers", version=table.version).snapshot()


def options(**changes):
    return LoaderOptions(**({"batch_size": 16, "seed": 3} | changes))


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


@pytest.mark.parametrize("order", [{}, BLOCK])
@pytest.mark.parametrize("num_workers", [1, 2, 3, 4])
def test_any_number_of_workers_gives_the_batches_of_none_resumed_at_any_other(snapshot, num_workers, order):
    alone = Loader(snapshot, options(**order), pin=False)
    expected = [xs(alone) for _ in range(3)]
    one = Loader(snapshot, options(num_workers=num_workers, **order), pin=False)
    assert xs(one) == expected[0]
    got = xs(islice(one, 7))
    state = json.loads(json.dumps(one.state_dict()))
    for other_workers in (0, num_workers % 4 + 1):
        other = Loader(snapshot, options(num_workers=other_workers, **order), pin=False)
        other.load_state_dict(state)
        assert got + xs(other) == expected[1]
        assert xs(other) == expected[2]


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
@pytest.mark.parametrize("persistent", [True, False])
def test_torchs_dataloader_shares_out_what_a_loader_gives(snapshot, start, persistent):
    alone = Loader(snapshot, options(), pin=False)
    expected = [xs(alone) for _ in range(2)]
    workers = {"num_workers": 3, "multiprocessing_context": start, "persistent_workers": persistent}
    iterable = DataLoader(TableIterable(snapshot, options(), pin=False), batch_size=None, **workers)
    dataset = TableDataset(snapshot, options(), pin=False)
    sampled = DataLoader(dataset, batch_sampler=BatchSampler(dataset), **workers)
    for loader in (iterable, sampled):
        assert [xs(loader) for _ in range(2)] == expected


@torchdata_warns
@pytest.mark.parametrize("face", ["iterable", "sampler"])
@pytest.mark.parametrize(("num_workers", "persistent"), [(0, False), (1, True), (2, False), (3, True)])
def test_a_stateful_dataloader_goes_on_from_every_step(snapshot, face, num_workers, persistent):
    def made():
        workers = {"multiprocessing_context": "forkserver", "persistent_workers": persistent} if num_workers else {}
        if face == "iterable":
            iterable = TableIterable(snapshot, options(batch_size=64), pin=False)
            return StatefulDataLoader(iterable, batch_size=None, num_workers=num_workers, **workers)
        dataset = TableDataset(snapshot, options(batch_size=64), pin=False)
        return StatefulDataLoader(dataset, batch_sampler=BatchSampler(dataset), num_workers=num_workers, **workers)

    alone = Loader(snapshot, options(batch_size=64), pin=False)
    expected = [xs(alone) for _ in range(3)]
    for stop in range(1, len(expected[1]), 2 if num_workers else 1):
        begun = made()
        assert xs(begun) == expected[0]
        batches = iter(begun)
        assert xs(islice(batches, stop)) == expected[1][:stop]
        state = begun.state_dict()
        del batches, begun
        resumed = made()
        resumed.load_state_dict(state)
        assert [xs(resumed), xs(resumed)] == [expected[1][stop:], expected[2]]


def test_twenty_forks_are_twenty_errors_and_no_crash(snapshot):
    one = Loader(snapshot, options(), pin=False)
    list(one)
    for _ in range(20):
        heard, said = os.pipe()
        child = fork()
        if child == 0:
            try:
                list(one)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
                os.write(said, str(error).encode())
            os._exit(0)
        os.close(said)
        with os.fdopen(heard) as told:
            assert "Lance does not survive a fork" in told.read()
        assert os.waitpid(child, 0)[1] == 0
    assert len(list(one)) == len(one)


INTERRUPTED = """
import os, signal, sys
from itertools import islice
import lakehouse as lh

def main(lake):
    table = lh.connect(lake).open_table("numbers")
    expected = [batch["x"].tolist() for batch in table.loader(batch_size=4, seed=3)]
    loader = table.loader(batch_size=4, seed=3, num_workers=2)
    got = []
    for _ in range(3):
        batches = iter(loader)
        got += [batch["x"].tolist() for batch in islice(batches, 5)]
        try:
            os.killpg(0, signal.SIGINT)  # as a terminal does it: the workers get it too
            while True:
                signal.pause()
        except KeyboardInterrupt:
            del batches
        loader.load_state_dict(loader.state_dict())
    assert got + [batch["x"].tolist() for batch in loader] == expected
    print("went on")

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_ctrl_c_costs_workers_and_no_batches(snapshot, tmp_path):
    (tmp_path / "job.py").write_text(INTERRUPTED)
    command = [sys.executable, "job.py", snapshot.lake.uri]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, start_new_session=True)
    assert "went on" in ran.stdout, ran.stderr[-3000:]


# Lightning warns of much that has nothing to do with loaders, so it has a process of its own.
TRAINING = """
import re, sys
from pathlib import Path
import lightning, torch
import lakehouse as lh

class Model(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []
    def training_step(self, batch, index):
        self.seen.append(batch["x"].tolist())
        return self.layer(batch["x"].float()[:, None]).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-6)

def trained(table, checkpoint=None, **options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model = Model()
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=3, default_root_dir="runs", **quiet, **options)
    trainer.fit(model, table.loader(batch_size=64, seed=3), ckpt_path=checkpoint)
    return model.seen

def main(lake):
    table = lh.connect(lake).open_table("numbers")
    every = lightning.pytorch.callbacks.ModelCheckpoint(
        "saved", filename="{step}", every_n_train_steps=1, save_top_k=-1
    )
    whole = trained(table, callbacks=[every])
    own = table.loader(batch_size=64, seed=3)
    assert whole == [batch["x"].tolist() for _ in range(3) for batch in own]
    saved = sorted(Path("saved").iterdir())
    assert len(saved) == len(whole)
    for path in saved:
        step = int(re.search("step=([0-9]+)", path.name)[1])
        assert trained(table, path, enable_checkpointing=False) == whole[step:], step
    print("resumed from", len(saved), "checkpoints")

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_lightning_goes_on_from_every_checkpoint(snapshot, tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, snapshot.lake.uri]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "resumed from 18 checkpoints" in ran.stdout, ran.stderr[-3000:]
