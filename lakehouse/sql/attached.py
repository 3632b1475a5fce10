"""A DuckDB connection with a lake's tables in it, for notebooks and BI tools that bring their own SQL.

DuckDB runs the statements itself here, so nothing can be fetched at the end, for the rows that survived. A medium is a
reference instead, a struct of one field: ``{'pets.image': 17}`` is the image of row 17. It costs eight bytes a row
through sorts, joins and LIMIT; the media functions take it and read what they need, ``media_bytes(image)`` all of it.
"""

from __future__ import annotations

import atexit
import logging
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pyarrow as pa

from lakehouse import types
from lakehouse.errors import InvalidArgumentError, translated
from lakehouse.reads import ROW_ID
from lakehouse.sql.functions import FUNCTIONS, Calls
from lakehouse.sql.limits import SqlLimits
from lakehouse.sql.sandbox import machine_nbytes
from lakehouse.sql.scans.carried import Carried
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.statement.slots import ROW_IDS
from lakehouse.where import literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import duckdb

    from lakehouse.snapshot import Snapshot

__all__ = ["attach"]

logger = logging.getLogger("lakehouse")

_OPENED_AT_ONCE = 16  # tables; on an object store each takes some round trips


def attach(
    names: Iterable[str], open_table: Callable[[str], Snapshot], limits: SqlLimits | None = None
) -> duckdb.DuckDBPyConnection:
    """Return a connection to an empty database in memory, with a view for each table.

    Parameters
    ----------
    names
        Tables, and branches as ``pets@exp``.
    open_table
        Opens one at its newest version, at which the view stays.
    limits
        Memory, temporary space and threads; None means the defaults.
    """
    import duckdb

    from lakehouse.sql.scans.handover import handed_over  # needs DuckDB

    names = _distinct([names] if isinstance(names, str) else list(names))
    with ThreadPoolExecutor(_OPENED_AT_ONCE, "lakehouse-sql") as pool:
        snapshots = list(pool.map(open_table, names))
    with translated("opening DuckDB"):
        connection = duckdb.connect(":memory:")
        _live.add(connection)
        for name, value in _settings(limits or SqlLimits()).items():
            connection.execute(f"SET {name} = {literal(value)}")
        for snapshot in snapshots:
            references = {column.column: column.name for column in _media(snapshot)}
            source = handed_over(SnapshotDataset(snapshot, references, null_tested=references))
            # As a relation: what is `register`ed is seen by no cursor, and tools make cursors.
            connection.from_arrow(source).project(f"* EXCLUDE ({', '.join(ROW_IDS)}), {ROW_ID}").create_view(
                snapshot.name
            )
        _add_functions(connection, Calls({each.name: each for s in snapshots for each in _media(s)}, strict=False))
    return connection


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        other = seen.setdefault(name.casefold(), name)
        if other != name:
            raise InvalidArgumentError(f"SQL knows no case: {other!r} and {name!r} are one; name one in tables=[…]")
    return list(seen.values())


def _add_functions(connection: duckdb.DuckDBPyConnection, calls: Calls) -> None:
    for name, function in FUNCTIONS.items():
        connection.create_function(  # type: ignore[call-overload]  # as in `functions.register`
            name, partial(_called, calls, name), None, function.returns, type="arrow", null_handling="special"
        )


def _settings(limits: SqlLimits) -> dict[str, str | int]:
    return {
        "memory_limit": f"{limits.memory_nbytes or machine_nbytes() // 2}B",
        "temp_directory": str(Path(tempfile.gettempdir()) / f"lakehouse-duckdb-{os.getpid()}"),  # made when it spills
        "max_temp_directory_size": f"{limits.temp_nbytes}B",
        "threads": limits.threads or os.cpu_count() or 1,
        "TimeZone": "UTC",  # as in `lake.sql`
    }


# DuckDB complains about connections that are alive at exit and hold something of Python.
_live: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()


@atexit.register
def _close_all() -> None:
    for connection in list(_live):
        connection.close()


def _called(calls: Calls, name: str, *columns: Any) -> pa.Array:
    media, *arguments = columns
    whole = media.combine_chunks() if isinstance(media, pa.ChunkedArray) else media
    before = calls.errors().num_rows
    values = calls.compute(name, whole, arguments)
    for failed in calls.errors().to_pylist()[before:]:
        logger.warning("%s(): %s; this value and others that fail are NULL", failed["function"], failed["message"])
    return values


def _media(snapshot: Snapshot) -> list[Carried]:
    return [Carried(snapshot.name, snapshot, field.name) for field in snapshot.schema if types.is_bytes_media(field)]
