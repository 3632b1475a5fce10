"""A large table read for the keys of a small one: ``SELECT image FROM photos JOIN labels USING (id)``.

DuckDB reads a table whole before it joins it. Where the other side of a join, or the query of an IN, is small, its keys
are computed first, and the large table is read for them alone, from an index where there is one. The join itself stays
as it is, so that a key too many costs time, not truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.reads import ROW_ID
from lakehouse.sql.functions import FUNCTIONS
from lakehouse.sql.rewriting.origins import Origins
from lakehouse.sql.rewriting.sides import Side, equalities, is_in, joins, keys_statement, passed
from lakehouse.sql.scans.predicates import conjuncts
from lakehouse.sql.statement.slots import named_columns, slot_of
from lakehouse.sql.statement.syntax import column_refs, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from lakehouse.sql.rewriting.origins import Names
    from lakehouse.sql.scans.tables import Tables
    from lakehouse.sql.statement.syntax import Node

__all__ = ["MOST_KEYS", "Narrowing", "narrowings"]

MOST_KEYS = 2_000  # more are as slow to look up, or to compare with, as the column is to read
_LEAST_NBYTES = 2 << 20  # of the large table; less is read in the time that keys take
_PLAIN_NBYTES, _WIDE_NBYTES = 8, 64  # a value of a number, date or category; of a text or a list, if it is short
_MOST_ROWS = 2_000_000  # of the small side before its WHERE: it is read twice
# Of the two sides of a join, those that may lose rows that have no match in the other.
_MATCHED = {"INNER": "left right", "SEMI": "left right", "LEFT": "right", "RIGHT": "left", "ANTI": "right"}
# Functions of the moment that are written like columns.
_MOMENTS = frozenset({"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"})
# Windows and aggregates whose value does not depend on the order of rows.
_RANKS = frozenset({"dense_rank", "rank"})
_ORDERLESS = frozenset({"count", "count_star", "max", "min", "sum"})


@dataclass(frozen=True, eq=False)
class Narrowing:
    """A table that is read for some keys alone, if they turn out to be few.

    Parameters
    ----------
    slot
        The table.
    column
        Its column.
    keys
        The statement that computes the keys, at most one more than `MOST_KEYS`.
    """

    slot: str
    column: str
    keys: Node


def narrowings(
    nodes: Sequence[Node],
    tables: Tables,
    values: Mapping[str, Any],
    is_scalar: Callable[[str], bool],
) -> list[Narrowing]:
    """Find the tables of a statement that can be read for the keys of a small side, each at most once.

    Parameters
    ----------
    nodes
        The nodes of the statement, with slots for tables.
    tables
        What lies in the slots.
    values
        Values of the statement's parameters.
    is_scalar
        Whether a function gives each row a value, the same each time.
    """
    if not any(
        place.snapshot.num_rows * len(place.snapshot.schema) * _WIDE_NBYTES >= _LEAST_NBYTES
        for place in tables.places.values()
    ):
        return []  # most statements of a program are looked at no further
    named = named_columns(nodes)
    large = {
        slot: nbytes for slot in tables.places if (nbytes := _read_nbytes(tables, slot, named)).all >= _LEAST_NBYTES
    }
    if not large:
        return []
    names: dict[str, Names] = {slot: _lower(schema.names) for slot, schema in tables.schemas().items()}
    for slot in tables.places:
        names[slot] = [(ROW_ID, None), *names[slot]]
    search = _Search(tables, values, Origins.of(nodes, names), large, is_scalar)
    defined = [entry for node in nodes for entry in (node.get("cte_map") or {}).get("map", ())]
    found: dict[str, Narrowing] = {}
    for node in nodes:
        if node.get("type") == "SELECT_NODE" and not any(each.get("sample") for each in _tables(node)):
            for narrowing in search.of_select(node, defined):
                found.setdefault(narrowing.slot, narrowing)
    return list(found.values())


def _lower(names: Iterable[str]) -> Names:
    return [(name.casefold(), None) for name in names]


@dataclass(frozen=True)
class _Nbytes:
    """What a statement reads of a table, guessed by types: of all columns it names, and of texts and lists alone."""

    all: int
    wide: int


def _read_nbytes(tables: Tables, slot: str, named: Collection[str] | None) -> _Nbytes:
    place = tables.places[slot]
    if place.search is not None:
        return _Nbytes(0, 0)
    fields = [field for field in place.snapshot.schema if named is None or field.name.casefold() in named]
    widths = [_guessed_nbytes(field.type) for field in fields]
    rows = place.snapshot.num_rows
    return _Nbytes(rows * sum(widths), rows * sum(width for width in widths if width > _PLAIN_NBYTES))


def _guessed_nbytes(data_type: pa.DataType) -> int:
    if pa.types.is_fixed_size_list(data_type):
        return int(data_type.list_size) * _guessed_nbytes(data_type.value_type)
    is_plain = pa.types.is_primitive(data_type) or pa.types.is_dictionary(data_type) or pa.types.is_decimal(data_type)
    return _PLAIN_NBYTES if is_plain else _WIDE_NBYTES


def _tables(node: Node) -> Iterator[Node]:
    """Yield a SELECT and all that is joined in its FROM, joins included."""
    waiting = [node, node["from_table"]]
    while waiting:
        table = waiting.pop()
        yield table
        waiting += [table["left"], table["right"]] if table["type"] == "JOIN" else []


@dataclass(frozen=True, eq=False)
class _Search:
    tables: Tables
    values: Mapping[str, Any]
    origins: Origins
    large: Mapping[str, _Nbytes]
    is_scalar: Callable[[str], bool]
    _about: dict[tuple[int, int], Node | None] = field(default_factory=dict)

    def of_select(self, node: Node, defined: list[Node]) -> Iterator[Narrowing]:
        """Yield what the joins and the WHERE of one SELECT allow."""
        where = list(conjuncts(node["where_clause"])) if node["where_clause"] else []
        root = node["from_table"]
        free = set(passed(root))
        # What filters a table before it is joined may filter its keys.
        filters = [(part, free) for part in where]
        for part in where:
            if is_in(part):
                side = Side(part["subquery"]["node"], None, [])
                yield from self._narrowing(root, free, part["child"]["column_names"], side, defined)
            for mine, other in equalities(part):
                yield from self._joined(root, free, root, mine, other, filters, defined)
        for join in joins(root):
            on = list(conjuncts(join["condition"])) if join["condition"] else []
            pairs = [pair for part in on for pair in equalities(part)]
            conditions = [*((part, None) for part in on), *filters]
            for end in _MATCHED.get(join["join_type"], "").split():
                there = join["right" if end == "left" else "left"]
                below = set(passed(join[end]))
                both = pairs + [([name], [name]) for name in join["using_columns"]]
                for mine, other in both:
                    yield from self._joined(join[end], below, there, mine, other, conditions, defined)

    def _joined(
        self,
        large: Node,
        free: Collection[int],
        small: Node,
        mine: list[str],
        other: list[str],
        conditions: Sequence[tuple[Node, Collection[int] | None]],
        defined: list[Node],
    ) -> Iterator[Narrowing]:
        """Yield the narrowing of a table in `large` by one in `small`, of which two columns are equal."""
        place = self.origins.place(small, other)
        if place is None:
            return
        leaf = place[0]
        alone = [
            condition
            for condition, of_tables in conditions
            if (of_tables is None or id(leaf) in of_tables) and self._about_one(condition, small) is leaf
        ]
        key = {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": 0, "column_names": other}
        yield from self._narrowing(large, free, mine, Side(leaf, key, alone), defined)

    def _about_one(self, condition: Node, table: Node) -> Node | None:
        """Return the one table whose columns a condition names, if it names no other table's."""
        key = id(condition), id(table)
        if key not in self._about:
            self._about[key] = self._named(walk(condition), table)
        return self._about[key]

    def _named(self, condition: list[Node], table: Node) -> Node | None:
        if any(node.get("class") == "SUBQUERY" for node in condition):
            return None
        places = [self.origins.place(table, parts) for parts in column_refs(condition)]
        first = places[0] if places else None
        is_alone = first is not None and all(place is not None and place[0] is first[0] for place in places)
        return first[0] if first is not None and is_alone else None

    def _narrowing(
        self, table: Node, free: Collection[int], parts: list[str], side: Side, defined: list[Node]
    ) -> Iterator[Narrowing]:
        place = self.origins.place(table, parts)
        if place is None or id(place[0]) not in free or place[0] is side.table:
            return
        leaf, name, _ = place
        slot = slot_of(leaf)
        if slot not in self.large or slot is None or leaf["sample"] or leaf["column_name_alias"]:
            return
        snapshot = self.tables.places[slot].snapshot
        is_key = name in (ROW_ID, (snapshot.key or "").casefold())
        columns = {field.casefold(): field for field in (ROW_ID, *snapshot.schema.names)}
        if self.large[slot].wide < _LEAST_NBYTES and name != ROW_ID and not self.tables.is_indexed(slot, columns[name]):
            return
        keys = keys_statement(side, defined, self.values, MOST_KEYS + 1)
        if keys is not None and self._is_stable(keys) and self._is_small(keys, snapshot.num_rows, is_key=is_key):
            yield Narrowing(slot, columns[name], keys)

    def _is_stable(self, statement: Node) -> bool:
        """Whether a statement gives the same rows each time it is computed; its own LIMIT left out."""
        for node in walk(statement):
            kind, name = node.get("class"), str(node.get("function_name")).lower()
            is_cut = (
                any(m["type"].startswith("LIMIT") for m in node.get("modifiers", ())) and node is not statement["node"]
            )
            if (
                is_cut
                or node.get("distinct_on_targets")
                or node.get("sample")
                or node.get("type") == "RECURSIVE_CTE_NODE"
            ):
                return False
            if kind == "WINDOW" and name not in _RANKS:
                return False
            if kind == "COLUMN_REF" and node["column_names"][-1].lower() in _MOMENTS:
                return False
            if kind == "FUNCTION" and (
                name in FUNCTIONS  # they read media, and would twice
                or not (self.is_scalar(name) or name in _ORDERLESS)
            ):
                return False
        return True

    def _is_small(self, keys: Node, num_rows: int, *, is_key: bool) -> bool:
        """Whether the keys are worth a try: a list that was handed in, or what some condition leaves of a table."""
        nodes = walk(keys)
        slots = {node["qualified_name"]["path"][-1] for node in nodes if node.get("type") == "BASE_TABLE"}
        slots &= self.tables.schemas().keys()
        searches = {slot: place.search for slot, place in self.tables.places.items() if place.search and slot in slots}
        counts = [search.k if (search := searches.get(slot)) else self.tables.num_rows(slot) for slot in slots]
        rows = sum(count for count in counts if count is not None)
        if None in counts or rows > min(num_rows, _MOST_ROWS):  # a stream can be read once
            return False
        if rows <= MOST_KEYS and (is_key or not slots - searches.keys() & self.tables.places.keys()):
            return True
        return any(node.get("where_clause") or node.get("qualify") for node in nodes)
