"""What each column becomes in a batch, decided once from the schema, and Arrow arrays as NumPy ones."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from lakehouse import types
from lakehouse.errors import DataError, SchemaError
from lakehouse.loader.forms.clips import Clip
from lakehouse.loader.forms.sizes import Pad, Resize
from lakehouse.values import python_value, python_values

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from lakehouse.loader.forms.sizes import Size

__all__ = [
    "ROW_ID",
    "Column",
    "Form",
    "Index",
    "column_of",
    "dense",
    "dense_nbytes",
    "gather",
    "numbers",
    "taken",
]

ROW_ID = "_rowid"
_WIDE_NBYTES = 4 << 10
_NARROW_NBYTES = 64  # of a row of numbers: copied once, in less time than its batch takes to look at it

Index: TypeAlias = "npt.NDArray[np.int64] | slice"
"""Rows of a column: by number, or some that follow each other, which are viewed where they lie and nobody else gets."""


class Form(Enum):
    """What a column is in a batch."""

    NUMBERS = "numbers"  # one array: numbers, booleans, times as counts of their unit, vectors
    CODES = "codes"  # one int64 array of positions in the category's values
    RAGGED = "ragged"  # a list of arrays of different lengths
    VALUES = "values"  # a list of Python values: str, bytes, what is nested as lists and dicts, None for NULL
    IMAGES = "images"  # one uint8 array, (num_rows, channels, height, width)
    CLIPS = "clips"  # one uint8 array, (num_rows, num_frames, channels, height, width), and the times of the frames


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
    decode
        How pictures and videos are brought to one size.
    """

    name: str
    form: Form
    values: tuple[str, ...] = ()
    decode: Size | Clip | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """What it is called in a batch, its own name first, and what stands beside it."""
        clips, padded = isinstance(self.decode, Clip), isinstance(getattr(self.decode, "size", self.decode), Pad)
        beside = ([f"{self.name}_size"] if padded else []) + ([f"{self.name}_pts_s"] if clips else [])
        return (self.name, *beside)


def column_of(field: pa.Field, decode: Size | Clip | None = None, *, raw: bool = False) -> Column:
    """Decide what a column of a table's logical schema becomes.

    Parameters
    ----------
    field
        Of the schema.
    decode
        What was asked for it.
    raw
        Whether a picture stays the bytes it is stored as.

    Raises
    ------
    SchemaError
        What was asked is not for such a column.
    """
    kind = types.media_kind(field)
    wanted = {"image": (Resize, Pad), "video": (Clip,)}.get(kind or "", ())
    if decode is not None and not isinstance(decode, wanted):
        takes = " or ".join(f"lh.{each.__name__}(…)" for each in wanted) or "nothing: it is neither image nor video"
        raise SchemaError(f"decode has {decode!r} for {field.name!r}, which is {kind or field.type} and takes {takes}")
    if kind == "image" and not raw:
        return Column(field.name, Form.IMAGES, decode=decode)
    if kind == "video" and decode is not None:
        return Column(field.name, Form.CLIPS, decode=decode)
    data_type = field.type
    values = types.category_values(field)
    if values is not None:
        return Column(field.name, Form.CODES, tuple(values))
    if pat.is_dictionary(data_type):  # not declared as a category: how it is stored is not what it means
        data_type = data_type.value_type
    if _is_dense(data_type):
        return Column(field.name, Form.NUMBERS)
    if (pat.is_list(data_type) or pat.is_large_list(data_type)) and _is_dense(data_type.value_type):
        return Column(field.name, Form.RAGGED)
    return Column(field.name, Form.VALUES)


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


def dense_nbytes(data_type: pa.DataType) -> float:
    """Return the bytes of a number, a code or a vector in a batch."""
    if pat.is_dictionary(data_type):
        return 8.0
    if pat.is_fixed_size_list(data_type):
        return float(data_type.list_size * dense_nbytes(data_type.value_type))
    return float(data_type.bit_width / 8)


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


