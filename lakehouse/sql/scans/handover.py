"""How DuckDB takes a table: as a source that it asks for its size, for conditions it will see to, and for batches.

The protocol is DuckDB 2.0's own, `duckdb._sources`, which its readers of Arrow objects are written in. Through the
public one, a pyarrow dataset, DuckDB learns no number of rows, so that it joins in a bad order, and leaves every
comparison to Arrow.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as pads
from duckdb._sources import ArrowScanSource
from duckdb._sources.nodes import Binary, Col, In, Lit, Postfix, Unary, Untranslatable
from duckdb._sources.to_arrow import to_arrow

from lakehouse.errors import LakehouseError
from lakehouse.sql.scans.comparisons import (
    NEGATED,
    Part,
    all_of,
    any_of,
    compared,
    is_comparable,
    is_null,
    listed,
    value_type,
)
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.scans.searches import SearchDataset
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from duckdb._sources.nodes import Node

__all__ = ["handed_over"]


def handed_over(table: Any) -> Any:
    """Return what DuckDB registers for a table: ours as a source, anything else as it is."""
    return _Source(table) if isinstance(table, SnapshotDataset | SearchDataset) else table


class _Source(ArrowScanSource):
    """A table as DuckDB scans it.

    Parameters
    ----------
    table
        The table.
    """

    schema_is_stable = True

    def __init__(self, table: SnapshotDataset | SearchDataset) -> None:
        super().__init__(table)
        self._table = table
        self._handed = table.handed if isinstance(table, SnapshotDataset) else table.schema

    def rows(self) -> int:
        """Return the number of rows, by which joins are planned."""
        return self._table.num_rows

    def __arrow_c_schema__(self) -> object:
        """Return the table's columns."""
        return self._handed.__arrow_c_schema__()

    def accepts(self, predicate: Node) -> bool:
        """Whether Lance answers a condition from an index; all others DuckDB compares itself."""
        table = self._table
        if not isinstance(table, SnapshotDataset):
            return False
        try:
            part = _part(predicate, table.comparable, holds=True)
            test = to_arrow(predicate, table.schema)
        except Untranslatable:
            return False
        columns = list(dict.fromkeys(_columns(predicate)))
        try:
            if part is None or not table.has_index_for(part.text) or not table.keeps_few(part, columns, test):
                return False
        except LakehouseError as error:
            table.error = error
            raise
        table.accepted[part.text] = None
        return True

    def stream(self, columns: Sequence[int] | None, filters: Sequence[Node]) -> tuple[object, bool]:
        """Read columns of the rows that accepted conditions keep; Arrow looks at what Lance found again."""
        table, schema = self._table, self._table.schema
        names = schema.names if columns is None else [schema.names[place] for place in columns]
        if not filters or not isinstance(table, SnapshotDataset):
            return table.read(names).__arrow_c_stream__(), columns is not None
        parts = [_part(each, table.comparable, holds=True) for each in filters]
        used = [name for each in filters for name in _columns(each)]
        batches = table.read(list(dict.fromkeys([*names, *used])), [part.text for part in parts if part])
        kept = to_arrow(filters[0], schema)
        for each in filters[1:]:
            kept &= to_arrow(each, schema)
        scanner = pads.Scanner.from_batches(batches, columns=names, filter=kept)
        handed = pa.schema([self._handed.field(name) for name in names])
        return scanner.to_reader().cast(handed).__arrow_c_stream__(), columns is not None

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return all columns of all rows: how DuckDB knows what may be registered."""
        return self._table.read(self._table.schema.names).__arrow_c_stream__(requested_schema)


_SIGNS = {"=": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def _part(node: Node, schema: pa.Schema, *, holds: bool) -> Part | None:
    """Write a condition in Lance's SQL, or that it is false; its constants are of the columns' own types."""
    match node:
        case Binary(op="AND" | "OR" as word, left=left, right=right):
            parts = [_part(each, schema, holds=holds) for each in (left, right)]
            return all_of(parts) if (word == "AND") == holds else any_of(parts)
        case Unary(op="NOT", operand=operand):
            return _part(operand, schema, holds=not holds)
        case Postfix(op=test, operand=Col(parts=names)):
            return is_null(_column(names, schema)[0], holds=(test == "IS NULL") == holds)
        case Binary(op=op, left=Col(parts=names), right=Lit(value=value)) if op in _SIGNS:
            path, data_type = _column(names, schema)
            sign = _SIGNS[op] if holds else NEGATED[_SIGNS[op]]
            return compared(path, data_type, sign, _value(value, data_type))
        case In(operand=Col(parts=names), values=constants):
            path, data_type = _column(names, schema)
            values = [_value(each.value, data_type) for each in constants if isinstance(each, Lit)]
            if holds:
                return listed(path, data_type, values)
            return all_of([compared(path, data_type, "<>", value) for value in values])
    raise Untranslatable(node)


def _column(names: tuple[str, ...], schema: pa.Schema) -> tuple[str, pa.DataType]:
    found = pa.struct(list(schema))
    for name in names:
        place = found.get_field_index(name) if pa.types.is_struct(found) else -1
        if place < 0:
            raise Untranslatable(names)
        found = found.field(place).type
    if not is_comparable(found):
        raise Untranslatable(names)
    return ".".join(map(quoted, names)), found


def _value(value: object, data_type: pa.DataType) -> object:
    """Return a constant as Python has it; a moment with a zone comes as microseconds since 1970."""
    if pa.types.is_timestamp(value_type(data_type)) and isinstance(value, int):
        try:
            return _EPOCH + dt.timedelta(microseconds=value)
        except OverflowError as error:
            raise Untranslatable(value) from error
    return value


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _columns(node: Node) -> Iterator[str]:
    if isinstance(node, Col):
        yield node.parts[0]
    for child in node._children():  # noqa: SLF001 - of the protocol
        yield from _columns(child)
