"""What is put into a statement where it names a table: a slot, the name under which the table is registered.

Slots hold ``_rowid`` as their first column, which costs nothing to read: DuckDB asks for the first column where it
needs none, as for ``count(*)``. Statements do not see it unless they name it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakehouse.reads import ROW_ID
from lakehouse.sql.statement.syntax import column_refs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from lakehouse.sql.statement.syntax import Node

__all__ = [
    "ROW_ADDRESS",
    "ROW_IDS",
    "base_table",
    "fill",
    "fill_plain",
    "hide_row_ids",
    "named_columns",
    "select_all",
    "select_value",
    "slot_of",
    "subquery",
]

ROW_ADDRESS = "_rowaddr"  # fragment and offset of a row, as Lance has them; they change when rows move
ROW_IDS = (ROW_ID, ROW_ADDRESS)
"""Columns that are there when they are named, and only then."""


def fill(node: Node, alias: str, slot: str, shown: Collection[str]) -> None:
    """Put a slot where the statement names a table of the lake, ``_rowid`` hidden unless it is named.

    Parameters
    ----------
    node
        The place; it is changed.
    alias
        The name its columns go by.
    slot
        The slot.
    shown
        Those of `ROW_IDS` that can be named.
    """
    query = select_all(base_table(slot), exclude=tuple(name for name in ROW_IDS if name not in shown))
    _become(node, subquery(query, alias, node["sample"], node["column_name_alias"]))


def slot_of(table: Node) -> str | None:
    """Return the slot that `fill` put in a place, or None where there is none."""
    query = table["subquery"]["node"] if table["type"] == "SUBQUERY" else {}
    inner = query.get("from_table") or {}
    is_slot = inner.get("type") == "BASE_TABLE" and query["select_list"][0].get("type") == "STAR"
    plain = is_slot and not (query["modifiers"] or query["where_clause"] or query["sample"] or inner["sample"])
    return str(inner["qualified_name"]["path"][-1]) if plain else None


def named_columns(nodes: Sequence[Node]) -> frozenset[str] | None:
    """Return the last parts of all names of columns, without case; None where a ``*`` may mean any column."""
    tables = (node for node in nodes if node.get("type") == "SUBQUERY" and "class" not in node and slot_of(node))
    ours = {id(node["subquery"]["node"]["select_list"][0]) for node in tables}
    if any(node.get("type") == "STAR" and id(node) not in ours for node in nodes):
        return None
    return frozenset(parts[-1].casefold() for parts in column_refs(nodes))


def fill_plain(node: Node, slot: str) -> None:
    """Put a slot that has no row ids where the statement names a table or shows the tables' names."""
    alias = node["alias"] or node.get("table_name", "").strip('"')
    _become(node, subquery(select_all(base_table(slot)), alias, node["sample"], node.get("column_name_alias", ())))


def _become(node: Node, other: Node) -> None:
    node.clear()
    node.update(other)


def subquery(query: Node, alias: str, sample: Node | None = None, names: Sequence[str] = ()) -> Node:
    """Return the node of a query in FROM."""
    return {
        "type": "SUBQUERY",
        "alias": alias,
        "sample": sample,
        "query_location": 0,
        "query_location_length": 0,
        "subquery": {"node": query, "named_param_map": []},
        "column_name_alias": list(names),
    }


def hide_row_ids(nodes: Iterable[Node], shown: Mapping[int, str], names: Collection[str]) -> None:
    """Leave row ids out of every ``*`` over tables that show them.

    Parameters
    ----------
    nodes
        The statement's nodes before its tables were filled in.
    shown
        Alias of each table that shows them, by the ``id`` of its node.
    names
        Those of `ROW_IDS` that are shown.
    """
    for node in nodes if shown else ():
        if node.get("type") != "SELECT_NODE":
            continue
        aliases = [shown[id(table)] for table in _from(node["from_table"]) if id(table) in shown]
        for star in _stars(node["select_list"]):
            for name in names:
                _exclude(star, aliases, name)


def _stars(value: Any) -> Iterator[Node]:
    """Yield the ``*`` of one SELECT, those of subqueries in its expressions left out."""
    if isinstance(value, list):
        for child in value:
            yield from _stars(child)
    elif isinstance(value, dict) and value.get("type") != "SELECT_NODE":
        if value.get("type") == "STAR" and value["expr"] is None:
            yield value
        for child in value.values():
            yield from _stars(child)


def _from(table: Node) -> Iterator[Node]:
    """Yield the tables whose columns a ``*`` means: those joined, not those inside a subquery."""
    if table["type"] == "JOIN":
        yield from _from(table["left"])
        yield from _from(table["right"])
    else:
        yield table


def _exclude(star: Node, aliases: list[str], row_id: str) -> None:
    mine = [alias for alias in aliases if star["relation_name"].casefold() in ("", alias.casefold())]
    if any(name.casefold() == row_id for name in star["exclude_list"]):
        return
    there = {(entry["table"], entry["column"].casefold()) for entry in star["qualified_exclude_list"]}
    star["qualified_exclude_list"] += [
        {"catalog": "", "schema": "", "table": alias, "column": row_id}
        for alias in mine
        if (alias, row_id) not in there
    ]


def select_value(expression: Node) -> Node:
    """Return the statement that computes one expression."""
    empty = {"type": "EMPTY", "alias": "", "sample": None, "query_location": 0, "query_location_length": 0}
    node = select_all(empty)
    node["select_list"] = [expression]
    return {"node": node, "named_param_map": []}


def base_table(name: str) -> Node:
    """Return the node that names a table."""
    return {
        "type": "BASE_TABLE",
        "alias": "",
        "sample": None,
        "query_location": 0,
        "query_location_length": 0,
        "schema_name": "",
        "table_name": name,
        "column_name_alias": [],
        "catalog_name": "",
        "at_clause": None,
        "qualified_name": {"path": [name]},
    }


def select_all(table: Node, exclude: tuple[str, ...] = ()) -> Node:
    """Return ``SELECT * FROM`` a table, some columns left out."""
    star = {
        "class": "STAR",
        "type": "STAR",
        "alias": "",
        "query_location": 0,
        "query_location_length": 0,
        "relation_name": "",
        "exclude_list": list(exclude),
        "replace_list": [],
        "columns": False,
        "expr": None,
        "qualified_exclude_list": [],
        "rename_list": [],
    }
    return {
        "type": "SELECT_NODE",
        "modifiers": [],
        "cte_map": {"map": []},
        "select_list": [star],
        "from_table": table,
        "where_clause": None,
        "group_expressions": [],
        "group_sets": [],
        "aggregate_handling": "STANDARD_HANDLING",
        "having": None,
        "sample": None,
        "qualify": None,
    }
