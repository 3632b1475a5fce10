"""How often a row comes: as its weight says, or as often as any other class, the same on any topology."""

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse.errors import ColumnNotFoundError, DataError, InvalidArgumentError, SchemaError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.rows.draws import Balanced, Weighted, digest_of, draws_of

KINDS = ["cat", "dog", "cat", "cat", "owl", "cat", "cat", "cat", "dog", "cat"]  # times ten


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    x = np.arange(100)
    kinds = types.Type("category", values=("ant", "cat", "dog", "owl"))
    codes = pa.DictionaryArray.from_arrays(pa.array([kinds.values.index(k) for k in KINDS * 10]), list(kinds.values))
    schema = pa.schema(
        [pa.field("x", pa.int64()), pa.field("kind", kinds.arrow_type, metadata=kinds.metadata)]
        + [pa.field(name, pa.float64()) for name in ("weight", "nan", "negative", "null")]
    )
    weights = x % 5 / 2
    columns = {"weight": weights, "nan": np.where(x == 7, np.nan, 1), "negative": np.where(x == 7, -1, 1.0)}
    data = pa.table([x, codes, *columns.values(), pa.array([None, 1.0] * 50)], schema=schema)
    made = lake.create_table("pets", schema=schema)
    made.add(data.slice(0, 40), progress=False)
    made.add(data.slice(40), progress=False)
    return made


def loader(table, **options):
    return Loader(table.snapshot(), LoaderOptions(**{"batch_size": 5, "columns": ["x"], **options}))


def xs(batches):
    return [x for batch in batches for x in batch["x"].tolist()]


weights = st.lists(st.one_of(st.integers(0, 5).map(float), st.floats(0, 5)), min_size=1, max_size=50).filter(
    lambda w: sum(w) > 0.5
)


@given(weights, st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_a_row_comes_as_often_as_the_whole_part_of_its_weight_and_for_the_rest_at_most_twice(weights, seed, epoch):
    draws = Weighted.of(np.array(weights), "w")
    ranks = draws.ranks(np.arange(draws.num_draws), seed, epoch)
    more = np.bincount(ranks, minlength=len(weights)) - np.floor(weights)
    assert draws.num_draws == pytest.approx(sum(weights), abs=0.501)
    assert ((more >= 0) & (more <= 2 * (np.array(weights) % 1 > 0))).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=50).filter(any), st.integers(0, 1000))
def test_whole_weights_are_met_exactly_in_each_epoch(weights, epoch):
    draws = Weighted.of(np.array(weights, float), "w")
    ranks = draws.ranks(np.arange(draws.num_draws), 0, epoch)
    assert np.bincount(ranks, minlength=len(weights)).tolist() == weights


def test_fractions_are_met_on_average():
    weights = np.array([0.3, 1.7, 0.0, 2.5, 0.01, 0.49] * 20)
    draws = Weighted.of(weights, "w")
    counts = sum(np.bincount(draws.ranks(np.arange(draws.num_draws), 1, e), minlength=120) for e in range(2000))
    parts = weights % 1
    due = 2000 * (np.floor(weights) + parts * round(parts.sum()) / parts.sum())
    assert (np.abs(counts - due) <= 5 * np.sqrt(due) + 1).all()
    assert not counts[2::6].any()


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.integers(0, 2**63 - 1), st.integers(0, 1000))
def test_each_class_comes_equally_often_and_its_rows_evenly(sizes, seed, epoch):
    draws = Balanced(np.cumsum(sizes))
    ranks = draws.ranks(np.arange(draws.num_draws), seed, epoch)
    classes = np.repeat(np.arange(len(sizes)), sizes)
    each = draws.num_draws // len(sizes)
    assert np.bincount(classes[ranks], minlength=len(sizes)).tolist() == [each] * len(sizes)
    assert abs(draws.num_draws - sum(sizes)) <= len(sizes)
    times = np.bincount(ranks, minlength=sum(sizes))
    for number, size in enumerate(sizes):
        assert (np.abs(times[classes == number] - each / size) < 2).all()


@given(st.one_of(weights.map(lambda w: Weighted.of(np.array(w), "w")), st.just(Balanced(np.array([3, 9])))))
def test_draws_are_kept_as_arrays(draws):
    again = draws_of(draws.arrays)
    assert digest_of(again, "d") == digest_of(draws, "d") != digest_of(draws, "other")
    at = np.arange(draws.num_draws)
    assert np.array_equal(again.ranks(at, 3, 4), draws.ranks(at, 3, 4))


def test_draws_are_frozen():
    """Saved states go on by them."""
    assert Weighted.of(np.array([0.5, 2.0, 1.5, 3.0]), "w").ranks(np.arange(7), 5, 6).tolist() == [1, 1, 2, 3, 3, 3, 0]
    assert Balanced(np.array([1, 5, 20])).ranks(np.arange(12), 5, 6).tolist() == [0, 1, 5, 0, 1, 8, 0, 2, 9, 0, 3, 12]


def test_an_epoch_has_each_row_as_often_as_it_weighs(table):
    made = loader(table, weights="weight")
    assert len(made) == 100 // 5
    epochs = np.array([np.bincount(xs(made), minlength=100) for _ in range(30)])
    due = np.arange(100) % 5 / 2
    is_whole = due == np.floor(due)
    assert (epochs[:, is_whole] == due[is_whole]).all()
    assert (np.abs(epochs - due) < 2).all()
    assert (np.abs(epochs.mean(axis=0) - due) < 0.5).all()
    assert not (epochs == epochs[0]).all()


