"""Where a statement keeps few rows: LIMIT, samples, and the first rows of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.sql.statement.slots import slot_of
from lakehouse.sql.statement.syntax import value_of, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Head", "cuts", "heads", "named_item", "rows_kept", "samples"]

_FEW = 1_000  # rows; as many random reads of a column cost less than dragging it through a scan of a large table


def cuts(nodes: Iterable[Node], values: Mapping[str, Any]) -> list[Node]:
    """List the queries that keep few rows by a LIMIT, those inside of others last."""
    limits = ((node, rows_kept(node, values)) for node in nodes if node.get("modifiers"))
    return [node for node, rows in limits if rows is not None and rows <= _FEW]


def samples(nodes: Iterable[Node], num_rows: Callable[[str], int | None]) -> list[Node]:
    """List the tables in FROM that few rows are drawn from.

    ``USING SAMPLE`` behind a SELECT over one table means the same as behind the table, where it is put.

    Parameters
    ----------
    nodes
        The statement's nodes; they are changed.
    num_rows
        Counts the rows in a slot.
    """
    found = []
    for node in nodes:
        table = node.get("from_table")
        if table and node["sample"] and table["type"] in ("BASE_TABLE", "SUBQUERY") and not table["sample"]:
            table["sample"], node["sample"] = node["sample"], None
        if node.get("type") == "SUBQUERY" and node.get("sample"):
            size = node["sample"]["sample_size"]["value"]
            total = num_rows(slot_of(node) or "") if node["sample"]["is_percentage"] else None
            rows = size if not node["sample"]["is_percentage"] else None if total is None else size / 100 * total
            if rows is not None and rows <= max(_FEW, (total or 0) // 100):
                found.append(node)
    return found


@dataclass(frozen=True)
class Head:
    """The rows from a table's beginning that a LIMIT asks for.

    Parameters
    ----------
    limit
        How many.
    offset
        How many are left out before them.
    exact
        Whether these and no others are wanted. Else DuckDB stops after some more, those that its WHERE drops.
    """

    limit: int
    offset: int = 0
    exact: bool = True


def heads(
    nodes: Iterable[Node], values: Mapping[str, Any], slots: Container[str], is_scalar: Callable[[str], bool]
) -> dict[str, Head]:
    """Find the slots that a LIMIT shows the first rows of, with nothing between that needs later ones.

    Parameters
    ----------
    nodes
        The statement's nodes; an OFFSET that the table leaves out itself is taken out of it.
    values
        Values of its parameters.
    slots
        The slots of the lake's tables.
    is_scalar
        Whether a function gives each row a value.
    """
    found = {}
    for node in nodes:
        if node.get("type") != "SELECT_NODE" or len(node["modifiers"]) != 1 or not _shows_rows(node, is_scalar):
            continue
        (modifier,) = node["modifiers"]
        slot, rows = slot_of(node["from_table"]), rows_kept(node, values)
        if slot is None or slot not in slots or rows is None or node["from_table"]["sample"] is not None:
            continue
        if node["where_clause"] is not None:
            found[slot] = Head(rows, exact=False)
            continue
        offset = (_number(modifier["offset"], values) or 0) if modifier["offset"] else 0
        modifier["offset"] = None
        found[slot] = Head(rows - offset, offset)
    return found


def named_item(key: Node, items: list[Node]) -> Node | None:
    """Return the item of a SELECT list that ORDER BY means by its number or its name, else the key itself.

    None where that is not certain: ``ORDER BY ALL``, and numbers beside a ``*``.
    """
    if key.get("class") == "STAR":
        return None
    if key.get("class") == "CONSTANT" and key["literal"]["kind"] == "INTEGER":
        position = int(key["literal"]["text"])
        is_there = 1 <= position <= len(items) and not any(item.get("type") == "STAR" for item in items)
        return items[position - 1] if is_there else None
    if key.get("class") == "COLUMN_REF" and len(key["column_names"]) == 1:
        name = key["column_names"][0].casefold()
        return next((item for item in items if item["alias"].casefold() == name), key)
    return key


def _shows_rows(node: Node, is_scalar: Callable[[str], bool]) -> bool:
    """Whether a SELECT gives a row for each row of its FROM."""
    clauses = ("group_expressions", "group_sets", "having", "sample", "qualify")
    if any(node[clause] for clause in clauses) or node["aggregate_handling"] != "STANDARD_HANDLING":
        return False
    nodes = [each for item in node["select_list"] for each in walk(item)]
    calls = [each["function_name"] for each in nodes if each.get("class") == "FUNCTION"]
    return all(map(is_scalar, calls)) and not any(each.get("class") in ("SUBQUERY", "WINDOW") for each in nodes)


def rows_kept(node: Node, values: Mapping[str, Any]) -> int | None:
    """Return the rows a query keeps and those it skips before them, if both are plain numbers."""
    for modifier in node["modifiers"]:
        if modifier["type"] == "LIMIT_MODIFIER" and modifier["limit_type"] == "ROW_COUNT" and modifier["limit"]:
            numbers = [_number(modifier[part], values) for part in ("limit", "offset") if modifier[part]]
            return None if None in numbers else sum(n for n in numbers if n is not None)
    return None


def _number(expression: Node, values: Mapping[str, Any]) -> int | None:
    value = value_of(expression, values)
    return value if type(value) is int and value >= 0 else None
