"""What `add` takes: Arrow, pandas, dictionaries, generators, SQL results, files. All become a stream of chunks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import pyarrow as pa
from pyarrow import types as pt

from lakehouse.errors import InvalidArgumentError, SchemaError, translated

if TYPE_CHECKING:
    from collections.abc import Container

    from lakehouse.failures import RowFailure

_ROWS = 1024  # dictionaries turned into one batch


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source.

    Parameters
    ----------
    batch
        The rows that could be read.
    items
        The keys of all items (files) this chunk covers, failed ones included; empty for plain data.
    failures
        The items that could not be read.
    """

    batch: pa.RecordBatch
    items: tuple[str, ...] = ()
    failures: tuple[RowFailure, ...] = ()


@runtime_checkable
class Source(Protocol):
    """Something that can be added to a table and resumed after a kill: a folder of files."""

    @property
    def schema(self) -> pa.Schema:
        """The columns it brings."""

    @property
    def fingerprint(self) -> str:
        """What it reads and how; the same source after a kill has the same fingerprint."""

    def count(self) -> int | None:
        """Return the number of items if it is cheap to know."""

    def chunks(self, done: Container[str] = frozenset()) -> Iterator[Chunk]:
        """Yield the rows in a stable order, without reading items in `done` again."""


@dataclass(frozen=True)
class PlainData:
    """Data in memory or from a generator; a killed `add` of it starts over."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]
    num_rows: int | None = None
    fingerprint: str = ""

    def count(self) -> int | None:
        """Return the number of rows, if known."""
        return self.num_rows

    def chunks(self, done: Container[str] = frozenset()) -> Iterator[Chunk]:  # noqa: ARG002 - nothing to resume
        """Yield the batches."""
        return (Chunk(batch) for batch in self.batches)


def as_source(data: Any, schema: pa.Schema | None = None) -> Source:
    """Turn whatever a user hands in into a source.

    Parameters
    ----------
    data
        A `Source`; anything with the Arrow stream interface (pyarrow, pandas 3, polars, a SQL result); a list or a
        generator of dictionaries, record batches or tables.
    schema
        The table's columns, for dictionaries, whose values have no Arrow type of their own.

    Raises
    ------
    InvalidArgumentError
        Data of another kind.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, pa.RecordBatch):
        return PlainData(data.schema, [data], data.num_rows)
    if hasattr(data, "__arrow_c_stream__"):
        num_rows, reader = _stream_of(data)
        fields = [f for f in reader.schema if f.name != "__index_level_0__"]
        names = [f.name for f in fields]
        return PlainData(pa.schema(fields), (batch.select(names) for batch in reader), num_rows)
    if isinstance(data, Mapping | str | bytes) or not isinstance(data, Iterable):
        raise InvalidArgumentError(
            f"cannot add a {type(data).__name__}; give Arrow, a DataFrame, a list or a generator of dictionaries, "
            "or lh.read_images(…), lh.read_videos(…), lh.read_texts(…), lh.read_parquet(…)"
        )
    return _from_iterable(data, schema)


def _stream_of(data: Any) -> tuple[int | None, pa.RecordBatchReader]:
    with translated(f"reading the {type(data).__name__}"):
        try:
            num_rows = len(data) if hasattr(data, "__len__") else None  # first: DuckDB 2.0 counts none while it streams
            return num_rows, pa.RecordBatchReader.from_stream(data)
        except (ValueError, TypeError, NotImplementedError) as error:
            raise SchemaError(
                f"Arrow does not take the {type(data).__name__}: {'; '.join(map(str, error.args))}; "
                "give a table, each column of one type under a name of its own"
            ) from error


def _from_iterable(data: Iterable[Any], schema: pa.Schema | None) -> PlainData:
    num_rows = len(data) if isinstance(data, list) else None
    items = iter(data)
    head = list(itertools.islice(items, 1))
    if not head:
        return PlainData(schema if schema is not None else pa.schema([]), [], 0)
    first, items = head[0], itertools.chain(head, items)
    if isinstance(first, pa.RecordBatch | pa.Table):
        return PlainData(first.schema, (batch for table in items for batch in _batches_of(table)), None)
    items = map(_checked_row, items)
    head = list(itertools.islice(items, _ROWS))
    fields = _fields_of(head, schema)
    groups = itertools.chain([head], iter(lambda: list(itertools.islice(items, _ROWS)), []))
    for_table = schema is not None
    return PlainData(fields, (_from_rows(rows, fields, for_table=for_table) for rows in groups), num_rows)


