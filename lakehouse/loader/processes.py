"""Worker processes: torch's DataLoader over steps, each worker making whole batches."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from lakehouse._lance import check_process
from lakehouse._optional import require
from lakehouse.errors import InvalidArgumentError, LakehouseError
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.loader.forms.arrays import Arrays
    from lakehouse.loader.source import Source
    from lakehouse.loader.stats import LoaderStats

__all__ = ["Batches", "Processes"]

_OF_DEAD_WORKERS = (RuntimeError, OSError, EOFError)  # any of these, as chance has it
_END_S = 30.0  # a process that is ending closes its sockets first, and takes seconds to be gone on a loaded machine


class Batches:
    """A map-style dataset whose items are whole batches, named by epoch and step.

    A worker is asked for every K-th step. It reads ahead as long as that holds, and begins anew wherever it is asked
    for another one, so it does not matter which worker makes which batch, nor how long it lives.

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
        self._meter = Meter(1)
        self._made: Iterator[tuple[Any, int]] = iter(())
        self._due: tuple[int, int] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Leave what is under way where it is."""
        return Batches, (self._source, self._rank, self._world_size)

    def __getitem__(self, epoch_and_step: tuple[int, int]) -> tuple[Any, int, LoaderStats]:
        check_process()
        epoch, step = epoch_and_step
        every = require("torch.utils.data", "num_workers > 0").get_worker_info().num_workers
        plan = self._source.plan(epoch, self._world_size)
        num_batches = plan.num_batches(self._rank, self._world_size)
        if epoch_and_step != self._due:
            arrays = arrays_of_this_installation()
            part = self._source.part(plan, self._rank, self._world_size, arrays, self._meter)
            self._made = part.batches(range(step, num_batches, every), prefetch_batches=1)
        self._due = None  # an error ends what was under way
        batch, num_rows = next(self._made)
        if step + every < num_batches:
            self._due = epoch, step + every
        else:
            self._made = iter(())  # lets threads and rows go
        return batch, num_rows, self._meter.take()


class Processes:
    """Workers that are started once and serve one epoch after the other.

    Parameters
    ----------
    source, rank, world_size
        As of `Batches`.
    meter
        Where their work is counted.
    arrays
        What numbers are handed out as; page-locked here, for workers have no accelerator.
    """

    def __init__(self, source: Source, rank: int, world_size: int, meter: Meter, arrays: Arrays) -> None:
        data = require("torch.utils.data", "num_workers > 0")
        options = source.options
        self._meter = meter
        self._sampler = _Steps()
        self._iteration = object()
        self._loader = data.DataLoader(
            Batches(source, rank, world_size),
            batch_size=None,
            sampler=self._sampler,
            collate_fn=_as_it_is,
            num_workers=options.num_workers,
            prefetch_factor=max(1, -(-options.prefetch_batches // options.num_workers)),
            persistent_workers=True,
            pin_memory=arrays.is_page_locked,
            multiprocessing_context="spawn",  # Lance does not survive a fork
        )

    def batches(self, epoch: int, steps: range) -> Iterator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of rows.

        Raises
        ------
        InvalidArgumentError
            Another iteration has begun since.
        LakehouseError
            A worker was killed; the next call starts others.
        """
        self._sampler.epoch, self._sampler.steps = epoch, steps
        self._iteration = iteration = object()
        try:
            for batch, num_rows, stats in self._iterator():
                self._meter.add_work(stats)
                yield batch, num_rows
                if self._iteration is not iteration:
                    raise InvalidArgumentError(
                        "another iteration of this loader has begun, and its workers serve one at a time; iterate one "
                        "after the other, make a second loader, or use num_workers=0"
                    )
        except _OF_DEAD_WORKERS as error:
            gone = self._gone(0.0 if _came_from_a_worker(error) else _END_S)
            if not gone:
                raise
            self._end()
            raise LakehouseError(
                f"worker process {gone[0].pid} of the loader is gone, {_why(gone[0].exitcode)}; the next iteration "
                "starts another one, and load_state_dict(state_dict()) goes on behind the last batch that was received"
            ) from error

    def _iterator(self) -> Iterator[tuple[Any, int, LoaderStats]]:
        """Begin an iteration; workers that went while nobody waited for them, by Ctrl-C say, are replaced."""
        if not self._gone(wait_s=0.0):
            with suppress(*_OF_DEAD_WORKERS):  # some of them are about to go
                return iter(self._loader)  # takes out what an iteration that was left early had under way
        self._end()
        return iter(self._loader)

    def _gone(self, wait_s: float) -> list[Any]:
        """Return the workers that have ended, waiting for the first one; where none were started, for nobody."""
        workers = getattr(self._started, "_workers", ())
        if not workers:
            return []
        with suppress(RuntimeError):  # torch's own signal handler may strike here
            ended = wait([worker.sentinel for worker in workers], wait_s)
            for worker in workers:
                if worker.sentinel in ended:
                    worker.join()  # the sentinel goes before the process has an exit code
        return [worker for worker in workers if worker.exitcode is not None]

    def _end(self) -> None:
        """Let all workers go."""
        if self._started is not None:
            with suppress(*_OF_DEAD_WORKERS):
                self._started._shutdown_workers()  # noqa: SLF001 - as below
        self._loader._iterator = None  # noqa: SLF001

    @property
    def _started(self) -> Any:
        """What torch keeps of workers that live on; None before the first iteration."""
        return self._loader._iterator  # noqa: SLF001 - it has no other way to tell who they are, and to let them go


def _came_from_a_worker(error: BaseException) -> bool:
    """Whether it was raised there, by the transform say, and sent over: torch begins its text like this."""
    return str(error).startswith("Caught ")


def _why(exitcode: int) -> str:
    if exitcode < 0:
        return f"killed by signal {-exitcode}, as happens where memory runs out"
    return f'exit code {exitcode}, its error is above (a script needs if __name__ == "__main__": around what it runs)'


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
