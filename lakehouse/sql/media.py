"""Media in a query: which bytes the SQL itself works on, and the others, read for the rows that survive.

A media column that a statement only hands through, from the table to the result, travels as its row id, wrapped in a
struct of one field whose name no statement can write. What comes out at the end under that name is replaced by the
bytes: a sort, a join or a LIMIT drags eight bytes a row. Where the SQL looks at the bytes (``octet_length(image)``,
``GROUP BY image``, ``image IS NULL``), or might, the column is read as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import reads
from lakehouse.errors import ResourceLimitError
from lakehouse.sql.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.syntax import Node

__all__ = ["Carried", "fill_in", "fill_in_pieces", "looked_at"]


@dataclass(frozen=True, eq=False)
class Carried:
    """A media column that travels as row ids."""

    snapshot: Snapshot
    column: str

    @property
    def field(self) -> pa.Field:
        """The column as users see it."""
        return self.snapshot.schema.field(self.column)


# ---- deciding -------------------------------------------------------------------------------------------------------


def looked_at(statement: Node, columns: Iterable[str]) -> frozenset[str]:
    """Name the columns whose values a statement works on, or might; the others are only handed through.

    Names are compared without case, whatever table they belong to: too many are said to be looked at, never too few.

    Parameters
    ----------
    statement
        The statement.
    columns
        Names of media columns of the tables it reads.
    """
    origin = {name.casefold(): name for name in columns}
    aliases = _aliases(statement, origin)
    uses = _Uses(frozenset(origin) | frozenset(aliases), _whole_rows(statement))
    uses.visit(statement["node"], passes=True)
    if uses.all:
        return frozenset(origin.values())
    return frozenset(origin[source] for used in uses.names for source in _sources(used, aliases) if source in origin)


def _aliases(statement: Node, columns: Container[str]) -> dict[str, set[str]]:
    """The other names columns go by (``image AS pic``), each with what it stands for."""
    found: dict[str, set[str]] = {}
    items = [item for node in walk(statement) if node.get("type") == "SELECT_NODE" for item in node["select_list"]]
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


def _whole_rows(statement: Node) -> frozenset[str]:
    """The names that alone mean a whole row of a table: ``SELECT pets FROM pets``."""
    tables = [node for node in walk(statement) if node.get("type") in ("BASE_TABLE", "SUBQUERY") and "class" not in node]
    return frozenset((node["alias"] or node.get("table_name", "")).casefold() for node in tables)


@dataclass(eq=False)
class _Uses:
    """A walk over a statement that notes where media columns are more than handed through."""

    media: frozenset[str]
    rows: frozenset[str]
    names: set[str] = field(default_factory=set)
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
            passes = passes and node["setop_all"] and node["setop_type"].startswith("UNION")
            self._by_position(node, [])
        elif kind == "RECURSIVE_CTE_NODE":
            passes = False
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


# ---- reading --------------------------------------------------------------------------------------------------------

_PIECE_NBYTES = 32 << 20  # media of one streamed batch: a few seconds of a disk, little beside the query's own memory
_FIRST_PIECE = 32  # rows, before any size is known


def fill_in(table: pa.Table, carried: Mapping[str, Carried], max_media_nbytes: int) -> pa.Table:
    """Replace row ids by the media they stand for.

    Raises
    ------
    ResourceLimitError
        The media are larger than `max_media_nbytes`.
    """
    columns, fields = [], []
    for at, column in zip(table.schema, table.columns, strict=True):
        source = carried_by(at.type, carried)
        if source is not None:
            column = _media(source, column, max_media_nbytes)
            max_media_nbytes -= column.nbytes
            at = source.field.with_name(at.name).with_nullable(True)
        columns.append(column)
        fields.append(at)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def fill_in_pieces(batch: pa.RecordBatch, carried: Mapping[str, Carried], max_media_nbytes: int) -> Iterator[pa.RecordBatch]:
    """Replace row ids by media, a bounded number of bytes at a time."""
    start, rows = 0, _FIRST_PIECE
    while start < batch.num_rows:
        piece = fill_in(pa.Table.from_batches([batch.slice(start, rows)]), carried, max_media_nbytes)
        yield from piece.combine_chunks().to_batches()
        start += rows
        rows = max(1, min(2 * rows, int(rows * _PIECE_NBYTES / max(piece.nbytes, 1))))


def filled_schema(schema: pa.Schema, carried: Mapping[str, Carried]) -> pa.Schema:
    """Return the schema after `fill_in`."""
    return fill_in(schema.empty_table(), carried, 0).schema


def carried_by(data_type: pa.DataType, carried: Mapping[str, Carried]) -> Carried | None:
    """Return what an Arrow type of the result stands for, if it is one of ours."""
    if pa.types.is_struct(data_type) and data_type.num_fields == 1:
        return carried.get(data_type.field(0).name)
    return None


def _media(source: Carried, structs: pa.ChunkedArray, max_media_nbytes: int) -> pa.ChunkedArray:
    ids = pc.struct_field(structs, [0]).combine_chunks()
    unique = ids.drop_null().unique().sort()
    if len(unique) == 0:
        return pa.chunked_array([pa.nulls(len(ids), source.field.type)])
    read = reads.take_row_ids(
        source.snapshot, np.asarray(unique), [source.column], max_media_nbytes=max(max_media_nbytes, 0)
    )
    values = read[source.column].combine_chunks()
    places = pc.index_in(ids, value_set=unique)
    nbytes = int(pc.sum(pc.binary_length(values).take(places)).as_py() or 0)
    if nbytes > max_media_nbytes:  # an image joined to many rows is read once and held as often
        raise ResourceLimitError(
            f"the result holds {nbytes / 1e9:.1f} GB of {source.column!r}, over max_media_nbytes "
            f"({max_media_nbytes / 1e9:.1f} GB left); leave the column out, or stream with batches()"
        )
    return pa.chunked_array([values.take(places)])
