"""The reads: sorted, without repeats, many batches at once, and one read ahead of the one in use."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse import reads
from lakehouse.loader.columns import ROW_ID, Form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from concurrent.futures import Executor, Future

    import numpy.typing as npt

    from lakehouse.loader.columns import Column
    from lakehouse.loader.selection import Selection
    from lakehouse.loader.stats import Meter
    from lakehouse.snapshot import Snapshot

__all__ = ["Portion", "Reader", "RowBlock"]

# research/loader.md (b): a read of 256 to 1,024 rows costs 3 times less per row than one of 16 and 20 times less
# than single rows; 16 MB is what a local disk gives in the time one batch is decoded.
_MAX_ROWS = 1024
_MAX_NBYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Rows that were read together, each once, by ascending row id.

    Parameters
    ----------
    row_ids
        uint64, shape ``(num_rows,)``.
    columns
        Each column's cells by its name: one array, or chunks as read for text, bytes and images.
    nbytes
        Of the cells.
    """

    row_ids: npt.NDArray[np.uint64]
    columns: dict[str, pa.Array | pa.ChunkedArray] = field(repr=False)
    nbytes: int


@dataclass(frozen=True, eq=False)
class Portion:
    """The rows of one batch, and the read that brings them.

    Parameters
    ----------
    positions
        Of the rows in the epoch; int64, shape ``(num_rows,)``.
    block
        The rows read, when they are there.
    index
        Where in the block each of the rows stands; int64, shape ``(num_rows,)``.
    """

    positions: npt.NDArray[np.int64]
    block: Future[RowBlock]
    index: npt.NDArray[np.int64]


class Reader:
    """Reads rows of a selection by their rank in it.

    Parameters
    ----------
    snapshot
        The version to read.
    selection
        Its rows.
    columns
        What to read of them.
    meter
        Where reads are counted.
    """

    def __init__(self, snapshot: Snapshot, selection: Selection, columns: Sequence[Column], meter: Meter) -> None:
        self._snapshot = snapshot
        self._selection = selection
        self._columns = columns
        self._meter = meter
        self._row_nbytes = 0.0

    def read(self, row_ids: npt.NDArray[np.uint64]) -> RowBlock:
        """Read rows by ascending row id.

        Raises
        ------
        RowNotFoundError
            A row is not in this version.
        """
        began = time.perf_counter()
        stored = [column.name for column in self._columns if column.name != ROW_ID]
        table = reads.take_row_ids(self._snapshot, row_ids, stored) if stored else pa.table({})
        columns: dict[str, pa.Array | pa.ChunkedArray] = {}
        for column in self._columns:
            if column.name == ROW_ID:
                columns[ROW_ID] = pa.array(row_ids.astype(np.int64))  # int64: torch computes with no uint64
                continue
            cells = table[column.name]
            if column.form not in (Form.VALUES, Form.IMAGES):
                cells = cells.combine_chunks()
            columns[column.name] = cells
        block = RowBlock(row_ids, columns, table.nbytes)
        self._row_nbytes = block.nbytes / max(len(row_ids), 1)
        self._meter.add(
            num_reads=1, num_rows_read=len(row_ids), nbytes_read=block.nbytes, read_s=time.perf_counter() - began
        )
        return block

    def portions(
        self, batches: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], executor: Executor
    ) -> Iterator[Portion]:
        """Read batches in order, several at once, always one read ahead.

        Parameters
        ----------
        batches
            For each batch the positions of its rows and their ranks in the selection.
        executor
            Where the reads run; one thread is enough, Lance has its own.
        """
        groups = self._groups(iter(batches), executor)
        ready = next(groups, None)
        while ready is not None:
            ahead = next(groups, None)
            yield from ready
            ready = ahead

    def _groups(
        self, batches: Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]], executor: Executor
    ) -> Iterator[list[Portion]]:
        size = 1  # grows: the first batch comes soon, and the bytes of a row are known before the second read
        for first in batches:
            group = [first]
            while len(group) < size and (following := next(batches, None)) is not None:
                group.append(following)
            ids = [self._selection.row_ids(ranks) for _, ranks in group]
            unique, inverse = np.unique(np.concatenate(ids), return_inverse=True)
            block = executor.submit(self.read, unique)
            cuts = np.cumsum([len(part) for part in ids])[:-1]
            indexes = np.split(inverse.astype(np.int64), cuts)
            yield [Portion(positions, block, index) for (positions, _), index in zip(group, indexes, strict=True)]
            size = min(2 * size, self._batches_per_read(len(ids[0])))

    def _batches_per_read(self, num_rows: int) -> int:
        if not self._row_nbytes:  # nothing has come back yet
            return 1
        rows = min(_MAX_ROWS, int(_MAX_NBYTES / self._row_nbytes))
        return max(1, rows // max(num_rows, 1))
