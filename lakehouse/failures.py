"""Errors as data: which row or file failed, where, why, and in which run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakehouse.location import Location


@dataclass(frozen=True)
class RowFailure:
    """One row that could not be stored, or one cell that could not be computed.

    Parameters
    ----------
    source
        What failed, as the user knows it: a file's URI, a key, ``row 17``.
    error
        The kind of error, a class name.
    message
        What went wrong, with the user's own line first where there is one.
    column
        The column it happened in; None if the row as a whole is meant.
    row_id
        The row's id, if it is in the table.
    """

    source: str
    error: str
    message: str
    column: str | None = None
    row_id: int | None = None


SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.uint64()),
        pa.field("key", pa.string()),
        pa.field("column", pa.string()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("run", pa.string()),
    ]
)


def record(lake: Location, table: str, run: str, failures: Iterable[RowFailure], attempt: int = 1) -> None:
    """Write the failures of a run; the same run writes over itself, so a repeat after a kill counts each once."""
    rows = [
        {
            "row_id": f.row_id,
            "key": f.source,
            "column": f.column,
            "error": f.error,
            "message": f.message,
            "attempt": attempt,
            "run": run,
        }
        for f in failures
    ]
    if not rows:
        return
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    _folder(lake, table).write_bytes(f"{run}.arrow", sink.getvalue().to_pybytes())


def read(lake: Location, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what was recorded for a table, oldest run first.

    Returns
    -------
    pyarrow.Table
        ``row_id, key, column, error, message, attempt, run``; `key` is the source where no row was stored.
    """
    folder = _folder(lake, table)
    parts = [pa.ipc.open_file(pa.py_buffer(folder.read_bytes(name))).read_all() for name in folder.listdir()]
    found = pa.concat_tables([SCHEMA.empty_table(), *parts])
    if columns is None:
        return found
    return found.filter(pc.is_in(found["column"], value_set=pa.array(columns, pa.string())))


def forget(lake: Location, table: str) -> None:
    """Remove what was recorded for a table."""
    layout.side(lake).delete(f"failures/{table}")


def _folder(lake: Location, table: str) -> Location:
    return layout.side(lake).child("failures").child(table)
