"""Which tables a statement names, and what DuckDB is given in their place.

Each name of a table in a statement is replaced by a slot (`lakehouse.sql.slots`), under which one version of that
table is registered on the query's own cursor. Nothing else of the lake is opened or registered. A name is looked for
where it is written: among the names its WITH clauses define, then in ``tables=``, then in the lake.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.errors import QueryError
from lakehouse.reads import ROW_ID
from lakehouse.sql.catalog import ALL_TABLES
from lakehouse.sql.slots import base_table, select_all
from lakehouse.sql.syntax import column_refs, value_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lakehouse.sql.syntax import Node

__all__ = [
    "Reference",
    "TableName",
    "answers_few",
    "head",
    "names_row_id",
    "references",
    "show_tables",
    "table_name",
]


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
    """List the places that name a table, those left out that mean a name of a WITH clause or of a schema."""
    _spell_out_describe(statement)
    return list(_references(statement["node"], frozenset(), shows=True))


def _references(value: Any, names: frozenset[str], *, shows: bool) -> Iterator[Reference]:
    if isinstance(value, list):
        for child in value:
            yield from _references(child, names, shows=shows)
        return
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    if kind == "BASE_TABLE":
        *schema, name = value["qualified_name"]["path"]
        if not schema and name.casefold() not in names:
            yield Reference.of(value, shows_row_ids=shows)
        return
    if kind == "RECURSIVE_CTE_NODE":
        names |= {value["cte_name"].casefold()}
    if kind in ("PIVOT", "SHOW_REF") or (kind == "JOIN" and value["ref_type"] == "NATURAL"):
        shows = False
    if kind in {"SELECT_NODE", "SUBQUERY"}:
        shows = True
    for entry in (value.get("cte_map") or {}).get("map", ()):  # each sees those before it, and not itself
        yield from _references(entry["value"], names, shows=True)
        names |= {entry["key"].casefold()}
    for key, child in value.items():
        if key != "cte_map":
            yield from _references(child, names, shows=shows)


def _spell_out_describe(statement: Node) -> None:
    """Write SHOW t as DESCRIBE t, whose table is a node of its own."""
    for node in walk(statement):
        if node.get("type") == "SHOW_REF" and node["query"] is None and node["show_type"] != "SHOW_SPECIAL":
            node["query"] = select_all(base_table(node["qualified_name"]["path"][-1]))
            node["show_type"] = "DESCRIBE" if node["show_type"] == "SHOW" else node["show_type"]


_AT = {"VERSION": "a version is a number or a tag's name", "TIMESTAMP": "write a time, as in '2026-01-31 12:00:00'"}


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
    name, _, branch = reference.name.partition("@")
    version = None
    if reference.at is not None:
        unit, value = reference.at["unit"], compute(reference.at["expr"])
        version = _moment(value) if unit == "TIMESTAMP" else value
        if isinstance(version, bool) or not isinstance(version, int | str | dt.datetime):
            raise QueryError(f"AT ({unit} => {value!r}): {_AT[unit]}")
    return TableName(name, version, branch or None)


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


def show_tables(statement: Node) -> list[tuple[Node, bool]]:
    """List the places that ask for the tables' names, and whether for all that is known of them.

    Raises
    ------
    QueryError
        What is asked to be shown is not there: databases, schemas.
    """
    places = []
    for node in walk(statement):
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


_FEW = 1_000  # rows; as many random reads of a column cost less than dragging it through a scan of a large table


def answers_few(statement: Node, values: Mapping[str, Any]) -> bool:
    """Whether a statement ends in a small LIMIT, so that most rows it reads may be dropped."""
    rows = _limited_to(statement["node"], values)
    return rows is not None and rows <= _FEW


def head(statement: Node, values: Mapping[str, Any]) -> tuple[Node, int] | None:
    """Return the table a statement only shows the first rows of, and how many it needs, or None.

    Columns and ``*`` of one table, nothing computed, and LIMIT: anything else may need later rows too.
    """
    node = statement["node"]
    rows = _limited_to(node, values)
    if rows is None or node["type"] != "SELECT_NODE" or len(node["modifiers"]) != 1:
        return None
    clauses = ("where_clause", "group_expressions", "group_sets", "having", "sample", "qualify")
    plain = all(
        item.get("class") in ("COLUMN_REF", "STAR") and not item.get("replace_list") for item in node["select_list"]
    )
    table = node["from_table"]
    if not plain or any(node[clause] for clause in clauses) or table["type"] != "BASE_TABLE" or table["sample"]:
        return None
    return table, rows


def _limited_to(node: Node, values: Mapping[str, Any]) -> int | None:
    """Return the rows a query keeps and those it skips before them, if both are plain numbers."""
    for modifier in node["modifiers"]:
        if modifier["type"] == "LIMIT_MODIFIER" and modifier["limit_type"] == "ROW_COUNT" and modifier["limit"]:
            numbers = [_number(modifier[part], values) for part in ("limit", "offset") if modifier[part]]
            return None if None in numbers else sum(n for n in numbers if n is not None)
    return None


def _number(expression: Node, values: Mapping[str, Any]) -> int | None:
    value = value_of(expression, values)
    return value if type(value) is int and value >= 0 else None


def names_row_id(statement: Node) -> bool:
    """Whether a statement names ``_rowid`` as a column."""
    return any(parts[-1].casefold() == ROW_ID for parts in column_refs(statement))
