"""One rank's part of one epoch: which rows of each batch, read and made into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.loader import threads
from lakehouse.loader.pipeline import Pipeline
from lakehouse.loader.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from lakehouse.loader.arrays import Arrays
    from lakehouse.loader.plan import Plan
    from lakehouse.loader.reader import Portion, RowBlock
    from lakehouse.loader.source import Source
    from lakehouse.loader.stats import Meter
    from lakehouse.loader.threads import Threads

__all__ = ["Epoch"]


class Epoch:
    """The batches of one rank in one epoch.

    Parameters
    ----------
    source
        What is read.
    plan
        The order.
    rank, world_size
        Which part of each global batch.
    arrays
        What numbers are handed out as.
    meter
        Where work is counted.
    """

    def __init__(self, source: Source, plan: Plan, rank: int, world_size: int, arrays: Arrays, meter: Meter) -> None:
        self._source = source
        self._plan = plan
        self._rank = rank
        self._world_size = world_size
        self._arrays = arrays
        self._meter = meter
        self._reader = Reader(source.snapshot, source.columns, self._row_ids_at, meter)

    def batches(self, steps: Iterable[int], prefetch_batches: int) -> Iterator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of rows."""
        mark_pads = self._world_size > 1 and not self._plan.drop_last
        with threads.started(prefetch_batches) as pools:
            pipeline = self._pipeline(pools)

            def make(portion: Portion) -> tuple[Any, int]:
                return pipeline.batch(portion, mark_pads=mark_pads), len(portion.positions)

            shares = (self._plan.positions(step, self._rank, self._world_size) for step in steps)
            portions = self._reader.portions(shares, pools.reads)
            yield from threads.prefetched(make, portions, pools.batches, prefetch_batches)

    def rows(self, positions: npt.NDArray[np.int64]) -> list[Mapping[str, Any]]:
        """Make the rows at these positions, in one read and in the caller's thread."""
        with threads.started(0) as pools:
            portions = self._reader.portions([positions], pools.reads)
            return self._pipeline(pools).rows(next(portions))

    def _pipeline(self, pools: Threads) -> Pipeline:
        return Pipeline(
            self._source.columns,
            self._source.options,
            self._plan,
            self._arrays,
            self._row_at,
            pools.rows,
            self._meter,
        )

    def _row_ids_at(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        return self._source.selection.row_ids(self._plan.rows(positions))

    def _row_at(self, position: int) -> RowBlock:
        return self._reader.read(np.array([position], np.int64))
