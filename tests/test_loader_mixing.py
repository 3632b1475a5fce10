"""Mixes: each source its share of every batch, the same on any topology, resumed at any step."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import DataError, InvalidArgumentError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.forms.numpy import NumpyArrays
from lakehouse.loader.mixing import mix
from lakehouse.loader.order.schedule import PERIOD, Schedule

SIZES = {"a": 90, "b": 40, "c": 7}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Three tables; a row tells its table and its number."""
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    made = {}
    for source, (name, size) in enumerate(SIZES.items()):
        x = np.arange(size) + 1000 * source
        data = pa.table({"x": x, "name": [f"{name}{i}" for i in x], "ragged": [[1.0] * (i % 3) for i in range(size)]})
        table = lake.create_table(name, data=data)
        made[name] = lake.open_table(name, version=table.version).snapshot()
    return made


def loaders(tables, **options):
    return {
        name: Loader(tables[name], LoaderOptions(**{"batch_size": 12, "prefetch_batches": 0, **options}))
        for name in SIZES
    }


def mixed(tables, weights=(0.6, 0.3, 0.1), seed=0, until="first", **options):
    made = loaders(tables, **options)
    return mix(dict(zip(made.values(), weights, strict=True)), seed=seed, until=until)


def xs(batches):
    return [batch["x"].tolist() for batch in batches]


weights = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6).map(tuple)


@given(weights, st.integers(0, 2**63 - 1), st.integers(0, 3 * PERIOD))
def test_a_schedule_gives_each_source_its_share_and_counts_what_came_before(weights, seed, position):
    schedule = Schedule(weights, seed)
    assert schedule.shares.sum() == PERIOD
    assert (np.abs(schedule.shares - np.array(weights) / sum(weights) * PERIOD) <= len(weights)).all()
    first = max(0, position - 500)
    source, places = schedule.at(np.arange(first, position))
    before, after = schedule.counts(first), schedule.counts(position)
    for number in range(len(weights)):
        assert places[source == number].tolist() == list(range(before[number], after[number]))
    assert (np.abs(after - position * schedule.shares / PERIOD) <= 2).all()


def test_schedules_are_frozen():
    """Saved states go on by them."""
    assert Schedule((5.0, 2.0, 1.0), 3).at(np.arange(40))[0].tolist() == [
        int(digit) for digit in "0010201001200010001020010102001001000012"
    ]


