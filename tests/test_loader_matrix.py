"""Every topology sees the same global batches: world sizes, workers, faces, ways of starting a process, ways of dying."""

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
from itertools import islice, zip_longest

import numpy as np
import psutil
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import BatchSampler, TableDataset
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.iterable import TableIterable
from lakehouse.loader.order.plan import Plan
from lakehouse.loader.stats import Meter

NUM_ROWS = 403
# Three batches of rows of 72 bytes are held, and 16 blocks mixed at least: blocks are a few rows, generations a few batches.
BLOCK = {"shuffle": "block", "shuffle_memory": 50_000}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("numbers", data=pa.table({"x": np.arange(NUM_ROWS)}))
    return lake.open_table("numbers", version=table.version).snapshot()


def loader(snapshot, **options):
    return Loader(snapshot, LoaderOptions(**({"batch_size": 16, "seed": 3} | options)), pin=False)


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


def real(batch):
    pads = batch["_is_pad"].tolist() if "_is_pad" in batch else [False] * len(batch["x"])
    return [x for x, pad in zip(batch["x"].tolist(), pads, strict=True) if not pad]


# Ranks and workers


TOPOLOGIES = [
    # The suite has every pair of the three, `make soak` the other half too.
    pytest.param(
        world_size, drop_last, order, marks=[pytest.mark.soak] if (world_size + place + (order is BLOCK)) % 2 else []
    )
    for world_size in range(1, 17)
    for place, drop_last in enumerate([True, False, "uneven"])
    for order in ({}, BLOCK)
]


