"""Worker processes: torch's DataLoader over steps, each worker making whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakehouse._lance import check_process
from lakehouse._optional import require
from lakehouse.loader.arrays import arrays_of_this_installation
from lakehouse.loader.epoch import Epoch
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.loader.source import Source
    from lakehouse.loader.stats import LoaderStats

__all__ = ["Batches", "Processes"]


class Batches:
    """A map-style dataset whose items are whole batches, named by epoch and step.

    It holds nothing that moves, so workers may live as long as they like and it does not matter which of them makes
    which batch.

    Parameters
    ----------
    source
        What is read.
    rank, world_size
        Of the process that asks; a worker has none of its own.
    """

    def __init__(self, source: Source, rank: int, world_size: int) -> None:
        self._source = source
        self._rank = rank
        self._world_size = world_size

    def __getitem__(self, epoch_and_step: tuple[int, int]) -> tuple[Any, int, LoaderStats]:
        check_process()
        epoch, step = epoch_and_step
        plan = self._source.plan(epoch, self._world_size)
        meter = Meter(1)
        part = Epoch(self._source, plan, self._rank, self._world_size, arrays_of_this_installation(), meter)
        return *next(part.batches([step], prefetch_batches=0)), meter.stats()


class Processes:
    """Workers that are started once and serve one epoch after the other.

    Parameters
    ----------
    source, rank, world_size
        As of `Batches`.
    meter
        Where their work is counted.
    """

    def __init__(self, source: Source, rank: int, world_size: int, meter: Meter) -> None:
        data = require("torch.utils.data", "num_workers > 0")
        options = source.options
        self._meter = meter
        self._sampler = _Steps()
        self._loader = data.DataLoader(
            Batches(source, rank, world_size),
            batch_size=None,
            sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=options.num_workers,
            prefetch_factor=max(1, -(-options.prefetch_batches // options.num_workers)),
            persistent_workers=True,
            multiprocessing_context="spawn",  # Lance does not survive a fork
        )

    def batches(self, epoch: int, steps: range) -> Iterator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of rows."""
        self._sampler.epoch, self._sampler.steps = epoch, steps
        return self._received(iter(self._loader))

    def _received(self, made: Iterator[tuple[Any, int, LoaderStats]]) -> Iterator[tuple[Any, int]]:
        for batch, num_rows, stats in made:
            self._meter.add_work(stats)
            yield batch, num_rows


class _Steps:
    """What the next iteration asks for; DataLoader takes one sampler for life."""

    epoch = 0
    steps = range(0)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, step) for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)


def _as_it_is(item: Any) -> Any:
    return item
