"""Worker processes, torch's own DataLoader, and several ranks."""

import multiprocessing
import pickle
import time
import warnings

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from lakehouse import types
from lakehouse.errors import InvalidArgumentError, UnsupportedTableError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import BatchSampler, TableDataset
from lakehouse.loader.iterable import TableIterable
from lakehouse.media.codecs import encode_image


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    x = np.arange(60)
    fields = [pa.field("x", pa.int64()), pa.field("name", pa.string()), types.field("image", "image")]
    images = [encode_image(np.full((4, 4, 3), i, np.uint8)) for i in x]
    table = lake.create_table("numbers", schema=pa.schema(fields))
    table.add(pa.table([x, [f"n{i}" for i in x], images], schema=pa.schema(fields)))
    return lake.open_table("numbers", version=table.version)


def options(**changes):
    return LoaderOptions(**({"columns": ["x", "name", "image"], "batch_size": 8, "seed": 3} | changes))


def contents(batches):
    return [(batch["x"].tolist(), batch["name"], batch["image"][:, 0, 0, 0].tolist()) for batch in batches]


def test_processes_make_the_same_batches_epoch_after_epoch_and_resumed_and_tell_what_they_did(table):
    threads = Loader(table.snapshot(), options())
    expected = [contents(threads) for _ in range(3)]
    processes = Loader(table.snapshot(), options(num_workers=2, transform=lambda row: row))
    assert contents(processes) == expected[0]
    stats = processes.stats()
    assert (stats.num_rows, stats.num_rows_read, stats.num_batches) == (56, 56, 7)  # of 60 in batches of 8
    assert stats.nbytes_read > 0
    assert stats.read_s > 0
    assert stats.decode_s > 0
    assert stats.queue_fill is None
    for _ in zip(range(3), processes):  # left early: what is under way must not leak into the next iteration
        pass
    state = processes.state_dict()
    assert contents(processes) == expected[1]
    processes.load_state_dict(state)
    assert contents(processes) == expected[1][3:]
    assert contents(processes) == expected[2]
    first = iter(processes)
    next(first)
    next(iter(processes))
    with pytest.raises(InvalidArgumentError, match="another iteration of this loader has begun"):
        next(first)


def test_torchs_dataloader_takes_the_dataset_and_the_sampler(table):
    dataset = TableDataset(table.snapshot(), options())
    there = pickle.loads(pickle.dumps(dataset))  # as in a worker
    loader = DataLoader(there, batch_sampler=BatchSampler(dataset))
    own = Loader(table.snapshot(), options())
    assert contents(loader) == contents(own)
    assert contents(loader) == contents(own)  # the next epoch


def test_torchs_dataloader_shares_an_iterable_among_workers(table):
    dataset = TableIterable(table.snapshot(), options())
    loader = DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True
    )
    own = Loader(table.snapshot(), options())
    assert contents(loader) == contents(own)
    next(iter(loader))  # left early, and an epoch of its own
    dataset.set_epoch(1)
    assert contents(loader) == contents(own)
    assert contents(loader) == contents(own)


def test_an_iterable_resumes_in_each_worker(table):
    """As torchdata's StatefulDataLoader does it: the state is loaded into a fresh iterator."""
    dataset = TableIterable(table.snapshot(), options())
    whole = contents(dataset)
    dataset.set_epoch(0)
    batches = iter(dataset)
    for _ in zip(range(3), batches):
        pass
    resumed = iter(dataset)
    resumed.load_state_dict(batches.state_dict())
    assert contents(resumed) == whole[3:]
    with pytest.raises(InvalidArgumentError, match="with 2 workers, here there are 1"):
        iter(dataset).load_state_dict(batches.state_dict() | {"every": 2})


def test_a_forked_worker_is_refused_with_the_way_out(table):
    loader = DataLoader(TableDataset(table.snapshot(), options()), num_workers=1, multiprocessing_context="fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lance and Python 3.12 warn of the fork itself
        with pytest.raises(UnsupportedTableError, match="multiprocessing_context="):
            next(iter(loader))


def test_a_dataset_is_read_by_index_with_repeats(table):
    dataset = TableDataset(table.snapshot(), options(where="x >= 10"))
    assert [int(row["x"]) for row in dataset.__getitems__([3, 49, 3])] == [13, 59, 13]
    for index in (50, -1):
        with pytest.raises(IndexError, match=f"no row {index}; the dataset has 50 rows"):
            dataset[index]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"on_bad_rows": "mask"}, "substitute"),
        ({"collate_fn": list}, "DataLoader"),
        ({"transform": lambda row, rng: row}, "rng is seeded by the position"),
    ],
)
def test_what_only_an_order_gives_meaning_to_is_refused_by_index(table, changes, said):
    with pytest.raises(InvalidArgumentError, match=said):
        TableDataset(table.snapshot(), options(**changes))


