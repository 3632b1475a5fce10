"""What a SELECT that keeps few rows computes, it computes of those rows.

A *cut* is a SELECT with a small LIMIT, or over a small sample. Of ``SELECT upper(caption) FROM pets ORDER BY score
LIMIT 3`` DuckDB reads and computes every caption, and sorts what comes out. It becomes ``SELECT
upper(lake_fetch_text(c0)) FROM (SELECT caption AS c0 … ORDER BY score LIMIT 3)``, where c0 is a row id. Cuts inside a
statement are *sealed* where what is above them works on their wide columns: no row id leaves them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.sql.fetching import fetch
from lakehouse.sql.functions import FUNCTIONS, OWN, calls_in
from lakehouse.sql.rewriting.origins import is_bare_star, starred
from lakehouse.sql.statement.cuts import named_item
from lakehouse.sql.statement.slots import select_all, subquery
from lakehouse.sql.statement.syntax import column_refs, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from lakehouse.sql.rewriting.origins import Names, Origins
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Late", "name_items"]

_NAME = "lake_late_{}"
_ALIAS = "lake_late"
_INSIDE = ("SUBQUERY", "WINDOW", "STAR", "POSITIONAL_REFERENCE", "LAMBDA")


def name_items(nodes: Iterable[Node], cuts: list[Node], text: Callable[[Node], str]) -> None:
    """Give items of SELECT lists the names DuckDB would give them, where they move or a call in them changes.

    Parameters
    ----------
    nodes
        The statement's nodes; they are changed.
    cuts
        Its SELECTs whose items may move.
    text
        Prints an expression.
    """
    moves = {id(node) for node in cuts}
    ours = {*FUNCTIONS, *OWN}
    for node in nodes:
        for item in node.get("select_list", ()):
            if item["alias"] or item["class"] == "COLUMN_REF":
                continue
            parts = walk(item)
            called = {each["function_name"].lower() for each in parts if each.get("class") == "FUNCTION"}
            names_tables = any(each.get("class") == "SUBQUERY" for each in parts)
            if (id(node) in moves or called & ours or names_tables) and not _is_many(parts):
                item["alias"] = text(item)


def _is_many(item: Iterable[Node]) -> bool:
    """Whether an item, given by its nodes, may become several columns, or rows, with names of their own."""
    return any(
        node.get("type") == "STAR" or (node.get("class") == "FUNCTION" and node["function_name"].lower() == "unnest")
        for node in item
    )


@dataclass(eq=False)
class _Halves:
    """The items of a SELECT, parted: what is computed before the cut, and after it of columns of the cut."""

    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)
    columns: dict[tuple[str, ...], tuple[str, Node]] = field(default_factory=dict)
    certain: bool = True  # whether no wide column can leave under a name that was not followed

    def kept(self) -> list[Node]:
        """Return the items of the cut."""
        return self.before + [{**ref, "alias": name} for name, ref in self.columns.values()]


@dataclass(eq=False)
class Late:
    """Rewrites the cuts of one statement.

    Parameters
    ----------
    statement
        The statement; it is changed.
    origins
        Follows its names.
    used
        The wide columns it works on somewhere.
    is_scalar
        Whether a function gives a value a row, and the same value for the same row.
    """

    statement: Node
    origins: Origins
    used: Collection[str]
    is_scalar: Callable[[str], bool]
    sealed: dict[str, Node] = field(default_factory=dict)
    changed: bool = False
    _count: int = 0

    def split(self, node: Node) -> None:
        """Have a SELECT with a LIMIT compute its items of the rows it keeps, where that means the same."""
        columns = self.origins.columns(node["from_table"])
        if not _is_plain(node) or not _stars_are_whole(node, columns) or _means_items(node, columns):
            return
        keys = self._keys_by_item(node)
        is_root = node is self.statement["node"]
        halves = self._halved(node, columns or [], is_root=is_root)
        if keys is None or not any(map(_computes, halves.after)):
            return
        for key, item in keys:
            meant = {**copy.deepcopy(item), "alias": ""}
            key.clear()
            key.update(meant)
        kept = {**node, "select_list": halves.kept(), "cte_map": {"map": []}}
        empty: Node = {"modifiers": [], "where_clause": None, "sample": None, "qualify": None}
        node.update({**empty, "select_list": halves.after, "from_table": subquery(kept, _ALIAS)})
        self.changed = True
        self.origins.forget()
        if halves.certain and not is_root:
            self._seal(node)

    def _halved(self, node: Node, columns: Names, *, is_root: bool) -> _Halves:
        halves = _Halves()
        for item in node["select_list"]:
            if item.get("type") == "STAR":
                star = {**item, "exclude_list": [], "qualified_exclude_list": []}
                if not is_root:
                    self._replace(star, starred(item, columns))
                halves.before.append(item)
                halves.after.append(star)
            elif self._is_row_by_row(item):
                halves.after.append(self._moved(item, node["from_table"], halves, bare_too=not is_root))
            else:
                name = self._new_name()
                halves.before.append({**item, "alias": name})
                halves.after.append(_column([name], item["alias"]))
        hidden = [item["alias"] for item in halves.kept() if item.get("type") != "STAR"]
        for item in halves.after:
            if item.get("type") == "STAR":
                item["exclude_list"] = hidden
        return halves

    def sample(self, table: Node) -> None:
        """Give a sampled table its wide columns after sampling, where the statement works on them."""
        columns = self.origins.columns(table)
        if columns is None or len({name for name, _ in columns}) < len(columns):
            return
        sampled = {**table}
        query = select_all(sampled)
        if self._replace(query["select_list"][0], columns):
            table.clear()
            table.update(subquery(query, sampled["alias"]))
            self.changed = True
            self.origins.forget()
            self._seal(table)

    def _seal(self, tree: Node) -> None:
        """Have the wide columns of the tables in a SELECT looked for in it alone."""
        for node in walk(tree):
            if node.get("type") == "BASE_TABLE" and node["qualified_name"]["path"][-1] in self.origins.slots:
                self.sealed.setdefault(node["qualified_name"]["path"][-1], {"node": tree})

    def _replace(self, star: Node, columns: Names) -> bool:
        """Write ``* REPLACE (fetch(c) AS c)`` for wide columns that are worked on, if there are any."""
        wide = [(name, o) for name, o in columns if o is not None and o.column in self.used]
        star["replace_list"] = [{"key": name, "value": fetch(origin, _column([name]))} for name, origin in wide]
        return bool(wide)

    def _is_row_by_row(self, item: Node) -> bool:
        nodes = walk(item)
        calls = [each["function_name"] for each in nodes if each.get("class") == "FUNCTION"]
        return all(map(self.is_scalar, calls)) and not any(each.get("class") in _INSIDE for each in nodes)

    def _moved(self, item: Node, table: Node, halves: _Halves, *, bare_too: bool) -> Node:
        """Write an item over the names its columns have in the cut."""
        moved = copy.deepcopy(item)
        moved["alias"] = item["alias"] or item.get("column_names", [""])[-1]
        by_ours = {id(call["arguments"][0]["expression"]) for call in calls_in(walk(moved)) if call["arguments"]}
        used = {name.casefold() for name in self.used}
        for ref in [each for each in walk(moved) if each.get("class") == "COLUMN_REF"]:
            path = tuple(part.casefold() for part in ref["column_names"])
            name, _ = halves.columns.setdefault(path, (self._new_name(), {**ref, "alias": ""}))
            origin = self.origins.of_column(table, ref["column_names"])
            here = _column([name], ref["alias"])
            if origin is None:
                halves.certain &= path[-1] not in used
            elif id(ref) not in by_ours and (ref is not moved or (bare_too and origin.column in self.used)):
                here = {**fetch(origin, {**here, "alias": ""}), "alias": ref["alias"]}
            ref.clear()
            ref.update(here)
        return moved

    def _keys_by_item(self, node: Node) -> list[tuple[Node, Node]] | None:
        """Pair what ORDER BY names by an item's number or name with the item; None where that cannot be written out."""
        pairs = []
        for key in _keys(node):
            item = named_item(key, node["select_list"])
            if item is None or (item is not key and not self._is_row_by_row(item)):
                return None
            if item is not key:
                pairs.append((key, item))
        return pairs

    def _new_name(self) -> str:
        self._count += 1
        return _NAME.format(self._count)


