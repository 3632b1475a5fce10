"""What each column becomes in a batch, decided once from the schema, and Arrow arrays as NumPy ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from lakehouse import types
from lakehouse.errors import DataError, SchemaError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ROW_ID", "Column", "Form", "column_of", "dense", "gather"]

ROW_ID = "_rowid"


class Form(Enum):
    """What a column is in a batch."""

    NUMBERS = "numbers"  # one array: numbers, booleans, times as counts of their unit, vectors
    CODES = "codes"  # one int64 array of positions in the category's values
    RAGGED = "ragged"  # a list of arrays of different lengths
    VALUES = "values"  # a list of str, bytes or None
    IMAGES = "images"  # one uint8 array, (num_rows, channels, height, width)


@dataclass(frozen=True)
class Column:
    """A column and what it becomes.

    Parameters
    ----------
    name
        Of the column.
    form
        What it is in a batch.
    values
        The words of a category in the order of their codes.
    """

    name: str
    form: Form
    values: tuple[str, ...] = ()


def column_of(field: pa.Field) -> Column:
    """Decide what a column of a table's logical schema becomes.

    Raises
    ------
    SchemaError
        Its type has no form in a batch.
    """
    data_type = field.type
    if types.media_kind(field) == "image":
        return Column(field.name, Form.IMAGES)
    values = types.category_values(field)
    if values is not None:
        return Column(field.name, Form.CODES, tuple(values))
    if pat.is_dictionary(data_type):  # not declared as a category: how it is stored is not what it means
        data_type = data_type.value_type
    if _is_text_or_bytes(data_type):
        return Column(field.name, Form.VALUES)
    if _is_dense(data_type):
        return Column(field.name, Form.NUMBERS)
    if (pat.is_list(data_type) or pat.is_large_list(data_type)) and _is_dense(data_type.value_type):
        return Column(field.name, Form.RAGGED)
    raise SchemaError(
        f"column {field.name!r} is {field.type}, which has no form in a batch; leave it out of columns=[…], "
        "or add what you need of it as a column of its own"
    )


def _is_text_or_bytes(data_type: pa.DataType) -> bool:
    return any(
        test(data_type)
        for test in (
            pat.is_string,
            pat.is_large_string,
            pat.is_string_view,
            pat.is_binary,
            pat.is_large_binary,
            pat.is_binary_view,
            pat.is_fixed_size_binary,
        )
    )


def _is_dense(data_type: pa.DataType) -> bool:
    if pat.is_fixed_size_list(data_type):
        return _is_dense(data_type.value_type)
    return (
        pat.is_integer(data_type)
        or pat.is_floating(data_type)
        or pat.is_boolean(data_type)
        or _counted(data_type) is not None
    )


def _counted(data_type: pa.DataType) -> pa.DataType | None:
    """Give the integer that a time is a count of its unit in; tensors know no times."""
    if (
        pat.is_timestamp(data_type)
        or pat.is_duration(data_type)
        or pat.is_time64(data_type)
        or pat.is_date64(data_type)
    ):
        return pa.int64()
    if pat.is_date32(data_type) or pat.is_time32(data_type):
        return pa.int32()
    return None


def dense(array: pa.Array) -> npt.NDArray[Any]:
    """View an array of numbers or vectors without NULLs as NumPy, without a copy but of booleans.

    Returns
    -------
    numpy.ndarray
        Shape ``(num_rows,)``, or ``(num_rows, dim)`` for vectors; read-only.
    """
    if pat.is_fixed_size_list(array.type):
        inner = dense(array.flatten())
        return inner.reshape(len(array), array.type.list_size, *inner.shape[1:])
    counted = _counted(array.type)
    if counted is not None:
        array = array.view(counted)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def gather(
    column: Column, data: pa.Array, index: npt.NDArray[np.int64], row_ids: npt.NDArray[np.uint64]
) -> npt.NDArray[Any] | list[Any]:
    """Take rows of a column as what stands in a batch; images are still bytes.

    Parameters
    ----------
    column
        What it becomes.
    data
        The column as read; chunked if its form is values or images.
    index
        Rows of `data` in the order wanted; int64, shape ``(n,)``.
    row_ids
        The row id of each row of `data`.

    Returns
    -------
    numpy.ndarray or list
        Numbers and codes: an array of its own memory, shape ``(n, …)``; ragged: a list of such. Text and
        bytes: a list of values, None for NULL; images: a list of Arrow scalars, which copy no bytes.

    Raises
    ------
    DataError
        A NULL where a number must stand, or a word that is not one of the category's values.
    """
    match column.form:
        case Form.VALUES:
            return cast("list[Any]", data.take(pa.array(index)).to_pylist())
        case Form.IMAGES:
            return [data[i] for i in index.tolist()]
        case Form.RAGGED:
            rows = data.take(pa.array(index))
            _check_no_nulls(column, rows, np.arange(len(rows)), row_ids[index])
            ends = np.asarray(rows.offsets)[1:-1] - rows.offsets[0].as_py()
            return np.split(dense(rows.flatten()).copy(), ends)
        case Form.CODES:
            _check_no_nulls(column, data, index, row_ids)
            return _codes(column, data, index, row_ids)
        case Form.NUMBERS:
            if not has_nulls(data):
                return dense(data)[index]
            _check_no_nulls(column, data, index, row_ids)
            return dense(data.take(pa.array(index))).copy()


def _codes(
    column: Column, data: pa.DictionaryArray, index: npt.NDArray[np.int64], row_ids: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    if data.null_count:
        data = data.take(pa.array(index))
        row_ids, index = row_ids[index], np.arange(len(index))
    codes: npt.NDArray[np.int64] = np.asarray(data.indices.to_numpy(zero_copy_only=False))[index].astype(np.int64)
    strange = np.flatnonzero(codes >= len(column.values))
    if len(strange):
        word = data.dictionary[int(codes[strange[0]])].as_py()
        raise DataError(
            f"category {column.name!r} holds {word!r} in row id {row_ids[index[strange[0]]]}, which is not one of "
            f"its values ({', '.join(column.values)}); add it at their end in the schema, or leave such rows out "
            "with where=…"
        )
    return codes


def has_nulls(data: pa.Array) -> bool:
    """Whether a cell is NULL, or a number within one."""
    if data.null_count:
        return True
    return not isinstance(data, pa.ChunkedArray) and _is_nested(data.type) and has_nulls(data.flatten())


def _is_nested(data_type: pa.DataType) -> bool:
    return bool(pat.is_fixed_size_list(data_type) or pat.is_list(data_type) or pat.is_large_list(data_type))


def _check_no_nulls(
    column: Column, data: pa.Array, index: npt.NDArray[np.int64], row_ids: npt.NDArray[np.uint64]
) -> None:
    if not has_nulls(data):
        return
    rows = data.take(pa.array(index))
    if not has_nulls(rows):
        return
    whole = np.asarray(rows.is_null())
    first = int(np.argmax(whole)) if whole.any() else next(i for i in range(len(rows)) if has_nulls(rows[i : i + 1]))
    name = column.name
    what = "is NULL" if whole.any() else "holds a NULL"
    raise DataError(
        f"column {name!r} {what} in row id {row_ids[index[first]]}, and a tensor has no NULL; leave such rows out with "
        f"on_missing='skip' or where=\"{name} IS NOT NULL\", or fill the column first"
    )
