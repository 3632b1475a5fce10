"""An iterable dataset for torch's own DataLoader. The one module with torch at its top: a class needs its base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from lakehouse._lance import check_process
from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import ranks
from lakehouse.loader.arrays import arrays_of_this_installation
from lakehouse.loader.epoch import Epoch
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.source import Source
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.snapshot import Snapshot

__all__ = ["TableIterable", "TableIterator"]


class TableIterable(IterableDataset[Any]):
    """Whole batches, shared by the workers of a ``DataLoader(…, batch_size=None)``: worker w of K makes each K-th.

    The batches and their order are those of `Loader`, whatever the number of workers. As with torch's samplers the
    epoch is set by `set_epoch`, which reaches workers that live on; without it each iteration is epoch 0.

    Parameters
    ----------
    snapshot
        The version to read.
    options
        As of `Loader`; `num_workers` is the DataLoader's.
    pin
        As of `Loader`.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
    >>> dataset = TableIterable(table.snapshot(), LoaderOptions(batch_size=4, shuffle=False))
    >>> [batch["x"].tolist() for batch in torch.utils.data.DataLoader(dataset, batch_size=None)]
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """

    def __init__(self, snapshot: Snapshot, options: LoaderOptions | None = None, *, pin: bool = True) -> None:
        check_process()
        options = options or LoaderOptions()
        if options.num_workers:
            raise InvalidArgumentError("num_workers belongs to the DataLoader that iterates this dataset")
        self._rank, self._world_size, agree = ranks.agreement(snapshot, options)
        self._source = Source.of(snapshot, options, agree)
        if pin and self._rank == 0:
            self._source.pin()
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped

    def __len__(self) -> int:
        return len(self._source.plan(0, self._world_size))

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration, here and in workers that live on."""
        self._epoch[0] = check_epoch(epoch)

    def __iter__(self) -> TableIterator:
        check_process()
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        return TableIterator(self._source, int(self._epoch[0]), self._rank, self._world_size, first, every)


class TableIterator:
    """One worker's batches of an epoch, with a state for ``torchdata.StatefulDataLoader`` of as many workers.

    Parameters
    ----------
    source, epoch, rank, world_size
        What is read, in which order, and which part of each global batch.
    first, every
        The worker's first batch, and how many workers there are.
    """

    def __init__(self, source: Source, epoch: int, rank: int, world_size: int, first: int, every: int) -> None:
        self._source = source
        self._part = (rank, world_size)
        self._epoch = epoch
        self._next = first
        self._every = every
        self._made: Iterator[tuple[Any, int]] | None = None

    def __iter__(self) -> TableIterator:
        return self

    def __next__(self) -> Any:
        if self._made is None:
            plan = self._source.plan(self._epoch, self._part[1])
            part = Epoch(self._source, plan, *self._part, arrays_of_this_installation(), Meter(1))
            steps = range(self._next, len(plan), self._every)
            self._made = part.batches(steps, self._source.options.prefetch_batches)
        batch, _ = next(self._made)
        self._next += self._every
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this worker stands."""
        return {"version": self._source.version, "epoch": self._epoch, "step": self._next, "every": self._every}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where this worker stood.

        Raises
        ------
        InvalidArgumentError
            There were more or fewer workers, or the table was at another version.
        """
        here = self.state_dict()
        for name, meaning in (("every", "workers"), ("version", "version of the table")):
            if state[name] != here[name]:
                raise InvalidArgumentError(
                    f"the state was saved with {meaning} {state[name]}, here it is {here[name]}; resume with the same, "
                    "or use t.loader(…), which resumes on any number of workers and reopens the version"
                )
        self._epoch, self._next, self._made = state["epoch"], state["step"], None