@pytest.mark.parametrize(("world_size", "drop_last", "order"), TOPOLOGIES)
def test_the_global_batches_are_the_same_on_any_number_of_ranks_and_workers(snapshot, world_size, drop_last, order):
    """Worker w of K makes each K-th batch: torch hands them out in turn, to processes or to an iterable's workers."""
    options = {"batch_size": 144 // world_size, "drop_last": drop_last} | order
    alone = loader(snapshot, **options | {"batch_size": 144 // world_size * world_size})
    expected = [sorted(batch) for batch in xs(alone)]
    ranks = [loader(snapshot, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    for num_workers in range(5):
        batches = [in_turn(one, num_workers) for one in ranks]
        assert [len(each) for each in batches] == [len(one) for one in ranks]
        assert drop_last == "uneven" or len({len(each) for each in batches}) == 1
        assert [
            sorted(sum(map(real, parts), [])) for parts in zip_longest(*batches, fillvalue={"x": torch.empty(0)})
        ] == expected
    if drop_last is not True:
        assert sorted(sum(expected, [])) == list(range(NUM_ROWS))


def in_turn(one, num_workers):
    plan, every = one._plan(0), max(num_workers, 1)
    workers = [
        one._source.part(plan, one._rank, one._world_size, arrays_of_this_installation(), Meter(1)).batches(
            range(worker, len(one), every), prefetch_batches=0
        )
        for worker in range(every)
    ]
    return [next(workers[step % every])[0] for step in range(len(one))]


@pytest.mark.parametrize("order", [{}, BLOCK])
def test_stopped_at_every_step_and_resumed_on_others_nothing_is_lost_or_repeated(snapshot, order):
    expected = xs(loader(snapshot, batch_size=48, drop_last=False, **order))
    for stop in range(len(expected) + 1):
        seen, state = [], None
        for world_size, steps in ((1, stop), (4, 1), (3, 2), (16, 1), (2, len(expected))):
            ranks = [
                loader(snapshot, batch_size=48 // world_size, drop_last=False, rank=r, world_size=world_size, **order)
                for r in range(world_size)
            ]
            for one in ranks if state else ():
                one.load_state_dict(json.loads(state))
                one.set_epoch(0)
            for parts in islice(zip(*ranks, strict=True), steps):
                seen.append(sum(map(real, parts), []))
            state = json.dumps(ranks[0].state_dict())
            assert {json.dumps(one.state_dict()) for one in ranks} == {state}
        assert seen == expected


def test_an_uneven_end_gives_each_row_once_and_the_first_rank_most(snapshot):
    for world_size in (2, 3, 16):
        ranks = [
            loader(snapshot, batch_size=8, rank=rank, world_size=world_size, drop_last="uneven")
            for rank in range(world_size)
        ]
        batches = [list(one) for one in ranks]
        assert sorted(x for each in batches for batch in each for x in batch["x"].tolist()) == list(range(NUM_ROWS))
        assert all("_is_pad" not in batch for each in batches for batch in each)
        lengths = [len(each) for each in batches]
        assert max(lengths) - min(lengths) <= 1
        assert lengths[0] == max(lengths)
        assert len({json.dumps(one.state_dict()) for one in ranks}) == 1
        assert {one._cursor.begin(lengths[0])[0] for one in ranks} == {1}  # and all go on with the next epoch


@pytest.mark.parametrize(("where", "chosen"), [("x < 0", []), ("x = 3", [3]), ("x < 5", [0, 1, 2, 3, 4])])
@pytest.mark.parametrize("order", [{}, BLOCK, {"shuffle": False}])
def test_fewer_rows_than_ranks(snapshot, where, chosen, order):
    for drop_last, lengths in (
        (True, [0] * 8),
        (False, [bool(chosen)] * 8),
        ("uneven", [rank < len(chosen) for rank in range(8)]),
    ):
        ranks = [
            loader(snapshot, where=where, batch_size=2, rank=rank, world_size=8, drop_last=drop_last, **order)
            for rank in range(8)
        ]
        batches = [list(one) for one in ranks]
        assert [len(each) for each in batches] == [len(one) for one in ranks] == lengths
        seen = [x for each in batches for batch in each for x in real(batch)]
        assert sorted(seen) == ([] if drop_last is True else chosen)
        assert str(ranks[0].describe())


# State


def test_a_block_state_keeps_its_blocks_whatever_the_memory_is_now(snapshot):
    one = loader(snapshot, **BLOCK)
    expected = xs(one)
    begun = loader(snapshot, **BLOCK)
    assert xs(islice(begun, 5)) == expected[:5]
    state = json.loads(json.dumps(begun.state_dict()))
    assert len(json.dumps(state)) < 600
    for other in (loader(snapshot, shuffle="block", shuffle_memory="1GB"), loader(snapshot, **BLOCK)):
        other.load_state_dict(state)
        assert other.describe().blocks == one.describe().blocks
        assert xs(other) == expected[5:]
    other = loader(snapshot, shuffle="block", shuffle_memory="1GB")
    other.load_state_dict(state)
    assert "as in the state" in other.describe().reason


def test_a_state_of_the_first_format_goes_on(snapshot):
    state = loader(snapshot).state_dict() | {"format": 1, "num_samples": 32}
    del state["blocks"], state["packing"]
    one = loader(snapshot)
    one.load_state_dict(state)
    assert xs(one) == xs(loader(snapshot))[2:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 3}, "format 3.*resume with the release that saved it"),
        ({"order": 2}, "order 2"),
        ({"global_batch_size": 32}, "global_batch_size 32, this loader has 16"),
        ({"shuffle": "block"}, "shuffle block, this loader has exact"),
        ({"packing": "text:8"}, "packing text:8, this loader has None"),
        ({"num_samples": 10**9}, "1000000000 of 403 rows"),
        ({"num_samples": "many"}, "no state of a loader"),
        ({"epoch": 10**30}, "no state of a loader: epoch 10"),
        ({"blocks": {"num_rows": -4, "num_taken": -2}}, "no state of a loader: blocks is"),
        ({"blocks": {"num_rows": "4", "num_taken": 1}}, "no state of a loader: blocks is"),
        ({"blocks": []}, "no state of a loader: blocks is"),
        ({"epoch": -1}, "epoch -1"),
        ({"selection": "0" * 32}, "selection 00000000"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_by_name(snapshot, change, said):
    with pytest.raises(InvalidArgumentError, match=said):
        loader(snapshot).load_state_dict(loader(snapshot).state_dict() | change)


def test_epochs_have_room(snapshot):
    for order in ({}, BLOCK):
        one = loader(snapshot, **order)
        one.set_epoch(2**62)
        far = xs(one)
        assert one.state_dict()["epoch"] == 2**62
        assert sorted(sum(far, [])) != sorted(sum(xs(loader(snapshot, **order)), []))[:0]
        assert xs(one) != far  # the next one
        assert one.state_dict()["epoch"] == 2**62 + 1


def test_a_plan_of_a_trillion_rows_is_no_bigger():
    small, huge = Plan(1000, 8), Plan(10**12, 8)
    assert len(pickle.dumps(huge)) - len(pickle.dumps(small)) < 8
    assert len(huge) == 125 * 10**9
    assert len(huge.rows(huge.positions(10**11))) == 8


def test_copies_go_on_where_the_original_stands(snapshot):
    for order in ({}, BLOCK):
        one = loader(snapshot, **order)
        expected = xs(one)
        begun = loader(snapshot, **order)
        next(islice(begun, 3, 4))
        for other in (copy.copy(begun), copy.deepcopy(begun), pickle.loads(pickle.dumps(begun))):
            assert other.state_dict() == begun.state_dict()
            assert xs(other) == expected[4:]
            assert begun.state_dict()["num_samples"] == 4 * 16


def test_of_two_iterations_at_once_each_is_whole_and_the_later_one_counts(snapshot):
    one = loader(snapshot)
    expected = xs(loader(snapshot))
    first = iter(one)
    got = xs(islice(first, 2))
    second = xs(islice(iter(one), 5))
    assert one.state_dict()["num_samples"] == 5 * 16
    assert got + xs(first) == expected
    assert second == expected[:5]
    assert one.state_dict()["num_samples"] == 5 * 16


def test_an_interrupted_epoch_is_counted_to_the_batch_and_leaves_no_threads(snapshot):
    before = set(threading.enumerate())
    one = loader(snapshot, transform=interrupt, prefetch_batches=2)
    got = []
    with pytest.raises(KeyboardInterrupt):
        got.extend(batch["x"].tolist() for batch in one)
    assert one.state_dict()["num_samples"] == 16 * len(got)
    expected = xs(loader(snapshot))
    assert got == expected[: len(got)]
    assert not set(threading.enumerate()) - before
    resumed = loader(snapshot)
    resumed.load_state_dict(one.state_dict())
    assert got + xs(resumed) == expected


def interrupt(row):
    if row["x"] == 100:
        raise KeyboardInterrupt
    return row


def started_threads():
    """Return the threads of this process but for what `threading` keeps of foreign ones, which may have ended."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}


def test_fifty_epochs_leave_nothing_behind(snapshot):
    process, one = psutil.Process(), loader(snapshot, **BLOCK)
    for _ in range(10):
        list(one)
    threads, native = started_threads(), process.num_threads()
    files, memory = process.num_fds(), process.memory_info().rss
    for _ in range(50):
        list(one)
        next(iter(one))  # and left early
    assert not started_threads() - threads
    assert process.num_fds() <= files
    assert process.num_threads() < native + 25  # Lance starts and ends some of its own as it likes
    assert process.memory_info().rss - memory < 20e6


# Faces


def test_without_torch_batches_are_numpy_arrays_and_the_same(snapshot):
    code = """
import sys
sys.modules["torch"] = None
import lakehouse as lh
table = lh.connect(sys.argv[1]).open_table("numbers")
loader = table.loader(batch_size=16, seed=3)
batches = list(loader)
assert {type(batch["x"]).__module__ for batch in batches} == {"numpy"} and loader.batch_type == "numpy"
sampler = table.batch_sampler(dataset := table.torch_dataset(), batch_size=16, seed=3)
rows = [[int(row["x"]) for row in dataset.__getitems__(batch)] for batch in sampler]
assert rows == [batch["x"].tolist() for batch in batches]
print(rows)
"""
    ran = subprocess.run([sys.executable, "-c", code, snapshot.lake.uri], capture_output=True, text=True, check=True)
    assert json.loads(ran.stdout) == xs(loader(snapshot))


def test_torchs_dataloader_starts_workers_by_forkserver_with_few_threads(snapshot):
    options = LoaderOptions(batch_size=16, seed=3, transform=with_num_threads)
    dataset = TableDataset(snapshot, options, pin=False)
    batches = list(
        DataLoader(dataset, batch_sampler=BatchSampler(dataset), num_workers=1, multiprocessing_context="forkserver")
    )
    assert xs(batches) == xs(loader(snapshot))
    assert max(int(batch["num_threads"].max()) for batch in batches) < 25  # 39 or more with Lance's own numbers


def with_num_threads(row):
    return row | {"num_threads": psutil.Process().num_threads()}


@pytest.mark.parametrize("face", ["loader", "torch_dataset", "torch_iterable"])
def test_after_a_fork_there_is_an_error_with_the_way_out(snapshot, face):
    """The child writes down what it saw and ends at once: what it inherited does not survive an orderly end either."""
    made = {"loader": Loader, "torch_dataset": TableDataset, "torch_iterable": TableIterable}[face](
        snapshot, LoaderOptions(batch_size=16), pin=False
    )
    list(loader(snapshot))  # Lance has its threads
    heard, said = os.pipe()
    child = fork()
    if child == 0:
        try:
            made[0] if face == "torch_dataset" else next(iter(made))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
            os.write(said, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(said)
    with os.fdopen(heard) as told:
        assert 'get_context("spawn") or "forkserver"' in told.read()
    assert os.waitpid(child, 0)[1] == 0


def fork():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python and Lance warn of the fork itself
        return os.fork()


# torchdata

torchdata_warns = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 on torch 2.13


@torchdata_warns
def test_a_stateful_dataloader_resumes_the_sampler_at_any_step(snapshot):
    options = LoaderOptions(batch_size=64, seed=3)
    expected = loader(snapshot, batch_size=64)
    expected = xs(expected) + xs(expected)
    for stop in (0, 1, 4, 6):
        got, state = xs(islice(iter(stateful(snapshot, options)), stop)), None
        begun = stateful(snapshot, options)
        assert xs(islice(iter(begun), stop)) == got
        state = json.loads(json.dumps(begun.state_dict()))
        resumed = stateful(snapshot, options)
        resumed.load_state_dict(state)
        assert got + xs(resumed) + (xs(resumed) if stop < 6 else []) == expected


def stateful(snapshot, options, **more):
    dataset = TableDataset(snapshot, options, pin=False)
    return StatefulDataLoader(dataset, batch_sampler=BatchSampler(dataset), **more)


@torchdata_warns
def test_a_stateful_dataloader_resumes_an_iterable_and_its_epochs(snapshot):
    def made():
        dataset = TableIterable(snapshot, LoaderOptions(batch_size=64, seed=3), pin=False)
        return StatefulDataLoader(dataset, batch_size=None)

    expected = loader(snapshot, batch_size=64)
    expected = [xs(expected) for _ in range(3)]
    begun = made()
    assert xs(begun) == expected[0]
    batches = iter(begun)
    assert xs(islice(batches, 3)) == expected[1][:3]
    state = begun.state_dict()
    assert xs(batches) == expected[1][3:]
    resumed = made()
    resumed.load_state_dict(state)
    assert xs(resumed) == expected[1][3:]
    assert xs(resumed) == expected[2]
