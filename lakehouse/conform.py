"""Users' data given the columns and types of a table; rows that do not fit are told apart, not guessed at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import SchemaError, closest, listed
from lakehouse.failures import RowFailure
from lakehouse.units import format_interval

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def matching(given: pa.Schema, table: pa.Schema, features: Sequence[str] = ()) -> pa.Schema:
    """Return the table's fields for the columns given, in the table's order.

    Raises
    ------
    SchemaError
        A column the table does not have, one that is computed, a required one that is missing, or a type that
        cannot be made the table's.
    """
    for name in given.names:
        if name not in table.names:
            raise SchemaError(
                f"the data has a column {name!r}, the table has {listed(table.names)}{closest(name, table.names)}; "
                "leave it out, rename it, or add it to the schema first"
            )
        if name in features:
            raise SchemaError(f"{name!r} is a feature, computed by backfill; leave it out of the data")
        if not _fits(given.field(name).type, table.field(name).type):
            raise SchemaError(
                f"column {name!r} is {given.field(name).type} in the data and "
                f"{table.field(name).type} in the table; convert it first"
            )
    missing = [field.name for field in table if not field.nullable and field.name not in given.names]
    if missing:
        raise SchemaError(f"the data lacks {listed(missing)}, which must not be NULL; it has {listed(given.names)}")
    return pa.schema([field for field in table if field.name in given.names], metadata=table.metadata)


def conform(
    batch: pa.RecordBatch, schema: pa.Schema, source: Callable[[int], str]
) -> tuple[pa.RecordBatch, list[RowFailure]]:
    """Cast a batch to the fields of `schema`; rows that cannot be are left out and told.

    Parameters
    ----------
    batch
        The data; it has every column of `schema`.
    schema
        The wanted fields.
    source
        Names the row at a position of the batch.
    """
    keep = np.ones(batch.num_rows, dtype=bool)
    failures: list[RowFailure] = []
    arrays = []
    for field in schema:
        array, bad = _column(batch.column(field.name), field)
        for position, reason in bad:
            if keep[position]:
                failures.append(RowFailure(source(position), "DataError", reason, field.name))
            keep[position] = False
        arrays.append(array)
    result = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([f.with_nullable(True) for f in schema]))
    if failures:
        result = result.filter(pa.array(keep))
    return pa.RecordBatch.from_arrays(result.columns, schema=schema), failures


def _column(array: pa.Array, field: pa.Field) -> tuple[pa.Array, list[tuple[int, str]]]:
    try:
        cast, bad = _cast(array, field)
    except pa.ArrowInvalid:
        cast, bad = _cast_row_by_row(array, field)
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise SchemaError(
            f"column {field.name!r} is {array.type} in the data and {field.type} in the table; convert it first"
        ) from error
    if not field.nullable and cast.null_count:
        told = {position for position, _ in bad}
        for position in np.flatnonzero(np.asarray(cast.is_null())):
            if position not in told:
                bad.append((int(position), f"{field.name!r} is NULL and must not be"))
    return cast, bad


def _cast(array: pa.Array, field: pa.Field) -> tuple[pa.Array, list[tuple[int, str]]]:
    values = types.category_values(field)
    if values is None:
        if pa.types.is_dictionary(array.type) and not pa.types.is_dictionary(field.type):
            array = array.dictionary_decode()
        if pa.types.is_interval(array.type) and pa.types.is_duration(field.type):
            array = _as_duration(array)
        return array.cast(field.type), []
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    array = array.cast(field.type.value_type)
    declared = pa.array(values, field.type.value_type)
    codes = pc.index_in(array, value_set=declared).cast(field.type.index_type)
    bad = [
        (int(position), not_a_value(array[int(position)].as_py(), field, values))
        for position in np.flatnonzero(np.asarray(pc.and_(codes.is_null(), array.is_valid())))
    ]
    return pa.DictionaryArray.from_arrays(codes, declared), bad


def _as_duration(intervals: pa.Array) -> pa.Array:
    """Count the time of intervals, which `Lake.sql` makes of durations; Arrow 26 casts none."""
    values = intervals.to_pylist()
    if months := [value for value in values if value is not None and value.months]:
        raise pa.ArrowInvalid(f"{format_interval(*months[0])} is no duration, months are not of one length")
    day_ns = 86_400 * 10**9
    counts = [None if value is None else value.days * day_ns + value.nanoseconds for value in values]
    return pa.array(counts, pa.int64()).cast(pa.duration("ns"))


def not_a_value(value: str, field: pa.Field, values: list[str]) -> str:
    """Say that a category does not have a value."""
    shown = ", ".join(values[:20]) + (" …" if len(values) > 20 else "")
    there = f"which has {shown}{closest(value, values)}"
    return f"{value!r} is not a value of category {field.name!r}, {there}; append it in the schema"


def _cast_row_by_row(array: pa.Array, field: pa.Field) -> tuple[pa.Array, list[tuple[int, str]]]:
    """Only for a batch with a bad value in it."""
    parts, bad = [], []
    for position in range(len(array)):
        try:
            # Not a slice: of lists Arrow casts the items of all rows.
            part, reasons = _cast(array.take(pa.array([position])), field)
        except pa.ArrowInvalid as error:
            part, reasons = pa.nulls(1, field.type), [(0, f"{field.name!r}: {error}")]
        parts.append(part)
        bad += [(position, reason) for _, reason in reasons]
    return pa.concat_arrays(parts), bad


def _family(data_type: pa.DataType) -> str:
    if pa.types.is_dictionary(data_type):
        return _family(data_type.value_type)
    for name, test in _FAMILIES:
        if test(data_type):
            return name
    return str(data_type)


_FAMILIES: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("null", pa.types.is_null),
    ("bool", pa.types.is_boolean),
    ("number", lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t)),
    ("string", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t)),
    (
        "bytes",
        lambda t: (
            pa.types.is_binary(t)
            or pa.types.is_large_binary(t)
            or pa.types.is_fixed_size_binary(t)
            or pa.types.is_binary_view(t)
        ),
    ),
    ("date or time", pa.types.is_temporal),
    ("list", lambda t: pa.types.is_list(t) or pa.types.is_large_list(t) or pa.types.is_fixed_size_list(t)),
    ("struct", pa.types.is_struct),
    ("map", pa.types.is_map),
)


def _fits(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a cast is a change of form only: 3 to 3.0, a list to a vector; never 3 to '3'."""
    return given == wanted or _family(given) in (_family(wanted), "null")
