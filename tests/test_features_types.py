"""What a function returns is what is read back, whatever the type of the column."""

import datetime as dt
import decimal
import tempfile

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from pyarrow import types as pt

import lakehouse as lh
from lakehouse import storage
from lakehouse._lance import lance
from lakehouse.features.storing import columnfile
from lakehouse.features.udfs.calls import call_rows
from tests.schema_strategies import fixed_width_types, leaf_types

names = st.sampled_from(["a", "b", "c d", "é"])


def nested(inner):
    item = st.builds(lambda t, nullable: pa.field("item", t, nullable), inner, st.booleans())
    fields = st.lists(st.tuples(names, inner, st.booleans()), min_size=1, max_size=3, unique_by=lambda f: f[0])
    return st.one_of(
        item.map(pa.list_),
        item.map(pa.large_list),
        st.builds(pa.list_, fixed_width_types.filter(is_short), st.integers(1, 4)),
        fields.map(lambda found: pa.struct([pa.field(*field) for field in found])),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int64()]), item.map(lambda f: f.with_name("value"))),
    )


def is_short(data_type):
    return not pt.is_fixed_size_list(data_type) or data_type.list_size <= 64


data_types = st.recursive(leaf_types.filter(is_short), nested, max_leaves=4)

SINCE_EPOCH_S = 4_000_000_000  # the year 2096
PER_S = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def values_of(data_type):
    """Return a strategy of Python values of an Arrow type, as a function would return them; never None."""
    if pt.is_dictionary(data_type):
        return values_of(data_type.value_type)
    if pt.is_integer(data_type):
        bits, signed = data_type.bit_width, pt.is_signed_integer(data_type)
        return st.integers(-(2 ** (bits - 1)) if signed else 0, 2 ** (bits - 1 if signed else bits) - 1)
    if pt.is_floating(data_type):
        return st.floats(width=data_type.bit_width, allow_nan=False)
    if pt.is_boolean(data_type):
        return st.booleans()
    if pt.is_string(data_type) or pt.is_large_string(data_type):
        return st.text(max_size=5)
    if pt.is_fixed_size_binary(data_type):
        return st.binary(min_size=data_type.byte_width, max_size=data_type.byte_width)
    if pt.is_binary(data_type) or pt.is_large_binary(data_type):
        return st.binary(max_size=5)
    if pt.is_decimal(data_type):
        whole = data_type.precision - data_type.scale
        digits = st.integers(-(10**data_type.precision) + 1, 10**data_type.precision - 1)
        assert whole >= 0
        with decimal.localcontext(prec=80):
            return digits.map(lambda n: decimal.Decimal(n).scaleb(-data_type.scale, decimal.Context(prec=80)))
    if pt.is_date(data_type):
        return st.dates()
    if pt.is_time(data_type):
        return _counted(data_type, 86_399)
    if pt.is_temporal(data_type):
        return _counted(data_type, SINCE_EPOCH_S)
    return _nested_values_of(data_type)


def _counted(data_type, most_s):
    per_s = PER_S[data_type.unit]
    storage = pa.int32() if data_type.bit_width == 32 else pa.int64()
    count = st.integers(0, most_s * per_s)
    return count.map(lambda n: pa.scalar(n, storage).cast(data_type).as_py())


def _nested_values_of(data_type):
    if pt.is_map(data_type):
        item = items_of(data_type.item_field)
        return st.dictionaries(values_of(data_type.key_type), item, max_size=3).map(lambda found: list(found.items()))
    if pt.is_struct(data_type):
        return st.fixed_dictionaries({field.name: items_of(field) for field in data_type})
    item = items_of(data_type.value_field)
    if not pt.is_fixed_size_list(data_type):
        return st.lists(item, max_size=3)
    size = data_type.list_size
    if size > 4:  # a long vector: what is in it does not matter to the law
        return st.integers(0, 99).map(lambda seed: np.random.default_rng(seed).integers(0, 100, size).tolist())
    return st.lists(item, min_size=size, max_size=size)


def items_of(field):
    return st.none() | values_of(field.type) if field.nullable else values_of(field.type)


@st.composite
def columns(draw):
    data_type = draw(data_types)
    return data_type, draw(st.lists(st.none() | values_of(data_type), min_size=4, max_size=9))


def plain(data_type, values):
    return pa.array(values, data_type).to_pylist()


