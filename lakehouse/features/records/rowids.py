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
        starts = ids[first]
        stops = np.concatenate([ids[np.flatnonzero(first)[1:] - 1], ids[-1:]]) + 1
        return cls(tuple(zip(starts.tolist(), stops.tolist(), strict=True)))

    def contains(self, ids: Any) -> npt.NDArray[np.bool_]:
        """Tell of each id whether it is in the set."""
        return _inside(self._bounds, np.asarray(ids).astype(np.int64))

    def __or__(self, other: RowIds) -> RowIds:
        """Return the ids in either."""
        return self._combined(other, np.logical_or)

    def __sub__(self, other: RowIds) -> RowIds:
        """Return the ids that are not in the other."""
        return self._combined(other, np.greater)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    @property
    def _bounds(self) -> Ids:
        return np.array(self.ranges, dtype=np.int64).reshape(-1, 2)

    def _combined(self, other: RowIds, how: np.ufunc) -> RowIds:
        """Decide range by range between all the bounds of both."""
        bounds = np.unique(np.concatenate([self._bounds, other._bounds]))
        chosen = how(_inside(self._bounds, bounds), _inside(other._bounds, bounds))
        edges = np.diff(chosen.astype(np.int8), prepend=0)
        starts, stops = bounds[edges == 1], bounds[edges == -1]
        return RowIds(tuple(zip(starts.tolist(), stops.tolist(), strict=True)))


def union(sets: Iterable[RowIds]) -> RowIds:
    """Return the ids in any of some sets."""
    together = RowIds()
    for each in sets:
        together |= each
    return together


def _inside(bounds: Ids, ids: Ids) -> npt.NDArray[np.bool_]:
    if len(bounds) == 0:
        return np.zeros(len(ids), dtype=np.bool_)
    at = np.searchsorted(bounds[:, 0], ids, side="right") - 1
    inside: npt.NDArray[np.bool_] = (at >= 0) & (ids < bounds[at, 1])
    return inside