def test_an_epoch_has_each_class_equally_often(table):
    made = loader(table, balance="kind", columns=["x", "kind"])
    kinds = np.array(KINDS * 10)
    for _ in range(3):
        seen = kinds[xs(made)].tolist()
        counts = {kind: seen.count(kind) for kind in set(KINDS)}
        assert sum(counts.values()) == len(made) * 5
        assert max(counts.values()) - min(counts.values()) <= 99 % 5  # drop_last leaves some out
    in_turn = loader(table, balance="kind", shuffle=False, batch_size=3)
    assert all(sorted(kinds[batch["x"].tolist()]) == ["cat", "dog", "owl"] for batch in in_turn)


def test_classes_that_no_row_has_are_none(table):
    made = loader(table, balance="kind", where="kind = 'owl' OR x < 3", batch_size=1)
    assert sorted(np.unique(np.array(KINDS * 10)[xs(made)])) == ["cat", "dog", "owl"]
    assert len(loader(table, balance="kind", where="x < 0")) == 0
    assert len(loader(table, weights="weight", where="x < 0")) == 0


@pytest.mark.parametrize("how", [{"weights": "weight"}, {"balance": "kind"}, {"weights": "weight", "shuffle": "block"}])
def test_global_batches_are_the_same_on_any_topology_and_after_any_resume(table, how):
    pinned = table.checkout(table.version)
    whole = loader(pinned, batch_size=12, **how)
    expected = [batch["x"].tolist() for batch in whole]
    for world_size in (2, 3):
        parts = [
            [b["x"].tolist() for b in loader(pinned, batch_size=12 // world_size, rank=r, world_size=world_size, **how)]
            for r in range(world_size)
        ]
        assert [sum(batches, []) for batches in zip(*parts, strict=True)] == expected
    for stop in range(len(expected)):
        first = loader(pinned, batch_size=12, **how)
        batches = iter(first)
        seen = [next(batches)["x"].tolist() for _ in range(stop)]
        again = loader(pinned, batch_size=4, rank=0, world_size=3, **how)
        again.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert seen + [b["x"].tolist() for b in again] == expected[:stop] + [each[:4] for each in expected[stop:]]


@pytest.mark.parametrize("how", [{"weights": "weight"}, {"balance": "kind"}])
def test_a_source_draws_the_same_in_a_worker(table, how):
    source = loader(table, **how)._source
    there = pickle.loads(pickle.dumps(source))
    at = np.arange(source.num_positions)
    assert there.digest == source.digest
    assert np.array_equal(there.ranks(at, 3), source.ranks(at, 3))


def test_a_state_of_other_weights_is_refused(table):
    state = loader(table, weights="weight").state_dict()
    for other in ({}, {"weights": "x"}, {"balance": "kind"}):
        with pytest.raises(InvalidArgumentError, match="selection"):
            loader(table, **other).load_state_dict(state)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": "nan"}, DataError, "weights='nan': 1 of 100 rows have no weight of 0 or more, the first is nan"),
        ({"weights": "negative"}, DataError, "the first is -1.0"),
        ({"weights": "null"}, DataError, "50 of 100 rows"),
        ({"weights": "kind"}, SchemaError, "a weight is a number"),
        ({"weights": "weigth"}, ColumnNotFoundError, "no column 'weigth'"),
        ({"balance": "weight"}, SchemaError, "classes are words"),
        ({"balance": "missing"}, ColumnNotFoundError, "no column 'missing'"),
        ({"weights": "weight", "balance": "kind"}, InvalidArgumentError, "choose one of them"),
        ({"balance": "kind", "shuffle": "block"}, InvalidArgumentError, "use shuffle='exact'"),
        ({"weights": "weight", "where": "x % 5 = 0"}, DataError, "add up to 0"),
    ],
)
def test_what_is_no_weight_and_no_class_is_named(table, options, error, said):
    with pytest.raises(error, match=said):
        loader(table, **options)


def test_rows_without_weight_or_class_can_be_skipped(table, lake):
    assert len(xs(loader(table, weights="null", on_missing="skip", batch_size=1))) == 50
    data = pa.table({"x": range(6), "kind": ["a", None, "a", "b", "a", None]})
    other = lake.create_table("t", data=data)
    with pytest.raises(DataError, match="balance='kind' is NULL in row id 1"):
        loader(other, balance="kind")
    made = loader(other, balance="kind", on_missing="skip", batch_size=1)
    assert sorted(set(xs(made))) == [0, 2, 3, 4] or len(xs(made)) == 4
    assert made._source.num_left_out == 2


@pytest.mark.parametrize(("weight", "said"), [(1e300, "scale them"), (1e-9, "scale them")])
def test_weights_that_make_no_epoch_are_refused(lake, weight, said):
    table = lake.create_table("t", data=pa.table({"x": range(6), "w": [weight] * 6}))
    with pytest.raises(DataError, match=said):
        loader(table, weights="w")


def test_weights_of_any_size_are_kept_to_their_proportions(lake):
    data = pa.table({"x": range(3), "w": [1e12, 1e6, 0.5]})
    draws = loader(lake.create_table("t", data=data), weights="w", batch_size=1000)._source.draws
    assert draws.num_draws == 10**12 + 10**6 + 1
    assert draws.ranks(np.array([0, 10**12 - 1, 10**12 + 5, draws.num_draws - 1]), 0, 0).tolist() == [0, 0, 1, 2]


def test_a_feature_that_weighs_must_be_ready(lake):
    table = lake.create_table("t", data=pa.table({"x": range(6)}))
    table.add_columns({"w": "x + 1"})
    with pytest.raises(DataError, match="'w' is missing in 6"):
        loader(table, weights="w")
    assert len(loader(table, weights="w", on_missing="fill", batch_size=1)) == 21
