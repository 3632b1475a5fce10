"""Values of Arrow as Python has them; what Python cannot hold is text.

Dates and times of Arrow and DuckDB reach 290,000 years before and after Christ, and infinity beyond; those of Python
end with the year 9999.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame", "python_value", "python_values"]

_NOT_HELD = (OverflowError, ValueError)  # what Arrow raises of a value that Python's type has no room for


def python_values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column."""
    try:
        found: list[Any] = column.to_pylist()
    except _NOT_HELD:
        return [python_value(scalar) for scalar in column]
    return found


def python_value(scalar: pa.Scalar) -> Any:
    """Return one value; of what is nested, those parts as text that Python cannot hold."""
    try:
        return scalar.as_py()
    except _NOT_HELD:
        kind = scalar.type
    if pt.is_struct(kind):
        return {name: python_value(part) for name, part in scalar.items()}
    if pt.is_map(kind):
        return [tuple(entry.values()) for entry in python_values(scalar.values)]
    if pt.is_nested(kind):
        return python_values(scalar.values)
    return _moment(scalar)


def _moment(scalar: pa.Scalar) -> str:
    """Write a date or a time as ISO 8601 does, where it is none to Python."""
    kind, ticks = scalar.type, scalar.value
    infinite = 2 ** (kind.bit_width - 1) - 1
    if abs(ticks) == infinite:
        return "infinity" if ticks > 0 else "-infinity"
    if pt.is_time(kind):
        return str(scalar.cast(pa.string()))
    text = str(np.datetime64(ticks, "D" if pt.is_date(kind) else kind.unit)).replace("T", " ")
    return f"{text}+00:00" if pt.is_timestamp(kind) and kind.tz else text


def frame(table: pa.Table) -> pd.DataFrame:
    """Return a DataFrame; a column that pandas cannot be given has Python's values."""
    try:
        made: pd.DataFrame = table.to_pandas()
    except (*_NOT_HELD, NotImplementedError):  # the last: a union
        return _frame_by_column(table)
    return made


def _frame_by_column(table: pa.Table) -> pd.DataFrame:
    import pandas as pd

    columns: list[pd.Series] = []
    for column in table.columns:
        try:
            columns.append(column.to_pandas())
        except (*_NOT_HELD, NotImplementedError):
            columns.append(pd.Series(python_values(column), dtype=object))
    return pd.concat(columns, axis=1).set_axis(table.column_names, axis=1)
