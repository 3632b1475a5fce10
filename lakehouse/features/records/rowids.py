"""Sets of row ids, as ranges: ids are given in order, so the rows of a fragment are a few of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowIds:
    """A set of row ids.

    Parameters
    ----------
    ranges
        Where they begin and, exclusively, end: sorted, disjoint, not adjacent.

    Examples
    --------
    >>> some = RowIds.of([7, 1, 2, 3]) - RowIds.of([2])
    >>> some.ranges, some.contains([2, 3])
    (((1, 2), (3, 4), (7, 8)), array([False,  True]))
    """

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ids: Any) -> RowIds:
        """Make one from ids in any order."""
        ids = np.unique(np.asarray(ids).astype(np.int64))
        if len(ids) == 0:
            return cls()
        first = np.concatenate([[True], np.diff(ids) > 1])
        return _ranges(ids[first], ids[np.roll(first, -1)] + 1)

    def contains(self, ids: Any) -> npt.NDArray[np.bool_]:
        """Tell of each id whether it is in the set."""
        ids, bounds = np.asarray(ids).astype(np.int64), self.bounds
        if len(bounds) == 0:
            return np.zeros(len(ids), dtype=np.bool_)
        at = np.searchsorted(bounds[:, 0], ids, side="right") - 1
        inside: npt.NDArray[np.bool_] = (at >= 0) & (ids < bounds[at, 1])
        return inside

    def __or__(self, other: RowIds) -> RowIds:
        """Return the ids in either."""
        return union((self, other))

    def __sub__(self, other: RowIds) -> RowIds:
        """Return the ids that are not in the other."""
        bounds = np.unique(np.concatenate([self.bounds, other.bounds]))
        chosen = self.contains(bounds) & ~other.contains(bounds)
        edges = np.diff(chosen.astype(np.int8), prepend=0)
        return _ranges(bounds[edges == 1], bounds[edges == -1])

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def bounds(self) -> Ids:
        """The ranges as an array, shape ``(num_ranges, 2)``."""
        return np.array(self.ranges, dtype=np.int64).reshape(-1, 2)


def union(sets: Iterable[RowIds]) -> RowIds:
    """Return the ids in any of some sets."""
    bounds = np.concatenate([RowIds().bounds, *(each.bounds for each in sets)])
    if len(bounds) == 0:
        return RowIds()
    bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
    reached = np.maximum.accumulate(bounds[:, 1])
    first = np.concatenate([[True], bounds[1:, 0] > reached[:-1]])
    return _ranges(bounds[first, 0], reached[np.roll(first, -1)])


def _ranges(starts: Ids, stops: Ids) -> RowIds:
    return RowIds(tuple(zip(starts.tolist(), stops.tolist(), strict=True)))