def test_each_source_has_its_share_of_every_batch_and_gives_its_own_order(tables):
    batches = list(mixed(tables))
    flat = [x for batch in batches for x in batch["x"].tolist()]
    for batch in batches:
        counts = np.bincount(batch["x"].numpy() // 1000, minlength=3)
        assert (np.abs(counts - np.array([7.2, 3.6, 1.2])) <= 3).all()
        assert batch["name"] == [f"{'abc'[x // 1000]}{x}" for x in batch["x"].tolist()]
        assert [len(each) for each in batch["ragged"]] == [x % 1000 % 3 for x in batch["x"].tolist()]
    for source, made in enumerate(loaders(tables, batch_size=1).values()):
        own = [x for x in flat if x // 1000 == source]
        assert own == sum(xs(made), [])[: len(own)]


@pytest.mark.parametrize("until", ["first", "longest", 5])
def test_an_epoch_ends_when_it_was_said_to(tables, until):
    made = mixed(tables, until=until)
    seen = np.bincount(np.array(sum(xs(made), [])) // 1000, minlength=3)
    sizes = np.array(list(SIZES.values()))
    if until == "first":
        assert (seen <= sizes).all()
        assert (made._source.schedule.counts((len(made) + 1) * 12) > sizes).any()
    elif until == "longest":
        assert (seen >= sizes).all()
        assert (made._source.schedule.counts((len(made) - 1) * 12) < sizes).any()
    assert len(xs(made)) == len(made) == (5 if until == 5 else len(made))


def test_over_the_epochs_each_source_gives_each_of_its_rows_equally_often(tables):
    made = mixed(tables, until="longest")
    flat = [x for _ in range(4) for batch in made for x in batch["x"].tolist()]
    for source, size in enumerate(SIZES.values()):
        times = np.bincount([x % 1000 for x in flat if x // 1000 == source], minlength=size)
        assert times.max() - times.min() <= 1
        own = [x for x in flat if x // 1000 == source]
        epochs = [own[i : i + size] for i in range(0, len(own) - size + 1, size)]
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len(epochs) < 2 or epochs[0] != epochs[1]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("shuffle", ["exact", "none", "block"])
def test_the_global_batches_are_the_same_on_any_number_of_ranks(tables, world_size, shuffle):
    options = {"shuffle": shuffle} | ({"shuffle_memory": "1MB"} if shuffle == "block" else {})
    whole = xs(mixed(tables, until="longest", **options))
    parts = [
        xs(mixed(tables, until="longest", rank=rank, world_size=world_size, batch_size=12 // world_size, **options))
        for rank in range(world_size)
    ]
    assert [sum(batches, []) for batches in zip(*parts, strict=True)] == whole


def test_prefetching_changes_nothing(tables):
    assert xs(mixed(tables, until="longest", prefetch_batches=3)) == xs(mixed(tables, until="longest"))


@pytest.mark.parametrize("num_workers", [1, 2, 3, 5])
def test_workers_that_each_take_every_nth_batch_make_the_same(tables, num_workers):
    made = mixed(tables, until=11)
    source, plan = pickle.loads(pickle.dumps(made._source)), made._plan(1)
    found = {}
    for worker in range(num_workers):
        part = source.part(plan, 0, 1, made._arrays, made._meter)
        steps = range(worker, 11, num_workers)
        found |= {step: b["x"].tolist() for step, (b, _) in zip(steps, part.batches(steps, 2), strict=True)}
    made.set_epoch(1)
    assert [found[step] for step in range(11)] == xs(made)


@settings(max_examples=6)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 2, 3, 4])), max_size=4))
def test_it_is_resumed_at_any_step_on_any_topology(tables, stops):
    whole = mixed(tables, until=9)
    expected = xs(whole) + xs(whole)
    seen, state = [], None
    for stop, world_size in [*stops, (20, 1)]:
        options = {"until": 9, "batch_size": 12 // world_size, "world_size": world_size}
        parts = [mixed(tables, rank=rank, **options) for rank in range(world_size)]
        for part in parts:
            if state is not None:
                part.load_state_dict(json.loads(state))
        batches = [iter(part) for part in parts]
        for _ in range(stop):
            if len(seen) >= len(expected):
                break
            try:
                seen.append(sum([next(each)["x"].tolist() for each in batches], []))
            except StopIteration:
                batches = [iter(part) for part in parts]
                seen.append(sum([next(each)["x"].tolist() for each in batches], []))
        (state,) = {json.dumps(part.state_dict()) for part in parts}
    assert seen == expected


def test_a_state_is_a_few_hundred_bytes_a_source(tables):
    state = json.dumps(mixed(tables).state_dict())
    assert len(state) < 600 * len(SIZES)


def test_epochs_can_be_named(tables):
    made = mixed(tables, until=4)
    epochs = [xs(made) for _ in range(3)]
    made.set_epoch(1)
    assert xs(made) == epochs[1]


def test_a_copy_goes_on_where_it_was_made(tables):
    made = mixed(tables, until=6)
    batches = iter(made)
    first = [next(batches)["x"].tolist() for _ in range(2)]
    copy = pickle.loads(pickle.dumps(made))
    assert first + xs(copy) == xs(mixed(tables, until=6))


def test_versions_are_those_of_the_state(lake):
    a, b = (
        lake.create_table(name, data=pa.table({"x": range(start, start + 30)}))
        for name, start in (("a", 0), ("b", 100))
    )
    expected = xs(mix([(a.loader(batch_size=6), 1), (b.loader(batch_size=6), 2)]))
    made = mix([(a.loader(batch_size=6), 1), (b.loader(batch_size=6), 2)])
    batches = iter(made)
    seen = [next(batches)["x"].tolist()]
    state = made.state_dict()
    a.delete("x < 10")
    b.add(pa.table({"x": range(1000, 1100)}), progress=False)
    again = mix([(a.loader(batch_size=6), 1), (b.loader(batch_size=6), 2)])
    again.load_state_dict(state)
    assert seen + xs(again) == expected


def test_two_filters_of_one_table_are_two_sources(tables):
    first, second = (Loader(tables["a"], LoaderOptions(where=where, batch_size=8)) for where in ("x < 30", "x >= 30"))
    for batch in mix({first: 1, second: 3}):
        assert int((batch["x"] < 30).sum()) == pytest.approx(2, abs=2)


def test_weights_and_balance_of_a_source_hold_in_a_mix(tables):
    weighted = Loader(tables["a"], LoaderOptions(weights="x", batch_size=8))
    other = Loader(tables["b"], LoaderOptions(batch_size=8))
    own = [x for batch in mix({weighted: 1, other: 1}, until=1100) for x in batch["x"].tolist() if x < 1000]
    assert np.bincount(own[: sum(range(90))], minlength=90).tolist() == list(range(90))


def test_what_it_is_made_of_is_told(tables):
    made = mixed(tables)
    assert str(made.describe()).splitlines()[1] == f" 60.00%  a@{tables['a'].version}: 90 rows, 0.48 times an epoch"
    assert "Mix of a + b + c" in repr(made)
    assert made.categories == {}
    list(made)
    assert made.stats().num_rows == len(made) * 12


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_size": 6}, "must have one batch_size: it is 12 in"),
        ({"num_workers": 1}, "one num_workers"),
        ({"rank": 0, "world_size": 2}, "one world_size"),
        ({"columns": ["x"]}, "column 'name' is values in 'a' and not read in 'b'"),
        ({"collate_fn": list}, "collate_fn of 'b'"),
        ({"where": "x < 0"}, "'b' has no rows to mix"),
    ],
)
def test_loaders_that_do_not_go_together_are_refused(tables, change, said):
    first = Loader(tables["a"], LoaderOptions(batch_size=12))
    with pytest.raises(InvalidArgumentError, match=said):
        mix({first: 1, Loader(tables["b"], LoaderOptions(**{"batch_size": 12, **change})): 1})


def test_columns_of_two_types_and_samples_of_two_shapes_are_refused(tables, lake):
    other = lake.create_table("other", data=pa.table({"x": pa.array(range(30), pa.int32())}))
    first = Loader(tables["a"], LoaderOptions(columns=["x"], batch_size=12))
    with pytest.raises(InvalidArgumentError, match="'x' is numbers, int64 in 'a' and numbers, int32 in 'other'"):
        mix({first: 1, other.loader(batch_size=12): 1})
    longer = Loader(
        tables["b"], LoaderOptions(columns=["x"], batch_size=12, transform=lambda row: {"x": row["x"][None]})
    )
    with pytest.raises(DataError, match=r"'x' is torch.int64 \(\) in 'a'; torch.int64 \(1,\) in 'b'"):
        next(iter(mix({first: 1, longer: 1})))
    named = Loader(tables["b"], LoaderOptions(columns=["x"], batch_size=12, transform=lambda row: {"y": row["x"]}))
    with pytest.raises(DataError, match="'a' gives batches of x, 'b' of y"):
        next(iter(mix({first: 1, named: 1})))


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), "1"])
def test_a_weight_is_a_positive_number(tables, weight):
    with pytest.raises(InvalidArgumentError, match="a positive number"):
        mix([(Loader(tables["a"]), weight)])


