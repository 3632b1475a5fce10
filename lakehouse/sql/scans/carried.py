"""Columns that travel through a query as row ids and become values at the end, for the rows that survive.

A medium that a statement only hands through is given to DuckDB as its row id, wrapped in a struct of one field whose
name no statement can know. What comes out under that name is replaced by the bytes: a sort, a join or a LIMIT drags
eight bytes a row. A statement that ends in a small LIMIT carries its texts and vectors too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import reads, types
from lakehouse.errors import ResourceLimitError
from lakehouse.media import sizes
from lakehouse.sql.statement.dtypes import duckdb_type
from lakehouse.units import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from lakehouse.snapshot import Snapshot

__all__ = ["Carried", "carried_by", "fill_in", "fill_in_pieces", "filled_schema", "worth_carrying"]

_PIECE_NBYTES = 32 << 20  # media of one streamed batch: a moment of a disk, little beside the query's own memory
_FIRST_PIECE = 32  # rows, before any size is known
_PIECES = 8  # of some 8 MB that are read at once: larger reads are faster, smaller ones are sooner interrupted


@dataclass(frozen=True, eq=False)
class Carried:
    """A column that travels as row ids.

    Parameters
    ----------
    slot
        The place in the statement it comes from.
    snapshot
        Its table.
    column
        Its name.
    """

    slot: str
    snapshot: Snapshot
    column: str

    @property
    def name(self) -> str:
        """What the one field of its struct is called."""
        return f"{self.slot}.{self.column}"

    @property
    def field(self) -> pa.Field:
        """The column as it comes out."""
        field = self.snapshot.schema.field(self.column)
        if types.is_bytes_media(field):
            return field  # with what it is, so that a result can become a table
        return pa.field(self.column, result_type(field.type))


def worth_carrying(field: pa.Field) -> bool:
    """Whether reading a column for some hundred rows alone is better than dragging it through a sort."""
    data_type = field.type
    return bool(
        types.is_bytes_media(field)
        or pa.types.is_string(data_type)
        or pa.types.is_large_string(data_type)
        or (pa.types.is_fixed_size_list(data_type) and pa.types.is_floating(data_type.value_type))
    )


def result_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type DuckDB gives back for one that is `worth_carrying`."""
    if pa.types.is_fixed_size_list(data_type):
        return pa.list_(pa.field("", duckdb_type(data_type.value_type)), data_type.list_size)
    return pa.string()


def fill_in(table: pa.Table, carried: Mapping[str, Carried], max_media_nbytes: int) -> pa.Table:
    """Replace row ids by the values they stand for.

    Raises
    ------
    ResourceLimitError
        The media are larger than `max_media_nbytes`.
    """
    columns = list(table.columns)
    for together in _read_together(table, carried):
        rows = _Rows.of(together, max(max_media_nbytes, 0))
        for at, source in together.sources.items():
            columns[at] = rows.values(source, max(max_media_nbytes, 0))
            if types.is_bytes_media(source.field):
                max_media_nbytes -= columns[at].nbytes
    return pa.Table.from_arrays(columns, schema=filled_schema(table.schema, carried))


def fill_in_pieces(
    batch: pa.RecordBatch, carried: Mapping[str, Carried], max_media_nbytes: int
) -> Iterator[pa.RecordBatch]:
    """Replace row ids by media, a bounded number of bytes at a time.

    Raises
    ------
    ResourceLimitError
        One row alone holds more than `max_media_nbytes`.
    """
    start, rows = 0, _FIRST_PIECE
    while start < batch.num_rows:
        try:
            piece = fill_in(pa.Table.from_batches([batch.slice(start, rows)]), carried, max_media_nbytes)
        except ResourceLimitError:
            if rows == 1:
                raise
            rows //= 2
            continue
        yield from piece.combine_chunks().to_batches()
        start += rows
        most = min(_PIECE_NBYTES, max_media_nbytes)
        rows = max(1, min(2 * rows, int(rows * most / max(piece.nbytes, 1))))


