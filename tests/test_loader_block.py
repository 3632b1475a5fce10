"""The block order: a permutation for all sizes, the same on every topology, whole blocks for each reader, frozen."""

import re
from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import InvalidArgumentError
from lakehouse.loader.order.blocks import HELD, Blocks, fitting
from lakehouse.loader.order.plan import Plan

# Worked out once by this code and by the independent one below, in plain Python integers; a change here breaks the
# resumption of every saved training state.
GOLDEN = {  # (num_rows, global batch, rows of a block, taken of it, seed, epoch, first position)
    (5, 2, 4, 2, 0, 0, 0): [3, 0, 2, 4, 1],
    (1000, 8, 16, 1, 7, 0, 0): [402, 954, 149, 790, 664, 830, 179, 500],
    (1000, 8, 16, 1, 7, 1, 0): [134, 450, 717, 438, 641, 538, 97, 35],
    (1000, 8, 16, 1, 7, 1, 895): [559, 79, 85, 691, 655, 312, 925, 922],
    (100_003, 24, 8, 2, 2**63 - 1, 12, 50_000): [62275, 62277, 55415, 55411, 20594, 20600, 85170, 85176],
    (99_991, 48, 16, 16, 3, 2, 99_980): [96820, 96834, 96833, 96821, 99987, 99990, 1, 99989],
    (10**12, 1024, 22, 2, 42, 3, 10**11): [394099644703, 394099644721, 627331490348, 627331490345, 162536518624],
}


def whole(plan):
    return plan.rows(np.arange(plan.num_rows))


@st.composite
def plans(draw, max_rows=4000):
    taken = draw(st.integers(1, 16))
    return Plan(
        draw(st.integers(0, max_rows)),
        taken * draw(st.integers(1, 24)),
        seed=draw(st.integers(0, 2**63 - 1)),
        epoch=draw(st.integers(0, 2**63 - 1)),
        shuffle="block",
        drop_last=draw(st.sampled_from([True, False, "uneven"])),
        blocks=Blocks(taken * draw(st.integers(1, 12)), taken),
    )


@given(plans())
def test_every_row_stands_at_exactly_one_position(plan):
    assert np.array_equal(np.sort(whole(plan)), np.arange(plan.num_rows))


@pytest.mark.parametrize("num_rows", [*range(40), *(2**k + d for k in range(6, 14) for d in (-1, 0, 1))])
@pytest.mark.parametrize(("batch", "blocks"), [(4, Blocks(1, 1)), (8, Blocks(16, 2)), (12, Blocks(9, 3))])
def test_small_sizes_and_powers_of_two_are_permutations(num_rows, batch, blocks):
    plan = Plan(num_rows, batch, seed=5, shuffle="block", blocks=blocks)
    assert np.array_equal(np.sort(whole(plan)), np.arange(num_rows))


@given(plans(max_rows=1500), st.integers(1, 16))
def test_the_global_batches_are_the_same_on_any_number_of_ranks(plan, world_size):
    plan = replace(plan, global_batch_size=plan.global_batch_size * world_size)
    order = whole(plan)
    for step in range(len(plan)):
        together = np.concatenate([plan.positions(step, rank, world_size) for rank in range(world_size)])
        first = step * plan.global_batch_size
        real = together[together < plan.num_rows]
        assert np.array_equal(plan.rows(real), order[first : first + plan.global_batch_size])


@given(plans(), st.data())
def test_positions_can_be_asked_for_in_any_order_and_amount(plan, data):
    """Resuming at n equals dropping n: nothing depends on what was asked before."""
    order = whole(plan)
    some = data.draw(st.lists(st.integers(0, plan.num_rows - 1), max_size=30)) if plan.num_rows else []
    assert np.array_equal(plan.rows(np.array(some, np.int64)), order[some])


