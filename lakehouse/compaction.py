"""What a compaction does and did, as data: which fragments are worth copying, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.display import count

if TYPE_CHECKING:
    from collections.abc import Sequence

# Above this share of deleted rows a full fragment is written again: what is copied is less than what is gained.
_MOSTLY_DELETED = 0.5


@dataclass(frozen=True)
class Size:
    """A fragment, as far as compaction looks at it.

    Parameters
    ----------
    fragment_id
        Lance's number.
    num_rows
        Rows that are not deleted.
    num_deleted
        Rows that are.
    nbytes
        Of its data files and of the blob files beside them.
    """

    fragment_id: int
    num_rows: int
    num_deleted: int
    nbytes: int

    def is_full(self, max_nbytes: int) -> bool:
        """Whether copying it gains too little: it is half as large as one may be, and most of its rows are there."""
        physical_rows = self.num_rows + self.num_deleted
        return 2 * self.nbytes >= max_nbytes and self.num_deleted <= _MOSTLY_DELETED * physical_rows


@dataclass(frozen=True)
class Chosen:
    """What may be compacted.

    Parameters
    ----------
    fragment_ids
        The fragments that are not full.
    target_rows
        Rows the new ones should have.
    """

    fragment_ids: frozenset[int]
    target_rows: int


def chosen(sizes: Sequence[Size], target_rows_per_fragment: int, max_nbytes_per_fragment: int) -> Chosen:
    """Leave out what is full, and cut the rest by rows and by bytes; Lance's own planner counts rows only."""
    small = [size for size in sizes if not size.is_full(max_nbytes_per_fragment)]
    nbytes_a_row = sum(size.nbytes for size in small) / max(sum(size.num_rows for size in small), 1)
    fitting = int(max_nbytes_per_fragment / max(nbytes_a_row, 1))
    return Chosen(frozenset(size.fragment_id for size in small), max(min(target_rows_per_fragment, fitting), 1))


@dataclass(frozen=True)
class LeftAlone:
    """Fragments that were not touched because somebody works on them.

    Parameters
    ----------
    fragment_ids
        Which.
    holder
        Who, in words.
    """

    fragment_ids: tuple[int, ...]
    holder: str


@dataclass(frozen=True)
class CompactResult:
    """What a compaction did.

    Parameters
    ----------
    version
        The version that holds it; the one there was if nothing was done.
    num_fragments_before, num_fragments_after
        Fragments of the table.
    num_rows_moved
        Rows that lie in another fragment now; their row ids are what they were.
    num_tasks_lost
        Groups of fragments that somebody else changed while they were copied; their copies are in no version.
    nbytes_written
        Bytes added to the table's folder, those of lost tasks too; what was copied stays for older versions.
    nbytes_untouched
        Bytes of the fragments that were not copied.
    left
        Fragments left alone, and for whom.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
    >>> _ = table.add([{"x": 2}], progress=False)
    >>> print(table.compact(progress=False))
    2 fragments became 1: 2 rows moved
    >>> print(table.compact(progress=False))
    nothing to do: of 1 fragment none is small beside another or has many deleted rows
    """

    version: int
    num_fragments_before: int
    num_fragments_after: int
    num_rows_moved: int = 0
    num_tasks_lost: int = 0
    nbytes_written: int = 0
    nbytes_untouched: int = 0
    left: tuple[LeftAlone, ...] = ()

    def __str__(self) -> str:
        before = count(self.num_fragments_before, "fragment")
        if self.num_rows_moved:
            told = f"{before} became {self.num_fragments_after:,}: {count(self.num_rows_moved, 'row')} moved"
        elif self.num_tasks_lost or self.left:
            told = f"{before}, none compacted"
        else:
            told = f"nothing to do: of {before} none is small beside another or has many deleted rows"
        if self.num_tasks_lost:
            told += f"; {count(self.num_tasks_lost, 'group')} changed by others meanwhile, call it again later"
        for each in self.left:
            told += f"; {count(len(each.fragment_ids), 'fragment')} left alone, {each.holder} works on them"
        return told