def filled_schema(schema: pa.Schema, carried: Mapping[str, Carried]) -> pa.Schema:
    """Return the schema after `fill_in`."""
    sources = [carried_by(field.type, carried) for field in schema]
    return pa.schema(
        [
            field if source is None else source.field.with_name(field.name).with_nullable(nullable=True)
            for field, source in zip(schema, sources, strict=True)
        ]
    )


def carried_by(data_type: pa.DataType, carried: Mapping[str, Carried]) -> Carried | None:
    """Return what an Arrow type of the result stands for, if it is one of ours."""
    if pa.types.is_struct(data_type) and data_type.num_fields == 1:
        return carried.get(data_type.field(0).name)
    return None


@dataclass(frozen=True, eq=False)
class _Together:
    """Columns of a result that stand for values of the same rows of one table, by their places."""

    slot: str
    ids: pa.Array
    sources: dict[int, Carried]


def _read_together(table: pa.Table, carried: Mapping[str, Carried]) -> list[_Together]:
    found: list[_Together] = []
    for at, field in enumerate(table.schema):
        source = carried_by(field.type, carried)
        if source is None:
            continue
        ids = pc.struct_field(table.column(at), [0]).combine_chunks()
        same = next((each for each in found if each.slot == source.slot and each.ids.equals(ids)), None)
        if same is None:
            found.append(_Together(source.slot, ids, {at: source}))
        else:
            same.sources[at] = source
    return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Values of some row ids, each read once, and the place of each id among them; None where that is its own."""

    num_rows: int
    read: pa.Table | None
    places: pa.Array | None

    @classmethod
    def of(cls, together: _Together, max_media_nbytes: int) -> _Rows:
        unique = together.ids.drop_null().unique().sort()
        if len(unique) == 0:
            return cls(len(together.ids), None, None)
        snapshot = next(iter(together.sources.values())).snapshot
        columns = list(dict.fromkeys(source.column for source in together.sources.values()))
        read = _read(snapshot, np.asarray(unique), columns, max_media_nbytes)
        if unique.equals(together.ids):  # as they are: whole tables are asked for, and a copy holds them once more
            return cls(len(unique), read, None)
        return cls(len(together.ids), read.combine_chunks(), pc.index_in(together.ids, value_set=unique))

    def values(self, source: Carried, left: int) -> pa.ChunkedArray:
        """Return a column in the order of the result."""
        if self.read is None:
            return pa.chunked_array([pa.nulls(self.num_rows, source.field.type)])
        values = self.read[source.column]
        if types.is_bytes_media(source.field):
            self._check_nbytes(source, values, left)
        ordered = values if self.places is None else values.take(self.places)
        return ordered.cast(source.field.type)

    def _check_nbytes(self, source: Carried, values: pa.ChunkedArray, left: int) -> None:
        """Refuse what is read once and held often: an image joined to many rows."""
        lengths = pc.binary_length(values)
        lengths = lengths if self.places is None else lengths.take(self.places)
        nbytes = int(pc.sum(lengths).as_py() or 0)
        if nbytes > left:
            other = "raise the limit" if self.num_rows == 1 else "stream with batches()"
            raise ResourceLimitError(
                f"the result holds {format_nbytes(nbytes)} of {source.column!r}, over what is left of "
                f"max_media_nbytes ({format_nbytes(left)}); leave the column out, or {other}"
            )


def _read(snapshot: Snapshot, ids: npt.NDArray[np.uint64], columns: list[str], max_media_nbytes: int) -> pa.Table:
    """Read rows in pieces: Ctrl-C and the clock act between two reads of Lance."""
    sizes.check_rows(snapshot, columns, ids, max_media_nbytes)
    if len(ids) <= _FIRST_PIECE:
        return reads.take_row_ids(snapshot, ids, columns, max_media_nbytes=None)
    rows = _PIECES * sizes.rows_per_batch(snapshot, columns)
    pieces = [
        reads.take_row_ids(snapshot, ids[start : start + rows], columns, max_media_nbytes=None)
        for start in range(0, len(ids), rows)
    ]
    return pa.concat_tables(pieces)
