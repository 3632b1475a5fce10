"""What columns become in a batch: the same values as Python has, in arrays of their own."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import types
from lakehouse.errors import DataError
from lakehouse.loader import Loader, LoaderOptions
from lakehouse.loader.forms.columns import Column, Form, column_of, dense, gather
from lakehouse.loader.forms.torch import TorchArrays

DENSE = {
    pa.int8(): [1, -2, 3],
    pa.uint64(): [1, 2, 2**63],
    pa.float16(): [0.5, -1.0, 2.0],
    pa.float64(): [0.5, -1.0, 2.0],
    pa.bool_(): [True, False, True],
    pa.list_(pa.float32(), 2): [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]],
    pa.list_(pa.list_(pa.uint8(), 2), 2): [[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, 10], [11, 12]]],
}


def taken(data, index, field=None):
    column = column_of(field or pa.field("x", data.type))
    return gather(column, data, np.array(index, np.int64), np.arange(len(data), dtype=np.uint64) + 100)


@pytest.mark.parametrize(("data_type", "values"), DENSE.items(), ids=str)
def test_numbers_and_vectors_become_one_array_of_their_type(data_type, values):
    got = taken(pa.array(values, data_type), [2, 0, 2])
    assert got.tolist() == [values[2], values[0], values[2]]
    assert got.flags.writeable
    while pa.types.is_fixed_size_list(data_type):
        data_type = data_type.value_type
    assert got.dtype == np.dtype(data_type.to_pandas_dtype())


@given(st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=20), st.data())
def test_slices_of_vectors_are_viewed_where_they_lie(values, data):
    first = data.draw(st.integers(0, len(values) - 1))
    array = pa.array(values, pa.list_(pa.int16(), 3))[first:]
    assert dense(array).tolist() == values[first:]
    assert dense(array).base is not None  # a view, no copy


@pytest.mark.parametrize(
    "data",
    [
        pa.array(range(100), pa.int64()),
        pa.FixedSizeListArray.from_arrays(pa.array(np.arange(300, dtype=np.float16)), 3),
        pa.array([[i] * (i % 4) for i in range(100)], pa.list_(pa.float32())),
        pa.array(range(100), pa.timestamp("us")),
    ],
    ids=lambda data: str(data.type),
)
def test_rows_that_follow_each_other_are_not_copied(data):
    column, rows, ids = column_of(pa.field("x", data.type)), np.arange(10, 30), np.arange(100, dtype=np.uint64)
    read = (data.flatten() if pa.types.is_nested(data.type) else data).buffers()[-1]

    def lies_in_it(parts):
        tensors = [TorchArrays().wrap(part) for part in (parts if isinstance(parts, list) else [parts])]
        return {read.address <= each.data_ptr() < read.address + read.size for each in tensors if each.numel()}

    assert lies_in_it(gather(column, data, slice(int(rows[0]), int(rows[-1]) + 1), ids)) == {True}
    assert lies_in_it(gather(column, data, rows, ids)) == {False}


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False)), min_size=1, max_size=20), st.data())
def test_lists_of_different_lengths_become_a_list_of_arrays(values, data):
    index = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1))
    got = taken(pa.array(values, pa.list_(pa.float32())), index)
    assert [part.tolist() for part in got] == [values[i] for i in index]


@pytest.mark.parametrize(
    ("values", "data_type"),
    [
        (["a", None, "ü"], pa.string()),
        (["a", None, "ü"], pa.large_string()),
        ([b"a", None, b""], pa.large_binary()),
        (["a", None, "b"], pa.dictionary(pa.int8(), pa.string())),
        ([["a", "b"], None, []], pa.list_(pa.string())),
        ([{"x": 1}, None, {"x": None}], pa.struct([("x", pa.int8())])),
        ([[{"x": 1}], None, []], pa.list_(pa.struct([("x", pa.int8())]))),
        ([Decimal("1.5"), None, Decimal("2.0")], pa.decimal128(5, 1)),
        ([[("a", 1)], None, []], pa.map_(pa.string(), pa.int8())),
        ([None, None, None], pa.null()),
    ],
    ids=str,
)
def test_what_no_tensor_holds_becomes_a_list_of_python_values_and_null_stays_none(values, data_type):
    assert taken(pa.chunked_array([pa.array(values, data_type)]), [2, 1, 0]) == values[::-1]


def test_a_date_that_python_cannot_hold_is_text_in_what_is_nested_and_a_count_elsewhere():
    days = pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())
    nested = pa.chunked_array([pa.StructArray.from_arrays([days], ["day"])])
    assert taken(nested, [1, 0]) == [{"day": "infinity"}, {"day": dt.date(1970, 1, 1)}]
    assert taken(days, [1, 0]).tolist() == [2**31 - 1, 0]


def test_times_become_counts_of_their_unit():
    moment = dt.datetime(1970, 1, 1, 0, 0, 2, tzinfo=dt.UTC)
    assert taken(pa.array([moment], pa.timestamp("ms", "UTC")), [0]).tolist() == [2000]
    assert taken(pa.array([dt.date(1970, 1, 3)], pa.date32()), [0]).tolist() == [2]


SPLIT = types.field("split", "category", values=["train", "val"])


def test_categories_become_codes_of_their_values():
    data = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1], pa.int32()), ["train", "val"])
    got = taken(data, [0, 1, 2], SPLIT)
    assert (got.tolist(), got.dtype) == ([1, 0, 1], np.int64)


def test_a_word_that_is_not_declared_is_no_code():
    data = pa.DictionaryArray.from_arrays(pa.array([1, 2, 1], pa.int32()), ["train", "val", "tset"])
    assert taken(data, [0, 2], SPLIT).tolist() == [1, 1]
    with pytest.raises(DataError, match="'tset' in row id 101.*train, val"):
        taken(data, [0, 1], SPLIT)


@pytest.mark.parametrize(
    ("data", "field", "what"),
    [
        (pa.array([1, None, 3]), None, "is NULL"),
        (pa.array([[1.0], None, [2.0]], pa.list_(pa.float32(), 1)), None, "is NULL"),
        (pa.array([[1.0], [None], [2.0]], pa.list_(pa.float32(), 1)), None, "holds a NULL"),
        (pa.array([[1.0], [2.0, None], []]), None, "holds a NULL"),
        (pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int32()), ["train", "val"]), SPLIT, "is NULL"),
    ],
    ids=str,
)
def test_null_cannot_become_a_tensor(data, field, what):
    taken(data, [2, 0], field)
    with pytest.raises(DataError, match=rf"{what} in row id 101.*on_bad_rows="):
        taken(data, [2, 1], field)


def test_media_but_images_are_bytes():
    assert column_of(types.field("clip", "video")) == Column("clip", Form.VALUES)
    assert column_of(types.field("image", "image")) == Column("image", Form.IMAGES)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [3, 64])
def test_a_table_of_numbers_and_vectors_comes_as_python_has_it(lake, shuffle, batch_size):
    """Small batches are put together in the consumer's thread."""
    rows = 64
    columns = {str(kind): pa.array([values[row % 3] for row in range(rows)], kind) for kind, values in DENSE.items()}
    columns |= {"at": pa.array(range(rows), pa.timestamp("us")), "x": pa.array(range(rows))}
    names = {f"c{i}": array for i, array in enumerate(columns.values())}
    table = lake.create_table("dense", data=pa.table(names))
    seen = []
    for batch in Loader(table.snapshot(), LoaderOptions(batch_size=batch_size, shuffle=shuffle, drop_last=False)):
        seen += zip(*(batch[name].tolist() for name in names), strict=True)
    plain = {
        name: (array.cast(pa.int64()) if str(array.type).startswith("timestamp") else array)
        for name, array in names.items()
    }
    assert sorted(seen, key=lambda row: row[-1]) == list(zip(*(a.to_pylist() for a in plain.values()), strict=True))


