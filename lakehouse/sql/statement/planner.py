"""Which tables a statement names, and what DuckDB is given in their place.

Each name of a table in a statement is replaced by a slot (`lakehouse.sql.statement.slots`), under which one version of
that table is registered on the query's own cursor. Nothing else of the lake is opened or registered. A name is looked
for where it is written: among the names its WITH clauses define, then in ``tables=``, then in the lake.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.errors import QueryError
from lakehouse.sql.statement.catalog import ALL_TABLES, LAKE, SCHEMA
from lakehouse.sql.statement.slots import ROW_IDS, base_table, select_all
from lakehouse.sql.statement.syntax import column_refs, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakehouse.sql.statement.syntax import Node

__all__ = [
    "Reference",
    "TableName",
    "check_case",
    "named_row_ids",
    "references",
    "show_tables",
    "table_name",
    "write_out",
]


SCHEMAS = (LAKE, LAKE[:1], LAKE[1:])  # what may stand before the name of a table, and means nothing


@dataclass(frozen=True)
class TableName:
    """A table as a statement names it.

    Parameters
    ----------
    name
        The name, as written.
    version
        A version number, a tag, a time, or None for the newest version.
    branch
        What follows ``@`` in ``"pets@exp"``; None for the main line.
    """

    name: str
    version: int | str | dt.datetime | None = None
    branch: str | None = None

    def __str__(self) -> str:
        branch = f"@{self.branch}" if self.branch else ""
        if self.version is None:
            return f"{self.name}{branch}"
        if isinstance(self.version, dt.datetime):
            return f"{self.name}{branch} AT (TIMESTAMP => {str(self.version)!r})"
        return f"{self.name}{branch} AT (VERSION => {self.version!r})"


@dataclass(frozen=True, eq=False)
class Reference:
    """One place of a statement that names a table.

    Parameters
    ----------
    node
        The ``BASE_TABLE`` node, until something else is put in its place.
    name
        The table's name as written.
    alias
        The name its columns go by.
    at
        The AT clause, ``unit`` and ``expr``, or None.
    shows_row_ids
        Whether ``_rowid`` can be named here: not under NATURAL JOIN, which would join by it, nor under PIVOT,
        which would group by it.
    """

    node: Node
    name: str
    alias: str
    at: Node | None
    shows_row_ids: bool

    @classmethod
    def of(cls, node: Node, *, shows_row_ids: bool) -> Reference:
        """Read a ``BASE_TABLE`` node."""
        name = node["qualified_name"]["path"][-1]
        return cls(node, name, node["alias"] or name, node["at_clause"], shows_row_ids)


def references(statement: Node) -> list[Reference]:
    """List the places that name a table, those left out that mean a name of a WITH clause or of a schema.

    Parameters
    ----------
    statement
        The statement, written out by `write_out`.
    """
    found: list[Reference] = []
    _references(statement["node"], frozenset(), found, shows=True)
    return found


def _references(value: Any, names: frozenset[str], found: list[Reference], *, shows: bool) -> None:
    if type(value) is list:
        for child in value:
            if type(child) is dict or type(child) is list:
                _references(child, names, found, shows=shows)
        return
    kind = value.get("type")
    if kind == "BASE_TABLE":
        *schema, name = (part.casefold() for part in value["qualified_name"]["path"])
        if tuple(schema) in SCHEMAS or (not schema and name not in names):
            found.append(Reference.of(value, shows_row_ids=shows))
        elif value["at_clause"] is not None:
            raise QueryError(f"{'.'.join([*schema, name])} has no versions; write AT behind a table of the lake")
        return
    if kind == "RECURSIVE_CTE_NODE":
        names |= {value["cte_name"].casefold()}
    if kind in ("PIVOT", "SHOW_REF") or (kind == "JOIN" and value["ref_type"] == "NATURAL"):
        shows = False
    if kind in ("SELECT_NODE", "SUBQUERY"):  # no set: the "type" of a sample's size is a dictionary
        shows = True
    for entry in (value.get("cte_map") or {}).get("map", ()):  # each sees those before it, and not itself
        _references(entry["value"], names, found, shows=True)
        names |= {entry["key"].casefold()}
    for key, child in value.items():
        if child and (type(child) is dict or type(child) is list) and key != "cte_map":
            _references(child, names, found, shows=shows)


def write_out(statement: Node) -> list[Node]:
    """Write SHOW t as DESCRIBE t, and names of schemas as none; return the nodes.

    Raises
    ------
    QueryError
        A name in a schema that a lake does not have.
    """
    nodes = walk(statement)
    if any(node.get("type") == "SHOW_REF" for node in nodes):
        _spell_out_shows(nodes)
        nodes = walk(statement)
    _leave_schemas_out(nodes)
    return nodes


def _spell_out_shows(nodes: list[Node]) -> None:
    """Write SHOW t as DESCRIBE t, whose table is a node of its own, and SHOW TABLES FROM main as SHOW TABLES."""
    for node in nodes:
        if node.get("type") != "SHOW_REF" or node["query"] is not None or node["show_type"] == "SHOW_SPECIAL":
            continue
        if node["show_type"] == "SHOW_FROM":
            path = [part for part in (node["catalog_name"], node["schema_name"]) if part]
            _check_schema([*path, "…"])
            node["table_name"] = "tables"
            continue
        path = node["qualified_name"]["path"]
        node["query"] = select_all({**base_table(path[-1]), "qualified_name": {"path": path}})
        node["show_type"] = "DESCRIBE" if node["show_type"] == "SHOW" else node["show_type"]


def _leave_schemas_out(nodes: list[Node]) -> None:
    """Write ``main.pets.id`` as ``pets.id``: what is put in the place of pets has an alias, and no schema."""
    paths = [node["qualified_name"]["path"] for node in nodes if node.get("type") == "BASE_TABLE"]
    for path in paths:
        _check_schema(path)
    names = {path[-1].casefold() for path in paths}
    for node in nodes:
        if node.get("class") == "COLUMN_REF" and len(node["column_names"]) > 2:
            parts = [part.casefold() for part in node["column_names"]]
            for schema in SCHEMAS:  # the longest first
                length = len(schema)
                if tuple(parts[:length]) == schema and len(parts) > length + 1 and parts[length] in names:
                    node["column_names"] = node["column_names"][length:]
                    break


def _check_schema(path: list[str]) -> None:
    schema = tuple(part.casefold() for part in path[:-1])
    if schema and schema not in SCHEMAS and schema != (SCHEMA,):
        raise QueryError(f"{'.'.join(path)}: a lake has one schema, {'.'.join(LAKE)}; leave it out, or write that")


_AT: Mapping[str, tuple[Any, str]] = {
    "VERSION": (int | str, "a version is a number or a tag's name"),
    "TIMESTAMP": (dt.datetime, "write a time, as in '2026-01-31 12:00:00'"),
}


def table_name(reference: Reference, compute: Callable[[Node], Any]) -> TableName:
    """Read name, branch and version or time of a reference.

    Parameters
    ----------
    reference
        A place that names a table of the lake.
    compute
        Gives the value of an expression; called for what stands in the AT clause.

    Raises
    ------
    QueryError
        The AT clause names no version, tag or time.
    """
    name, at, branch = reference.name.partition("@")
    version = None
    if reference.at is not None:
        unit, value = reference.at["unit"], compute(reference.at["expr"])
        version = _moment(value) if unit == "TIMESTAMP" else value
        kinds, advice = _AT[unit]
        if isinstance(version, bool) or not isinstance(version, kinds):
            raise QueryError(f"AT ({unit} => {value!r}): {advice}")
    return TableName(name, version, branch if at else None)


def _moment(value: Any) -> dt.datetime | None:
    """Read a time; a date is its midnight, and what has no zone is in UTC, as everywhere in this SQL."""
    if isinstance(value, str):
        try:
            return dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return dt.datetime.combine(value, dt.time(), dt.UTC)
    return value if isinstance(value, dt.datetime) else None


def show_tables(nodes: list[Node]) -> list[tuple[Node, bool]]:
    """List the places that ask for the tables' names, and whether for all that is known of them.

    Raises
    ------
    QueryError
        What is asked to be shown is not there: databases, schemas.
    """
    places = []
    for node in nodes:
        if node.get("type") != "SHOW_REF" or node["query"] is not None:
            continue
        shown = node["table_name"].strip('"').casefold()
        if shown not in ("tables", ALL_TABLES):
            raise QueryError(
                "SHOW TABLES and SHOW ALL TABLES list the tables, DESCRIBE name the columns of one; "
                "a lake has nothing else to show"
            )
        places.append((node, shown == ALL_TABLES))
    return places


def named_row_ids(nodes: list[Node]) -> frozenset[str]:
    """Return those of ``_rowid`` and its like that a statement names as columns."""
    return frozenset(parts[-1].casefold() for parts in column_refs(nodes)).intersection(ROW_IDS)


def check_case(nodes: list[Node], stored: list[str], seen: list[str]) -> None:
    """Refuse names of columns that SQL, which knows no case, takes for others.

    Parameters
    ----------
    nodes
        The statement's nodes.
    stored
        The columns of a table.
    seen
        What they are called in SQL: of ``x`` and ``X`` the second is ``X_1``.

    Raises
    ------
    QueryError
        It names such a column as it is stored.
    """
    others = {name: other for name, other in zip(stored, seen, strict=True) if name not in seen}
    for name in (part for parts in column_refs(nodes) for part in parts if part in others):
        raise QueryError(f"SQL knows no case, and so {name!r} would be another column; write {others[name]!r}")
