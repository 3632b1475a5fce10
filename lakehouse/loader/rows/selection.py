"""Which rows: a version and a filter as an ordered list of row ids, in few bytes and by rank.

Row ids ascend within what was written at once, so the list is cut where one is not above the one before, the pieces
are moved one behind the other, and what comes out is one ascending sequence, kept in the form that is smallest for it:
a whole table is a handful of runs whatever its length, a sparse filter takes 2 to 3 bytes a row.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.loader.rows.arrayfiles import ArrayFile
from lakehouse.loader.rows.ascending import ascending_of, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from lakehouse.loader.rows.ascending import Ascending, Numbers
    from lakehouse.reads import RowIds

    Steps = npt.NDArray[np.unsignedinteger]

__all__ = ["Selection"]

_PIECE = 1 << 17  # 1 MB of row ids at a time


@dataclass(frozen=True, eq=False)
class Selection:
    """Row ids by rank.

    Parameters
    ----------
    num_rows
        How many rows are selected.
    digest
        A hash of the rows and their order, the same however they were read and in every release.
    firsts
        The first row id of each piece within which ids ascend; int64, shape ``(num_pieces,)``.
    offsets
        Where that id stands in the sequence; int64, shape ``(num_pieces,)``.
    sequence
        The pieces one behind the other.
    """

    num_rows: int
    digest: str
    firsts: Numbers = field(repr=False)
    offsets: Numbers = field(repr=False)
    sequence: Ascending = field(repr=False)

    @classmethod
    def of(cls, parts: Iterable[RowIds | range]) -> Selection:
        """Make one of row ids in any order, given some at a time."""
        written = _Written()
        for part in parts:
            if len(part):
                written.add(part)
        return written.selection()

    def row_ids(self, ranks: npt.NDArray[np.int64]) -> RowIds:
        """Give the row id at each rank; uint64, of the shape of `ranks`."""
        return _ids(self.firsts, self.offsets, self.sequence.at(ranks)).astype(np.uint64)

    def pieces(self) -> Iterator[RowIds]:
        """Give all row ids in order, some at a time."""
        for first in range(0, self.num_rows, _PIECE):
            yield self.row_ids(np.arange(first, min(first + _PIECE, self.num_rows)))

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes; of a large one, once for all processes of a machine."""
        return self.file.nbytes

    @cached_property
    def file(self) -> ArrayFile:
        """What it is made of, to be kept."""
        arrays = {"firsts": self.firsts, "offsets": self.offsets, **self.sequence.arrays}
        return ArrayFile({"kind": self.sequence.kind, "num_rows": self.num_rows, "digest": self.digest}, arrays)

    @classmethod
    def of_file(cls, file: ArrayFile) -> Selection:
        """Take back what `file` gave; there may be more in the file."""
        record, arrays = file.record, file.arrays
        sequence = ascending_of(record["kind"], arrays)
        selection = cls(record["num_rows"], record["digest"], arrays["firsts"], arrays["offsets"], sequence)
        selection.__dict__["file"] = file  # and with it the right to the mapped memory
        return selection

    def __reduce__(self) -> tuple[Any, ...]:
        return Selection.of_file, (self.file,)


class _Written:
    """Row ids as they come, in a byte or two each, until it is known which form takes the fewest."""

    def __init__(self) -> None:
        self._firsts = [np.empty(0, np.int64)]
        self._offsets = [np.empty(0, np.int64)]
        self._parts: list[tuple[int, int, Steps | None]] = []  # first number, how many, their distances if not all 1
        self._num_rows = self._num_runs = self._universe = 0
        self._last_id = -1
        self._shift = 0  # from a row id of the piece under way to its number in the sequence

    def add(self, ids: RowIds | range) -> None:
        """Take the next row ids, at least one."""
        first_id = int(ids[0])
        if first_id <= self._last_id or not self._num_rows:
            self._begin(np.array([first_id]), np.array([self._universe + 1]))
        first = first_id + self._shift
        self._num_runs += first != self._universe or not self._num_rows
        steps, last = (None, first + len(ids) - 1) if isinstance(ids, range) else self._steps(ids.astype(np.int64))
        self._parts.append((first, len(ids), steps))
        self._num_runs += 0 if steps is None else int(np.count_nonzero(steps != 1))
        self._num_rows += len(ids)
        self._universe, self._last_id = last + 1, last - self._shift

    def _steps(self, ids: Numbers) -> tuple[Steps | None, int]:
        """Give the distances between numbers, and the last number; a new piece stands two behind the one before."""
        steps = np.diff(ids)
        cuts = np.flatnonzero(steps <= 0)
        steps[cuts] = 2
        numbers = np.cumsum(steps) + (int(ids[0]) + self._shift)
        if len(cuts):
            self._begin(ids[cuts + 1], numbers[cuts])
        last = int(numbers[-1]) if len(numbers) else int(ids[0]) + self._shift
        if not len(steps) or (most := int(steps.max())) == 1:
            return None, last
        return steps.astype(np.min_scalar_type(most)), last

    def _begin(self, ids: Numbers, numbers: Numbers) -> None:
        self._firsts.append(ids)
        self._offsets.append(numbers)
        self._shift = int(numbers[-1] - ids[-1])

    def selection(self) -> Selection:
        """Choose the form and put all into it."""
        firsts, offsets = np.concatenate(self._firsts), np.concatenate(self._offsets)
        sequence = encode(self._num_rows, self._universe, self._num_runs, self._runs, self._pieces)
        return Selection(self._num_rows, self._digest(firsts, offsets), firsts, offsets, sequence)

    def _digest(self, firsts: Numbers, offsets: Numbers) -> str:
        """Hash where runs of consecutive ids begin, then where they end: the form that selections had at first."""
        content = hashlib.sha256()
        for _, numbers in self._runs():
            content.update(_ids(firsts, offsets, numbers).astype("<u8").tobytes())
        for places, _ in self._runs():
            content.update(places[places > 0].astype("<i8").tobytes())
        if self._num_rows:
            content.update(np.array([self._num_rows], "<i8").tobytes())
        return content.hexdigest()[:32]

    def _runs(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Give place and number of the first of each run."""
        place, follows = 0, -1
        for first, count, steps in self._parts:
            numbers = np.array([first]) if steps is None else _numbers(first, steps)
            breaks = np.array([0]) if steps is None else np.concatenate(([0], np.flatnonzero(steps != 1) + 1))
            breaks = breaks[first == follows :]
            yield place + breaks, numbers[breaks]
            place, follows = place + count, int(numbers[-1]) + (count if steps is None else 1)

    def _pieces(self) -> Iterator[Numbers]:
        for first, count, steps in self._parts:
            if steps is not None:
                yield _numbers(first, steps)
            else:
                yield from (
                    np.arange(at, min(at + _PIECE, first + count)) for at in range(first, first + count, _PIECE)
                )


def _numbers(first: int, steps: Steps) -> Numbers:
    return first + np.concatenate(([0], np.cumsum(steps, dtype=np.int64)))


def _ids(firsts: Numbers, offsets: Numbers, numbers: Numbers) -> Numbers:
    piece = np.searchsorted(offsets, numbers, side="right") - 1
    return firsts[piece] + (numbers - offsets[piece])