COCO = pa.schema(
    [
        ("x", pa.int64()),
        ("captions", pa.list_(pa.string())),
        ("boxes", pa.list_(pa.struct([("label", pa.string()), ("corners", pa.list_(pa.float32(), 4))]))),
    ]
)


def corners_of(row):
    return {"x": row["x"], "corners": np.array([box["corners"] for box in row["boxes"]]).reshape(-1, 4)}


@pytest.mark.parametrize("num_workers", [0, 1])
def test_captions_and_boxes_come_as_python_has_them_and_a_transform_makes_arrays_of_them(lake, num_workers):
    rows = [
        {
            "x": x,
            "captions": [f"caption {n} of {x}" for n in range(x % 4)],
            "boxes": [{"label": "cat", "corners": [x, 0, x + 1, n]} for n in range(x % 3)],
        }
        for x in range(50)
    ]
    table = lake.create_table("coco", data=pa.Table.from_pylist(rows, COCO))
    options = {"batch_size": 8, "seed": 1, "drop_last": False, "num_workers": num_workers}
    seen = {}
    for batch in table.loader(**options):
        for x, captions, boxes in zip(batch["x"].tolist(), batch["captions"], batch["boxes"], strict=True):
            seen[x] = {"x": x, "captions": captions, "boxes": boxes}
    assert [seen[x] for x in range(50)] == rows
    for row in table.loader(**options, transform=corners_of, collate_fn=list):
        for each in row:
            assert each["corners"].tolist() == [box["corners"] for box in rows[each["x"]]["boxes"]]
