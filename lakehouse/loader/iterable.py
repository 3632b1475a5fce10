"""An iterable dataset for torch's own DataLoader. The one module with torch at its top: a class needs its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from lakehouse._lance import check_process
from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import ranks
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.source import Source
from lakehouse.loader.state import LoaderState
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.snapshot import Snapshot

__all__ = ["TableIterable", "TableIterator"]

_MAX_WORKERS = 1024  # of one DataLoader


class TableIterable(IterableDataset[Any]):
    """Whole batches, shared by the workers of a ``DataLoader(…, batch_size=None)``: worker w of K makes each K-th.

    The batches and their order are those of `Loader`, whatever the number of workers. Each iteration is the next
    epoch, one that was left early too; `set_epoch` names it instead, and reaches workers that live on.

    Parameters
    ----------
    snapshot
        The version to read.
    options
        As of `Loader`; `num_workers` and `pin_memory` are the DataLoader's.
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
        for name in ("num_workers", "pin_memory"):
            if getattr(options, name):
                raise InvalidArgumentError(f"{name} belongs to the DataLoader that iterates this dataset")
        self._rank, self._world_size, agree = ranks.agreement(snapshot, options)
        self._source = Source.of(snapshot, options, agree, remember=pin).ordered(self._world_size)
        if pin and self._rank == 0:
            self._source.pin()
        self._epochs = _Epochs()

    def __len__(self) -> int:
        return self._source.plan(0, self._world_size).num_batches(self._rank, self._world_size)

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration, here and in workers that live on."""
        self._epochs.name(check_epoch(epoch))

    def __iter__(self) -> TableIterator:
        check_process()
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker else (0, 1)
        return TableIterator(self._source, self._epochs, (self._rank, self._world_size), first, every)


class _Epochs:
    """Which epoch comes next, in memory that workers share.

    Each worker counts its own iterations: every one of them is asked once for each of the DataLoader's, but they get
    to it, and to the end, at different times.
    """

    def __init__(self) -> None:
        self._next = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # torch 2.13 leaves it untyped

    def name(self, epoch: int) -> None:
        """Set the next one of all."""
        self._next[:] = epoch

    def begin(self, worker: int) -> int:
        """Give a worker its next one."""
        epoch = int(self._next[worker])
        self._next[worker] = epoch + 1
        return epoch

    def resume(self, worker: int, epoch: int) -> None:
        """Note that a worker goes on with an epoch that was begun elsewhere."""
        self._next[worker] = epoch + 1


class TableIterator:
    """One worker's batches of an epoch, with a state for ``torchdata.StatefulDataLoader`` of as many workers.

    Parameters
    ----------
    source, epochs, part
        What is read, which epoch comes next, and rank and world size.
    first, every
        The worker's first batch, and how many workers there are.
    """

    def __init__(self, source: Source, epochs: _Epochs, part: tuple[int, int], first: int, every: int) -> None:
        self._source = source
        self._epochs = epochs
        self._part = part
        self._worker = first
        self._epoch = epochs.begin(first)
        self._next = first
        self._every = every
        self._made: Iterator[tuple[Any, int]] | None = None

    def __iter__(self) -> TableIterator:
        return self

    def __next__(self) -> Any:
        if self._made is None:
            plan = self._source.plan(self._epoch, self._part[1])
            part = self._source.part(plan, *self._part, arrays_of_this_installation(), Meter(1))
            steps = range(self._next, plan.num_batches(*self._part), self._every)
            self._made = part.batches(steps, self._source.options.prefetch_batches)
        batch, _ = next(self._made)
        self._next += self._every
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Return where this worker stands."""
        plan = self._source.plan(self._epoch, self._part[1])
        return LoaderState.of(self._source, plan, 0).to_dict() | {"step": self._next, "every": self._every}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where this worker stood.

        Raises
        ------
        InvalidArgumentError
            There were more or fewer workers, or the state is of other batches.
        """
        own: dict[str, Any] = {}
        if isinstance(state, Mapping):
            own = {name: state.get(name) for name in ("step", "every")}
        if not own or any(type(number) is not int or number < 0 for number in own.values()):
            raise InvalidArgumentError("this is no state of such an iteration; hand it what its state_dict() returned")
        saved = LoaderState.from_dict({name: value for name, value in state.items() if name not in own})
        here = LoaderState.of(self._source, self._source.plan(0, self._part[1]), 0)
        saved.check_continues(here)
        if saved.version != here.version:
            raise InvalidArgumentError(
                f"the state was saved at version {saved.version}, this dataset reads {here.version}; open the table at "
                f"version={saved.version}, or use t.loader(…), which does it by itself"
            )
        saved.check_selects(here)
        if own["every"] != self._every:
            raise InvalidArgumentError(
                f"the state was saved with {own['every']} workers, here there are {self._every}; resume with as "
                "many, or use t.loader(…), which resumes on any number"
            )
        self._source = self._source.with_blocks(saved.blocks)
        self._epoch, self._next, self._made = saved.epoch, own["step"], None
        self._epochs.resume(self._worker, saved.epoch)
