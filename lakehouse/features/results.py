"""What a function returned → Arrow arrays of the declared types, with the rows that do not fit named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

if TYPE_CHECKING:
    from lakehouse.features.udf import UDF

__all__ = ["Converted", "to_arrays"]

_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, eq=False, slots=True)
class Converted:
    """One array for each output, and why the rows that did not fit are NULL in it."""

    arrays: list[pa.Array]
    errors: dict[int, str]


def to_arrays(udf: UDF, result: Any, num_rows: int | None = None) -> Converted:
    """Convert results to one array per output.

    Parameters
    ----------
    udf
        What was called.
    result
        A list with what each row gave, ``None`` where it failed; or what one batch call gave.
    num_rows
        Rows of the batch call; ``None`` for a list of rows.
    """
    count = len(result) if num_rows is None else num_rows
    errors: dict[int, str] = {}
    if num_rows is not None:
        columns, wrong = _batch_columns(udf, result, num_rows)
        if wrong:
            nulls = [pa.nulls(num_rows, data_type) for data_type in udf.outputs.values()]
            return Converted(nulls, dict.fromkeys(range(num_rows), wrong))
    elif len(udf.outputs) == 1:
        columns = [result]
    else:
        columns = _row_columns(udf, result, errors)
    arrays = []
    for (name, data_type), values in zip(udf.outputs.items(), columns, strict=True):
        arrays.append(_array(values, name, data_type, errors))
        assert len(arrays[-1]) == count
    return Converted(arrays, errors)


def _row_columns(udf: UDF, rows: Sequence[Any], errors: dict[int, str]) -> list[list[Any]]:
    names = list(udf.outputs)
    columns: list[list[Any]] = [[] for _ in names]
    for at, row in enumerate(rows):
        if isinstance(row, Mapping) and set(row) == set(names):
            values: Sequence[Any] = [row[name] for name in names]
        elif isinstance(row, tuple | list) and len(row) == len(names):
            values = row
        else:
            values = [None] * len(names)
            if row is not None:
                errors[at] = f"returned {_short(row)}; needed: a tuple or mapping of {', '.join(names)}"
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return columns


def _batch_columns(udf: UDF, result: Any, num_rows: int) -> tuple[list[Any], str | None]:
    names = list(udf.outputs)
    if len(names) == 1:
        columns = [result]
    elif isinstance(result, Mapping) and set(result) == set(names):
        columns = [result[name] for name in names]
    elif isinstance(result, pa.RecordBatch | pa.Table) and set(result.column_names) == set(names):
        columns = [result.column(name) for name in names]
    elif isinstance(result, tuple | list) and len(result) == len(names):
        columns = list(result)
    else:
        return [], f"returned {_short(result)}; needed: a tuple or mapping of {', '.join(names)}"
    for name, column in zip(names, columns, strict=True):
        if not isinstance(column, Sequence | np.ndarray | pa.Array | pa.ChunkedArray) or isinstance(
            column, str | bytes
        ):
            return [], f"returned {_short(column)} for {name!r}; needed: an array or list, one value a row"
        if len(column) != num_rows:
            return [], f"returned {len(column)} values for {num_rows} rows of {name!r}; needed: one value a row"
    return columns, None


def _array(values: Any, name: str, data_type: pa.DataType, errors: dict[int, str]) -> pa.Array:
    try:
        return _whole(values, data_type)
    except _ERRORS as error:
        whole_error = error
    arrays, wrong = [], {}
    for at, value in enumerate(values.to_pylist() if hasattr(values, "to_pylist") else values):
        try:
            arrays.append(_whole([value], data_type))
        except _ERRORS as error:
            wrong[at] = f"returned {_short(value)} for {name!r}, which is {data_type}: {error}"
            arrays.append(pa.nulls(1, data_type))
    # Values that fit one by one and not together: nobody can tell which of them are meant.
    errors |= wrong or dict.fromkeys(range(len(arrays)), f"{name!r} is {data_type}: {whole_error}")
    return pa.concat_arrays(arrays) if arrays else pa.array([], data_type)


def _whole(values: Any, data_type: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values if values.type == data_type else values.cast(data_type)
    if isinstance(values, np.ndarray) and values.ndim == 2 and pt.is_fixed_size_list(data_type):
        if values.shape[1] != data_type.list_size:
            raise ValueError(f"vectors of {values.shape[1]}, not {data_type.list_size}")
        flat = pa.array(np.ascontiguousarray(values).reshape(-1)).cast(data_type.value_type)
        return pa.FixedSizeListArray.from_arrays(flat, type=data_type)
    if isinstance(values, np.ndarray):
        return pa.array(values if values.ndim == 1 else list(values)).cast(data_type)
    array = pa.array(values, data_type)
    _check_no_fractions(values, data_type)
    return array


def _check_no_fractions(values: Any, data_type: pa.DataType) -> None:
    # pyarrow 26 makes 1 of 1.5 without a word; its cast does not.
    if not _holds_integers(data_type):
        return
    if not pt.is_nested(data_type):
        values = [value for value in values if isinstance(value, float | np.floating)]
    try:
        found = pa.array(values)
    except (pa.ArrowException, OverflowError):  # mappings, integers beyond int64: not floats
        return
    if _may_cut(found.type, data_type):
        found.cast(data_type)


def _holds_integers(data_type: pa.DataType) -> bool:
    if pt.is_nested(data_type):
        return any(_holds_integers(data_type.field(at).type) for at in range(data_type.num_fields))
    return bool(pt.is_integer(data_type) or pt.is_temporal(data_type))


def _may_cut(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pt.is_struct(wanted) and pt.is_struct(found):
        names = {field.name for field in wanted} & {field.name for field in found}
        return any(_may_cut(found.field(name).type, wanted.field(name).type) for name in names)
    if hasattr(wanted, "value_field") and hasattr(found, "value_field"):
        return _may_cut(found.value_type, wanted.value_type)
    return bool(pt.is_floating(found) and (pt.is_integer(wanted) or pt.is_temporal(wanted)))


def _short(value: Any) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '…'} ({type(value).__name__})"