def numbers(column: Column, data: pa.Array) -> pa.Array | npt.NDArray[Any]:
    """Make an array of numbers without NULLs once what `gather` takes many batches from; others stay as they are."""
    if column.form is not Form.NUMBERS or has_nulls(data):
        return data
    array = dense(data)
    return array.copy() if array.nbytes <= _NARROW_NBYTES * len(array) else array


def gather(
    column: Column, data: pa.Array | npt.NDArray[Any], index: Index, row_ids: npt.NDArray[np.uint64]
) -> npt.NDArray[Any] | list[Any]:
    """Take rows of a column as what stands in a batch; images are still bytes.

    Parameters
    ----------
    column
        What it becomes.
    data
        The column as read, or as `numbers` made it; chunked if its form is values, images or clips; of clips also a
        list of handles.
    index
        Rows of `data` in the order wanted.
    row_ids
        The row id of each row of `data`.

    Returns
    -------
    numpy.ndarray or list
        Numbers and codes: an array of shape ``(n, …)``, of its own memory or a view. Ragged: a list of such. Values: a
        list of them; images and clips: a list of Arrow scalars or handles, which copy no bytes; None for NULL.

    Raises
    ------
    DataError
        A NULL where a number must stand, or a word that is not one of the category's values.
    """
    match column.form:
        case Form.VALUES:
            if data.nbytes > _WIDE_NBYTES * len(data):  # one by one: `take` would copy them once more
                return [python_value(data[i]) for i in _each(index)]
            return python_values(taken(data, index))
        case Form.IMAGES | Form.CLIPS:
            cells = (data[i] for i in _each(index))
            return [None if isinstance(cell, pa.Scalar) and not cell.is_valid else cell for cell in cells]
        case Form.RAGGED:
            rows = taken(data, index)
            _refuse_nulls(column, rows, index, row_ids)
            ends = np.asarray(rows.offsets)[1:-1] - rows.offsets[0].as_py()
            return np.split(dense(rows.flatten()), ends)
        case Form.CODES:
            if has_nulls(data):
                data = taken(data, index)
                _refuse_nulls(column, data, index, row_ids)
                return _codes(column, data, slice(None), row_ids[index])
            return _codes(column, data, index, row_ids)
        case Form.NUMBERS:
            if isinstance(data, np.ndarray):
                return data[index]
            if has_nulls(data):
                data, index, row_ids = taken(data, index), slice(None), row_ids[index]
                _refuse_nulls(column, data, index, row_ids)
            return dense(data)[index]


def _each(index: Index) -> Iterable[int]:
    return range(index.start, index.stop) if isinstance(index, slice) else index.tolist()


def taken(data: pa.Array, index: Index) -> pa.Array:
    """Give rows of a column as read."""
    return data[index] if isinstance(index, slice) else data.take(pa.array(index))


def _codes(
    column: Column, data: pa.DictionaryArray, index: Index, row_ids: npt.NDArray[np.uint64]
) -> npt.NDArray[np.int64]:
    codes: npt.NDArray[np.int64] = np.asarray(data.indices.to_numpy(zero_copy_only=False))[index].astype(np.int64)
    strange = np.flatnonzero(codes >= len(column.values))
    if len(strange):
        word = data.dictionary[int(codes[strange[0]])].as_py()
        raise DataError(
            f"category {column.name!r} holds {word!r} in row id {row_ids[index][strange[0]]}, which is not one of "
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


def _refuse_nulls(column: Column, rows: pa.Array, index: Index, row_ids: npt.NDArray[np.uint64]) -> None:
    if not has_nulls(rows):
        return
    whole = np.asarray(rows.is_null())
    first = int(np.argmax(whole)) if whole.any() else next(i for i in range(len(rows)) if has_nulls(rows[i : i + 1]))
    name = column.name
    what, hint = "is NULL", f"leave such rows out with on_missing='skip' or where=\"{name} IS NOT NULL\""
    if not whole.any():
        what, hint = "holds a NULL", "mend the row, or leave it out with where=…"
    raise DataError(
        f"column {name!r} {what} in row id {row_ids[index][first]}, and a tensor has no NULL; {hint}, pass "
        "on_bad_rows='substitute' or 'mask', or read other columns with columns=[…]"
    )
