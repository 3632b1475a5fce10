"""Which rows: a version and a filter as an ordered list of row ids, kept as runs of consecutive ids.

Rows that were added together have ids that follow each other, so an unfiltered table is a handful of runs
whatever its length; a filter costs 16 bytes a run, which is 16 bytes a row where it is sparse.
"""

from __future__ import annotations

import hashlib
import shutil
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse import reads
from lakehouse.where import quoted, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from lakehouse.reads import RowIds
    from lakehouse.snapshot import Snapshot
    from lakehouse.where import Where

__all__ = ["Selection", "select"]

_SCAN_ROWS = 1 << 17  # 1 MB of row ids a batch
_PICKLED_NBYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Selection:
    """Row ids by rank, as runs of consecutive ids.

    Parameters
    ----------
    starts
        The first id of each run; uint64, shape ``(num_runs,)``.
    ends
        The rank after the last one of each run; int64, shape ``(num_runs,)``.
    """

    starts: RowIds = field(repr=False)
    ends: npt.NDArray[np.int64] = field(repr=False)

    @property
    def num_rows(self) -> int:
        """How many rows are selected."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.starts.nbytes + self.ends.nbytes

    @property
    def digest(self) -> str:
        """A hash of the rows and their order, the same however they were read."""
        content = hashlib.sha256(self.starts.astype("<u8").tobytes())
        content.update(self.ends.astype("<i8").tobytes())
        return content.hexdigest()[:32]

    def row_ids(self, ranks: npt.NDArray[np.int64]) -> RowIds:
        """Give the row id at each rank; uint64, of the shape of `ranks`."""
        run = np.searchsorted(self.ends, ranks, side="right")
        before = np.where(run > 0, self.ends[run - 1], 0)
        return self.starts[run] + (ranks - before).astype(np.uint64)

    @cached_property
    def _folder(self) -> str:
        folder = mkdtemp(prefix="lakehouse-selection-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        np.save(Path(folder, "starts.npy"), self.starts)
        np.save(Path(folder, "ends.npy"), self.ends)
        return folder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle a large one as files that workers map, so that a node holds it once; they go when this object goes."""
        if self.nbytes <= _PICKLED_NBYTES:
            return Selection, (self.starts, self.ends)
        return _mapped, (self._folder,)


def _mapped(folder: str) -> Selection:
    starts, ends = (np.load(Path(folder, name), mmap_mode="r") for name in ("starts.npy", "ends.npy"))
    return Selection(np.asarray(starts), np.asarray(ends))


def select(snapshot: Snapshot, where: Where | None = None, *, without_nulls: Sequence[str] = ()) -> Selection:
    """Read which rows of a version match, in table order.

    Parameters
    ----------
    snapshot
        The version.
    where
        A predicate of Lance's SQL; None means all rows.
    without_nulls
        Columns whose NULLs leave a row out.

    Raises
    ------
    FilterError
        The predicate does not parse or names what is not there.
    """
    nullable = [name for name in without_nulls if snapshot.schema.field(name).nullable]
    tests = [f"({rendered})"] if (rendered := render(where)) is not None else []
    tests += [f"{quoted(name)} IS NOT NULL" for name in nullable]
    batches = reads.scan(snapshot, [], " AND ".join(tests) or None, batch_size=_SCAN_ROWS, with_row_id=True)
    return _from_row_ids(np.asarray(batch[reads.ROW_ID], np.uint64) for batch in batches)


def _from_row_ids(parts: Iterable[RowIds]) -> Selection:
    starts: list[RowIds] = []
    lengths: list[npt.NDArray[np.int64]] = []
    follows: np.uint64 | None = None
    for ids in parts:
        if not len(ids):
            continue
        cuts = np.flatnonzero(np.diff(ids) != 1) + 1
        first = np.concatenate(([0], cuts))
        length = np.diff(np.concatenate((first, [len(ids)])))
        begins = ids[first]
        if follows is not None and begins[0] == follows:
            lengths[-1][-1] += length[0]
            begins, length = begins[1:], length[1:]
        if len(begins):
            starts.append(begins)
            lengths.append(length)
        follows = ids[-1] + np.uint64(1)
    if not starts:
        return Selection(np.empty(0, np.uint64), np.empty(0, np.int64))
    return Selection(np.concatenate(starts), np.cumsum(np.concatenate(lengths), dtype=np.int64))
