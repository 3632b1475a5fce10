"""The tables of a statement as DuckDB has them.

All cursors of a connection could read a source by its name, but no statement can name one: whatever a statement calls a
table is looked for in the lake.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import duckdb
    import pyarrow as pa

__all__ = ["Ask", "Sources"]

Ask: TypeAlias = "Callable[[str, Mapping[str, Any]], duckdb.DuckDBPyRelation]"
"""Binds a statement over the slots, and the values of its parameters."""

_BATCH_ROWS = 131_072  # 64 of DuckDB's vectors: few hand-overs, a few MB of plain columns


class Sources:
    """Tables as DuckDB has them, until this is let go of.

    Parameters
    ----------
    cursor
        The statement's own cursor.
    tables
        What lies in each slot.

    Notes
    -----
    A registered table would be a view, which DuckDB 2.0 takes 0.4 ms to make and to bind; a source takes 0.01, and is
    read under a name of DuckDB's choosing.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, tables: Mapping[str, Any]) -> None:
        from duckdb._seam import register_source

        from lakehouse.sql.scans.handover import handed_over  # needs DuckDB

        self.cursor = cursor
        self._handles = {slot: register_source(cursor, handed_over(table), slot) for slot, table in tables.items()}

    def ask(self, text: str, params: Mapping[str, Any]) -> duckdb.DuckDBPyRelation:
        """Bind a statement over the slots."""
        return self.cursor.sql(self._named(text), params=dict(params))

    def run(self, text: str, params: Mapping[str, Any]) -> pa.RecordBatchReader:
        """Run a statement over the slots, without what a relation binds before that."""
        from duckdb._seam import submit

        reader: pa.RecordBatchReader
        reader = submit(self.cursor, self._named(text), dict(params) or None, "stream", _BATCH_ROWS).arrow_reader()
        return reader

    def _named(self, text: str) -> str:
        """Put the sources' names in the place of the slots', which nobody else's text holds."""
        if not self._handles:
            return text
        return re.sub(rf"\b(?:{'|'.join(self._handles)})\b", lambda slot: self._handles[slot[0]].name, text)
