"""Rows on their way into a column file: put in the fragment's order, a window at a time, the gaps filled with NULL.

A piece is a table of rows and their physical offsets, ascending; so are the pieces of one stream. Nothing here holds
more than a few windows, whose media are of some megabytes, however large the fragment.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import storage
from lakehouse.schema.lineage import TODO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Offsets", "Piece", "in_order", "in_place", "merged"]

Offsets: TypeAlias = npt.NDArray[np.int64]
Piece: TypeAlias = tuple[pa.Table, Offsets]

_WINDOW_ROWS = 65_536
_WINDOW_NBYTES = 32 << 20  # of media


def in_order(rows: pa.Table, offsets: Offsets) -> Iterator[Piece]:
    """Cut rows into pieces.

    Parameters
    ----------
    rows
        In any order; of rows that are in order nothing is copied.
    offsets
        Where they belong, each once.
    """
    is_sorted = bool((offsets[1:] > offsets[:-1]).all())
    if is_sorted:
        for start, stop in pairwise(_edges(rows, slice(None))):
            yield rows.slice(start, stop - start), offsets[start:stop]
        return
    order, batches = np.argsort(offsets), rows.to_batches()
    for start, stop in pairwise(_edges(rows, order)):
        window = order[start:stop]
        yield _picked(batches, window), offsets[window]


def _edges(rows: pa.Table, order: npt.NDArray[np.int64] | slice) -> list[int]:
    """Return where to cut: after so many rows, and after so many bytes of media."""
    edges = np.append(np.arange(0, rows.num_rows, _WINDOW_ROWS), rows.num_rows)
    media = [column for column in rows.columns if pa.types.is_large_binary(column.type)]
    if media:
        nbytes = np.sum([np.asarray(pc.fill_null(pc.binary_length(column), 0)) for column in media], axis=0)
        edges = np.union1d(edges, np.flatnonzero(np.diff(np.cumsum(nbytes[order]) // _WINDOW_NBYTES)) + 1)
    return edges.tolist() if rows.num_rows else []


def _picked(batches: Sequence[pa.RecordBatch], at: npt.NDArray[np.int64]) -> pa.Table:
    """Take rows batch by batch: from a chunked table each `take` would put all chunks together anew."""
    ends = np.cumsum([batch.num_rows for batch in batches])
    owner = np.searchsorted(ends, at, side="right")
    by_owner = np.argsort(owner, kind="stable")
    parts = [
        batches[number].take(pa.array(at[owner == number] - (ends[number] - batches[number].num_rows)))
        for number in np.unique(owner)
    ]
    return pa.Table.from_batches(parts).take(pa.array(np.argsort(by_owner)))


def merged(one: Iterator[Piece], other: Iterator[Piece]) -> Iterator[Piece]:
    """Merge two streams that have no offset in common."""
    a, b = next(one, None), next(other, None)
    while a is not None and b is not None:
        (first, a), (second, b) = (_split(piece, min(a[1][-1], b[1][-1])) for piece in (a, b))
        offsets = np.concatenate([first[1], second[1]])
        order = np.argsort(offsets)
        yield pa.concat_tables([first[0], second[0]]).take(pa.array(order)), offsets[order]
        a, b = a or next(one, None), b or next(other, None)
    yield from (piece for piece in (a, b) if piece is not None)
    yield from one
    yield from other


def _split(piece: Piece, last: int) -> tuple[Piece, Piece | None]:
    rows, offsets = piece
    at = int(np.searchsorted(offsets, last, side="right"))
    return (rows[:at], offsets[:at]), (rows[at:], offsets[at:]) if at < len(offsets) else None


def in_place(pieces: Iterable[Piece], num_rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield all physical rows of a fragment in order; those in no piece, deleted or without a value, are NULL.

    Parameters
    ----------
    pieces
        Rows of `schema`.
    num_rows
        How many physical rows the fragment has.
    schema
        The columns; stamps are 0 where there is no row, because mixed NULLs cost 200 KB per 100 k rows.
    """
    end = 0
    for rows, offsets in pieces:
        yield from _nothing(int(offsets[0]) - end, schema)
        end = int(offsets[-1]) + 1
        if end - offsets[0] == len(offsets):
            yield from _stamped(rows, schema)
        else:
            yield from _spread(rows.combine_chunks(), offsets, schema)
    yield from _nothing(num_rows - end, schema)


def _spread(rows: pa.Table, offsets: Offsets, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    end = int(offsets[-1]) + 1
    for start in range(int(offsets[0]), end, _WINDOW_ROWS):
        first, last = np.searchsorted(offsets, [start, start + _WINDOW_ROWS])
        at = np.full(min(_WINDOW_ROWS, end - start), -1)
        at[offsets[first:last] - start] = np.arange(first, last)
        yield from _stamped(rows.take(pa.array(at, mask=at < 0)), schema)


def _nothing(num_rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, num_rows, _WINDOW_ROWS):
        count = min(_WINDOW_ROWS, num_rows - start)
        yield from _stamped(pa.table([pa.nulls(count, field.type) for field in schema], schema=schema), schema)


def _stamped(rows: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    columns = [
        column.fill_null(TODO) if storage.is_stamp(field) else column
        for field, column in zip(schema, rows.columns, strict=True)
    ]
    yield from pa.table(columns, schema=schema).to_batches()
