"""Cut units, hand them to whatever computes them, and go on where a worker died."""

from __future__ import annotations

from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse.errors import BackfillError
from lakehouse.features.computing.units import Unit, UnitResult, save_lost, unsaved
from lakehouse.features.computing.workers import WorkerLostError

if TYPE_CHECKING:
    from lakehouse.errors import LakehouseError
    from lakehouse.features.computing.executors import Runner

__all__ = ["Dispatch", "UnitSize"]

_UNIT_S = 2.0  # long enough that handing over costs nothing, short enough for a bar to move
_LEAST = (
    40  # a unit is not cut to less than this part of that, or handing over costs more than waiting for the last one
)
_FIRST_ROWS, _GROWTH = 16, 4  # nobody knows beforehand how slow a function is
_MOST_ROWS = 65_536
_EACH = 4  # units left for each worker, smaller and smaller ones, so that all end at about the same time
# Deaths with nothing computed in between after which no row is at fault but the function, the machine or the job.
# A row at fault takes five, and its neighbours may be like it.
_DEATHS = 32


class UnitSize:
    """How many rows the next unit has.

    Parameters
    ----------
    batch_size
        Rows of a call; units are whole batches.
    num_workers
        How many share the rows.
    """

    def __init__(self, batch_size: int, num_workers: int) -> None:
        self._batch = batch_size
        self._num_workers = num_workers
        self._fitting = -(-_FIRST_ROWS // self._batch) * self._batch

    @property
    def fitting(self) -> int:
        """Rows that take about the time a unit should."""
        return self._fitting

    def of(self, waiting: int, fragment_rows: int) -> int:
        """Return the rows of the next unit.

        Parameters
        ----------
        waiting
            Rows that no worker has begun.
        fragment_rows
            Rows to do in the unit's fragment, begun or not.
        """
        share = max(-(-waiting // (_EACH * self._num_workers)), self._fitting // _LEAST)
        # Too few rows for a whole batch each: then each worker has its part of one.
        even = -(-max(waiting, fragment_rows) // self._num_workers)
        return max(1, min(self._fitting, -(-share // self._batch) * self._batch, even))

    def took(self, num_rows: int, seconds: float) -> None:
        """Learn from a unit how large the next ones should be."""
        most = min(max(self._fitting, num_rows * _GROWTH), _MOST_ROWS)
        rows = min(int(num_rows * _UNIT_S / max(seconds, 1e-9)), most)
        self._fitting = max(rows // self._batch, 1) * self._batch


class Dispatch:
    """Units on their way.

    Parameters
    ----------
    runner
        Who computes them.
    size
        How they are cut.

    Attributes
    ----------
    dropped
        Features, by their tokens, of which no more is handed over.
    stopped
        Features of which workers can compute nothing more, and why.
    """

    def __init__(self, runner: Runner, size: UnitSize) -> None:
        self._runner, self._size = runner, size
        self._again: deque[Unit] = deque()
        self._rows: deque[tuple[Unit, int]] = deque()  # what is left of a fragment, and how much it was
        self._flying: dict[Future[UnitResult], Unit] = {}
        self._waiting = self._deaths = 0
        self.dropped: set[str] = set()
        self.stopped: dict[str, LakehouseError] = {}

    @property
    def hungry(self) -> bool:
        """Whether less is waiting than the workers could be given next."""
        return self._waiting < self._runner.in_flight * self._size.fitting

    @property
    def idle(self) -> bool:
        """Whether all that was added is done."""
        return not (self._rows or self._again or self._flying)

    def drop(self, token: str) -> None:
        """Hand over no more rows of a feature."""
        self.dropped.add(token)

    def add(self, rows: Unit) -> None:
        """Have rows of a fragment computed after what was added before."""
        if rows.num_rows:
            self._rows.append((rows, rows.num_rows))
            self._waiting += rows.num_rows
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
            self.stopped |= result.stopped
            if not unit.deaths:  # pieces are small for another reason
                self._size.took(result.num_rows, result.seconds)
        self._fill()

    def _fill(self) -> None:
        while len(self._flying) < self._runner.in_flight and (unit := self._next()):
            self._flying[self._runner.submit(unit)] = unit

    def _next(self) -> Unit | None:
        """Return the next unit of features that are not given up."""
        while self._again or self._rows:
            unit = self._again.popleft() if self._again else self._cut()
            unit = replace(unit, asked=unit.asked.without(self.dropped))
            if unit.num_rows:
                return unit
        return None

    def _cut(self) -> Unit:
        rows, fragment_rows = self._rows.popleft()
        cut = self._size.of(self._waiting, fragment_rows)
        if rows.num_rows > cut:
            self._rows.appendleft((rows.only(slice(cut, None)), fragment_rows))
        unit = rows.only(slice(cut))
        self._waiting -= unit.num_rows
        return unit

    def _after_death(self, unit: Unit, error: WorkerLostError) -> None:
        """Try the rest in smaller units, until the function and the row at fault stand alone."""
        self._deaths += 1
        if self._deaths > _DEATHS:
            raise BackfillError(
                f"{self._deaths} workers died one after the other with nothing computed, at last: {error}; "
                "what was computed before is kept"
            ) from error
        if unit.num_rows == 1 and unit.deaths and len(unit.asked.tokens) == 1:
            save_lost(unit, str(error))
            return
        rest = unsaved(unit)
        if rest.num_rows < unit.num_rows:
            self._deaths = 0
        self._again.extendleft(reversed(rest.after_death()))
