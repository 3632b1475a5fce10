"""The reads: sorted, without repeats, many batches at once, and one read ahead of the one in use."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from itertools import accumulate, count
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from lakehouse import reads, types
from lakehouse.loader.forms.columns import ROW_ID, Form, numbers
from lakehouse.loader.forms.footprint import most_rows
from lakehouse.media.blobs import MediaBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    import numpy.typing as npt

    from lakehouse.loader.forms.columns import Column, Index
    from lakehouse.loader.stats import Meter
    from lakehouse.reads import RowIds
    from lakehouse.snapshot import Snapshot

    Batches = Sequence[npt.NDArray[np.int64]]

__all__ = ["Portion", "Reader", "RowBlock", "until"]

Rows: TypeAlias = "RowIds | range"

_LOOKED_UP = 1 << 12
_GIVEN_ONE_BY_ONE = (Form.VALUES, Form.IMAGES, Form.CLIPS)


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows that were read together, each once.

    Parameters
    ----------
    row_ids
        Gives the row ids of some rows by their index; where the rows were read it is an array, uint64, shape
        ``(num_rows,)``.
    columns
        Each column's cells by its name: one array; chunks as read for text, bytes, images and clips; where large ones
        lie in their files; handles on blobs for clips.
    order
        Where in the block each row asked for stands, in the order asked; int64, shape ``(num_asked,)``. None where
        the rows stand in that order, each once.
    ends
        How many rows were asked for up to each batch.
    nbytes
        Of the cells.
    """

    row_ids: Any
    columns: dict[str, Any] = field(repr=False)
    order: npt.NDArray[np.int64] | None = field(repr=False)
    ends: Sequence[int] = field(repr=False)
    nbytes: int

    def index(self, number: int) -> Index:
        """Give where the rows of a batch stand."""
        mine = slice(self.ends[number], self.ends[number + 1])
        return mine if self.order is None else self.order[mine]


@dataclass(frozen=True, eq=False)
class Portion:
    """The rows of one batch, and the read that brings them together with those of others.

    Parameters
    ----------
    positions
        Of the batch's samples in the epoch; int64, shape ``(num_samples,)``.
    reading
        The rows, when they are there.
    number
        Which of the batches of that read this is.
    """

    positions: npt.NDArray[np.int64]
    reading: Future[RowBlock]
    number: int

    def rows(self) -> tuple[RowBlock, Index]:
        """Wait for the read; give what was read, and where in it the rows of this batch stand."""
        block = self.reading.result()
        return block, block.index(self.number)