def _batches_of(table: Any) -> list[pa.RecordBatch]:
    if isinstance(table, pa.RecordBatch):
        return [table]
    if not isinstance(table, pa.Table):
        raise InvalidArgumentError(f"the first item is a table, a later one a {type(table).__name__}; give all alike")
    batches: list[pa.RecordBatch] = table.to_batches()
    return batches


def _checked_row(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise InvalidArgumentError(
            f"an item is a {type(row).__name__}; rows are all dictionaries, or all record batches or tables"
        )
    return row


def _fields_of(rows: list[Mapping[str, Any]], schema: pa.Schema | None) -> pa.Schema:
    """Type the columns of dictionaries: by the table where it has them, else by Arrow from the first rows."""
    names = dict.fromkeys(name for row in rows for name in row)
    if schema is None:
        try:
            return pa.Table.from_pylist(rows).schema
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise SchemaError(
                f"the rows do not agree on a type: {error}; give a pa.Table, or create_table a schema"
            ) from error
    known = [field for field in schema if field.name in names]
    there = frozenset(schema.names)
    strange = [pa.field(name, pa.null()) for name in names if name not in there]
    return pa.schema([*known, *strange])


def _from_rows(rows: list[Mapping[str, Any]], fields: pa.Schema, *, for_table: bool) -> pa.RecordBatch:
    known = frozenset(fields.names)
    for row in rows:
        if strange := [name for name in row if name not in known]:
            raise SchemaError(
                f"a row has {strange[0]!r}, the rows before have {', '.join(fields.names)}; "
                "give every row the same names"
            )
    columns = [_values(field, [row.get(field.name) for row in rows], for_table=for_table) for field in fields]
    return pa.RecordBatch.from_arrays(columns, names=fields.names)


def _values(field: pa.Field, values: list[Any], *, for_table: bool) -> pa.Array:
    """Values as the column's type where it holds them all; else as Arrow sees them: `conform` tells the bad row."""
    data_type = field.type.value_type if pt.is_dictionary(field.type) else field.type
    typed = _typed(values, data_type)
    if typed is not None:
        return typed
    seen = _seen(values)
    if for_table and seen is not None and any(kind(seen.type) and kind(data_type) for kind in _KINDS):
        return seen
    bad = next((place for place, value in enumerate(values) if _typed([value], data_type) is None), 0)
    raise SchemaError(f"row {bad} of these has {values[bad]!r:.80} in column {field.name!r}, which is {field.type}")


def _typed(values: list[Any], data_type: pa.DataType) -> pa.Array | None:
    """Values as a type that holds all of them, else None; asked for integers, Arrow makes 1 of 1.5."""
    try:
        typed = pa.array(values, data_type)
    except _NOT_HELD:
        return None
    seen = _seen(values) if _can_cut(data_type) else None
    try:
        if seen is not None:
            seen.cast(data_type)
    except pa.ArrowInvalid:
        return None
    except (pa.ArrowTypeError, pa.ArrowNotImplementedError):  # structs of fewer fields, numbers for times
        return typed
    return typed


def _seen(values: list[Any]) -> pa.Array | None:
    """Values as Arrow sees them; None if they are not of one type."""
    try:
        return pa.array(values)
    except _NOT_HELD:
        return None


_NOT_HELD = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)
_KINDS = (lambda t: bool(pt.is_integer(t) or pt.is_floating(t) or pt.is_decimal(t)), pt.is_temporal, pt.is_nested)


def _can_cut(data_type: pa.DataType) -> bool:
    """Whether values can become less as this type: 1.5 an integer, a microsecond a second."""
    if pt.is_struct(data_type):
        return any(_can_cut(field.type) for field in data_type)
    if pt.is_list(data_type) or pt.is_large_list(data_type) or pt.is_fixed_size_list(data_type):
        return _can_cut(data_type.value_type)
    return bool(pt.is_integer(data_type) or pt.is_temporal(data_type))
