"""What a function returned → Arrow arrays of the declared types, with the rows that do not fit named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from lakehouse.errors import LakehouseError
from lakehouse.types import category_values, is_bytes_media, is_media, meaning, media_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.features.udfs.udf import UDF

__all__ = ["Converted", "packing", "to_arrays"]

_ERRORS = (pa.ArrowException, LakehouseError, TypeError, ValueError, OverflowError)


@dataclass(frozen=True, eq=False, slots=True)
class Converted:
    """One array for each output, and why the rows that did not fit are NULL in it."""

    arrays: list[pa.Array]
    errors: dict[int, str]


def packing(udf: UDF, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a row's function whose media come as bytes: a batch of decoded pictures can be gigabytes.

    Parameters
    ----------
    udf
        What `function` was declared as.
    function
        The function, or the instance of its class.
    """
    if udf.batch or not any(map(is_bytes_media, udf.fields)):
        return function
    from lakehouse.media.encoding import encoded

    kinds = [(field.name, media_kind(field)) for field in udf.fields]

    def packed(*arguments: Any) -> Any:
        row = function(*arguments)
        if len(kinds) == 1:
            return encoded(row, str(kinds[0][1]))
        values = _row_values(row, list(udf.outputs))
        if values is None:  # refused later, with all others that have the wrong shape
            return row
        return [encoded(value, kind) if kind else value for value, (_, kind) in zip(values, kinds, strict=True)]

    return packed


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
    for field, values in zip(udf.fields, columns, strict=True):
        arrays.append(_array(values, field, errors))
        assert len(arrays[-1]) == count
    return Converted(arrays, errors)


def _row_columns(udf: UDF, rows: Sequence[Any], errors: dict[int, str]) -> list[list[Any]]:
    names = list(udf.outputs)
    columns: list[list[Any]] = [[] for _ in names]
    for at, row in enumerate(rows):
        values = _row_values(row, names)
        if values is None:
            values = [None] * len(names)
            if row is not None:
                errors[at] = f"returned {_short(row)}; needed: a tuple or mapping of {', '.join(names)}"
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    return columns


def _row_values(row: Any, names: Sequence[str]) -> Sequence[Any] | None:
    if isinstance(row, Mapping) and set(row) == set(names):
        return [row[name] for name in names]
    return row if isinstance(row, tuple | list) and len(row) == len(names) else None


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


def _array(values: Any, field: pa.Field, errors: dict[int, str]) -> pa.Array:
    name, data_type = field.name, field.type
    to_array = _converter(field)
    try:
        return to_array(values)
    except _ERRORS as error:
        whole_error = error
    arrays, wrong = [], {}
    for at, value in enumerate(values.to_pylist() if hasattr(values, "to_pylist") else values):
        try:
            arrays.append(to_array([value]))
        except _ERRORS as error:
            wrong[at] = f"returned {_short(value)} for {name!r}, which is {meaning(field)}: {error}"
            arrays.append(pa.nulls(1, data_type))
    # Values that fit one by one and not together: nobody can tell which of them are meant.
    errors |= wrong or dict.fromkeys(range(len(arrays)), f"{name!r} is {meaning(field)}: {whole_error}")
    return pa.concat_arrays(arrays) if arrays else pa.array([], data_type)


def _converter(field: pa.Field) -> Callable[[Any], pa.Array]:
    if is_media(field):
        return lambda values: _media(values, field)
    if category_values(field) is not None:
        return lambda values: _category(values, field)
    return lambda values: _whole(values, field.type)


def _media(values: Any, field: pa.Field) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _whole(values, field.type)
    from lakehouse.media.encoding import encoded

    return pa.array([encoded(value, str(media_kind(field))) for value in values], field.type)


def _category(values: Any, field: pa.Field) -> pa.Array:
    """Encode words as positions in the declared ones."""
    words = pa.array(category_values(field), pa.string())
    given = _whole(values, pa.string())
    codes = pc.index_in(given, words)
    if codes.null_count > given.null_count:
        raise ValueError(f"not one of {', '.join(words.to_pylist())}")
    return pa.DictionaryArray.from_arrays(codes, words)


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
