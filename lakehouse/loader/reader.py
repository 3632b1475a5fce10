"""The reads: sorted, without repeats, many batches at once, and one read ahead of the one in use."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse import reads
from lakehouse.loader.columns import ROW_ID, Form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    import numpy.typing as npt

    from lakehouse.loader.columns import Column
    from lakehouse.loader.stats import Meter
    from lakehouse.snapshot import Snapshot

__all__ = ["Portion", "Reader", "RowBlock"]

# 150 pictures of 50 KB: twice as many would cost a tenth less each and hold 40 MB more. Of rows of 16 bytes, 65,536
# of 10 M cost 1 µs of CPU each in one read and 37 µs in reads of 1,024: many of them share a page, or none do.
_MAX_NBYTES = 8 << 20
_MAX_ROWS = 1 << 16


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows that were read together, each once, by ascending row id.

    Parameters
    ----------
    row_ids
        uint64, shape ``(num_rows,)``.
    columns
        Each column's cells by its name: one array, or chunks as read for text, bytes and images.
    order
        Where in the block each row asked for stands, in the order asked; int64, shape ``(num_asked,)``.
    nbytes
        Of the cells.
    """

    row_ids: npt.NDArray[np.uint64]
    columns: dict[str, pa.Array | pa.ChunkedArray] = field(repr=False)
    order: npt.NDArray[np.int64] = field(repr=False)
    nbytes: int


@dataclass(frozen=True, eq=False)
class Portion:
    """The rows of one batch, and the read that brings them together with those of others.

    Parameters
    ----------
    positions
        Of the rows in the epoch; int64, shape ``(num_rows,)``.
    reading
        The rows, when they are there.
    start
        How many rows of earlier batches were asked for in the same read.
    """

    positions: npt.NDArray[np.int64]
    reading: Future[RowBlock]
    start: int

    def rows(self) -> tuple[RowBlock, npt.NDArray[np.int64]]:
        """Wait for the read; give what was read, and where in it each row of this batch stands."""
        block = self.reading.result()
        return block, block.order[self.start : self.start + len(self.positions)]


class Reader:
    """Reads the rows that stand at positions of an epoch.

    Parameters
    ----------
    snapshot
        The version to read.
    columns
        What to read.
    row_ids_at
        Which row stands at each position.
    meter
        Where reads are counted.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        columns: Sequence[Column],
        row_ids_at: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint64]],
        meter: Meter,
    ) -> None:
        self._snapshot = snapshot
        self._columns = columns
        self._row_ids_at = row_ids_at
        self._meter = meter
        self._row_nbytes = 0.0

    def read(self, positions: npt.NDArray[np.int64]) -> RowBlock:
        """Read the rows at these positions in one go, each once.

        Raises
        ------
        RowNotFoundError
            A row is not in this version.
        """
        began = time.perf_counter()
        row_ids, order = np.unique(self._row_ids_at(positions), return_inverse=True)
        stored = [column.name for column in self._columns if column.name != ROW_ID]
        table = pa.table({})
        if stored:  # bounded here, so not checked there against the sizes of all media
            table = reads.take_row_ids(self._snapshot, row_ids, stored, max_media_nbytes=None)
        columns = {column.name: self._cells(column, table, row_ids) for column in self._columns}
        block = RowBlock(row_ids, columns, order, table.nbytes)
        self._row_nbytes = max(block.nbytes / max(len(row_ids), 1), 1.0)
        spent = time.perf_counter() - began
        self._meter.add(num_reads=1, num_rows_read=len(row_ids), nbytes_read=block.nbytes, read_s=spent)
        return block

    @staticmethod
    def _cells(column: Column, table: pa.Table, row_ids: npt.NDArray[np.uint64]) -> pa.Array | pa.ChunkedArray:
        if column.name == ROW_ID:
            return pa.array(row_ids.astype(np.int64))  # int64: torch computes with no uint64
        cells = table[column.name]
        return cells if column.form in (Form.VALUES, Form.IMAGES) else cells.combine_chunks()

    def portions(self, batches: Iterable[npt.NDArray[np.int64]], executor: Executor) -> Iterator[Portion]:
        """Read batches in order, several at once, always one read ahead.

        Parameters
        ----------
        batches
            The positions of each batch.
        executor
            Where the reads run; one thread is enough, Lance has its own.
        """
        groups = self._groups(iter(batches), executor)
        ready = next(groups, None)
        while ready is not None:
            ahead = next(groups, None)
            yield from ready
            ready = ahead

    def _groups(self, batches: Iterator[npt.NDArray[np.int64]], executor: Executor) -> Iterator[list[Portion]]:
        size = 1  # grows: the first batch comes soon, and the bytes of a row are known before a large read
        for first in batches:
            group = [first, *islice(batches, size - 1)]
            reading = executor.submit(self.read, np.concatenate(group))
            starts = np.cumsum([0, *map(len, group)]).tolist()
            yield [Portion(positions, reading, start) for positions, start in zip(group, starts, strict=False)]
            size = min(2 * size, self._batches_per_read(len(first)))

    def _batches_per_read(self, num_rows: int) -> int:
        if not self._row_nbytes:  # nothing has come back yet
            return 1
        return max(1, min(_MAX_ROWS, int(_MAX_NBYTES / self._row_nbytes)) // max(num_rows, 1))