class Reader:
    """Reads the rows that stand at positions of an epoch.

    Parameters
    ----------
    snapshot
        The version to read.
    columns
        What to read.
    rows_of
        Gives the rows of each batch by their positions: their ids, or the stretch of the table that they are.
    meter
        Where reads are counted.
    together
        Whether large values are read together with their neighbours, not each when its batch is made.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        columns: Sequence[Column],
        rows_of: Callable[[Batches], list[Rows]],
        meter: Meter,
        *,
        together: bool = False,
    ) -> None:
        self._snapshot = snapshot
        self._rows_of = rows_of
        self._meter = meter
        self._most = 0  # positions of a read; nothing has come back yet that would tell
        self._columns = {column.name: column for column in columns}
        # Of a clip only its own stretch of the blob is read, when it is decoded.
        self._handles = [
            c.name for c in columns if c.form is Form.CLIPS and types.is_blob(snapshot.schema.field(c.name))
        ]
        self._stored = [name for name in self._columns if name != ROW_ID and name not in self._handles]
        self._locates = not together and any(c.form in _GIVEN_ONE_BY_ONE for c in columns if c.name in self._stored)

    def read(self, batches: Batches) -> RowBlock:
        """Read the rows of some batches in one go, each once, all of their values.

        Raises
        ------
        RowNotFoundError
            A row is not in this version.
        """
        block = self._read(self._looked_up(batches), sum(map(len, batches)))
        located = {name: cells for name, cells in block.columns.items() if isinstance(cells, reads.Located)}
        self._meter.add(nbytes_read=sum(where.nbytes for where in located.values()))
        return replace(block, columns=block.columns | {name: where.array() for name, where in located.items()})

    def _looked_up(self, batches: Batches) -> list[Rows]:
        with self._meter.timed("read_s"):
            return self._rows_of(batches)

    def _read(self, asked: Sequence[Rows], num_positions: int) -> RowBlock:
        began = time.perf_counter()
        row_ids, table, located, order = self._table(asked)
        columns = {n: located[n] if n in located else self._cells(c, table, row_ids) for n, c in self._columns.items()}
        block = RowBlock(row_ids, columns, order, [0, *accumulate(map(len, asked))], table.nbytes)
        self._most = most_rows(self._snapshot, block.nbytes / max(num_positions, 1))
        spent = time.perf_counter() - began
        self._meter.add(num_reads=1, num_rows_read=len(row_ids), nbytes_read=block.nbytes, read_s=spent)
        return block

    def _table(
        self, asked: Sequence[Rows]
    ) -> tuple[RowIds, pa.Table, dict[str, reads.Located], npt.NDArray[np.int64] | None]:
        if isinstance(asked[0], range):
            return (*reads.stretch(self._snapshot, asked[0].start, sum(map(len, asked)), self._stored), None)
        row_ids, order = _sorted(np.concatenate(asked))
        return (row_ids, *self._taken(row_ids), order)

    def _taken(self, row_ids: RowIds) -> tuple[pa.Table, dict[str, reads.Located]]:
        if self._locates:
            return reads.locate_row_ids(self._snapshot, row_ids, self._stored)
        if not self._stored:
            return pa.table({}), {}
        # Bounded here, so not checked there against the sizes of all media.
        return reads.take_row_ids(self._snapshot, row_ids, self._stored, max_media_nbytes=None), {}

    def _cells(self, column: Column, table: pa.Table, row_ids: npt.NDArray[np.uint64]) -> Any:
        if column.name == ROW_ID:
            return row_ids.astype(np.int64)  # torch computes with no uint64
        if column.name in self._handles:
            media = MediaBatch(self._snapshot, column.name, row_ids.tolist())
            return [None if null else media.source(i) for i, null in enumerate(media.nulls.tolist())]
        cells = table[column.name]
        if column.form in (Form.VALUES, Form.IMAGES, Form.CLIPS):
            return cells
        return numbers(column, cells.combine_chunks())

    def portions(self, groups: Iterable[Batches], executor: Executor) -> Iterator[Portion]:
        """Read batches in order, several at once, always one read ahead.

        Parameters
        ----------
        groups
            The positions of each batch, those together whose rows lie together: a read takes whole groups, and several
            while they are small.
        executor
            Where the reads run; one thread is enough, Lance has its own.
        """
        readings = self._readings(groups, executor)
        ready = next(readings, None)
        while ready is not None:
            ahead = next(readings, None)
            yield from ready
            ready = ahead

    def _readings(self, groups: Iterable[Batches], executor: Executor) -> Iterator[list[Portion]]:
        most = 0  # positions; grows: the first batch comes soon, and their bytes are known before a large read
        taken: list[_Asked] = []
        num_taken = 0
        for group in self._asked(groups, executor):
            num_here = sum(len(batch.positions) for batch in group)
            if taken and num_taken + num_here > most:
                yield self._reading(taken, executor)
                most = min(max(2 * num_taken, most), self._most)
                taken, num_taken = [], 0
            taken.extend(group)
            num_taken += num_here
        if taken:
            yield self._reading(taken, executor)

    def _asked(self, groups: Iterable[Batches], executor: Executor) -> Iterator[list[_Asked]]:
        """Look rows up for many batches at a time: for some hundred positions it costs a millisecond as for one."""
        groups = iter(groups)
        most = 0
        while together := list(until(groups, most)):
            looking = executor.submit(self._looked_up, [positions for group in together for positions in group])
            numbers = count()
            yield from ([_Asked(positions, looking, next(numbers)) for positions in group] for group in together)
            most = _LOOKED_UP

    def _reading(self, batches: Sequence[_Asked], executor: Executor) -> list[Portion]:
        num_positions = sum(len(batch.positions) for batch in batches)
        reading = executor.submit(lambda: self._read([batch.rows() for batch in batches], num_positions))
        return [Portion(batch.positions, reading, number) for number, batch in enumerate(batches)]


@dataclass(frozen=True, eq=False)
class _Asked:
    """A batch whose rows are being looked up together with those of others."""

    positions: npt.NDArray[np.int64]
    looking: Future[list[Rows]]
    number: int

    def rows(self) -> Rows:
        return self.looking.result()[self.number]


def until(groups: Iterator[Batches], most: int) -> Iterator[Batches]:
    """Take groups until there are so many positions."""
    num_taken = 0
    for group in groups:
        yield group
        num_taken += sum(map(len, group))
        if num_taken >= most:
            return


def _sorted(row_ids: RowIds) -> tuple[RowIds, npt.NDArray[np.int64] | None]:
    """Give the ids in order, each once, and where in them each of those asked for stands."""
    if (row_ids[1:] > row_ids[:-1]).all():
        return row_ids, None
    return np.unique(row_ids, return_inverse=True)
