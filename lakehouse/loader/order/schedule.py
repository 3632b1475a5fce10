"""Which source gives the sample at a position: fixed shares, worked out for the positions asked for.

The schedule repeats after 65,536 positions. In it each source has its share of places, rounded to whole ones, and they
are strewn evenly: of the first n positions each source gets its share to within two samples. How many samples of a
source come before a position follows from the same table, so nothing but the position has to be remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.loader.order.permutation import derive_key, derive_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["PERIOD", "Schedule"]

PERIOD = 1 << 16
_FOR_MIXING = 22  # what the key is for, see `permutation.derive_key`


@dataclass(frozen=True)
class Schedule:
    """Shares of several sources.

    Parameters
    ----------
    weights
        Of each source, positive; only how they compare matters.
    seed
        Which of the possible schedules, in ``[0, 2**63)``.

    Examples
    --------
    >>> schedule = Schedule((3.0, 1.0))
    >>> source, places = schedule.at(np.arange(8))
    >>> np.bincount(source).tolist(), places[source == 0].tolist()
    ([6, 2], [0, 1, 2, 3, 4, 5])
    """

    weights: tuple[float, ...]
    seed: int = 0

    @cached_property
    def shares(self) -> Integers:
        """Places of each source in a period, by the largest remainders, and each at least one."""
        exact = np.array(self.weights) / sum(self.weights) * PERIOD
        shares = np.maximum(np.floor(exact).astype(np.int64), 1)
        missing = PERIOD - int(shares.sum())
        first = np.argsort(shares - exact, kind="stable")
        if missing > 0:
            shares[first[:missing]] += 1
        elif missing < 0:  # tiny shares were rounded up, which the largest one pays for
            shares[np.argmax(shares)] += missing
        return shares

    @cached_property
    def _period(self) -> npt.NDArray[np.int32]:
        """Strew each source's places evenly, each somewhere in a stretch of its own."""
        source = np.repeat(np.arange(len(self.weights)), self.shares)
        number = np.concatenate([np.arange(share) for share in self.shares])
        places = np.arange(PERIOD)
        jitter = derive_keys(derive_key(self.seed, 0, _FOR_MIXING), places) >> np.uint64(32)
        when = (number + jitter / (1 << 32)) / self.shares[source]
        return source[np.argsort(when, kind="stable")].astype(np.int32)

    @cached_property
    def _before(self) -> npt.NDArray[np.int32]:
        """Samples of each source before each place of a period; int32, shape ``(PERIOD + 1, num_sources)``."""
        given = self._period[:, None] == np.arange(len(self.weights), dtype=np.int32)
        return np.concatenate([np.zeros((1, given.shape[1]), np.int32), np.cumsum(given, axis=0, dtype=np.int32)])

    def at(self, positions: Integers) -> tuple[npt.NDArray[np.int32], Integers]:
        """Give the source of the sample at each position, and how many samples of that source come before it."""
        periods, places = np.divmod(positions, PERIOD)
        source = self._period[places]
        return source, periods * self.shares[source] + self._before[places, source]

    def counts(self, position: int) -> Integers:
        """Give how many samples of each source come before a position; int64, shape ``(num_sources,)``."""
        periods, place = divmod(position, PERIOD)
        counts: Integers = periods * self.shares + self._before[place]
        return counts

    def first(self, holds: Callable[[Integers], bool], step: int) -> int:
        """Find the first multiple of `step` at whose counts something holds, which it goes on doing from there on."""
        most = 1
        while not holds(self.counts(most * step)):
            most *= 2
        least = most // 2
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if holds(self.counts(middle * step)) else (middle, most)
        return most * step