@settings(max_examples=60)
@given(columns(), st.booleans())
def test_a_function_may_return_python_values_of_any_type(column, batch):
    data_type, values = column
    f = (lambda x: [values[n] for n in x.to_pylist()]) if batch else (lambda x: values[x])
    outcome = call_rows(lh.udf(data_type, batch=batch, version="1")(f), {"x": pa.array(range(len(values)))})
    assert not outcome.errors
    (array,) = outcome.arrays.values()
    assert array.type == data_type
    assert array.to_pylist() == plain(data_type, values)


@settings(max_examples=40)
@given(columns())
def test_a_batch_function_may_return_arrow_arrays_of_any_type(column):
    data_type, values = column
    given_array = pa.array(values, data_type)
    udf = lh.udf(data_type, batch=True, version="1")(lambda x: given_array)
    outcome = call_rows(udf, {"x": pa.array(range(len(values)))})
    assert not outcome.errors
    assert next(iter(outcome.arrays.values())) == given_array


@settings(max_examples=20)
@given(columns(), st.booleans(), st.integers(0, 3))
def test_what_a_function_gives_is_read_back_after_partial_fills_and_a_compaction(column, batch, deleted):
    data_type, values = column
    f = (lambda x: [values[n] for n in x.to_pylist()]) if batch else (lambda x: values[x])
    udf = lh.udf(data_type, batch=batch, version="1")(f)
    with tempfile.TemporaryDirectory() as folder:
        table = lh.connect(folder).create_table("t", data=pa.table({"x": range(len(values) - 2)}))
        table.add(pa.table({"x": range(len(values) - 2, len(values))}), progress=False)
        table.add_columns({"f": udf})
        table.backfill("f", udf=udf, where="x % 2 = 1", progress=False)
        table.delete(f"x = {deleted}")
        table.snapshot().dataset.optimize.compact_files()
        result = table.backfill("f", udf=udf, progress=False)
        assert result.num_failed == 0
        rows = {row["x"]: row["f"] for row in table.to_arrow(["x", "f"]).to_pylist()}
        expected = dict(enumerate(plain(data_type, values)))
        del expected[deleted]
        assert rows == expected
        assert table.schema.field("f").type == data_type


@settings(max_examples=40)
@given(columns())
def test_a_function_reads_what_another_one_gave(column):
    """As inputs, values of any type are handed over as Python has them, None only where it is asked for."""
    data_type, values = column
    stored = pa.array(values, data_type)
    seen = []

    @lh.udf(pa.int64(), version="1")
    def f(x: object, y: int) -> int:
        seen.append(x)
        return y

    outcome = call_rows(f, {"x": stored, "y": pa.array(range(len(values)))})
    assert not outcome.errors
    assert seen == stored.to_pylist()


@pytest.mark.parametrize("item", [pa.float16(), pa.float32(), pa.uint8()])
def test_vectors_come_as_numpy_and_go_back_so_with_nulls(item):
    data_type = pa.list_(item, 3)
    vectors = pa.array([[1, 2, 3], None, [4, 5, 6]], pa.list_(pa.float32(), 3)).cast(data_type)

    @lh.udf(data_type, version="1")
    def doubled(v: np.ndarray) -> np.ndarray:
        assert v.shape == (3,)
        return v + v

    @lh.udf(data_type, batch=True, version="1")
    def doubled_batch(v: np.ndarray) -> np.ndarray:
        return v + v

    for udf in (doubled, doubled_batch):
        (array,) = call_rows(udf, {"v": vectors}).arrays.values()
        assert array.type == data_type
        assert array.to_pylist() == [[2, 4, 6], None, [8, 10, 12]]


def test_dates_and_times_of_python_are_taken():
    when = dt.datetime(2026, 11, 22, 8, 30, tzinfo=dt.UTC)
    outcome = call_rows(lh.udf(pa.timestamp("us", "Europe/Berlin"))(lambda x: when), {"x": pa.array([1])})
    assert outcome.arrays["<lambda>"][0].as_py() == when


def test_a_slice_of_structs_that_hold_vectors_and_structs_is_written(tmp_path):
    data_type = pa.struct([("v", pa.list_(pa.float32(), 59)), ("s", pa.struct([("n", pa.int32())]))])
    table = lh.connect(tmp_path).create_table("t", data=pa.table({"f": pa.nulls(3, data_type)}))
    slices = pa.record_batch([pa.array([None] * 5, data_type)], names=["f"])[1:4]
    schema = storage.select(table.snapshot().physical, ["f"])
    written = columnfile.write(table.snapshot(), schema, [slices], 3)
    (name,) = written.sizes
    assert lance.file.LanceFileReader(f"{table.uri}/data/{name}").read_all().to_table()["f"].to_pylist() == [None] * 3