@given(st.integers(1, 2**60), st.integers(1, 64), st.integers(1, 8), st.integers(1, 64), st.data())
def test_rows_of_huge_selections_are_in_range_and_distinct(num_rows, lanes, taken, visits, data):
    plan = Plan(num_rows, lanes * taken, seed=3, shuffle="block", blocks=Blocks(taken * visits, taken))
    first = data.draw(st.integers(0, max(0, num_rows - 300)))
    rows = plan.rows(np.arange(first, min(first + 300, num_rows)))
    assert rows.min() >= 0
    assert rows.max() < num_rows
    assert len(np.unique(rows)) == len(rows)


@given(plans(), st.integers(1, 8))
def test_each_generation_is_made_of_whole_blocks_and_no_rank_shares_one_that_it_need_not(plan, world_size):
    order, blocks = plan.block_order, plan.blocks
    lanes = plan.global_batch_size // blocks.num_taken
    world_size = gcd(world_size, lanes)
    for generation in range(min(order.num_generations, 3)):
        steps = range(generation * order.generation, (generation + 1) * order.generation)
        for rank in range(world_size):
            positions = np.concatenate([plan.positions(step, rank, world_size) for step in steps])
            rows = np.sort(plan.rows(positions))
            # Whole blocks, so the rows are runs of a block's length, one of which may go around the end of the table.
            runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
            assert sum(len(run) % blocks.num_rows > 0 for run in runs) <= 2
            assert len(rows) == lanes // world_size * blocks.num_rows


