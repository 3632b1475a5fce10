"""Hand units to whatever computes them, and out again as they are done; go on where a worker died."""

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

__all__ = ["computed"]

# Deaths with nothing computed in between after which no row is at fault but the function, the machine or the job.
# A row at fault takes five, and its neighbours may be like it.
_DEATHS = 32


def computed(units: Iterator[Unit], runner: Runner) -> Iterator[tuple[Unit, UnitResult]]:
    """Yield what became of the units, as it comes; rows of a unit whose worker died may come in several results.

    Raises
    ------
    BackfillError
        Workers die of whatever they are given.
    """
    retries: deque[Unit] = deque()
    flying: dict[Future[UnitResult], Unit] = {}
    deaths = 0
    while True:
        while len(flying) < runner.in_flight and (unit := retries.popleft() if retries else next(units, None)):
            flying[runner.submit(unit)] = unit
        if not flying:
            return
        done, _ = wait(flying, return_when=FIRST_COMPLETED)
        for future in done:
            unit = flying.pop(future)
            try:
                result = future.result()
                deaths = 0
            except WorkerLostError as error:
                result, again = _after_death(unit, error)
                retries.extendleft(reversed(again))
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
