"""What a transform may return, and what a batch makes of it; whole numbers of any kind; batches in page-locked memory."""

import json
from collections import UserDict
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.utils.data import DataLoader, default_collate

import lakehouse as lh
from lakehouse.errors import InvalidArgumentError, MissingDependencyError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.datasets import TableDataset
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.forms.numpy import NumpyArrays
from lakehouse.loader.forms.torch import TorchArrays

NUM_ROWS = 20


class Sample(NamedTuple):
    x: int
    pet: str


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    lake = lh.connect(tmp_path_factory.mktemp("lake"))
    columns = {
        "x": np.arange(NUM_ROWS),
        "pet": [f"pet {i}" for i in range(NUM_ROWS)],
        "boxes": pa.array([[float(i)] * (i % 3) for i in range(NUM_ROWS)], pa.list_(pa.float32())),
    }
    table = lake.create_table("pets", data=pa.table(columns))
    return lake.open_table("pets", version=table.version)


def loader(table, **options):
    return Loader(table.snapshot(), LoaderOptions(**{"batch_size": 5, "shuffle": False} | options), pin=False)


def first(table, **options):
    return next(iter(loader(table, **options)))


# What is returned


def test_a_collate_fn_gets_whatever_the_transform_returned(table):
    def pair(row):
        return int(row["x"]), row["pet"]

    numbers, words = first(table, transform=pair, collate_fn=default_collate)
    assert numbers.tolist() == [0, 1, 2, 3, 4]
    assert list(words) == [f"pet {i}" for i in range(5)]
    sample = first(table, transform=lambda row: Sample(*pair(row)), collate_fn=default_collate)
    assert sample.x.tolist() == [0, 1, 2, 3, 4]
    assert first(table, transform=lambda row: None, collate_fn=list) == [None] * 5


def test_torchs_dataloader_puts_together_the_pairs_of_a_dataset(table):
    dataset = table.torch_dataset(columns=["x"], transform=lambda row: (row["x"], -int(row["x"])))
    assert [[part.tolist() for part in batch] for batch in DataLoader(dataset, batch_size=10)] == [
        [list(range(10)), [-x for x in range(10)]],
        [list(range(10, 20)), [-x for x in range(10, 20)]],
    ]


@pytest.mark.parametrize("returned", [(1, 2), None, "x", 3.5])
def test_without_a_collate_fn_a_transform_returns_a_mapping(table, returned):
    with pytest.raises(InvalidArgumentError, match=f"returned {type(returned).__name__}; return the row.*collate_fn"):
        first(table, transform=lambda row: returned, on_bad_rows="substitute")
    assert first(table, transform=UserDict)["x"].tolist() == [0, 1, 2, 3, 4]


def test_marks_need_names_beside_them(table):
    def pair(row):
        return row["x"], row["pet"]

    with pytest.raises(InvalidArgumentError, match="tuple, which has no place for _is_bad"):
        first(table, transform=pair, collate_fn=list, on_bad_rows="mask")
    with pytest.raises(InvalidArgumentError, match="no place for _is_pad"):
        first(table, transform=pair, collate_fn=list, rank=0, world_size=2, drop_last=False)
    assert first(table, transform=dict, collate_fn=lambda rows: rows[0]["_is_bad"], on_bad_rows="mask") == np.False_


def test_a_row_may_be_changed_where_it_is(table):
    def changed(row):
        row["num_boxes"] = len(row.pop("boxes"))
        return row

    assert first(table, transform=changed)["num_boxes"].tolist() == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("name", ["_is_bad", "_is_pad"])
def test_a_column_does_not_vanish_behind_a_mark_of_its_name(tmp_path, name):
    table = lh.connect(tmp_path).create_table("marked", data=pa.table({"x": range(8), name: range(8)}))
    options = {"on_bad_rows": "mask"} if name == "_is_bad" else {"drop_last": False}
    assert first(table)[name].tolist() == list(range(5))
    with pytest.raises(InvalidArgumentError, match=f"has {name!r} beside its columns"):
        first(table, **options)
    assert "x" in first(table, columns=["x"], **options)


# What becomes of values

NUMBERS = (arrays.boolean_dtypes() | arrays.integer_dtypes() | arrays.floating_dtypes(sizes=(16, 32, 64))) | (
    arrays.unsigned_integer_dtypes() | arrays.complex_number_dtypes(sizes=(64, 128))
)


@st.composite
def laid_out(draw):
    """Arrays of one shape and type, each lying in memory in its own way."""
    dtype, shape = draw(NUMBERS), draw(arrays.array_shapes(max_dims=3, max_side=4))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        array = draw(arrays.arrays(dtype, shape, elements={"allow_nan": False} if dtype.kind in "fc" else None))
        match draw(st.sampled_from(["plain", "flipped", "transposed", "strided"])):
            case "flipped":
                array = np.ascontiguousarray(array[..., ::-1])[..., ::-1]
            case "transposed":
                array = np.asfortranarray(array)
            case "strided":
                array = np.repeat(array, 2, axis=0)[::2]
        array.flags.writeable = draw(st.booleans())
        made.append(array)
    return made


@given(laid_out())
def test_arrays_are_stacked_however_they_lie_in_memory(values):
    for kind in (TorchArrays(), NumpyArrays()):
        stacked = kind.stack(values)
        np.testing.assert_array_equal(np.asarray(stacked), np.stack(values))
        mixed = kind.stack([np.asarray(kind.wrap(values[0].astype(values[0].dtype.newbyteorder("=")))), *values])
        np.testing.assert_array_equal(np.asarray(mixed), np.stack([values[0], *values]))


