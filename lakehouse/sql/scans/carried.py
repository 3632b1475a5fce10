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
    columns, fields = list(table.columns), list(table.schema)
    for at, field in enumerate(table.schema):
        source = carried_by(field.type, carried)
        if source is not None:
            columns[at] = _values(source, table.column(at), max_media_nbytes)
            fields[at] = source.field.with_name(field.name).with_nullable(nullable=True)
            if types.is_bytes_media(source.field):
                max_media_nbytes -= columns[at].nbytes
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


def _values(source: Carried, structs: pa.ChunkedArray, max_media_nbytes: int) -> pa.ChunkedArray:
    ids = pc.struct_field(structs, [0]).combine_chunks()
    unique = ids.drop_null().unique().sort()
    if len(unique) == 0:
        return pa.chunked_array([pa.nulls(len(ids), source.field.type)])
    left = max(max_media_nbytes, 0)
    values = _read(source, np.asarray(unique), left)
    places = pc.index_in(ids, value_set=unique)
    if types.is_bytes_media(source.field):
        _check_nbytes(source, values, places, left)
    return pa.chunked_array([values.take(places).cast(source.field.type)])


def _read(source: Carried, ids: npt.NDArray[np.uint64], max_media_nbytes: int) -> pa.Array:
    """Read rows in pieces: Ctrl-C and the clock act between two reads of Lance."""
    sizes.check_rows(source.snapshot, [source.column], ids, max_media_nbytes)
    if len(ids) <= _FIRST_PIECE:
        return reads.take_row_ids(source.snapshot, ids, [source.column], max_media_nbytes=None)[
            source.column
        ].combine_chunks()
    rows = _PIECES * sizes.rows_per_batch(source.snapshot, [source.column])
    pieces = [
        reads.take_row_ids(source.snapshot, ids[start : start + rows], [source.column], max_media_nbytes=None)
        for start in range(0, len(ids), rows)
    ]
    return pa.concat_tables(pieces)[source.column].combine_chunks()


def _check_nbytes(source: Carried, values: pa.Array, places: pa.Array, left: int) -> None:
    """Refuse what is read once and held often: an image joined to many rows."""
    nbytes = int(pc.sum(pc.binary_length(values).take(places)).as_py() or 0)
    if nbytes > left:
        raise ResourceLimitError(
            f"the result holds {nbytes / 1e9:.1f} GB of {source.column!r}, over what is left of max_media_nbytes "
            f"({left / 1e9:.1f} GB); leave the column out, or stream with batches()"
        )
