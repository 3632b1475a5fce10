"""Cut units, hand them to whatever computes them, and go on where a worker died."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING

from lakehouse.errors import BackfillError
from lakehouse.features.units import Unit, UnitResult, save_lost, unsaved
from lakehouse.features.workers import WorkerLostError

if TYPE_CHECKING:
    from lakehouse.features.executors import Runner
    from lakehouse.features.udf import UDF

__all__ = ["Dispatch", "UnitSize"]

_UNIT_S = 5.0  # long enough that handing over costs nothing, short enough for a bar to move and for sharing out evenly
_FIRST_ROWS, _GROWTH = 16, 4  # nobody knows beforehand how slow a function is
_MOST_ROWS = 65_536
_EACH = 4  # units of a fragment for each worker at the least, as rows take differently long
# Deaths with nothing computed in between after which no row is at fault but the function, the machine or the job.
# A row at fault takes five, and its neighbours may be like it.
_DEATHS = 32


class UnitSize:
    """How many rows the next unit has.

    Parameters
    ----------
    udf
        What is called; units are whole batches of it.
    num_workers
        How many share the rows.
    """

    def __init__(self, udf: UDF, num_workers: int) -> None:
        self._batch = udf.batch_size or 1
        self._num_workers = num_workers
        self._fitting = -(-_FIRST_ROWS // self._batch) * self._batch

    def of(self, num_rows: int) -> int:
        """Return the rows of a unit, of so many to do in its fragment."""
        share = min(_MOST_ROWS, -(-num_rows // (_EACH * self._num_workers)))
        # Too few rows for that many whole batches: then each worker has its part of them.
        most = min(-(-share // self._batch) * self._batch, -(-num_rows // self._num_workers))
        return max(1, min(self._fitting, most))

    def took(self, num_rows: int, seconds: float) -> None:
        """Learn from a unit how large the next ones should be."""
        rows = min(int(num_rows * _UNIT_S / max(seconds, 1e-9)), num_rows * _GROWTH, _MOST_ROWS)
        self._fitting = max(rows // self._batch, 1) * self._batch


class Dispatch:
    """Units on their way.

    Parameters
    ----------
    runner
        Who computes them.
    size
        How they are cut.
    """

    def __init__(self, runner: Runner, size: UnitSize) -> None:
        self._runner, self._size = runner, size
        self._again: deque[Unit] = deque()
        self._rows: deque[tuple[Unit, int]] = deque()  # what is left of a fragment, and how much it was
        self._flying: dict[Future[UnitResult], Unit] = {}
        self._deaths = 0

    @property
    def hungry(self) -> bool:
        """Whether more could be under way."""
        return not self._rows and not self._again and len(self._flying) < self._runner.in_flight

    @property
    def idle(self) -> bool:
        """Whether all that was added is done."""
        return not (self._rows or self._again or self._flying)

    def add(self, rows: Unit) -> None:
        """Have rows of a fragment computed after what was added before."""
        if rows.num_rows:
            self._rows.append((rows, rows.num_rows))
            self._fill()

    def wait(self) -> None:
        """Wait until some unit is done or given up.

        Raises
        ------
        BackfillError
            Workers die of whatever they are given.
        """
        done, _ = wait(self._flying, return_when=FIRST_COMPLETED)
        for future in done:
            unit = self._flying.pop(future)
            try:
                result = future.result()
            except WorkerLostError as error:
                self._after_death(unit, error)
                continue
            self._deaths = 0
            if not unit.deaths:  # pieces are small for another reason
                self._size.took(result.num_rows, result.seconds)
        self._fill()

    def _fill(self) -> None:
        while len(self._flying) < self._runner.in_flight and (unit := self._next()):
            self._flying[self._runner.submit(unit)] = unit

    def _next(self) -> Unit | None:
        if self._again:
            return self._again.popleft()
        if not self._rows:
            return None
        rows, fragment_rows = self._rows.popleft()
        cut = self._size.of(fragment_rows)
        if rows.num_rows > cut:
            self._rows.appendleft((rows.only(slice(cut, None)), fragment_rows))
        return rows.only(slice(cut))

    def _after_death(self, unit: Unit, error: WorkerLostError) -> None:
        """Try the rest in smaller units, until the row at fault stands alone."""
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise BackfillError(
                f"{self._deaths} workers died one after the other with nothing computed, at last: {error}; "
                "what was computed before is kept"
            ) from error
        if unit.num_rows == 1 and unit.deaths:
            save_lost(unit, str(error))
            return
        rest = unsaved(unit)
        if rest.num_rows < unit.num_rows:
            self._deaths = 0
        self._again.extendleft(reversed(rest.after_death()))
