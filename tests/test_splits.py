"""Splits by a hash: the same on every machine, untouched by growth, and contents in two of them are found."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.errors import ColumnNotFoundError, InvalidArgumentError, SchemaError
from lakehouse.splits import split_by, split_leaks

THREE = {"train": 0.8, "val": 0.1, "test": 0.1}


def splits(keys, fractions=THREE, seed=0):
    return split_by("key", fractions, seed=seed)(keys).to_pylist()


WORDS = pa.array([f"k{i}" for i in range(40)])


@pytest.mark.parametrize(
    ("seed", "second_letters"),
    [(0, "rarrrrrrraerrrrarrrrarrrrrrrrerrerrrreer"), (2**62, "rrrrrrrerrarrarrerrrrerrrrrrrraaarrrrare")],
)
def test_splits_are_frozen(seed, second_letters):
    """A row must not move from test to train because the library was upgraded."""
    assert "".join(split[1] for split in splits(WORDS, seed=seed)) == second_letters


def test_a_number_is_its_digits_in_every_type():
    expected = splits(pa.array([str(i) for i in range(-50, 50)]))
    for data_type in (pa.int8(), pa.int32(), pa.int64(), pa.large_string(), pa.binary(), pa.large_binary()):
        assert splits(pa.array([str(i) for i in range(-50, 50)]).cast(data_type)) == expected
    assert splits(pa.array([str(i) for i in range(-50, 50)]).dictionary_encode()) == expected


def test_floats_are_refused_because_they_have_no_digits_of_their_own():
    with pytest.raises(SchemaError, match="double; only words"):
        splits(pa.array([0.5]))


def test_null_is_in_no_split():
    assert splits(pa.array(["a", None, "a"]))[1] is None


shares = st.lists(st.integers(1, 1000), min_size=1, max_size=6).map(
    lambda parts: {f"s{i}": part / sum(parts) for i, part in enumerate(parts)}
)


@given(shares, st.integers(0, 2**63 - 1))
def test_each_split_gets_its_share(fractions, seed):
    found = np.array(splits(pa.array(range(2000)), fractions, seed))
    for name, share in fractions.items():
        spread = np.sqrt(2000 * share * (1 - share))
        assert abs((found == name).sum() - 2000 * share) <= 5 * spread + 1  # one in two million


@given(st.lists(st.text(max_size=8), max_size=40), st.integers(0, 5))
def test_a_row_s_split_depends_on_its_key_alone(keys, at):
    whole = splits(pa.array(keys, pa.string()))
    assert splits(pa.array(keys[at:], pa.string())) == whole[at:]
    assert all(whole[i] == whole[keys.index(key)] for i, key in enumerate(keys))


def test_seeds_split_otherwise():
    keys = pa.array(range(1000))
    same = np.mean(np.array(splits(keys)) == np.array(splits(keys, seed=1)))
    assert same == pytest.approx(0.8**2 + 2 * 0.1**2, abs=0.06)


def test_enlarging_the_last_splits_moves_rows_in_one_direction_only():
    keys = pa.array(range(2000))
    before, after = splits(keys, {"train": 0.9, "test": 0.1}), splits(keys, {"train": 0.8, "test": 0.2})
    assert all(now == "test" for was, now in zip(before, after, strict=True) if was == "test")


@pytest.mark.parametrize(
    ("fractions", "seed", "said"),
    [
        ({}, 0, "give a share"),
        (["train"], 0, "give a share"),
        ({"train": 0.8, "test": 0.1}, 0, "add up to 1"),
        ({"train": 1.1, "test": -0.1}, 0, "positive"),
        ({"train": 0.9, "test": float("nan")}, 0, "positive"),
        ({"train": 1.0}, -1, "seed is -1"),
    ],
)
def test_shares_that_make_no_sense_are_refused(fractions, seed, said):
    with pytest.raises(InvalidArgumentError, match=said):
        split_by("id", fractions, seed=seed)


def test_as_a_feature_it_fills_new_rows_and_no_other_in_any_process(lake):
    table = lake.create_table("t", data=pa.table({"id": [f"k{i}" for i in range(300)]}))
    table.add_columns({"split": split_by("id", THREE, seed=7)})
    table.backfill("split", progress=False)
    before = table.to_arrow(columns=["split"])["split"].to_pylist()
    table.add(pa.table({"id": [f"k{i}" for i in range(300, 500)]}), progress=False)
    code = f"import lakehouse as lh; lh.connect({lake.uri!r}).open_table('t').backfill('split', progress=False)"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = table.to_arrow(columns=["id", "split"])
    assert after["split"].to_pylist()[:300] == before
    assert after["split"].to_pylist() == splits(after["id"].combine_chunks(), seed=7)
    assert table.features()["state"].to_pylist() == ["fresh"]
    train = table.loader(columns=["id"], where="split = 'train'", batch_size=1)
    assert len(train) == before.count("train") + after["split"].to_pylist()[300:].count("train")


def test_other_shares_are_another_function(lake):
    table = lake.create_table("t", data=[{"id": "a"}])
    table.add_columns({"split": split_by("id", THREE)})
    version = table.version
    table.add_columns({"split": split_by("id", THREE)})
    assert table.version == version
    with pytest.raises(SchemaError, match="differs"):
        table.backfill("split", udf=split_by("id", THREE, seed=1), progress=False)


def test_contents_in_two_splits_are_found_by_their_bytes(lake):
    data = pa.table(
        {
            "content": pa.array([b"a", b"b", b"b", b"", None, b"a", None, b""], pa.large_binary()),
            "split": ["train", "val", "val", "train", "train", "test", "val", None],
        }
    )
    table = lake.create_table("t", data=data.slice(0, 5))
    table.add(data.slice(5), progress=False)
    found = split_leaks(table.snapshot(), "split", "content")
    (leak,) = found.to_pylist()
    assert leak == {
        "sha256": "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        "row_ids": [0, 5],
        "splits": ["train", "test"],
    }
    assert table.take_row_ids(leak["row_ids"], columns=["content"])["content"].to_pylist() == [b"a", b"a"]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["train", "val", None])), max_size=30))
def test_leaks_are_those_of_a_dictionary(tmp_path_factory, rows):
    rows = rows or [(0, None)]
    data = pa.table({"x": [x for x, _ in rows], "s": pa.array([s for _, s in rows], pa.string())})
    table = lh.connect(tmp_path_factory.mktemp("lake")).create_table("t", data=data)
    seen = {}
    for row_id, (x, split) in enumerate(rows):
        if split is not None:
            seen.setdefault(x, []).append((row_id, split))
    expected = [list(map(list, zip(*each, strict=True))) for each in seen.values() if len({s for _, s in each}) > 1]
    found = split_leaks(table.snapshot(), "s", "x", progress=False)
    assert [[leak["row_ids"], leak["splits"]] for leak in found.to_pylist()] == expected


def test_the_way_to_find_pictures_that_only_look_alike_is_named_where_there_is_one(pets, caplog):
    caplog.set_level("INFO", "lakehouse")
    pets.add(pets.take([0]).set_column(0, "id", pa.array(["a copy"])), progress=False)
    pets.update(where="id = 'a copy'", values={"split": "test"})
    (leak,) = split_leaks(pets.snapshot(), "split", "image").to_pylist()
    assert (leak["row_ids"], leak["splits"]) == ([0, 20], ["train", "test"])
    assert "phash" not in caplog.text
    pets.add_columns({"phash": "width * 0 + 1"})
    pets.backfill("phash", progress=False)
    split_leaks(pets.snapshot(), "split", "image")
    assert "split_leaks('split', content='phash')" in caplog.text
    assert split_leaks(pets.snapshot(), "split", "phash").num_rows == 1


def test_columns_that_are_not_there_or_cannot_be_compared_are_named(pets):
    with pytest.raises(ColumnNotFoundError, match="no column 'splitt'"):
        split_leaks(pets.snapshot(), "splitt", "image")
    pets.add_columns({"vector": pa.field("vector", pa.list_(pa.float32(), 2))})
    with pytest.raises(SchemaError, match="vector is fixed_size_list"):
        split_leaks(pets.snapshot(), "id", "vector")
