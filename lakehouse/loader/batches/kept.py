"""Small columns of all rows in memory, read once and in order: what a shuffled epoch of them is then taken from.

In a shuffle each row lies somewhere else, and by row id 16 bytes cost 0.4 µs of CPU, in order a fortieth of it. A
selection that is small as a whole is kept instead of read in pieces.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.loader.batches.reader import Portion, RowBlock, until
from lakehouse.loader.forms.columns import Form, taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from lakehouse.loader.batches.reader import Reader
    from lakehouse.loader.forms.columns import Column, Index
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.reads import RowIds

    Batches = Sequence[npt.NDArray[np.int64]]

__all__ = ["KEPT_NBYTES", "Kept", "KeptReader"]

KEPT_NBYTES = 24 << 20
"""What may be kept; a loader may hold 64 MB beside its batches."""

_LOOKED_UP = 1 << 14  # positions: their ranks are 128 kB, and found in a third of a millisecond


@dataclass(frozen=True, eq=False)
class Kept:
    """Columns of a whole selection.

    Parameters
    ----------
    columns
        One array each, by name; rows by rank.
    nbytes
        Memory held.
    """

    columns: dict[str, Any] = field(repr=False)
    nbytes: int

    @classmethod
    def read(cls, reader: Reader, columns: Sequence[Column], num_rows: int, together: int) -> Kept | None:
        """Read a selection in order; None if it is larger than was told, or has NULLs where numbers must stand.

        Parameters
        ----------
        reader
            Gives rows by their rank.
        columns, num_rows
            The columns, and the rows of the selection.
        together
            Rows of one read.
        """
        parts: dict[str, list[Any]] = {column.name: [] for column in columns}
        nbytes = 0
        for first in range(0, num_rows, together):
            block = reader.read([np.arange(first, min(first + together, num_rows))])
            for name, cells in block.columns.items():
                parts[name].append(cells if block.order is None else _ordered(cells, block.order))
                nbytes += cells.nbytes
            if nbytes > KEPT_NBYTES:
                return None
        if any(not isinstance(part, np.ndarray) for c in columns if c.form is Form.NUMBERS for part in parts[c.name]):
            return None
        joined = {name: _joined(parts.pop(name)) for name in list(parts)}
        return cls(joined, sum(cells.nbytes for cells in joined.values()))


def _ordered(cells: Any, order: npt.NDArray[np.int64]) -> Any:
    return cells[order] if isinstance(cells, np.ndarray) else taken(cells, order)


def _joined(parts: list[Any]) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    chunks = [chunk for part in parts for chunk in (part.chunks if isinstance(part, pa.ChunkedArray) else [part])]
    return pa.chunked_array(chunks).unify_dictionaries().combine_chunks()


@dataclass(frozen=True, eq=False)
class _RowIds:
    """Row ids by rank, which nobody asks for but to name a row."""

    selection: Selection

    def __getitem__(self, index: Index) -> RowIds:
        return self.selection.row_ids(np.arange(index.start, index.stop) if isinstance(index, slice) else index)


class KeptReader:
    """Gives rows of a kept selection as `Reader` gives those that it reads.

    Parameters
    ----------
    kept, selection
        The rows.
    ranks_of
        Gives the rank of the row at each position.
    """

    def __init__(
        self, kept: Kept, selection: Selection, ranks_of: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]]
    ) -> None:
        self._kept = kept
        self._row_ids = _RowIds(selection)
        self._ranks_of = ranks_of

    def portions(self, groups: Iterable[Batches]) -> Iterator[Portion]:
        """Give batches in order."""
        groups = iter(groups)
        while together := list(until(groups, _LOOKED_UP)):
            batches = [positions for group in together for positions in group]
            found: Future[RowBlock] = Future()
            found.set_result(self._block(batches))
            yield from (Portion(positions, found, number) for number, positions in enumerate(batches))

    def _block(self, batches: Batches) -> RowBlock:
        ends = [0, *np.cumsum([len(positions) for positions in batches]).tolist()]
        return RowBlock(self._row_ids, self._kept.columns, self._ranks_of(np.concatenate(batches)), ends, 0)
