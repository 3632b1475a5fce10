"""Which columns a statement works on, and which it only hands from a table through to the result.

Decided on the tree alone, by name and without case, whatever table a name belongs to: where two readings are
possible the column is said to be looked at, which costs bytes and never a wrong answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.sql.functions import takes_row_ids
from lakehouse.sql.statement.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Uses", "looked_at"]


@dataclass(frozen=True)
class Uses:
    """What a statement does with wide columns.

    Parameters
    ----------
    values
        Those whose values it works on, or might; the others are only handed through.
    nulls
        Those of which it asks no more than whether they are NULL.
    """

    values: frozenset[str]
    nulls: frozenset[str]


def looked_at(statement: Node, nodes: Sequence[Node], columns: Iterable[str]) -> Uses:
    """Tell what a statement does with columns, by name.

    Parameters
    ----------
    statement
        The statement.
    nodes
        Its nodes.
    columns
        Names of media and other wide columns of the tables it reads.
    """
    origin = {name.casefold(): name for name in columns}
    aliases = _aliases(nodes, origin)
    uses = _Uses(frozenset(origin) | frozenset(aliases), _whole_rows(nodes))
    uses.visit(statement["node"], passes=True)
    if uses.all:
        return Uses(frozenset(origin.values()), frozenset())
    values, nulls = (
        frozenset(origin[source] for name in names for source in _sources(name, aliases) if source in origin)
        for names in (uses.names, uses.tested)
    )
    return Uses(values, nulls - values)


def _aliases(nodes: Iterable[Node], columns: Container[str]) -> dict[str, set[str]]:
    """Find the other names columns go by (``image AS pic``), each with what it stands for."""
    found: dict[str, set[str]] = {}
    items = [item for node in nodes if node.get("type") == "SELECT_NODE" for item in node["select_list"]]
    named = [(i["alias"].casefold(), i["column_names"][-1].casefold()) for i in items if i.get("class") == "COLUMN_REF"]
    grown = True
    while grown:  # an alias of an alias
        grown = False
        for alias, source in named:
            known = source in columns or source in found
            if alias and alias != source and known and source not in found.get(alias, ()):
                found.setdefault(alias, set()).add(source)
                grown = True
    return found


def _sources(name: str, aliases: Mapping[str, set[str]]) -> set[str]:
    found, waiting = {name}, [name]
    while waiting:
        for source in aliases.get(waiting.pop(), ()):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


def _whole_rows(nodes: Iterable[Node]) -> frozenset[str]:
    """Find the names that alone mean a whole row of a table: ``SELECT pets FROM pets``."""
    tables = [node for node in nodes if node.get("type") in ("BASE_TABLE", "SUBQUERY") and "class" not in node]
    return frozenset((node["alias"] or node.get("table_name", "")).casefold() for node in tables)


@dataclass(eq=False)
class _Uses:
    """A walk over a statement that notes where media columns are more than handed through."""

    media: frozenset[str]
    rows: frozenset[str]
    names: set[str] = field(default_factory=set)
    tested: set[str] = field(default_factory=set)
    all: bool = False

    def visit(self, value: Any, *, passes: bool = False) -> None:
        """Note what a subtree looks at; `passes`: its SELECT list goes on to the result, row by row."""
        if isinstance(value, list):
            for child in value:
                self.visit(child, passes=passes)
        elif isinstance(value, dict):
            self._node(value, passes=passes)

    def _node(self, node: Node, *, passes: bool) -> None:
        kind = node.get("type")
        if kind == "SELECT_NODE":
            self._select(node, passes=passes)
            return
        if kind == "COLUMN_REF":
            self._column(node["column_names"])
        elif kind in ("STAR", "POSITIONAL_REFERENCE", "PIVOT", "SHOW_REF"):
            self.all = True
        elif kind == "JOIN":
            self.all |= node["ref_type"] == "NATURAL"
            self.names |= self.media & {name.casefold() for name in node["using_columns"]}
        elif kind == "SET_OPERATION_NODE":
            passes = False  # row ids of two places do not go into one column, nor do row ids and bytes
            self._by_position(node, [])
        elif kind == "RECURSIVE_CTE_NODE":
            passes = False
        elif (tested := self._null_test(node)) is not None:
            self.tested.add(tested["column_names"][-1].casefold())
            return
        elif node.get("class") == "FUNCTION" and takes_row_ids(node["function_name"]):
            self._call(node["arguments"])
            return
        elif node.get("class") == "SUBQUERY":
            passes = node["subquery_type"] == "EXISTS"
        elif kind in ("BASE_TABLE", "SUBQUERY"):
            passes = True
            self.all |= bool(node["column_name_alias"]) and _reads_tables(node)
        for entry in (node.get("cte_map") or {}).get("map", ()):
            self._cte(entry["value"])
        for key, child in node.items():
            if key != "cte_map":
                self.visit(child, passes=passes)

    def _cte(self, value: Node) -> None:
        self.all |= bool(value["aliases"]) and _reads_tables(value)
        self.visit({k: v for k, v in value.items() if k != "aliases"}, passes=True)

    def _select(self, node: Node, *, passes: bool) -> None:
        distinct = [m for m in node["modifiers"] if m["type"] == "DISTINCT_MODIFIER" and not m["distinct_on_targets"]]
        grouped = node["group_expressions"] or node["aggregate_handling"] != "STANDARD_HANDLING"
        hands_on = passes and not distinct and not grouped
        for item in node["select_list"]:
            if hands_on and _is_star(item):
                self.all |= bool(item["rename_list"])
                self.visit([entry["value"] for entry in item["replace_list"]])
            elif not (hands_on and self._is_medium(item)):
                self.visit(item)
        self._by_position(node, node["select_list"])
        for entry in node["cte_map"]["map"]:
            self._cte(entry["value"])
        self.visit(node["from_table"], passes=True)
        for key, child in node.items():
            if key not in ("select_list", "from_table", "cte_map"):
                self.visit(child)

    def _call(self, arguments: list[Node]) -> None:
        """Our functions read the bytes of a row id themselves."""
        self.visit([each for each in arguments if not self._is_medium(each["expression"])])

    def _null_test(self, node: Node) -> Node | None:
        """Return the medium that a node asks no more of than whether it is NULL, as ``count(image)`` does."""
        if node.get("type") in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            given = node["children"]
        elif node.get("class") == "FUNCTION" and node["function_name"].lower() == "count":
            more = node["distinct"] or node["filter"] or node["order_bys"]["orders"]
            given = [] if more else [each["expression"] for each in node["arguments"]]
        else:
            return None
        return given[0] if len(given) == 1 and self._is_medium(given[0]) else None

    def _is_medium(self, item: Node) -> bool:
        if item.get("class") != "COLUMN_REF":
            return False
        *before, last = (name.casefold() for name in item["column_names"])
        return last in self.media and not self.media.intersection(before)

    def _column(self, parts: list[str]) -> None:
        folded = [part.casefold() for part in parts]
        self.names |= self.media.intersection(folded)
        self.all |= len(folded) == 1 and folded[0] in self.rows and folded[0] not in self.media

    def _by_position(self, node: Node, items: list[Node]) -> None:
        """``ORDER BY 2`` and ``DISTINCT ON (2)`` look at the second item."""
        for modifier in node["modifiers"]:
            keys = [order["expression"] for order in modifier.get("orders", ())]
            for key in keys + modifier.get("distinct_on_targets", []):
                if key.get("class") == "CONSTANT":
                    position = int(key["literal"]["text"]) if key["literal"]["kind"] == "INTEGER" else 0
                    if any(_is_star(item) for item in items) or not 1 <= position <= len(items):
                        self.all = True
                    else:
                        self.visit(items[position - 1])


def _reads_tables(tree: Node) -> bool:
    return any(node.get("type") == "BASE_TABLE" for node in walk(tree))


def _is_star(item: Node) -> bool:
    return bool(item.get("type") == "STAR" and not item["columns"] and item["expr"] is None)
