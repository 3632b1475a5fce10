"""Columns of tables, held in memory: what one statement has decoded, the next one need not.

A version never changes, so its columns can be kept. They are kept by the files they lie in: after an append only the
new fragments are read, after a delete only those that lost rows.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import types
from lakehouse.errors import translated
from lakehouse.reads import ROW_ID

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from lakehouse.snapshot import Snapshot

__all__ = ["Resident"]

_BATCH_ROWS = 131_072  # twice as fast to decode as Lance's 8,192
_PROBED_ROWS = 1_024
_MOST_OF_IT = 4  # a column may take this part of all the space


@dataclass(frozen=True, eq=False)
class _Piece:
    """A column in a fragment: `key` names the files it comes from, so two versions that share them share it."""

    column: str
    key: Hashable
    num_rows: int


class Resident:
    """Columns of versions, the least recently used given up first.

    Parameters
    ----------
    max_nbytes
        What may be held.
    num_threads
        How many ranges of a table are decoded at a time; one Lance scan decodes on one thread.
    """

    def __init__(self, max_nbytes: int, num_threads: int) -> None:
        self._max_nbytes = max_nbytes
        self._num_threads = num_threads
        self._lock = threading.Lock()
        self._held: OrderedDict[Hashable, pa.ChunkedArray] = OrderedDict()
        self._nbytes = 0
        self._widths: dict[Hashable, float] = {}

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return self._nbytes

    def table(self, snapshot: Snapshot, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of a version in the order of its rows, or None where they are media or too large to hold.

        Parameters
        ----------
        snapshot
            The version.
        columns
            Their names, ``_rowid`` among them or not.
        """
        with translated(f"reading {snapshot.name!r}"):
            if not self._fits(snapshot, columns):
                return None
            fragments = snapshot.dataset.get_fragments()
            pieces = _pieces(snapshot, fragments, columns)
            found = self._look_up(itertools.chain.from_iterable(pieces))
            lacking = [[piece for piece in row if piece.key not in found] for row in pieces]
            for first, last in _runs(lacking):
                read = self._read(snapshot, fragments[first:last], lacking[first:last])
                self._keep(read)
                found |= read
        chunks = [[chunk for row in pieces for chunk in found[row[at].key].chunks] for at in range(len(columns))]
        schema = pa.schema([_field(snapshot, name) for name in columns])
        arrays = [pa.chunked_array(each, field.type) for each, field in zip(chunks, schema, strict=True)]
        return pa.table(arrays, schema=schema)

    def held(self, snapshot: Snapshot, columns: Sequence[str]) -> bool:
        """Whether nothing need be read to return these columns."""
        pieces = _pieces(snapshot, snapshot.dataset.get_fragments(), columns)
        with self._lock:
            return all(piece.key in self._held for row in pieces for piece in row)

    def _fits(self, snapshot: Snapshot, columns: Sequence[str]) -> bool:
        fields = [_field(snapshot, name) for name in columns]
        if not columns or any(types.is_bytes_media(field) for field in fields):
            return False
        sizes = [snapshot.num_rows * self._width(snapshot, field) for field in fields]
        return max(sizes, default=0) <= self._max_nbytes / _MOST_OF_IT and sum(sizes) <= self._max_nbytes

    def _width(self, snapshot: Snapshot, field: pa.Field) -> float:
        """Return a column's bytes a row, of its first rows where the type does not say."""
        if (fixed := _fixed_width(field.type)) is not None:
            return fixed
        place = (snapshot.uri, field.name, str(field.type))
        if place not in self._widths:
            probe = snapshot.dataset.scanner(columns=[field.name], limit=_PROBED_ROWS).to_table()
            self._widths[place] = probe.nbytes / max(1, probe.num_rows)
        return self._widths[place]

    def _look_up(self, pieces: Iterator[_Piece]) -> dict[Hashable, pa.ChunkedArray]:
        with self._lock:
            keys = {piece.key for piece in pieces if piece.key in self._held}
            for key in keys:
                self._held.move_to_end(key)
            return {key: self._held[key] for key in keys}

    def _keep(self, read: dict[Hashable, pa.ChunkedArray]) -> None:
        with self._lock:
            for key, values in read.items():
                if key not in self._held:
                    self._held[key] = values
                    self._nbytes += values.nbytes
            while self._nbytes > self._max_nbytes:
                self._nbytes -= self._held.popitem(last=False)[1].nbytes

    def _read(
        self, snapshot: Snapshot, fragments: Sequence[Any], pieces: Sequence[Sequence[_Piece]]
    ) -> dict[Hashable, pa.ChunkedArray]:
        """Decode the same columns of neighbouring fragments, in as many ranges as there are threads."""
        columns = [piece.column for piece in pieces[0]]
        ends = list(itertools.accumulate(row[0].num_rows for row in pieces))
        num_ranges = min(self._num_threads, -(-ends[-1] // _BATCH_ROWS)) or 1
        cuts = [ends[-1] * n // num_ranges for n in range(num_ranges + 1)]

        def decode(start: int, stop: int) -> pa.Table:
            options = {"limit": stop - start, "offset": start} if num_ranges > 1 else {}
            return snapshot.dataset.scanner(
                columns=columns, fragments=list(fragments), batch_size=_BATCH_ROWS, scan_in_order=True, **options
            ).to_table()

        with ThreadPoolExecutor(num_ranges) as pool:
            table = pa.concat_tables(pool.map(decode, cuts[:-1], cuts[1:]))
        starts = [0, *ends[:-1]]
        return {
            piece.key: table[piece.column].slice(start, piece.num_rows)
            for start, row in zip(starts, pieces, strict=True)
            for piece in row
        }


def _pieces(snapshot: Snapshot, fragments: Sequence[Any], columns: Sequence[str]) -> list[list[_Piece]]:
    """Return a row of pieces for each fragment."""
    uri, version = snapshot.uri, snapshot.version
    top = {field.name(): field for field in snapshot.dataset.lance_schema.fields()}
    ids = {name: _ids(top[name]) if name != ROW_ID else frozenset() for name in columns}
    found = []
    for fragment in fragments:
        stored, num_rows = fragment.metadata, fragment.count_rows()
        gone = stored.deletion_file
        changed = (stored.id, repr(stored.overlays), None if gone is None else repr(gone.asdict()))
        files = [(file.path, file.base_id, file.fields) for file in stored.files]
        row = []
        for name in columns:
            mine = tuple((path, base) for path, base, fields in files if not ids[name].isdisjoint(fields))
            # Without a file, as row ids and columns that are NULL here, it is the version's own.
            row.append(_Piece(name, (uri, ids[name], mine or version, changed), num_rows))
        found.append(row)
    return found


def _ids(field: Any) -> frozenset[int]:
    """Return Lance's ids of a field and of all that it is made of."""
    return frozenset({field.id()}.union(*map(_ids, field.children())))


def _runs(lacking: Sequence[Sequence[_Piece]]) -> Iterator[tuple[int, int]]:
    """Yield the ranges of neighbouring fragments that lack the same columns, if any."""
    at = 0
    for columns, group in itertools.groupby(lacking, lambda row: [piece.column for piece in row]):
        first, at = at, at + len(list(group))
        if columns:
            yield first, at


def _field(snapshot: Snapshot, column: str) -> pa.Field:
    return pa.field(ROW_ID, pa.uint64()) if column == ROW_ID else snapshot.schema.field(column)


def _fixed_width(data_type: pa.DataType) -> float | None:
    if pa.types.is_dictionary(data_type):
        return float(data_type.index_type.bit_width / 8)
    if pa.types.is_fixed_size_list(data_type):
        inner = _fixed_width(data_type.value_type)
        return None if inner is None else inner * data_type.list_size
    try:
        return float(data_type.bit_width / 8)
    except ValueError:
        return None