@given(plans(), st.integers(0, 40), st.integers(1, 5))
def test_groups_hold_each_step_once_and_never_two_generations(plan, first, every):
    steps = range(first, len(plan), every)
    groups = list(plan.groups(steps))
    assert sum(groups, []) == list(steps)
    generation = plan.block_order.generation
    filled = plan.block_order.num_generations
    assert all(len({min(step // generation, filled) for step in group}) == 1 for group in groups)
    assert all(len(group) == 1 for group in groups[:1])  # it comes soon


def test_other_orders_group_nothing():
    assert list(Plan(100, 10).groups(range(3))) == [[0], [1], [2]]


@pytest.mark.parametrize("change", [{"epoch": 1}, {"seed": 4}, {"blocks": Blocks(32, 2)}])
def test_another_epoch_seed_or_cut_is_another_order(change):
    plan = Plan(10_000, 64, seed=3, shuffle="block", blocks=Blocks(16, 2))
    assert np.mean(whole(plan) == whole(replace(plan, **change))) < 0.002


def test_neighbours_of_one_epoch_are_cut_apart_in_another():
    plan = Plan(9_000, 60, seed=3, shuffle="block", blocks=Blocks(15, 15))
    together = [set(whole(replace(plan, epoch=epoch))[:60].tolist()) for epoch in range(40)]
    borders = {min(rows) % 15 for rows in together}
    assert len(borders) > 8


# The choice of blocks


NUM_ROWS, ROW_NBYTES = st.integers(0, 10**9), st.floats(1, 1e6)


@given(NUM_ROWS, st.integers(1, 4096), ROW_NBYTES, st.floats(1, 5000), st.integers(1, 4 << 20))
def test_the_memory_is_kept_to_and_spent_on_mixing_first(num_rows, batch, row_nbytes, share, read):
    memory = int(share * HELD * batch * row_nbytes) + 1
    blocks = fitting(num_rows, batch, row_nbytes, memory, read)
    wanted = max(1, round(read / row_nbytes))
    assert batch % blocks.num_taken == blocks.num_rows % blocks.num_taken == 0
    assert HELD * batch * (blocks.num_rows // blocks.num_taken) * row_nbytes <= memory
    assert batch // blocks.num_taken >= min(16, batch)
    assert blocks.num_rows < wanted + blocks.num_taken
    fewer = [d for d in range(1, blocks.num_taken) if batch % d == 0]
    assert all(HELD * batch * -(-wanted // d) * row_nbytes > memory for d in fewer)


@given(NUM_ROWS, st.integers(1, 4096), ROW_NBYTES, st.floats(0.01, 0.99), st.integers(1, 4 << 20))
def test_memory_below_three_batches_is_enough_if_it_holds_all_rows(num_rows, batch, row_nbytes, share, read):
    memory = int(share * HELD * batch * row_nbytes)
    if num_rows * row_nbytes > memory:
        with pytest.raises(InvalidArgumentError, match="neither 3 global batches .* nor all") as told:
            fitting(num_rows, batch, row_nbytes, memory, read)
        needed = int(re.search("give it ([0-9,]+) bytes", str(told.value))[1].replace(",", ""))
        fitting(num_rows, batch, row_nbytes, needed, read)
        return
    plan = Plan(num_rows, batch, shuffle="block", blocks=fitting(num_rows, batch, row_nbytes, memory, read))
    steps = list(range(min(len(plan), 5)))
    assert list(plan.groups(steps)) == [each for each in (steps[:1], steps[1:]) if each]  # one read, and held once


def test_more_memory_takes_fewer_rows_of_more_blocks():
    taken = [fitting(10**9, 256, 100_000, memory, 2 << 20).num_taken for memory in (80e6, 200e6, 500e6, 1e9, 2e9)]
    assert taken == sorted(taken, reverse=True)
    assert taken[0] > taken[-1] == 1


def test_blocks_that_do_not_fit_the_batch_are_refused():
    with pytest.raises(InvalidArgumentError, match="cannot take 3 rows of each block of 8"):
        Plan(100, 12, shuffle="block", blocks=Blocks(8, 3)).rows(np.arange(5))
    with pytest.raises(InvalidArgumentError, match="give blocks"):
        Plan(100, 12, shuffle="block").rows(np.arange(5))


# Frozen


@pytest.mark.parametrize(("case", "rows"), GOLDEN.items())
def test_orders_are_frozen(case, rows):
    num_rows, batch, size, taken, seed, epoch, first = case
    plan = Plan(num_rows, batch, seed=seed, epoch=epoch, shuffle="block", blocks=Blocks(size, taken))
    assert plan.rows(np.arange(first, first + len(rows))).tolist() == rows


@given(plans(), st.data())
def test_the_order_is_that_of_an_independent_one_in_plain_integers(plan, data):
    if plan.num_rows:
        for position in data.draw(st.lists(st.integers(0, plan.num_rows - 1), max_size=5)):
            assert plan.rows(np.array([position])).tolist() == [plain_row(plan, position)]


def plain_row(plan, p):
    """Follow the definition of the block order with integers of any size."""
    size, taken, batch = plan.blocks.num_rows, plan.blocks.num_taken, plan.global_batch_size
    visits, lanes, whole_blocks = size // taken, batch // taken, plan.num_rows // size
    used = plan.num_rows // (visits * batch) * lanes
    if p < used * size:
        step, x = divmod(p, batch)
        block = plain_permute(step // visits * lanes + x // taken, whole_blocks, plain_key(plan.seed, plan.epoch, 3))
        within = step % visits * taken + x % taken
        row = block * size + plain_permute(within, size, plain_key(plan.seed, plan.epoch, 4, block))
    else:
        row = plain_permute(p - used * size, plan.num_rows - used * size, plain_key(plan.seed, plan.epoch, 5))
        if row < (whole_blocks - used) * size:
            at = used + row // size
            row = plain_permute(at, whole_blocks, plain_key(plan.seed, plan.epoch, 3)) * size + row % size
        else:
            row += used * size
    return (row + plain_key(plan.seed, plan.epoch, 6) % size) % plan.num_rows


def plain_key(*words):
    key = 0x9E3779B97F4A7C15
    for word in words:
        key = plain_mix((key + word) * 0x9E3779B97F4A7C15 + 1)
    return key


def plain_mix(x):
    x %= 2**64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
    return x ^ (x >> 31)


def plain_permute(i, size, key):
    half = (max((size - 1).bit_length(), 2) + 1) // 2
    while True:
        left, right = i >> half, i % 2**half
        for number in range(1, 9):
            left, right = right, left ^ plain_mix(right + plain_mix(key + number * 0x9E3779B97F4A7C15)) % 2**half
        i = left << half | right
        if i < size:
            return i
