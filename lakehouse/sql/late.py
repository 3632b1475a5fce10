"""Media functions of a SELECT list run on the rows that ORDER BY and LIMIT keep.

``SELECT image_width(image) FROM pets ORDER BY score LIMIT 3`` calls the function on every row in DuckDB, which sorts
what it has computed. It becomes ``SELECT image_width(c0) FROM (SELECT image AS c0 … ORDER BY score LIMIT 3)``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from lakehouse.sql.functions import FUNCTIONS, OWN, calls_in
from lakehouse.sql.slots import subquery
from lakehouse.sql.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.sql.syntax import Node

__all__ = ["compute_last", "name_calls"]

_NAME = "lake_late_{}"
_ALIAS = "lake_late"


def name_calls(statement: Node, text: Callable[[Node], str]) -> None:
    """Give the items of a SELECT list that call a media function the names DuckDB would give them.

    Parameters
    ----------
    statement
        The statement; it is changed.
    text
        Prints an expression.
    """
    named = {*FUNCTIONS, *OWN}
    for node in list(walk(statement)):
        if node.get("type") != "SELECT_NODE":
            continue
        for item in node["select_list"]:
            called = {each["function_name"].lower() for each in walk(item) if each.get("class") == "FUNCTION"}
            if not item["alias"] and called & named and item["class"] != "STAR":
                item["alias"] = text(item)


def compute_last(statement: Node) -> None:
    """Put what a LIMIT cuts, without what is computed from media, into a subquery, where that means the same.

    Parameters
    ----------
    statement
        The statement; it is changed.
    """
    node = statement["node"]
    if node["type"] != "SELECT_NODE" or not _is_plain(node):
        return
    columns: dict[str, Node] = {}  # what the outer SELECT needs, by its printed path
    outer, inner = [], []
    for item in node["select_list"]:
        if item.get("type") == "STAR":
            inner.append(item)
            outer.append(item)
        else:
            outer.append(_renamed(copy.deepcopy(item), columns))
    names = [_NAME.format(at) for at in range(len(columns))]
    inner += [{**column, "alias": name} for name, column in zip(names, columns.values(), strict=True)]
    outer = [_star_without(item, names) if item.get("type") == "STAR" else item for item in outer]
    kept = {**node, "select_list": inner, "cte_map": {"map": []}}
    empty: Node = {"modifiers": [], "where_clause": None, "sample": None}
    statement["node"] = {**node, **empty, "select_list": outer, "from_table": subquery(kept, _ALIAS)}


def _is_plain(node: Node) -> bool:
    """Whether the rows of a query are those of its FROM, cut by a LIMIT that its media functions do not decide."""
    kinds = [modifier["type"] for modifier in node["modifiers"]]
    if "LIMIT_MODIFIER" not in kinds or not set(kinds) <= {"ORDER_MODIFIER", "LIMIT_MODIFIER"}:
        return False
    if any(node[clause] for clause in ("group_expressions", "group_sets", "having", "sample", "qualify")):
        return False
    items = node["select_list"]
    if not any(any(calls_in(item)) for item in items) or node["from_table"]["type"] == "EMPTY":
        return False
    return all(map(_is_row_by_row, items)) and not _orders_by_items(node)


def _is_row_by_row(item: Node) -> bool:
    if item.get("type") == "STAR":
        is_bare = not (item["columns"] or item["expr"] or item["replace_list"] or item["rename_list"])
        return is_bare and not item["relation_name"]
    nodes = list(walk(item))
    # Aggregates cannot be told from functions by the tree, but a name in ours and arithmetic cannot be one.
    calls = [each["function_name"].lower() for each in nodes if each.get("class") == "FUNCTION"]
    known = {each["function_name"].lower() for each in calls_in(item)}
    return all(name in known or not name.isidentifier() for name in calls) and not any(
        each.get("class") in ("SUBQUERY", "WINDOW", "STAR", "POSITIONAL_REFERENCE", "LAMBDA") for each in nodes
    )


def _orders_by_items(node: Node) -> bool:
    """Whether ORDER BY means items of the SELECT list, by number or by the name given there."""
    aliases = {item["alias"].casefold() for item in node["select_list"] if item["alias"]}
    for modifier in node["modifiers"]:
        for order in modifier.get("orders", ()):
            for each in walk(order["expression"]):
                is_alias = each.get("class") == "COLUMN_REF" and each["column_names"][0].casefold() in aliases
                if is_alias or (each is order["expression"] and each.get("class") in ("CONSTANT", "STAR")):
                    return True
            if any(calls_in(order["expression"])):
                return True
    return False


def _renamed(item: Node, columns: dict[str, Node]) -> Node:
    """Write an item over the names its columns have in the subquery; it keeps its own name."""
    if item.get("class") == "COLUMN_REF" and not item["alias"]:
        item["alias"] = item["column_names"][-1]
    for each in walk(item):
        if each.get("class") == "COLUMN_REF":
            path = "\0".join(name.casefold() for name in each["column_names"])
            column = columns.setdefault(path, {**each, "column_names": list(each["column_names"])})
            each["column_names"] = [_NAME.format(list(columns.values()).index(column))]
    return item


def _star_without(star: Node, names: list[str]) -> Node:
    return {**star, "exclude_list": [*star["exclude_list"], *names]}