def _is_plain(node: Node) -> bool:
    """Whether the rows of a SELECT are those of its FROM, filtered, ordered and cut."""
    grouped = node["group_expressions"] or node["group_sets"] or node["having"]
    distinct = [m for m in node["modifiers"] if m["type"] == "DISTINCT_MODIFIER" and not m["distinct_on_targets"]]
    standard = node["aggregate_handling"] == "STANDARD_HANDLING"
    if any(_is_many(walk(item)) and not is_bare_star(item) for item in node["select_list"]):
        return False
    return standard and not (grouped or distinct or node["sample"]) and node["from_table"]["type"] != "EMPTY"


def _stars_are_whole(node: Node, columns: Names | None) -> bool:
    """Whether each ``*`` gives the columns it would give over a subquery: known ones, each name once."""
    stars = [item for item in node["select_list"] if item.get("type") == "STAR"]
    if not stars:
        return True
    unique = columns is not None and len({name for name, _ in columns}) == len(columns)
    return unique and len(stars) == 1 and is_bare_star(stars[0])


def _means_items(node: Node, columns: Names | None) -> bool:
    """Whether a name may mean an item of the SELECT list in a place where an item that moved cannot be named."""
    there = {name for name, _ in columns or []}
    aliases = {item["alias"].casefold() for item in node["select_list"] if item["alias"]} - there
    elsewhere = [node["where_clause"], node["qualify"], *node["select_list"]]
    elsewhere += [each for each in _keys(node) if each.get("class") not in ("COLUMN_REF", "CONSTANT")]
    named = {parts[0].casefold() for parts in column_refs(walk(elsewhere))}
    return bool(aliases & named)


def _keys(node: Node) -> Iterator[Node]:
    """Yield the expressions of ORDER BY and DISTINCT ON."""
    for modifier in node["modifiers"]:
        yield from (order["expression"] for order in modifier.get("orders", ()))
        yield from modifier.get("distinct_on_targets", ())


def _computes(item: Node) -> bool:
    """Whether an item calls a function by name, those that fetch a column among them."""
    return any(node.get("class") == "FUNCTION" and node["function_name"].isidentifier() for node in walk(item))


def _column(names: list[str], alias: str = "") -> Node:
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": alias, "query_location": 0, "column_names": names}
