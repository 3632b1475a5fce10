"""Media functions in a WHERE are called for the rows that its other conditions leave.

DuckDB evaluates the conditions of a WHERE in an order of its own, and does not know that one of them reads media:
``a AND image_width(image) > 9`` becomes ``a AND CASE WHEN a THEN image_width(image) > 9 END``.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from lakehouse.sql.functions import calls_in
from lakehouse.sql.scans.predicates import conjuncts
from lakehouse.sql.statement.syntax import column_refs, walk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.sql.statement.syntax import Node

__all__ = ["guard"]


def guard(nodes: Sequence[Node]) -> None:
    """Put the other conditions before those that call a media function.

    Parameters
    ----------
    nodes
        The statement's nodes; they are changed.
    """
    for node in nodes if any(calls_in(nodes)) else ():
        if node.get("type") == "SELECT_NODE" and node["where_clause"] is not None:
            is_joined = node["from_table"]["type"] == "JOIN"
            node["where_clause"] = _guarded(node["where_clause"], is_joined=is_joined)


def _guarded(where: Node, *, is_joined: bool) -> Node:
    parts = list(conjuncts(where))
    costly = [any(calls_in(walk(part))) for part in parts]
    if all(costly) or not any(costly):
        return where
    # What names a table within a subquery would be computed twice.
    plain = [part for part, reads in zip(parts, costly, strict=True) if not reads and not _has_query(part)]
    guarded = []
    for part, reads in zip(parts, costly, strict=True):
        before = [each for each in plain if not is_joined or _is_about_same(each, part)] if reads else []
        guarded.append(_case(_all_of(copy.deepcopy(before)), part) if before else part)
    return _all_of(guarded)


def _has_query(part: Node) -> bool:
    return any(node.get("class") == "SUBQUERY" for node in walk(part))


def _is_about_same(plain: Node, part: Node) -> bool:
    """Whether a condition names tables that another names too: else that would wait for a join it need not wait for."""
    named, others = (
        {names[0].casefold() if len(names) > 1 else "" for names in column_refs(walk(p))} for p in (plain, part)
    )
    return "" not in named and named <= others


def _all_of(parts: list[Node]) -> Node:
    conjunction = {"class": "CONJUNCTION", "type": "CONJUNCTION_AND", "alias": "", "query_location": 0}
    return parts[0] if len(parts) == 1 else {**conjunction, "children": parts}


def _case(when: Node, then: Node) -> Node:
    null = {
        "class": "CONSTANT",
        "type": "VALUE_CONSTANT",
        "alias": "",
        "query_location": 0,
        "literal": {"kind": "NULL_LITERAL", "text": ""},
    }
    case = {"class": "CASE", "type": "CASE_EXPR", "alias": "", "query_location": 0}
    return {**case, "case_checks": [{"when_expr": when, "then_expr": then}], "else_expr": null}
