"""Media in a query travel as row ids and become bytes at the end, for the rows that survive.

A media column that a statement only hands through is given to DuckDB as its row id, wrapped in a struct of one field
whose name no statement can know. What comes out under that name is replaced by the bytes: a sort, a join or a LIMIT
drags eight bytes a row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import reads
from lakehouse.errors import ResourceLimitError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lakehouse.snapshot import Snapshot

__all__ = ["Carried", "carried_by", "fill_in", "fill_in_pieces", "filled_schema"]

_PIECE_NBYTES = 32 << 20  # media of one streamed batch: a moment of a disk, little beside the query's own memory
_FIRST_PIECE = 32  # rows, before any size is known


@dataclass(frozen=True, eq=False)
class Carried:
    """A media column that travels as row ids."""

    snapshot: Snapshot
    column: str

    @property
    def field(self) -> pa.Field:
        """The column as users see it."""
        return self.snapshot.schema.field(self.column)


def fill_in(table: pa.Table, carried: Mapping[str, Carried], max_media_nbytes: int) -> pa.Table:
    """Replace row ids by the media they stand for.

    Raises
    ------
    ResourceLimitError
        The media are larger than `max_media_nbytes`.
    """
    columns, fields = [], []
    for seen, column in zip(table.schema, table.columns, strict=True):
        source = carried_by(seen.type, carried)
        if source is None:
            columns.append(column)
            fields.append(seen)
        else:
            media = _media(source, column, max_media_nbytes)
            max_media_nbytes -= media.nbytes
            columns.append(media)
            fields.append(source.field.with_name(seen.name).with_nullable(nullable=True))
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def fill_in_pieces(
    batch: pa.RecordBatch, carried: Mapping[str, Carried], max_media_nbytes: int
) -> Iterator[pa.RecordBatch]:
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