def test_workers_that_cannot_be_started_are_not_waited_for(table, monkeypatch):
    """As in a script without a main guard, which a worker imports again."""

    def refused(*args):
        raise RuntimeError("An attempt has been made to start a new process before the bootstrapping phase has ended")

    monkeypatch.setattr("torch.utils.data.DataLoader.__iter__", refused)
    began = time.perf_counter()
    with pytest.raises(RuntimeError, match="bootstrapping phase"):
        next(iter(Loader(table.snapshot(), options(num_workers=1), pin=False)))
    assert time.perf_counter() - began < 10  # a worker that dies is waited for three times as long


def test_a_state_of_an_iteration_is_refused_if_it_is_none(table):
    dataset = TableIterable(table.snapshot(), options(), pin=False)
    state = iter(dataset).state_dict()
    spoilt = [{**state, name: value} for name in ("step", "every") for value in ("1", -1, None, True)]
    for strange in (None, {}, {key: state[key] for key in state if key != "step"}, *spoilt):
        with pytest.raises(InvalidArgumentError, match="no state of such an iteration"):
            iter(dataset).load_state_dict(strange)


def test_workers_of_a_worker_are_refused(table):
    with pytest.raises(InvalidArgumentError, match="num_workers belongs to the DataLoader"):
        TableIterable(table.snapshot(), options(num_workers=1))


def test_a_sampler_resumes_and_refuses_another_order(table):
    dataset = TableDataset(table.snapshot(), options())
    whole = list(BatchSampler(dataset))
    sampler = BatchSampler(dataset)
    for _ in zip(range(2), sampler):
        pass
    resumed = BatchSampler(dataset)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == whole[2:]
    assert len(resumed) == len(whole) == 7
    with pytest.raises(InvalidArgumentError, match="seed 3, this loader has 4"):
        BatchSampler(dataset, options(seed=4)).load_state_dict(sampler.state_dict())


# Ranks


def test_ranks_agree_on_rank_0s_version_and_share_its_batches(lake, tmp_path):
    table = lake.create_table("shared", data=pa.table({"x": range(40)}))
    versions = [table.version]
    table.add(pa.table({"x": range(5)}))  # rank 1 finds another newest version
    versions.append(table.version)
    results = _run_ranks(2, _rank_reads, tmp_path, lake.uri, versions)
    assert {result["version"] for result in results} == {versions[0]}
    alone = Loader(lake.open_table("shared", versions[0]).snapshot(), LoaderOptions(batch_size=8))
    together = [sum(parts, []) for parts in zip(*(result["batches"] for result in results), strict=True)]
    assert together == [batch["x"].tolist() for batch in alone]
    assert len({result["state"] for result in results}) == 1
    assert all(
        "rank 0 could not open its loader" in result["error"] or "no_such" in result["error"] for result in results
    )
    assert "selects 10 rows" in results[1]["conflict"]


def _rank_reads(uri, versions):
    import lakehouse as lh
    from lakehouse.errors import LakehouseError

    rank = torch.distributed.get_rank()
    snapshot = lh.connect(uri).open_table("shared", versions[rank]).snapshot()
    loader = Loader(snapshot, LoaderOptions(batch_size=4))
    result = {"batches": [batch["x"].tolist() for batch in loader], "state": str(loader.state_dict())}
    result["version"] = loader.state_dict()["version"]
    try:
        Loader(snapshot, LoaderOptions(where="no_such = 1"))
    except LakehouseError as error:
        result["error"] = str(error)
    try:
        Loader(snapshot, LoaderOptions(where="x < 10" if rank == 1 else None))
    except LakehouseError as error:
        result["conflict"] = str(error)
    return result


def _run_ranks(world_size, work, folder, *arguments):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [
        context.Process(target=_as_rank, args=(rank, world_size, folder, work, arguments, results))
        for rank in range(world_size)
    ]
    for process in ranks:
        process.start()
    found = dict(results.get(timeout=240) for _ in ranks)
    for process in ranks:
        process.join(timeout=240)
    return [found[rank] for rank in range(world_size)]


def _as_rank(rank, world_size, folder, work, arguments, results):
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/ranks", rank=rank, world_size=world_size)
    results.put((rank, work(*arguments)))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
