"""The order: laws for all sizes, the same on every topology, frozen for ever."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.order.permutation import derive_key, permute
from lakehouse.loader.order.plan import Plan

# Worked out once by this code and by an independent one in plain Python integers; a change here breaks the
# resumption of every saved training state.
GOLDEN_KEYS = {
    (0, 0, 1): 11117354695682901371,
    (7, 3, 1): 6340051165435385592,
    (2**63 - 1, 1000, 1): 1719395165476968404,
}
GOLDEN_ORDERS = {  # (num_rows, seed, epoch, first position)
    (5, 0, 0, 0): [2, 0, 1, 4, 3],
    (64, 0, 0, 0): [20, 55, 4, 42, 21, 8, 40, 6],
    (1000, 7, 0, 0): [509, 4, 280, 867, 866, 109, 48, 391],
    (1000, 7, 1, 0): [735, 672, 221, 162, 783, 128, 109, 557],
    (1_000_003, 2**63 - 1, 12, 500_000): [398125, 85441, 427528, 971648, 935824, 880426, 594046, 180139],
    (10**12, 42, 3, 10**11): [129600972815, 811623347645, 763040394510, 701940238074, 976690138777],
}


def whole(plan):
    return plan.rows(np.arange(plan.num_rows))


@st.composite
def plans(draw, max_rows=3000):
    return Plan(
        draw(st.integers(0, max_rows)),
        draw(st.integers(1, 96)),
        seed=draw(st.integers(0, 2**63 - 1)),
        epoch=draw(st.integers(0, 1000)),
        shuffle=draw(st.sampled_from(["exact", "none"])),
        drop_last=draw(st.booleans()),
    )


@given(plans())
def test_every_row_stands_at_exactly_one_position(plan):
    assert np.array_equal(np.sort(whole(plan)), np.arange(plan.num_rows))


@pytest.mark.parametrize("num_rows", [*range(70), *(2**k + d for k in range(7, 15) for d in (-1, 0, 1))])
def test_small_sizes_and_powers_of_two_are_bijections(num_rows):
    assert np.array_equal(np.sort(whole(Plan(num_rows, 1, seed=5))), np.arange(num_rows))


@given(st.integers(1, 2**50), st.integers(0, 2**64 - 1), st.data())
def test_rows_of_huge_selections_are_in_range_and_distinct(size, key, data):
    first = data.draw(st.integers(0, max(0, size - 500)))
    positions = np.arange(first, min(first + 500, size))
    rows = permute(positions, size, key)
    assert rows.min() >= 0
    assert rows.max() < size
    assert len(np.unique(rows)) == len(positions)


@given(plans(max_rows=600), st.integers(1, 16), st.integers(1, 5))
def test_the_global_batches_are_the_same_on_any_number_of_ranks(plan, world_size, share):
    plan = replace(plan, global_batch_size=world_size * share)
    order = whole(plan)
    for step in range(len(plan)):
        shares = [plan.positions(step, rank, world_size) for rank in range(world_size)]
        assert len({len(part) for part in shares}) == 1
        together = np.concatenate(shares)
        real = together[together < plan.num_rows]
        first = step * plan.global_batch_size
        assert np.array_equal(plan.rows(real), order[first : first + plan.global_batch_size])


@given(plans(max_rows=600), st.integers(1, 12))
def test_padding_repeats_rows_from_the_start_of_the_epoch(plan, world_size):
    plan = replace(plan, global_batch_size=world_size * 4, drop_last=False)
    for rank in range(world_size):
        for step in range(len(plan)):
            positions = plan.positions(step, rank, world_size)
            pads = positions[positions >= plan.num_rows]
            assert np.array_equal(plan.rows(pads), plan.rows(pads % plan.num_rows))


@given(plans(), st.data())
def test_positions_can_be_asked_for_in_any_order_and_amount(plan, data):
    """Resuming at n equals dropping n: nothing depends on what was asked before."""
    order = whole(plan)
    start = data.draw(st.integers(0, plan.num_rows))
    assert np.array_equal(plan.rows(np.arange(start, plan.num_rows)), order[start:])
    some = data.draw(st.lists(st.integers(0, plan.num_rows - 1), max_size=20)) if plan.num_rows else []
    assert np.array_equal(plan.rows(np.array(some, np.int64)), order[some])


@given(plans(), st.booleans())
def test_the_number_of_batches_counts_the_incomplete_one_only_if_it_is_kept(plan, drop_last):
    plan = replace(plan, drop_last=drop_last)
    batches = np.array_split(
        np.arange(plan.num_rows), range(plan.global_batch_size, plan.num_rows, plan.global_batch_size)
    )
    kept = [b for b in batches if len(b) == plan.global_batch_size or (len(b) and not drop_last)]
    assert len(plan) == len(kept)


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 4}, {"seed": 2**63 - 1}])
def test_another_epoch_or_seed_is_another_order(change):
    plan = Plan(10_000, 1, seed=3)
    assert np.mean(whole(plan) == whole(replace(plan, **change))) < 0.002


def test_swapping_seed_and_epoch_is_another_order():
    assert np.mean(whole(Plan(10_000, 1, seed=3, epoch=4)) == whole(Plan(10_000, 1, seed=4, epoch=3))) < 0.002


def test_without_shuffle_the_order_is_the_selections():
    assert np.array_equal(whole(Plan(100, 7, seed=3, epoch=9, shuffle="none")), np.arange(100))


@pytest.mark.parametrize("num_rows", [3, 5, 16, 50, 257])
def test_every_row_is_as_likely_at_every_position(num_rows):
    epochs = 2000
    seen = np.zeros((num_rows, num_rows))
    for epoch in range(epochs):
        seen[np.arange(num_rows), whole(Plan(num_rows, 1, seed=11, epoch=epoch))] += 1
    expected, freedom = epochs / num_rows, (num_rows - 1) ** 2
    chi2 = ((seen - expected) ** 2 / expected).sum() / freedom
    assert abs(chi2 - 1) < 5 * np.sqrt(2 / freedom)  # five standard deviations of chi² over its degrees of freedom


def test_neighbours_in_the_table_are_not_neighbours_in_the_order():
    """Serial correlation of the order is that of white noise: below four standard errors at each lag."""
    order = whole(Plan(100_000, 1, seed=2)).astype(np.float64)
    order -= order.mean()
    for lag in (1, 2, 3, 10, 1000):
        correlation = (order[:-lag] * order[lag:]).mean() / order.var()
        assert abs(correlation) < 4 / np.sqrt(len(order))


def test_batches_of_label_sorted_rows_are_mixed_like_random_ones():
    labels = np.repeat(np.arange(100), 400)
    batches = labels[whole(Plan(40_000, 256, seed=1))][: 256 * 156].reshape(-1, 256)
    reference = np.random.default_rng(0).permutation(labels)[: 256 * 156].reshape(-1, 256)
    assert abs(_entropy(batches) - _entropy(reference)) < 0.02


def _entropy(batches):
    counts = np.stack([np.bincount(batch, minlength=100) for batch in batches]) / batches.shape[1]
    return -np.where(counts > 0, counts * np.log2(np.where(counts > 0, counts, 1)), 0).sum(axis=1).mean()


@pytest.mark.parametrize(("words", "key"), GOLDEN_KEYS.items())
def test_keys_are_frozen(words, key):
    assert derive_key(*words) == key


@pytest.mark.parametrize(("case", "rows"), GOLDEN_ORDERS.items())
def test_orders_are_frozen(case, rows):
    num_rows, seed, epoch, first = case
    positions = np.arange(first, first + len(rows))
    assert Plan(num_rows, 1, seed=seed, epoch=epoch).rows(positions).tolist() == rows


def test_a_global_batch_the_ranks_cannot_share_is_refused():
    with pytest.raises(InvalidArgumentError, match="10 rows cannot be cut into 3"):
        Plan(100, 10).positions(0, 0, 3)
