"""How well the orders mix, beside what chance would do; and that what is predicted is what comes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.order.blocks import Blocks
from lakehouse.loader.order.plan import Plan
from lakehouse.loader.order.quality import expected_label_entropy, label_entropy

NUM_ROWS, BATCH = 51_200, 256
LABELS = np.arange(NUM_ROWS) * 100 // NUM_ROWS  # a table sorted by label: the worst case


def order(blocks=None, epoch=0, num_rows=NUM_ROWS):
    shuffle = "block" if blocks else "exact"
    plan = Plan(num_rows, BATCH, seed=1, epoch=epoch, shuffle=shuffle, blocks=blocks)
    return plan.rows(np.arange(num_rows))


# The measures


def serial_correlation(rows, lag=1):
    """Of the rows at positions that are `lag` apart; of a random order 0, with a standard error of 1 / sqrt(num_rows)."""
    away = rows - rows.mean()
    return (away[:-lag] * away[lag:]).mean() / away.var()


def chi_square(orders, num_rows, num_bins):
    """By degree of freedom, of which part of the table comes in which part of an epoch.

    Of random orders it is 1, with a standard deviation of about sqrt(2) / (num_bins - 1).
    """
    seen, expected = np.zeros((2, num_bins, num_bins))
    sizes = np.bincount(np.arange(num_rows) * num_bins // num_rows)
    for rows in orders:
        when = np.arange(len(rows)) * num_bins // len(rows)
        np.add.at(seen, (when, rows * num_bins // num_rows), 1)
        expected += np.outer(np.bincount(when, minlength=num_bins), sizes / num_rows)
    # Each row comes once, so the counts vary a little less than independent ones.
    return ((seen - expected) ** 2 / expected).sum() * (num_rows - 1) / num_rows / (num_bins - 1) ** 2


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.integers(1, 30))
def test_the_entropy_to_expect_is_that_of_random_draws(counts, batch):
    labels = np.repeat(np.arange(len(counts)), counts)
    batch = min(batch, len(labels))
    draws = np.random.default_rng(0)
    found = [label_entropy(draws.permutation(labels)[:batch], batch) for _ in range(400)]
    assert abs(np.mean(found) - expected_label_entropy(counts, batch)) < 5 * np.std(found) / 20 + 1e-9


def test_the_measures_know_best_and_worst():
    assert label_entropy(np.tile(np.arange(8), 10), 8) == 3
    assert label_entropy(LABELS, 512) == 0
    assert label_entropy([1, 2], 3) == 0  # no batch at all
    assert serial_correlation(np.arange(1000)) > 0.99
    random = [np.random.default_rng(seed).permutation(1000) for seed in range(200)]
    assert abs(chi_square(random, 1000, 10) - 1) < 5 * np.sqrt(2) / 9
    assert chi_square([np.arange(1000)] * 5, 1000, 10) > 100


# The orders


def test_batches_of_the_exact_order_hold_labels_as_random_draws_do():
    found = label_entropy(LABELS[order()], BATCH)
    assert found == pytest.approx(expected_label_entropy(np.bincount(LABELS), BATCH), abs=0.01)


@pytest.mark.parametrize(("size", "taken"), [(16, 1), (64, 1), (16, 2), (64, 4), (16, 8), (32, 32)])
def test_batches_of_the_block_order_hold_labels_as_random_draws_of_their_blocks_do(size, taken):
    """Of the 256 rows of a batch only as many are independent as there are blocks: `taken` sets the quality."""
    mixed = NUM_ROWS // (size // taken * BATCH) * (size // taken * BATCH)  # behind it come single rows of what is left
    found = label_entropy(LABELS[order(Blocks(size, taken))[:mixed]], BATCH)
    blocks = np.bincount(LABELS[::size])
    assert found == pytest.approx(expected_label_entropy(blocks, BATCH // taken), abs=0.08)


@pytest.mark.parametrize("blocks", [None, Blocks(16, 1), Blocks(16, 4), Blocks(64, 64)])
def test_every_part_of_the_table_is_as_likely_in_every_part_of_an_epoch(blocks):
    num_rows, bins = 4096, 8
    orders = [order(blocks, epoch, num_rows) for epoch in range(300)]
    # Rows of one block come together, so a block counts as one draw of as many rows.
    weight = blocks.num_rows if blocks else 1
    assert chi_square(orders, num_rows, bins) < weight * (1 + 5 * np.sqrt(2) / (bins - 1))


def test_a_row_of_the_block_order_is_as_likely_at_every_position():
    num_rows, epochs = 24, 4000
    seen = np.zeros((num_rows, num_rows))
    for epoch in range(epochs):
        plan = Plan(num_rows, 4, seed=11, epoch=epoch, shuffle="block", blocks=Blocks(4, 2))
        seen[np.arange(num_rows), plan.rows(np.arange(num_rows))] += 1
    expected, freedom = epochs / num_rows, (num_rows - 1) ** 2
    assert abs(((seen - expected) ** 2 / expected).sum() / freedom - 1) < 5 * np.sqrt(2 / freedom)


@pytest.mark.parametrize("lag", [1, 2, 7, 256, 4096])
def test_rows_of_the_exact_order_are_not_correlated(lag):
    assert abs(serial_correlation(order(), lag)) < 4 / np.sqrt(NUM_ROWS)


def test_rows_of_the_block_order_are_correlated_with_those_of_their_block_alone():
    """Taken one by one, the next row of a block is a batch away; anywhere else there is no correlation."""
    rows = order(Blocks(16, 1))
    assert abs(serial_correlation(rows, 1)) < 4 / np.sqrt(NUM_ROWS)
    assert abs(serial_correlation(rows, 100)) < 4 / np.sqrt(NUM_ROWS)
    assert serial_correlation(rows, BATCH) > 0.8  # the price of reading blocks
    assert abs(serial_correlation(rows, 16 * BATCH)) < 4 / np.sqrt(NUM_ROWS / 16)  # the next generation knows nothing


# What is predicted


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    import lakehouse as lh

    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    table = lake.create_table("sorted", data=pa.table({"x": np.arange(40_000)}))
    return lake.open_table("sorted", version=table.version).snapshot()


def loader(snapshot, **options):
    return Loader(snapshot, LoaderOptions(**({"batch_size": 64} | options)), pin=False)


def runs(loader, world_size):
    """Count the runs of consecutive rows that are asked for, generation by generation and rank by rank."""
    plan = loader._plan(0)
    count = 0
    for group in plan.groups(range(len(plan))):
        for rank in range(world_size):
            positions = np.concatenate([plan.positions(step, rank, world_size) for step in group])
            source = loader._source
            row_ids = source.selection.row_ids(source.ranks(plan.rows(positions), 0))
            count += 1 + int((np.diff(np.sort(row_ids).astype(int)) != 1).sum())
    return count


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle_memory": "16MB"},
        {"shuffle_memory": "2MB"},
        {"shuffle_memory": 100_000},
        {"shuffle_memory": 100_000, "where": "x % 100 < 7"},
        {"shuffle_memory": 100_000, "where": "x % 10 = 0"},
        {"shuffle_memory": 200_000, "world_size": 4, "rank": 0, "batch_size": 16},
        {"shuffle_memory": 200_000, "world_size": 8, "rank": 3, "batch_size": 8},
        {"shuffle_memory": 200_000, "world_size": 5, "rank": 1, "batch_size": 13},
        {"shuffle_memory": "3MB", "batch_size": 16_000},
        {"shuffle_memory": "3MB", "world_size": 4, "rank": 2, "batch_size": 4_000},
    ],
)
def test_the_number_of_reads_is_the_one_that_was_predicted(table, monkeypatch, options):
    monkeypatch.setattr("lakehouse.loader.source.read_nbytes", lambda snapshot: 2_000)  # small blocks, of a small table
    made = loader(table, shuffle="block", **options)
    assert made.describe().num_reads == pytest.approx(runs(made, options.get("world_size", 1)), rel=0.1)


def test_a_table_that_fits_into_the_memory_is_shuffled_whole_whatever_the_batch(table):
    """Rows of 72 bytes: all of them take 2.9 MB, three batches 3.5."""
    made = loader(table, shuffle="block", shuffle_memory="3MB", batch_size=16_000, drop_last=False)
    assert "all rows fit into the memory" in str(made.describe())
    assert made.describe().nbytes_held <= 3_000_000
    batches = iter(made)
    first = next(batches)["x"]
    state = made.state_dict()
    rest = [x for batch in batches for x in batch["x"].tolist()]
    assert sorted([*first.tolist(), *rest]) == list(range(40_000))
    assert abs(serial_correlation(np.array(rest))) < 0.05
    assert made.stats().num_reads == 2  # the first batch alone, and all others in one go
    others = [
        loader(table, shuffle="block", shuffle_memory=memory, batch_size=8_000, drop_last=False, rank=r, world_size=2)
        for r, memory in enumerate(["3MB", "1GB"])
    ]
    for other in others:
        other.load_state_dict(state)
    shares = [[batch["x"].tolist() for batch in other] for other in others]
    assert [x for parts in zip(*shares, strict=True) for part in parts for x in part] == rest
    with pytest.raises(InvalidArgumentError, match="holds neither 3 global batches .* nor all 40,000 rows"):
        loader(table, shuffle="block", shuffle_memory="2MB", batch_size=16_000)


def test_the_description_says_what_comes(table):
    for options in ({}, {"shuffle": "block", "shuffle_memory": "1MB"}, {"shuffle": False}, {"shuffle": "block"}):
        made = loader(table, **options, columns=["x"])
        said = made.describe()
        batches = [batch["x"].numpy() for batch in made]
        rows = np.concatenate(batches)
        assert (len(batches), len(rows)) == (said.num_batches, said.num_rows - said.num_dropped)
        assert (said.plan_nbytes, said.num_left_out, said.version) == (0, 0, table.version)
        assert said.selection == made.state_dict()["selection"]
        found = label_entropy(rows * 100 // 40_000, 64)
        assert found == pytest.approx(said.label_entropy, abs=0.15)
        assert said.label_entropy_of_exact == pytest.approx(expected_label_entropy([400] * 100, 64))
        if said.blocks:
            places = [len(np.unique(batch // said.blocks.num_rows)) for batch in batches]
            assert np.mean(places) == pytest.approx(said.num_places, rel=1.0)
        assert str(said.num_batches) in str(said)


def test_the_description_knows_no_rows_and_few():
    for num_rows in (0, 1, 5):
        for shuffle, blocks in (("exact", None), ("none", None), ("block", Blocks(4, 2))):
            plan = Plan(num_rows, 8, shuffle=shuffle, blocks=blocks)
            assert len(plan.rows(np.arange(num_rows))) == num_rows
