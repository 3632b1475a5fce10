"""What a lake says of itself in SQL: ``information_schema.tables``, ``information_schema.columns``, SHOW ALL TABLES.

Their columns are DuckDB's; of the many that the standard names, those that mean something for a lake. They list the
main line of each table: branches come and go, and are described by name, ``DESCRIBE "pets@exp"``. What ``tables=``
hands in is not the lake's and not among them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import QueryError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.statement.syntax import Node

__all__ = ["ALL_TABLES", "LAKE", "SCHEMA", "describe", "views"]

SCHEMA = "information_schema"
ALL_TABLES = "__show_tables_expanded"  # what DuckDB's parser makes of SHOW ALL TABLES
LAKE = ("lake", "main")  # the catalog and the schema: a lake has neither, tools expect some
_CATALOG, _SCHEMA = LAKE

_TABLES = pa.schema([(name, pa.string()) for name in ("table_catalog", "table_schema", "table_name", "table_type")])
_COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("table_catalog", "table_schema", "table_name", "column_name")),
        ("ordinal_position", pa.int32()),
        ("is_nullable", pa.string()),
        ("data_type", pa.string()),
    ]
)
_EXPANDED = pa.schema(
    [
        *((name, pa.string()) for name in ("database", "schema", "name")),
        ("column_names", pa.list_(pa.string())),
        ("column_types", pa.list_(pa.string())),
        ("temporary", pa.bool_()),
    ]
)


def views(nodes: Iterable[Node]) -> list[tuple[Node, str]]:
    """List the places that name a view of the information schema, each with the view.

    Raises
    ------
    QueryError
        One that a lake does not have.
    """
    found = []
    for node in nodes:
        if node.get("type") != "BASE_TABLE":
            continue
        path = [part.casefold() for part in node["qualified_name"]["path"]]
        if len(path) < 2 or path[-2] != SCHEMA:
            continue
        if path[-1] not in ("tables", "columns"):
            raise QueryError(
                f"{SCHEMA}.{path[-1]} is not there; a lake has {SCHEMA}.tables and {SCHEMA}.columns"
                f"{closest(path[-1], ['tables', 'columns'])}"
            )
        if node["at_clause"] is not None:
            raise QueryError(f"{SCHEMA}.{path[-1]} has no versions; write AT behind a table of the lake")
        found.append((node, path[-1]))
    return found


def describe(
    view: str, snapshots: Iterable[Snapshot], described: Callable[[pa.Schema], list[tuple[str, str]]]
) -> pa.Table:
    """Return a view's rows.

    Parameters
    ----------
    view
        ``tables``, ``columns``, or `ALL_TABLES`.
    snapshots
        The newest version of each table.
    described
        Gives DuckDB's names of a schema's columns and of their types.
    """
    rows: list[dict[str, Any]] = []
    for snapshot in snapshots:
        place = {"table_catalog": _CATALOG, "table_schema": _SCHEMA, "table_name": snapshot.name}
        if view == "tables":
            rows.append({**place, "table_type": "BASE TABLE"})
            continue
        columns = described(snapshot.schema)
        if view == ALL_TABLES:
            place = {"database": _CATALOG, "schema": _SCHEMA, "name": snapshot.name}
            names, kinds = zip(*columns, strict=True)
            rows.append({**place, "column_names": names, "column_types": kinds, "temporary": False})
            continue
        rows += [
            {
                **place,
                "column_name": name,
                "ordinal_position": at,
                "is_nullable": "YES" if field.nullable else "NO",
                "data_type": kind,
            }
            for at, (field, (name, kind)) in enumerate(zip(snapshot.schema, columns, strict=True), 1)
        ]
    schema = {"tables": _TABLES, "columns": _COLUMNS, ALL_TABLES: _EXPANDED}[view]
    return pa.Table.from_pylist(rows, schema=schema)
