"""Columns of tables, held in memory: what one statement has decoded, the next one need not.

A version never changes, so its columns can be kept. They are kept by the files they lie in: after an append only the
new fragments are read, after a delete only those that lost rows.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import types
from lakehouse.errors import translated
from lakehouse.reads import ROW_ID
from lakehouse.sql.scans.forms import compact, compact_type
from lakehouse.sql.scans.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterator, Mapping, Sequence

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

    A column that is asked for again is given the form of `lakehouse.sql.scans.forms`: that costs as much as to decode
    it, and is worth it where the column goes on being used.

    Parameters
    ----------
    max_nbytes
        What may be held.
    num_threads
        How many ranges of a table are decoded at a time; one Lance scan decodes on one thread.
    """

    def __init__(self, max_nbytes: int, num_threads: int) -> None:
        self._memory = Memory(max_nbytes)
        self._num_threads = num_threads
        self._widths: dict[Hashable, float] = {}
        self._forms: dict[str, dict[Hashable, pa.DataType]] = {}  # of columns asked for twice, by the table's folder

    @property
    def nbytes(self) -> int:
        """What is held now."""
        return self._memory.nbytes

    def table(self, snapshot: Snapshot, columns: Sequence[str]) -> pa.Table | None:
        """Return columns of a version in the order of its rows, or None where they are media or too large to hold.

        Their types are those stored, or those of `forms`.

        Parameters
        ----------
        snapshot
            The version.
        columns
            Their names, ``_rowid`` among them or not.
        """
        with translated(f"reading {snapshot.name!r}"):
            place = (snapshot.uri, snapshot.identity, *columns)
            if (table := self._memory.table(place)) is not None:
                return table
            if not self._fits(snapshot, columns):
                return None
            fragments = snapshot.dataset.get_fragments()
            pieces = _pieces(snapshot, fragments, columns)
            found = self._memory.find(piece.key for row in pieces for piece in row)
            lacking = [[piece for piece in row if piece.key not in found] for row in pieces]
            read: dict[Hashable, pa.ChunkedArray] = {}
            for first, last in _runs(lacking):
                read |= self._read(snapshot, fragments[first:last], lacking[first:last])
        self._memory.keep(read)
        table, changed = self._put_together(snapshot, columns, pieces, found | read, new=read.keys())
        self._memory.keep(changed)
        decided = self._decided(snapshot)
        if all(_place(snapshot, _field(snapshot, name)) in decided for name in columns):
            self._memory.keep_table(place, table, found | read)
        return table

    def forms(self, snapshot: Snapshot) -> dict[str, pa.DataType]:
        """Return the types, other than those stored, that columns were held in and will be again."""
        decided = self._decided(snapshot)
        forms = {field.name: decided.get(_place(snapshot, field)) for field in snapshot.schema} if decided else {}
        return {name: form for name, form in forms.items() if form not in (None, snapshot.schema.field(name).type)}

    def _decided(self, snapshot: Snapshot) -> dict[Hashable, pa.DataType]:
        return self._forms.setdefault(snapshot.uri, {})

    def held(self, snapshot: Snapshot, columns: Sequence[str]) -> bool:
        """Whether nothing need be read to return these columns."""
        pieces = _pieces(snapshot, snapshot.dataset.get_fragments(), columns)
        return self._memory.holds(piece.key for row in pieces for piece in row)

    def _fits(self, snapshot: Snapshot, columns: Sequence[str]) -> bool:
        fields = [_field(snapshot, name) for name in columns]
        if not columns or any(types.is_bytes_media(field) for field in fields):
            return False
        sizes = [snapshot.num_rows * self._width(snapshot, field) for field in fields]
        return max(sizes, default=0) <= self._memory.max_nbytes / _MOST_OF_IT and sum(sizes) <= self._memory.max_nbytes

    def _width(self, snapshot: Snapshot, field: pa.Field) -> float:
        """Return a column's bytes a row, of its first rows where the type does not say."""
        if (fixed := _fixed_width(field.type)) is not None:
            return fixed
        place = (snapshot.uri, field.name, str(field.type))
        if place not in self._widths:
            probe = snapshot.dataset.scanner(columns=[field.name], limit=_PROBED_ROWS).to_table()
            self._widths[place] = probe.nbytes / max(1, probe.num_rows)
        return self._widths[place]

    def _put_together(
        self,
        snapshot: Snapshot,
        columns: Sequence[str],
        pieces: Sequence[Sequence[_Piece]],
        parts: Mapping[Hashable, pa.ChunkedArray],
        new: Container[Hashable],
    ) -> tuple[pa.Table, dict[Hashable, pa.ChunkedArray]]:
        """Return columns for this statement, and the pieces that are to be held in another form for the next."""
        columns_now: list[pa.ChunkedArray] = []
        changed: dict[Hashable, pa.ChunkedArray] = {}
        for at, name in enumerate(columns):
            column = [row[at] for row in pieces]
            again = bool(column) and not any(piece.key in new for piece in column)
            values = [parts[piece.key] for piece in column]
            now, later = self._decide(snapshot, _field(snapshot, name), values, again=again)
            columns_now.append(now)
            starts = itertools.accumulate((piece.num_rows for piece in column), initial=0)
            for start, piece, part in zip(starts, column, values, strict=False):
                if part.type != later.type:
                    changed[piece.key] = later.slice(start, piece.num_rows)
        return pa.table(columns_now, names=list(columns)), changed

    def _decide(
        self, snapshot: Snapshot, field: pa.Field, parts: Sequence[pa.ChunkedArray], *, again: bool
    ) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
        """Return a column for this statement and for the next: its form is decided when it is asked for again."""
        decided, place = self._decided(snapshot), _place(snapshot, field)
        form = decided.get(place)  # once: another thread may decide meanwhile
        now = _joined(parts, field.type, form or field.type)
        later = compact(now) if again and form is None else now
        if again or form is not None or compact_type(field.type) is None:
            decided[place] = later.type
        return now, later

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


def _place(snapshot: Snapshot, field: pa.Field) -> Hashable:
    """Return what a decision on a column is good for: a table that has grown eightfold is looked at again."""
    return field.name, field.type, snapshot.num_rows.bit_length() // 3


def _joined(parts: Sequence[pa.ChunkedArray], stored: pa.DataType, form: pa.DataType) -> pa.ChunkedArray:
    """Put the parts of a column together in a form; as they are stored if one has too many texts for it."""
    alike = parts if form == stored else [p if p.type == form else compact(p, at_any_length=True) for p in parts]
    if any(part.type != form for part in alike):
        form, alike = stored, [part if part.type == stored else part.cast(stored) for part in parts]
    return pa.chunked_array([chunk for part in alike for chunk in part.chunks], form)


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
