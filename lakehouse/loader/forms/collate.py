"""Rows or columns put together into the dict that is a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.errors import DataError, InvalidArgumentError
from lakehouse.loader.forms.numpy import is_numeric

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.loader.forms.arrays import Arrays

__all__ = ["check_stacks", "collate"]


def collate(
    rows: Sequence[Mapping[str, Any]],
    arrays: Arrays,
    row_ids: npt.NDArray[np.uint64],
    lists: Collection[str] = (),
) -> dict[str, Any]:
    """Put the values of rows under their keys: arrays and numbers as one array, anything else as a list.

    Parameters
    ----------
    rows
        At least one.
    arrays
        What they are put together into.
    row_ids
        Of the rows, for messages.
    lists
        Keys whose arrays have lengths of their own and stay lists.

    Raises
    ------
    InvalidArgumentError
        A transform gave something else than a row.
    DataError
        Rows have different keys, or arrays of one key have different shapes.
    """
    _check_rows(rows)
    keys = list(rows[0])
    for row, row_id in zip(rows, row_ids, strict=True):
        if row.keys() != rows[0].keys():
            raise DataError(
                f"the transform gave row id {row_ids[0]} the keys {', '.join(keys)} and row id {row_id} the keys "
                f"{', '.join(row)}; give all rows the same, or pass collate_fn=…"
            )
    columns = {key: [row[key] for row in rows] for key in keys}
    return {key: v if key in lists else _together(key, v, arrays, row_ids) for key, v in columns.items()}


def _check_rows(rows: Sequence[Any]) -> None:
    for row in rows:
        if not hasattr(row, "keys"):
            raise InvalidArgumentError(
                f"the transform returned {type(row).__name__}; return the row, a mapping of names to values, or pass "
                "collate_fn=…, which may put together anything"
            )


def _together(key: str, values: list[Any], arrays: Arrays, row_ids: npt.NDArray[np.uint64]) -> Any:
    if all(isinstance(value, bool | int | float | np.generic) for value in values):
        array = np.asarray(values)
        return arrays.wrap(array) if is_numeric(array) else values
    if not all(arrays.is_array(value) for value in values):
        return values
    for i, value in enumerate(values):
        check_stacks(key, values[0].shape, value.shape, row_ids[[0, i]])
    return arrays.stack(values)


def check_stacks(key: str, shape: Sequence[int], other: Sequence[int], row_ids: npt.NDArray[np.uint64]) -> None:
    """Refuse two arrays of one batch that have different shapes.

    Raises
    ------
    DataError
        Naming both rows and what to do.
    """
    if tuple(shape) != tuple(other):
        raise DataError(
            f"{key!r} has shape {tuple(shape)} in row id {row_ids[0]} and {tuple(other)} in row id {row_ids[1]}, "
            f"which do not stack into one batch; bring all to one size, pictures with decode={{{key!r}: "
            "lh.Resize(…)}, others with transform=…, or keep a list with collate_fn=…"
        )
