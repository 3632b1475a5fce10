"""The sides of joins: which tables may lose rows before they are joined, and what computes the keys of a side alone."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.sql.statement.cuts import named_item, rows_kept
from lakehouse.sql.statement.slots import select_all
from lakehouse.sql.statement.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Side", "equalities", "is_in", "joins", "keys_statement", "passed"]

# Of the two sides of a join, those that may lose rows early without a change to what is made of the others.
_PASSED = {"INNER": "left right", "SEMI": "left", "LEFT": "left", "RIGHT": "right", "ANTI": "left"}


@dataclass(frozen=True, eq=False)
class Side:
    """A side of which the keys are wanted.

    Parameters
    ----------
    table
        A table in FROM, or a query.
    key
        Its column; None for the one of a query.
    conditions
        What must hold for its rows; they name its columns alone.
    """

    table: Node
    key: Node | None
    conditions: list[Node]


def joins(table: Node) -> Iterator[Node]:
    """Yield the joins of a FROM, those by order, position or name of columns left out."""
    if table["type"] == "JOIN":
        if table["ref_type"] in ("REGULAR", "CROSS"):
            yield table
        yield from joins(table["left"])
        yield from joins(table["right"])


def passed(table: Node) -> Iterator[int]:
    """Yield the ``id`` of the nodes of the tables in a FROM that may lose rows before they are joined."""
    if table["type"] != "JOIN":
        yield id(table)
    elif table["ref_type"] in ("REGULAR", "CROSS"):
        for side in _PASSED.get(table["join_type"], "").split():
            yield from passed(table[side])


def is_in(part: Node) -> bool:
    """Whether a condition is ``column IN (SELECT …)``."""
    is_any = part.get("class") == "SUBQUERY" and part["subquery_type"] == "ANY"
    return is_any and part["comparison_type"] == "COMPARE_EQUAL" and part["child"].get("class") == "COLUMN_REF"


def equalities(part: Node) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the two columns that a condition says are equal, both ways round."""
    if part["type"] == "COMPARE_EQUAL" and part["left"].get("class") == part["right"].get("class") == "COLUMN_REF":
        left, right = part["left"]["column_names"], part["right"]["column_names"]
        yield left, right
        yield right, left


def keys_statement(side: Side, defined: list[Node], values: Mapping[str, Any], most: int) -> Node | None:
    """Write the statement that computes the keys of a side: all that may be among them, and no row twice.

    Parameters
    ----------
    side
        The side.
    defined
        The entries of all WITH clauses of the statement.
    values
        Values of its parameters.
    most
        How many keys are wanted.

    Returns
    -------
    dict or None
        The statement; None where a name of WITH means one of several queries.
    """
    entries = _needed(side.table, defined)
    if entries is None:
        return None
    node = select_all(side.table if side.key is not None else _subquery(side.table))
    if side.key is not None:
        node["select_list"] = [side.key]
    if side.conditions:
        conjunction = {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "query_location": 0}
        node["where_clause"] = {**conjunction, "children": side.conditions}
    node["cte_map"] = {"map": entries}
    node = copy.deepcopy(node)
    for each in walk(node):
        _with_ties(each, values)
    limit = {"type": "LIMIT_MODIFIER", "limit": _integer(most), "offset": None, "limit_type": "ROW_COUNT"}
    node["modifiers"] = [{"type": "DISTINCT_MODIFIER", "distinct_on_targets": []}, limit]
    return {"node": node, "named_param_map": []}


def _needed(table: Node, defined: list[Node]) -> list[Node] | None:
    """List the WITH entries that a table needs, in order; None if a name of theirs is defined twice."""
    keys = [entry["key"].casefold() for entry in defined]
    wanted: set[str] = set()
    waiting = _named(table).intersection(keys)
    while waiting:
        key = waiting.pop()
        wanted.add(key)
        if keys.count(key) > 1:
            return None
        waiting |= _named(defined[keys.index(key)]["value"]).intersection(keys) - wanted
    return [entry for entry in defined if entry["key"].casefold() in wanted]


def _named(tree: Node) -> set[str]:
    return {node["qualified_name"]["path"][-1].casefold() for node in walk(tree) if node.get("type") == "BASE_TABLE"}


def _with_ties(node: Node, values: Mapping[str, Any]) -> None:
    """Have a query with ORDER BY and LIMIT keep the rows that tie with the last one: which of them stay is chance."""
    if node.get("type") != "SELECT_NODE" or node["qualify"] is not None:
        return
    if [modifier["type"] for modifier in node["modifiers"]] != ["ORDER_MODIFIER", "LIMIT_MODIFIER"]:
        return
    orders, rows = node["modifiers"][0]["orders"], rows_kept(node, values)
    items = [named_item(order["expression"], node["select_list"]) for order in orders]
    if rows is None or None in items:
        return
    for order, item in zip(orders, items, strict=True):
        order["expression"] = {**copy.deepcopy(item or {}), "alias": ""}
    rank = {**_RANK, "orders": orders}
    comparison = {"class": "COMPARISON", "type": "COMPARE_LESSTHANOREQUALTO", "alias": "", "query_location": 0}
    node["qualify"] = {**comparison, "left": rank, "right": _integer(rows)}
    node["modifiers"] = []


def _integer(value: int) -> Node:
    literal = {"kind": "INTEGER", "text": str(value)}
    return {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "query_location": 0, "literal": literal}


def _subquery(query: Node) -> Node:
    named: Node = {"type": "SUBQUERY", "alias": "keys", "sample": None, "column_name_alias": []}
    return {
        **named,
        "subquery": {"node": query, "named_param_map": []},
        "query_location": 0,
        "query_location_length": 0,
    }


_RANK: Node = {
    "class": "WINDOW",
    "type": "WINDOW_RANK",
    "alias": "",
    "query_location": 0,
    "function_name": "rank",
    "schema": "",
    "catalog": "",
    "partitions": [],
    "start": "UNBOUNDED_PRECEDING",
    "end": "CURRENT_ROW_RANGE",
    "start_expr": None,
    "end_expr": None,
    "offset_expr": None,
    "default_expr": None,
    "ignore_nulls": False,
    "filter_expr": None,
    "exclude_clause": "NO_OTHER",
    "distinct": False,
    "arg_orders": [],
    "has_ignore_nulls": False,
    "arguments": [],
    "qualified_name": {"path": ["rank"]},
}