def test_what_cannot_be_mixed_is_named(tables):
    one = Loader(tables["a"], LoaderOptions(batch_size=12))
    for wrong, said in (
        ([(one, 1), (one, 2)], "each loader once"),
        ([("a", 1)], "not str"),
        ([(mix({one: 1}), 1)], "not Mix"),
        ([one], "a positive number"),
        (one, "not a Loader"),
    ):
        with pytest.raises(InvalidArgumentError, match=said):
            mix(wrong)
    with pytest.raises(InvalidArgumentError, match="nothing to mix"):
        mix([])
    for seed in (-1, 1.5, True):
        with pytest.raises(InvalidArgumentError, match="seed is"):
            mix({one: 1}, seed=seed)
    for until in ("last", 0, True, 1.5):
        with pytest.raises(InvalidArgumentError, match="until is"):
            mix({one: 1}, until=until)
    with pytest.raises(InvalidArgumentError, match="'c' has 7 rows, which end before a global batch of 12"):
        mix({one: 1, Loader(tables["c"], LoaderOptions(batch_size=12)): 20})


def test_a_state_of_another_mix_is_refused(tables):
    made = mixed(tables)
    state = made.state_dict()
    for other, said in (
        (mixed(tables, weights=(1, 1, 1)), "weights"),
        (mixed(tables, seed=1), "seed"),
        (mixed(tables, until=3), "until"),
        (mixed(tables, batch_size=6), "global_batch_size"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"saved with {said}"):
            other.load_state_dict(state)
    spoilt = [{**state, name: value} for name in ("epoch", "num_batches") for value in ("1", -1, True, None)]
    without = [{key: value for key, value in state.items() if key != name} for name in ("epoch", "sources")]
    for strange in (Loader(tables["a"]).state_dict(), *spoilt, *without, None):
        with pytest.raises(InvalidArgumentError, match="no state of a mix"):
            made.load_state_dict(strange)


def test_numpy_batches_are_mixed_without_torch(tables, monkeypatch):
    monkeypatch.setattr("lakehouse.loader.forms.arrays.find_spec", lambda name: None)
    made = mixed(tables)
    assert isinstance(made._arrays, NumpyArrays)
    monkeypatch.undo()
    assert xs(made) == xs(mixed(tables))
