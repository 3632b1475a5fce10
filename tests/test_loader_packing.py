"""Tokens as sequences of one length: none lost, none twice, the same on any topology and after any resume."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakehouse.errors import ColumnNotFoundError, DataError, InvalidArgumentError, SchemaError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import TableDataset
from lakehouse.loader.forms.packing import Documents, Packing
from lakehouse.loader.order.plan import Plan

NUM_ROWS = 150
LENGTH = 16


def texts(lake, name="texts", num_rows=NUM_ROWS, most=40, seed=0):
    """Documents whose tokens tell where they come from: row * 1000 + place; some are empty."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, most, num_rows)
    lengths[rng.random(num_rows) < 0.2] = 0
    tokens = pa.array(
        [[row * 1000 + place for place in range(n)] for row, n in enumerate(lengths)], pa.list_(pa.int32())
    )
    return lake.create_table(name, data=pa.table({"tokens": tokens, "n": lengths, "x": range(num_rows)}))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = texts(lake)
    table.delete("x = 3")
    return lake.open_table("texts", version=table.version).snapshot()


def loader(snapshot, packing=None, **options):
    return Loader(snapshot, LoaderOptions(packing=packing or Packing("tokens", LENGTH), **options))


def tokens(batches):
    return np.concatenate([batch["tokens"].numpy().ravel() for batch in batches] or [np.empty(0, np.int64)]).tolist()


def end_to_end(snapshot, epoch=0, **plan):
    """All tokens of an epoch, as they should come."""
    stored = snapshot.dataset.to_table(columns=["tokens"])["tokens"].to_pylist()
    order = Plan(len(stored), 1, epoch=epoch, **plan).rows(np.arange(len(stored)))
    return [token for row in order for token in stored[row]]


# What is cut


documents = st.lists(st.lists(st.integers(0, 1 << 31), max_size=30), min_size=1, max_size=40)


@settings(deadline=None)
@given(documents, st.integers(1, 50), st.integers(0, 5), st.data())
def test_sequences_are_the_documents_end_to_end(docs, length, epoch, draw):
    """In any runs of sequences, from any of them on."""
    array = pa.array(docs, pa.list_(pa.int64()))
    packing, plan = Packing("tokens", length), Plan(len(docs), 4, epoch=epoch)
    cut = Documents(packing, packing.counts(array, np.arange(len(docs), dtype=np.uint64)), plan.rows)
    whole = [token for row in plan.rows(np.arange(len(docs))) for token in docs[row]]
    assert cut.num_sequences == len(whole) // length
    if not cut.num_sequences:
        return
    first = draw.draw(st.integers(0, cut.num_sequences - 1))
    wanted = np.arange(first, first + draw.draw(st.integers(1, 2 * cut.num_sequences)))  # past the end they start again
    rows, index = np.unique(cut.ranks([wanted])[0], return_inverse=True)
    got = cut.cells(array.take(pa.array(rows)), index, rows.astype(np.uint64), wanted)
    inside = [whole[at * length : (at + 1) * length] for at in wanted % cut.num_sequences]
    assert got["tokens"].tolist() == inside
    for ids, positions, cuts, sequence in zip(
        got["document_ids"], got["position_ids"], got["cu_seqlens"], got["tokens"].tolist(), strict=True
    ):
        assert (cuts[0], cuts[-1], cuts.dtype) == (0, length, np.int32)
        for start, stop in zip(cuts, cuts[1:], strict=False):
            assert len(set(ids[start:stop])) == 1
            assert positions[start:stop].tolist() == list(range(stop - start))
            part, document = sequence[start:stop], docs[ids[start]]
            assert any(document[at : at + len(part)] == part for at in range(len(document)))


