"""Small values, kept in memory or read by where they stand: the batches are those that reads by row id give."""

import json
import pickle
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.loader import Loader, LoaderOptions, source
from lakehouse.loader.batches import kept
from lakehouse.loader.order.permutation import permute

NUM_ROWS = 600
KINDS = ("a", "b", "c")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    """Open a table of several fragments that lost rows, and whose changed rows lie behind all others."""
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    schema = pa.schema(
        [
            pa.field("x", pa.int64(), nullable=False),
            pa.field("gap", pa.float32()),
            pa.field("vector", pa.list_(pa.float32(), 3)),
            pa.field("list", pa.list_(pa.int16())),
            pa.field("text", pa.string()),
            types.field("kind", "category", values=KINDS),
        ]
    )
    table = lake.create_table("small", schema=schema)
    for part in np.array_split(np.arange(NUM_ROWS), 4):
        rows = [
            {
                "x": i,
                "gap": None if i % 50 == 7 else i / 2,
                "vector": [i, i + 1, i + 2],
                "list": list(range(i % 4)),
                "text": None if i % 11 == 0 else f"row {i}",
                "kind": KINDS[i % 3],
            }
            for i in part.tolist()
        ]
        table.add(pa.Table.from_pylist(rows, schema), progress=False)
    table.delete("x % 9 = 4")
    table.update(where="x % 10 = 3", values={"text": "changed"})
    return lake.open_table("small", version=table.version).snapshot()


@contextmanager
def reads_by_row_id():
    """Switch both short cuts off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "KEPT_NBYTES", 0)
        never = cached_property(lambda self: False)  # noqa: ARG005 - a method
        never.__set_name__(source.Source, "is_whole_table")
        patch.setattr(source.Source, "is_whole_table", never)
        yield


def plain(value):
    if isinstance(value, list):
        return [plain(each) for each in value]
    return (str(value.dtype), value.tolist()) if hasattr(value, "tolist") else value


def batches(loader):
    return [{key: plain(value) for key, value in batch.items()} for batch in loader]


def marked(row, rng):
    return {**row, "drawn": int(rng.integers(1 << 30))}


SMALL = ("x", "vector", "list", "text", "kind", "_rowid")
HOW = st.fixed_dictionaries(
    {"shuffle": st.booleans(), "columns": st.lists(st.sampled_from(SMALL), min_size=1, unique=True)},
    optional={
        "where": st.sampled_from(["x % 2 = 0", "x > 300", "x < 0"]),
        "drop_last": st.sampled_from([True, False, "uneven"]),
        "weights": st.just("x"),
        "transform": st.just(marked),
        "on_bad_rows": st.sampled_from(["raise", "substitute"]),
    },
)


@settings(max_examples=12)
@given(how=HOW, batch_size=st.integers(16, 200), part=st.sampled_from([(0, 1), (0, 2), (2, 3)]), seed=st.integers(0, 9))
def test_batches_are_those_of_reads_by_row_id(snapshot, how, batch_size, part, seed):
    if "weights" in how:
        how = {"where": "x > 0 AND x < 40"} | how
    if how.get("weights") and how["where"] == "x < 0":
        return
    options = LoaderOptions(
        batch_size=batch_size, rank=part[0], world_size=part[1], seed=seed, prefetch_batches=seed % 2, **how
    )
    ours = Loader(snapshot, options, pin=False)
    with reads_by_row_id():
        expected = Loader(snapshot, options, pin=False)
        epoch = batches(expected)
    assert batches(ours) == epoch


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("how", [{"columns": ["x", "gap"], "on_missing": "skip"}, {"balance": "kind"}, {}])
def test_a_resumed_loader_goes_on_in_memory_and_in_order(snapshot, shuffle, how):
    how = {"columns": ["x", "text"], "batch_size": 16, "shuffle": shuffle} | how
    with reads_by_row_id():
        expected = batches(Loader(snapshot, LoaderOptions(**how), pin=False))
    for stop in (0, 1, 7, len(expected) - 1):
        first = Loader(snapshot, LoaderOptions(**how), pin=False)
        running = iter(first)
        seen = [{key: plain(value) for key, value in next(running).items()} for _ in range(stop)]
        again = pickle.loads(pickle.dumps(Loader(snapshot, LoaderOptions(**how), pin=False)))
        again.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert seen + batches(again) == expected


def test_what_is_kept_is_read_once_and_said(snapshot):
    loader = Loader(snapshot, LoaderOptions(columns=["x", "text"], batch_size=16), pin=False)
    told = loader.describe()
    assert told.nbytes_kept > 0
    assert "kept for all epochs" in str(told)
    assert loader.stats().nbytes_kept == 0
    for _ in range(3):
        list(loader)
    stats = loader.stats()
    assert (stats.num_reads, stats.num_rows_read) == (1, snapshot.num_rows)
    assert stats.nbytes_kept > 8 * snapshot.num_rows


def test_few_rows_of_many_are_not_kept(snapshot):
    loader = Loader(snapshot, LoaderOptions(columns=["x"], batch_size=4, rank=0, world_size=32), pin=False)
    list(loader)
    assert loader.stats().nbytes_kept == 0


def test_a_batch_is_its_own_and_what_is_kept_stays(snapshot):
    options = LoaderOptions(columns=["x", "vector"], batch_size=16, seed=4)
    loader = Loader(snapshot, options, pin=False)
    expected = batches(loader)
    loader.set_epoch(0)
    for batch in loader:
        batch["x"][:] = -1
        batch["vector"][:] = -1
    loader.set_epoch(0)
    assert batches(loader) == expected


def test_what_is_larger_than_was_told_is_read_in_pieces(snapshot, monkeypatch):
    options = LoaderOptions(columns=["x", "text"], batch_size=16)
    expected = batches(Loader(snapshot, options, pin=False))
    monkeypatch.setattr(kept, "KEPT_NBYTES", 100)
    loader = Loader(snapshot, options, pin=False)
    assert batches(loader) == expected
    assert loader.stats().nbytes_kept == 0
    assert loader.stats().num_reads > 1


def test_a_missing_number_is_named_whether_it_is_kept_or_not(snapshot):
    from lakehouse.errors import DataError

    for shuffle in (True, False):
        with pytest.raises(DataError, match="column 'gap' is NULL in row id"):
            list(Loader(snapshot, LoaderOptions(columns=["gap"], batch_size=16, shuffle=shuffle), pin=False))


@given(size=st.integers(1, 70_000), key=st.integers(0, 2**64 - 1), data=st.data())
def test_tables_of_a_permutation_give_what_its_rounds_give(size, key, data):
    positions = np.array(data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=50)), np.int64)
    by_rounds = permute(positions, size, np.full(len(positions), key, np.uint64))
    assert permute(positions, size, key).tolist() == by_rounds.tolist()
