"""Rows or columns put together into the dict that is a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.loader.arrays import Arrays

__all__ = ["check_stacks", "collate"]


def collate(rows: Sequence[Mapping[str, Any]], arrays: Arrays, row_ids: npt.NDArray[np.uint64]) -> dict[str, Any]:
    """Put the values of rows under their keys: arrays and numbers as one array, anything else as a list.

    Raises
    ------
    DataError
        Rows have different keys, or arrays of one key have different shapes.
    """
    keys = list(rows[0])
    for row, row_id in zip(rows, row_ids, strict=True):
        if row.keys() != rows[0].keys():
            raise DataError(
                f"the transform gave row id {row_ids[0]} the keys {', '.join(keys)} and row id {row_id} the keys "
                f"{', '.join(row)}; give all rows the same, or pass collate_fn=…"
            )
    return {key: _together(key, [row[key] for row in rows], arrays, row_ids) for key in keys}


def _together(key: str, values: list[Any], arrays: Arrays, row_ids: npt.NDArray[np.uint64]) -> Any:
    if all(isinstance(value, bool | int | float | np.generic) for value in values):
        return arrays.wrap(np.asarray(values))
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
            "which do not stack into one batch; pass transform=… that crops, pads or resizes all to one size, "
            "or collate_fn=… that keeps a list"
        )
