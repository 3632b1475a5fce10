"""Values of Arrow in Python: those of pyarrow where Python can hold them, and text elsewhere."""

import datetime as dt

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse.values import frame, python_value, python_values

MOMENTS = [pa.date32(), *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC"))]


def ticks(kind):
    most = 2 ** (kind.bit_width - 1) - 1
    return st.one_of(st.none(), st.integers(-most, most), st.integers(-100_000, 100_000), st.just(most), st.just(-most))


@st.composite
def columns(draw):
    """Moments of any size, bare or nested."""
    kind = draw(st.sampled_from(MOMENTS))
    whole = pa.int32() if pa.types.is_date(kind) else pa.int64()
    flat = pa.array(draw(st.lists(ticks(kind), min_size=1, max_size=6)), whole).cast(kind)
    length = len(flat)
    nested = {
        "flat": flat,
        "list": pa.ListArray.from_arrays([0, 1, length], flat),
        "fixed": pa.FixedSizeListArray.from_arrays(flat, length),
        "struct": pa.StructArray.from_arrays([flat, pa.array(range(length))], ["at", "n"]),
        "map": pa.MapArray.from_arrays([0, length], pa.array(range(length)), flat),
    }
    return nested[draw(st.sampled_from(sorted(nested)))]


@given(columns())
def test_every_column_has_values_and_those_of_arrow_where_it_has_some(column):
    found = python_values(column)
    assert found == [python_value(scalar) for scalar in column]
    assert python_values(pa.chunked_array([column, column])) == found * 2
    for scalar, value in zip(column, found, strict=True):
        try:
            assert scalar.as_py() == value
        except (OverflowError, ValueError):
            assert value is not None


def test_a_moment_beyond_pythons_is_written_as_iso_writes_it():
    days = pa.array([2**31 - 1, -(2**31) + 1, 10**7, -(10**6), 0, None], pa.int32()).cast(pa.date32())
    assert python_values(days) == ["infinity", "-infinity", "29349-01-26", "-768-02-04", dt.date(1970, 1, 1), None]
    moments = pa.array([2**63 - 1, 9 * 10**18], pa.int64())
    assert python_values(moments.cast(pa.timestamp("us"))) == ["infinity", "287168-08-24 16:00:00.000000"]
    assert python_values(moments.cast(pa.timestamp("us", "UTC")))[1] == "287168-08-24 16:00:00.000000+00:00"


def test_a_frame_holds_what_pandas_does_not():
    days = pa.array([10**7, 0, None], pa.int32()).cast(pa.date32())
    union = pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])])
    made = frame(pa.table([days, pa.array([1, 2, 3]), days, union], names=["day", "n", "day", "any"]))
    assert list(made.columns) == ["day", "n", "day", "any"]
    assert made.iloc[:, 0].tolist() == made.iloc[:, 2].tolist() == ["29349-01-26", dt.date(1970, 1, 1), None]
    assert made["any"].tolist() == [1, "b", 3]
    assert made["n"].dtype == "int64"
    plain = pa.table({"a": [1, 2], "b": ["x", None]})
    pd.testing.assert_frame_equal(frame(plain), plain.to_pandas())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("'infinity'::DATE", "infinity"),
        ("'-infinity'::TIMESTAMP", "-infinity"),
        ("'290000-01-01'::TIMESTAMP", "290000-01-01 00:00:00.000000"),
        ("'290000-01-01'::TIMESTAMPTZ", "290000-01-01 00:00:00.000000+00:00"),
        ("'10000-01-01'::DATE", "10000-01-01"),
    ],
)
def test_an_answer_of_moments_beyond_pythons_is_fetched_and_shown(lake, capsys, value, text):
    result = lake.sql(f"SELECT {value} AS at, [{value}] AS many")
    assert result.fetchall() == [(text, [text])]
    assert len(result.df()) == 1
    result.show()
    assert text in capsys.readouterr().out
    assert text in result._repr_html_()
    with pytest.raises(lh.errors.LakehouseError, match=r"AT|no table"):
        lake.sql(f"SELECT 1 FROM pets AT (TIMESTAMP => {value})")