@pytest.mark.parametrize("shuffle", [True, False, "block"])
@pytest.mark.parametrize("length", [1, 7, 16, 333])
def test_an_epoch_has_every_token_once_but_the_tail(snapshot, shuffle, length):
    batch_size = 1 + 100 // length
    one = loader(snapshot, Packing("tokens", length), batch_size=batch_size, shuffle=shuffle, drop_last=False)
    num_tokens = len(end_to_end(snapshot))
    for epoch in range(2):
        batches = list(one)
        assert sum(len(batch["tokens"]) for batch in batches) == num_tokens // length
        assert len(batches) == len(one) == -(-(num_tokens // length) // batch_size)
        got = tokens(batches)
        assert len(set(got)) == len(got) == num_tokens // length * length
        if shuffle != "block":
            order = {"epoch": epoch, "shuffle": "exact" if shuffle else "none"}
            assert got == end_to_end(snapshot, **order)[: len(got)]


def test_a_batch_is_dense_and_says_where_each_token_comes_from(snapshot):
    batch = next(iter(loader(snapshot, batch_size=4)))
    assert {key: getattr(value, "shape", None) for key, value in batch.items()} == {
        "tokens": (4, LENGTH),
        "document_ids": (4, LENGTH),
        "position_ids": (4, LENGTH),
        "cu_seqlens": None,
    }
    assert {batch[key].dtype for key in ("tokens", "document_ids", "position_ids")} == {torch.int64}
    assert all(cuts.dtype == torch.int32 for cuts in batch["cu_seqlens"])
    assert (batch["tokens"] // 1000).tolist() == batch["document_ids"].tolist()  # row ids count from 0 here


def test_documents_longer_than_a_sequence_go_on_in_the_next(lake):
    table = lake.create_table("long", data=pa.table({"tokens": [list(range(100)), list(range(100, 107))]}))
    batches = list(loader(table.snapshot(), Packing("tokens", 10), batch_size=2, shuffle=False))
    assert tokens(batches) == list(range(100))
    assert all(batch["position_ids"].tolist() == [list(range(10))] * 2 for batch in batches)


@pytest.mark.parametrize(
    "data_type", [pa.list_(pa.uint16()), pa.large_list(pa.int64()), pa.list_(pa.int32(), 5)], ids=str
)
def test_lists_of_any_integers_are_packed(lake, data_type):
    rows = [[10 * row + place for place in range(5)] for row in range(20)]
    table = lake.create_table("kinds", data=pa.table({"tokens": pa.array(rows, data_type)}))
    assert tokens(loader(table.snapshot(), batch_size=2, shuffle=False)) == sum(rows, [])[:96]


# Topology and resume


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_global_batches_are_the_same_on_any_topology_after_any_stops(snapshot, data):
    alone = loader(snapshot, batch_size=24, seed=3)
    expected = [batch["tokens"].tolist() for _ in range(2) for batch in alone]
    seen, state = [], None
    while len(seen) < len(expected):
        world_size = data.draw(st.sampled_from([1, 2, 3, 4, 6, 12]))
        steps, prefetch = data.draw(st.integers(1, 6)), data.draw(st.integers(0, 4))
        ranks = [
            loader(
                snapshot, batch_size=24 // world_size, seed=3, rank=r, world_size=world_size, prefetch_batches=prefetch
            )
            for r in range(world_size)
        ]
        for one in ranks:
            if state is not None:
                one.load_state_dict(json.loads(state))
        for _, together in zip(range(steps), zip(*ranks, strict=True), strict=False):
            seen.append(sum((batch["tokens"].tolist() for batch in together), []))
        (state,) = {json.dumps(one.state_dict()) for one in ranks}
        assert len(state) < 600
    assert seen[: len(expected)] == expected


def test_workers_pack_the_same_sequences(snapshot):
    assert tokens(loader(snapshot, batch_size=8, num_workers=1)) == tokens(loader(snapshot, batch_size=8))


def test_a_state_of_another_length_is_refused(snapshot):
    state = loader(snapshot, batch_size=4).state_dict()
    with pytest.raises(InvalidArgumentError, match=f"packing tokens:{LENGTH}, this loader has tokens:8"):
        loader(snapshot, Packing("tokens", 8), batch_size=4).load_state_dict(state)


def test_incomplete_last_batches_of_several_ranks_are_filled_up(snapshot):
    ranks = [loader(snapshot, batch_size=8, rank=r, world_size=3, drop_last=False) for r in range(3)]
    batches = [list(one) for one in ranks]
    num_sequences = len(end_to_end(snapshot)) // LENGTH
    assert len({len(each) for each in batches}) == 1
    kept = [
        row
        for each in batches
        for batch in each
        for row, pad in zip(batch["tokens"].tolist(), batch["_is_pad"].tolist(), strict=True)
        if not pad
    ]
    assert len(kept) == num_sequences
    assert len({tuple(row) for row in kept}) == num_sequences


def test_sequences_by_index(snapshot):
    dataset = TableDataset(snapshot, LoaderOptions(packing=Packing("tokens", LENGTH)))
    assert len(dataset) == len(end_to_end(snapshot)) // LENGTH
    rows = dataset.__getitems__([5, 0, 5])
    whole = end_to_end(snapshot, shuffle="none")
    assert [row["tokens"].tolist() for row in rows] == [whole[80:96], whole[:16], whole[80:96]]


# With the rest


def test_a_transform_gets_sequences_and_random_numbers_of_their_position(snapshot):
    def shifted(row, rng):
        return {"inputs": row["tokens"][:-1], "labels": row["tokens"][1:], "r": rng.random()}

    first, again = (list(loader(snapshot, batch_size=4, transform=shifted, prefetch_batches=n)) for n in (0, 3))
    assert first[0]["inputs"].shape == first[0]["labels"].shape == (4, LENGTH - 1)
    assert [batch["r"].tolist() for batch in first] == [batch["r"].tolist() for batch in again]


def test_where_chooses_documents(snapshot):
    got = tokens(loader(snapshot, Packing("tokens", 1), batch_size=1, where="x >= 140"))
    assert got
    assert min(got) >= 140_000


@pytest.mark.parametrize("where", ["x < 0", "n = 0", "x = 1"])
def test_too_few_tokens_give_no_batches(snapshot, where):
    one = loader(snapshot, Packing("tokens", 1000), where=where, batch_size=1)
    assert (len(one), list(one)) == (0, [])


def test_a_column_of_lengths_cuts_the_same_sequences(snapshot):
    plain, told = loader(snapshot, batch_size=8), loader(snapshot, Packing("tokens", LENGTH, lengths="n"), batch_size=8)
    assert (len(plain), tokens(plain)) == (len(told), tokens(told))


def test_a_length_that_is_not_true_is_named(lake):
    table = lake.create_table("lies", data=pa.table({"tokens": [[1, 2], [3, 4, 5], [6]], "n": [2, 2, 1]}))
    with pytest.raises(DataError, match=r"row id 1 has 3 tokens in 'tokens', and its 'n' says 2"):
        list(loader(table.snapshot(), Packing("tokens", 2, lengths="n"), batch_size=2))


def test_missing_tokens_are_told_when_the_loader_is_made(lake):
    table = lake.create_table("gaps", data=pa.table({"tokens": [[1, 2], None, [3, 4], []]}))
    with pytest.raises(DataError, match="'tokens' is NULL in row id 1.*on_missing='skip'"):
        loader(table.snapshot(), Packing("tokens", 2), batch_size=1)
    assert len(loader(table.snapshot(), Packing("tokens", 2), batch_size=1, on_missing="skip")) == 2


def test_a_token_that_is_missing_is_told(lake):
    table = lake.create_table("holes", data=pa.table({"tokens": [[1, 2], [3, None]]}))
    with pytest.raises(DataError, match="holds a NULL among the tokens of row id 1"):
        list(loader(table.snapshot(), Packing("tokens", 2), batch_size=2))


@pytest.mark.parametrize(
    ("column", "error", "said"),
    [
        ("text", SchemaError, "is string, and tokens are packed from lists of integers; add its tokens as a feature"),
        ("x", SchemaError, "is int64, and tokens"),
        ("floats", SchemaError, "is list<item: double>, and tokens"),
        ("tokns", ColumnNotFoundError, "tokns"),
    ],
)
def test_what_holds_no_tokens_is_refused(lake, column, error, said):
    table = lake.create_table("others", data=pa.table({"text": ["a"], "x": [1], "floats": [[0.5]]}))
    with pytest.raises(error, match=said):
        loader(table.snapshot(), Packing(column, 4))


@pytest.mark.parametrize(
    ("options", "said"), [({"columns": ["x"]}, "no other columns"), ({"decode": {"x": 1}}, "leave decode")]
)
def test_sequences_have_nothing_beside_them(options, said):
    with pytest.raises(InvalidArgumentError, match=said):
        LoaderOptions(packing=Packing("tokens", 4), **options)


def test_a_column_of_tokens_has_another_name_than_what_stands_beside_it():
    with pytest.raises(InvalidArgumentError, match="'position_ids' beside the tokens"):
        Packing("position_ids", 4)


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_a_length_is_a_whole_number(length):
    with pytest.raises(InvalidArgumentError, match="sequence_length is"):
        Packing("tokens", length)
