"""Cut units, hand them to whatever computes them, and go on where a worker died."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from lakehouse.errors import BackfillError
from lakehouse.features.units import Unit, UnitResult, lost_row, saved
from lakehouse.features.workers import WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.features.executors import Runner
    from lakehouse.features.udf import UDF

__all__ = ["UnitSize", "computed"]

_UNIT_S = 5.0  # long enough that handing over costs nothing, short enough for a bar to move and for sharing out evenly
_FIRST_ROWS, _GROWTH = 16, 4  # nobody knows beforehand how slow a function is
_MOST_ROWS = 65_536
_EACH = 4  # units for each worker at the least, as rows take differently long
# Deaths with nothing computed in between after which no row is at fault but the function, the machine or the job.
# A row at fault takes five, and its neighbours may be like it.
_DEATHS = 32


class UnitSize:
    """How many rows the next unit has.

    Parameters
    ----------
    udf
        What is called; units are whole batches of it.
    num_rows
        Rows to do in all.
    num_workers
        How many share them.
    """

    def __init__(self, udf: UDF, num_rows: int, num_workers: int) -> None:
        self._batch = udf.batch_size or 1
        share = min(_MOST_ROWS, -(-num_rows // (_EACH * num_workers)))
        # Too few rows for that many whole batches: then each worker has its part of them.
        self._most = max(1, min(-(-share // self._batch) * self._batch, -(-num_rows // num_workers)))
        self.num_rows = min(max(_FIRST_ROWS, self._batch), self._most)

    def took(self, num_rows: int, seconds: float) -> None:
        """Learn from a unit how large the next one should be."""
        fitting = int(num_rows * _UNIT_S / max(seconds, 1e-9))
        rows = min(fitting, num_rows * _GROWTH)
        self.num_rows = min(max(rows // self._batch, 1) * self._batch, self._most)


class _Supply:
    """Units cut from the rows to do, and before them what is to be tried again."""

    def __init__(self, rows: Iterator[Unit], size: UnitSize) -> None:
        self._rows, self._size = rows, size
        self._again: deque[Unit] = deque()
        self._rest: Unit | None = None

    def next(self) -> Unit | None:
        if self._again:
            return self._again.popleft()
        rest = self._rest or next(self._rows, None)
        if rest is None:
            return None
        cut = self._size.num_rows
        self._rest = rest.only(slice(cut, None)) if rest.num_rows > cut else None
        return rest.only(slice(cut))

    def put_back(self, units: list[Unit]) -> None:
        self._again.extendleft(reversed(units))


def computed(rows: Iterator[Unit], runner: Runner, size: UnitSize) -> Iterator[tuple[Unit, UnitResult]]:
    """Yield what became of rows as it comes, a unit or a part of one at a time.

    Parameters
    ----------
    rows
        What to do, a unit for each fragment; asked for as workers become free.
    runner
        Who does it.
    size
        How it is cut.

    Raises
    ------
    BackfillError
        Workers die of whatever they are given.
    """
    supply = _Supply(rows, size)
    flying: dict[Future[UnitResult], Unit] = {}
    deaths = 0
    while True:
        while len(flying) < runner.in_flight and (unit := supply.next()):
            flying[runner.submit(unit)] = unit
        if not flying:
            return
        done, _ = wait(flying, return_when=FIRST_COMPLETED)
        for future in done:
            unit = flying.pop(future)
            try:
                result = future.result()
                size.took(result.num_rows, result.seconds)
                deaths = 0
            except WorkerLostError as error:
                result, again = _after_death(unit, error)
                supply.put_back(again)
                deaths = 0 if result.num_rows > len(result.errors) else deaths + 1
                if deaths > _DEATHS:
                    raise BackfillError(
                        f"{deaths} workers died one after the other with nothing computed, at last: {error}; "
                        "what was computed before is kept"
                    ) from error
            if result.num_rows:
                yield unit, result


def _after_death(unit: Unit, error: WorkerLostError) -> tuple[UnitResult, list[Unit]]:
    """Keep what was saved, and try the rest in smaller units, until the row at fault stands alone."""
    if unit.num_rows == 1 and unit.deaths:
        return lost_row(unit, str(error)), []
    result, rest = saved(unit)
    return result, rest.after_death() if rest.num_rows else []
