"""Worker processes: torch's DataLoader over steps, each worker making whole batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakehouse._lance import check_process
from lakehouse._optional import require
from lakehouse.loader.arrays import arrays_of_this_installation
from lakehouse.loader.epoch import Epoch
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakehouse.loader.source import Source

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

    def __getitem__(self, epoch_and_step: tuple[int, int]) -> tuple[Any, int]:
        check_process()
        epoch, step = epoch_and_step
        plan = self._source.plan(epoch, self._world_size)
        arrays = arrays_of_this_installation()
        part = Epoch(self._source, plan, self._rank, self._world_size, arrays, Meter(1))
        return next(part.batches([step], prefetch_batches=0))


class Processes:
    """Workers that are started once and serve one epoch after the other.

    Parameters
    ----------
    source, rank, world_size
        As of `Batches`.
    """

    def __init__(self, source: Source, rank: int, world_size: int) -> None:
        data = require("torch.utils.data", "num_workers > 0")
        options = source.options
        self._steps: Sequence[tuple[int, int]] = []
        self._loader = data.DataLoader(
            Batches(source, rank, world_size),
            batch_size=None,
            sampler=_Later(self),
            num_workers=options.num_workers,
            prefetch_factor=max(1, -(-options.prefetch_batches // options.num_workers)),
            persistent_workers=True,
            multiprocessing_context="spawn",  # Lance does not survive a fork
        )

    def batches(self, epoch: int, steps: range) -> Iterator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of rows."""
        self._steps = [(epoch, step) for step in steps]
        return iter(self._loader)

    @property
    def steps(self) -> Sequence[tuple[int, int]]:
        """What the next iteration asks for."""
        return self._steps


class _Later:
    """A sampler that is asked what to draw when an iteration begins; DataLoader takes one for life."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._processes.steps)

    def __len__(self) -> int:
        return len(self._processes.steps)
