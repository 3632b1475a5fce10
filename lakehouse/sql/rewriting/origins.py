"""Where a name in a statement comes from: which wide column of which table, if that is certain.

Names are followed through subqueries, joins and WITH. Where that is not certain the answer is that it is unknown:
what depends on it is done without, which costs bytes and never a wrong answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Names", "Origins", "is_bare_star", "leaves", "starred"]

Names: TypeAlias = "list[tuple[str, Carried | None]]"
"""The columns of a table in order, without case, each with the wide column it hands through, or None."""


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A table that is joined in a FROM."""

    table: Node
    alias: str
    columns: Mapping[str, list[Carried | None]] | None

    @classmethod
    def of(cls, table: Node, names: Names | None) -> _Leaf:
        columns: dict[str, list[Carried | None]] = {}
        for name, origin in names or ():
            columns.setdefault(name, []).append(origin)
        return cls(table, _alias(table), None if names is None else columns)


@dataclass(frozen=True, eq=False)
class Origins:
    """Follows names to the columns they hand through; what it found it keeps until it is told to `forget`.

    Parameters
    ----------
    slots
        The columns of each slot.
    queries
        The query of each WITH name that a statement defines once and not by itself.
    """

    slots: Mapping[str, Names]
    queries: Mapping[str, Node]
    _columns: dict[int, Names | None] = field(default_factory=dict)
    _leaves: dict[int, list[_Leaf]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node], slots: Mapping[str, Names]) -> Origins:
        """Look up what the WITH clauses of a statement define, given by its nodes."""
        entries = [entry for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())]
        times = Counter(entry["key"].casefold() for entry in entries)
        once = [entry for entry in entries if times[entry["key"].casefold()] == 1 and not entry["value"]["aliases"]]
        return cls(slots, {entry["key"].casefold(): entry["value"]["query_node"] for entry in once})

    def forget(self) -> None:
        """Look again: a table in some FROM was changed."""
        self._columns.clear()
        self._leaves.clear()

    def columns(self, table: Node) -> Names | None:
        """Return the columns of a table in FROM, or None where they are not known."""
        if id(table) not in self._columns:
            self._columns[id(table)] = self._found(table)
        return self._columns[id(table)]

    def _found(self, table: Node) -> Names | None:
        kind = table["type"]
        if kind == "JOIN":
            left, right = self.columns(table["left"]), self.columns(table["right"])
            if table["join_type"] in ("SEMI", "ANTI"):
                return left
            return None if left is None or right is None else left + right
        if kind == "BASE_TABLE":
            path = table["qualified_name"]["path"]
            if path[-1] in self.slots:
                return self.slots[path[-1]]
            query = self.queries.get(path[-1].casefold()) if len(path) == 1 else None
            return _named(self.selected(query), table["column_name_alias"]) if query else None
        if kind == "SUBQUERY":
            return _named(self.selected(table["subquery"]["node"]), table["column_name_alias"])
        if kind == "EXPRESSION_LIST":
            return [(f"col{at}", None) for at in range(len(table["values"][0]))]
        return [] if kind == "EMPTY" else None

    def selected(self, query: Node) -> Names | None:
        """Return the columns of a query's result."""
        if query["type"] == "SET_OPERATION_NODE" and query["setop_type"] in ("UNION", "EXCEPT", "INTERSECT"):
            first = self.selected(query["children"][0])
            return None if first is None else [(name, None) for name, _ in first]
        if query["type"] != "SELECT_NODE":
            return None
        found: Names = []
        for item in query["select_list"]:
            if item.get("type") == "STAR":
                columns = self.columns(query["from_table"]) if is_bare_star(item) else None
                if columns is None:
                    return None
                found += starred(item, columns)
            elif item.get("class") == "COLUMN_REF":
                name = item["alias"] or item["column_names"][-1]
                found.append((name.casefold(), self.of_column(query["from_table"], item["column_names"])))
            else:
                found.append((item["alias"].casefold(), None))
        return found

    def of_column(self, table: Node, parts: list[str]) -> Carried | None:
        """Return the wide column that a name means over a FROM, or None where it means another or is not certain."""
        place = self.place(table, parts)
        return None if place is None else place[2]

    def place(self, table: Node, parts: list[str]) -> tuple[Node, str, Carried | None] | None:
        """Return which of the tables joined in a FROM a name is a column of, its name there, and what it is."""
        *before, name = (part.casefold() for part in parts)
        if id(table) not in self._leaves:
            self._leaves[id(table)] = [_Leaf.of(leaf, self.columns(leaf)) for leaf in leaves(table)]
        there = self._leaves[id(table)]
        if before:
            there = [leaf for leaf in there if before == [leaf.alias]]
        found = []
        for leaf in there:
            if leaf.columns is None:
                return None
            found += [(leaf.table, name, origin) for origin in leaf.columns.get(name, ())]
        return found[0] if len(found) == 1 else None


def leaves(table: Node) -> Iterator[Node]:
    """Yield the tables that are joined in a FROM, those left out that a semi-join only looks into."""
    if table["type"] == "JOIN":
        yield from leaves(table["left"])
        if table["join_type"] not in ("SEMI", "ANTI"):
            yield from leaves(table["right"])
    else:
        yield table


def is_bare_star(item: Node) -> bool:
    """Whether an item is ``*``, with or without EXCLUDE, and no more."""
    if item.get("type") != "STAR":
        return False
    more = ("columns", "expr", "replace_list", "rename_list", "relation_name")
    return not any(item[part] for part in more)


def starred(star: Node, columns: Names) -> Names:
    """Return the columns that ``*`` means of those in FROM."""
    left_out = {name.casefold() for name in star["exclude_list"]}
    left_out |= {entry["column"].casefold() for entry in star["qualified_exclude_list"]}
    return [(name, origin) for name, origin in columns if name not in left_out]


def _named(columns: Names | None, aliases: list[str]) -> Names | None:
    if columns is None:
        return None
    given = [alias.casefold() for alias in aliases]
    return [(given[at] if at < len(given) else name, origin) for at, (name, origin) in enumerate(columns)]


def _alias(table: Node) -> str:
    path = table.get("qualified_name", {}).get("path", [""])
    return str(table["alias"] or path[-1]).casefold()