def test_arrays_and_tensors_of_one_key_are_stacked(table):
    def alternating(row):
        pixels = np.arange(6, dtype=np.int64).reshape(2, 3)[:, ::-1]
        return {"pixels": pixels if row["x"] % 2 else torch.from_numpy(pixels.copy())}

    assert first(table, transform=alternating)["pixels"].tolist() == [[[2, 1, 0], [5, 4, 3]]] * 5


@pytest.mark.parametrize("installed", ["torch", "numpy"])
@pytest.mark.parametrize(
    "value",
    [
        np.str_("word"),
        np.bytes_(b"word"),
        np.datetime64("2026-01-01"),
        np.array(["word"]),
        np.array([None, {}], object),
        np.array(["2026-01-01"], "datetime64[s]"),
        2**70,
        1 + 2j,
        {"a": 1},
        None,
    ],
    ids=repr,
)
def test_what_no_array_holds_becomes_a_list(table, monkeypatch, installed, value):
    if installed == "numpy":
        monkeypatch.setattr("lakehouse.loader.forms.arrays.find_spec", lambda name: None)
    values = first(table, transform=lambda row: {"value": value})["value"]
    assert isinstance(values, list)
    assert all(each is value for each in values)


# Whole numbers


def test_numpys_whole_numbers_are_whole_numbers(table):
    options = {"batch_size": np.int32(4), "seed": np.uint64(7), "rank": np.int8(0), "world_size": np.int64(1)}
    numpys = table.loader(**options, prefetch_batches=np.int64(4), num_workers=np.int64(0))
    plain = table.loader(batch_size=4, seed=7)
    numpys.set_epoch(np.int64(3))
    plain.set_epoch(3)
    assert [batch["x"].tolist() for batch in numpys] == [batch["x"].tolist() for batch in plain]
    assert json.dumps(numpys.state_dict()) == json.dumps(plain.state_dict())
    weights = lh.mix({numpys: np.float32(1), plain: np.int64(3)}, seed=np.int64(1))
    assert json.loads(json.dumps(weights.state_dict()))["weights"] == [1.0, 3.0]


@pytest.mark.parametrize("value", [np.float64(4), "4", np.True_, True, 4.0, np.array(4), None])
def test_what_is_no_whole_number_is_refused(table, value):
    for name in ("batch_size", "seed", "num_workers", "prefetch_batches"):
        with pytest.raises(InvalidArgumentError, match=f"{name} is .*; it is a whole number"):
            table.loader(**{name: value})


@pytest.mark.parametrize("index", [1.5, slice(1, 3), "3", True, None])
def test_an_index_is_a_whole_number(table, index):
    dataset = table.torch_dataset(columns=["x"])
    with pytest.raises(InvalidArgumentError, match="an index is a whole number, not"):
        dataset[index]
    assert [int(dataset[i]["x"]) for i in (3, np.int64(3), torch.tensor(3))] == [3, 3, 3]
    assert dataset.__getitems__([]) == []


def test_a_batch_sampler_is_of_a_dataset(table):
    with pytest.raises(InvalidArgumentError, match=r"is of t.torch_dataset\(…\), .* not of a list"):
        table.batch_sampler([1, 2, 3])


# Page-locked memory


def test_without_an_accelerator_pinning_says_that_it_does_nothing(table, caplog):
    assert first(table, pin_memory=True)["x"].tolist() == [0, 1, 2, 3, 4]
    assert [each.message for each in caplog.records] == [
        "pin_memory=True does nothing here: torch finds no accelerator that copies from such memory"
    ]


def test_without_torch_pinning_is_refused(table, monkeypatch):
    monkeypatch.setattr("lakehouse.loader.forms.arrays.find_spec", lambda name: None)
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="pin_memory=True needs torch"):
        arrays_of_this_installation(pin_memory=True)


@pytest.fixture
def accelerator(monkeypatch):
    """Let torch believe that there is one; what it would lock is told by identity."""
    locked = []

    def pin_memory(tensor):
        locked.append(tensor.clone())
        return locked[-1]

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    return locked


@pytest.mark.parametrize("way", ["by column", "by row", "collated", "mixed"])
def test_all_tensors_of_a_batch_are_locked_and_none_twice(table, accelerator, way):
    options = {
        "by column": {},
        "by row": {"transform": dict},
        "collated": {"collate_fn": lambda rows: tuple(default_collate([row["x"] for row in rows]) for _ in "ab")},
        "mixed": {"columns": ["x", "pet"]},
    }[way]
    made = loader(table, pin_memory=True, **options)
    if way == "mixed":
        made = lh.mix({made: 1, loader(table, pin_memory=True, seed=2, **options): 1})
    batches = list(made)
    flat = [each for batch in batches for each in (batch.values() if isinstance(batch, dict) else batch)]
    tensors = [each for value in flat for each in (value if isinstance(value, list) else [value])]
    tensors = [each for each in tensors if isinstance(each, torch.Tensor)]
    assert {id(each) for each in tensors} == {id(each) for each in accelerator}
    assert len(tensors) == len(accelerator)
    assert way == "mixed" or flat[0].tolist() == [0, 1, 2, 3, 4]


def test_torchs_dataloader_locks_its_batches_itself(table):
    with pytest.raises(InvalidArgumentError, match="pin_memory belongs to the DataLoader"):
        table.torch_iterable(pin_memory=True)
    with pytest.raises(InvalidArgumentError, match="hand pin_memory to torch's DataLoader"):
        TableDataset(table.snapshot(), LoaderOptions(pin_memory=True))
