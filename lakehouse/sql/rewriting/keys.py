"""Computes the keys of a small side, and has the large table read for them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.reads import ROW_ID
from lakehouse.sql.rewriting.narrowing import MOST_KEYS
from lakehouse.sql.scans.comparisons import is_comparable, listed
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.sql.scans.dataset import SnapshotDataset
    from lakehouse.sql.sources import Ask

__all__ = ["narrow"]

_MOST_CHARS = 1 << 18  # of the condition: the keys may be texts


def narrow(ask: Ask, table: SnapshotDataset, column: str, keys: str, params: Mapping[str, Any]) -> None:
    """Leave the rows of a table out whose column is none of some keys, if those are few.

    Parameters
    ----------
    ask
        Answers statements over the slots.
    table
        The table.
    column
        Its column.
    keys
        The statement that computes the keys.
    params
        Values of its parameters.
    """
    import duckdb

    try:
        found = ask(keys, params).to_arrow_table().column(0)
    except duckdb.Error:
        return  # it names a column of a query around it; what is wrong otherwise the statement itself will say
    if pa.types.is_dictionary(found.type):
        found = found.cast(found.type.value_type)
    stored = pa.uint64() if column == ROW_ID else table.snapshot.schema.field(column).type
    values = found.drop_null().to_pylist()
    if len(values) > MOST_KEYS or not is_comparable(stored) or not _are_alike(found.type, stored):
        table.narrowed_by = None
        return
    condition = listed(quoted(column), stored, values) if values else None
    where = "false" if not values else condition.text if condition else ""
    if where and len(where) <= _MOST_CHARS:
        table.narrow(where)
        table.narrowed_by = f"{len(values):,} keys of {column}"


def _are_alike(keys: pa.DataType, stored: pa.DataType) -> bool:
    """Whether equal means the same in both engines, without a conversion."""
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    texts = all(pa.types.is_string(each) or pa.types.is_large_string(each) for each in (keys, stored))
    return (
        texts
        or (pa.types.is_integer(keys) and pa.types.is_integer(stored))
        or (pa.types.is_date32(keys) and keys == stored)
    )
