"""A table as batches, on one of several ranks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from lakehouse._lance import check_process
from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import ranks, threads
from lakehouse.loader.cursor import Cursor
from lakehouse.loader.description import describe
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.forms.columns import Form
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.processes import Processes
from lakehouse.loader.source import Source
from lakehouse.loader.state import LoaderState
from lakehouse.loader.stats import Meter
from lakehouse.progress import track

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lakehouse.loader.description import Description
    from lakehouse.loader.order.plan import Plan
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.loader.stats import LoaderStats
    from lakehouse.snapshot import Snapshot

__all__ = ["Loader", "resumed"]

_logger = logging.getLogger("lakehouse")


class Loader:
    """Batches of a table: this rank's part of an order that all ranks agree on.

    An iteration gives one epoch and the next iteration the next one. One that is left early starts its epoch again;
    after `load_state_dict` it goes on where the state was saved.

    Parameters
    ----------
    snapshot
        The version to read; it stays this one whatever is written meanwhile.
    options
        What of it, and how.
    pin
        Whether to keep the version from clean-up while this loader lives; rank 0 does it for all.
    selection
        Rows that were chosen before; `where` is then not looked at.

    Raises
    ------
    ColumnNotFoundError
        A column the table does not have.
    SchemaError
        `decode` asks of a column what it is not.
    FilterError
        `where` does not parse.
    InvalidArgumentError
        Several ranks without a pinned version and without ``torch.distributed`` to agree on one.

    Examples
    --------
    >>> rows = [{"x": i, "name": f"n{i}"} for i in range(10)]
    >>> table = lh.connect(folder).create_table("pets", data=rows)
    >>> loader = table.loader(where="x > 1", batch_size=4, shuffle=False)
    >>> for batch in loader:
    ...     print(batch["x"].tolist(), batch["name"])
    [2, 3, 4, 5] ['n2', 'n3', 'n4', 'n5']
    [6, 7, 8, 9] ['n6', 'n7', 'n8', 'n9']
    """

    def __init__(
        self,
        snapshot: Snapshot,
        options: LoaderOptions | None = None,
        *,
        pin: bool = True,
        selection: Selection | None = None,
    ) -> None:
        check_process()
        options = options or LoaderOptions()
        rank, world_size, agree = ranks.agreement(snapshot, options)
        self._begin(Source.of(snapshot, options, agree, selection, remember=pin), rank, world_size, pin=pin)
        if self._source.num_positions == 0 and rank == 0:
            _logger.warning("no rows of %r, so there are no batches: %s", self._source.table, self._source.why_empty())

    def _begin(self, source: Source, rank: int, world_size: int, *, pin: bool) -> None:
        self._arrays = arrays_of_this_installation(pin_memory=source.options.pin_memory)
        self._rank, self._world_size = rank, world_size
        self._pins = pin and rank == 0
        self._source = source.ordered(world_size)
        if self._pins:
            self._source.pin()
        workers = source.options.num_workers
        self._meter = Meter(workers or threads.num_threads(), max(1, workers))
        self._cursor = Cursor()
        self._iteration = object()
        self._processes: Processes | None = None
        self._say_what_is_dropped()

    def _say_what_is_dropped(self) -> None:
        plan = self._plan(0)
        if plan.num_dropped == plan.num_rows > 0:
            _logger.warning(
                "a global batch of %d takes more rows than there are (%d), and drop_last leaves them out: there are no "
                "batches",
                plan.global_batch_size,
                plan.num_rows,
            )
        elif plan.num_dropped and self._rank == 0:
            _logger.info("drop_last leaves %d of %d rows out of each epoch", plan.num_dropped, plan.num_rows)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as what is read and how far; a copy goes on as one would that loaded this one's state."""
        stands = self._cursor.epoch, self._cursor.received
        return _again, (type(self), self._source, self._rank, self._world_size, self._pins, stands)

    def __len__(self) -> int:
        return self._plan(0).num_batches(self._rank, self._world_size)

    def __repr__(self) -> str:
        source = self._source
        return (
            f"<Loader of {source.table!r} at version {source.version}: {source.num_positions:,} rows, "
            f"{len(self):,} batches of {source.options.batch_size}, {self.batch_type}, rank {self._rank} of "
            f"{self._world_size}, epoch {self._cursor.epoch}, batch {self._cursor.received}>"
        )

    @property
    def batch_type(self) -> str:
        """What numbers come as: ``"torch"`` where torch is installed, else ``"numpy"``."""
        return self._arrays.name

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The words of each category column, by their codes."""
        return {column.name: column.values for column in self._source.columns if column.form is Form.CODES}

    def __getitem__(self, index: object) -> Any:
        """Refuse: torch's ``DataLoader`` asks for rows, and this gives batches.

        Raises
        ------
        InvalidArgumentError
        """
        raise InvalidArgumentError(
            "a loader has no rows by number and needs no DataLoader around it: write `for batch in loader`; torch's "
            "takes t.torch_iterable(…), or t.torch_dataset(…) with t.batch_sampler(…)"
        )

    def __iter__(self) -> Iterator[Any]:
        check_process()
        epoch, first = self._cursor.begin(len(self._plan(0)))
        self._iteration = iteration = object()
        return self._counted(self._batches(self._plan(epoch), first), first, iteration, epoch)

    def _plan(self, epoch: int) -> Plan:
        return self._source.plan(epoch, self._world_size)

    def _batches(self, plan: Plan, first: int) -> Iterator[tuple[Any, int]]:
        options = self._source.options
        steps = range(first, plan.num_batches(self._rank, self._world_size))
        if options.num_workers == 0:
            part = self._source.part(plan, self._rank, self._world_size, self._arrays, self._meter)
            return part.batches(steps, options.prefetch_batches)
        if self._processes is None:
            self._processes = Processes(self._source, self._rank, self._world_size, self._meter, self._arrays)
        return self._processes.batches(plan.epoch, steps)

    def _counted(self, batches: Iterator[tuple[Any, int]], first: int, iteration: object, epoch: int) -> Iterator[Any]:
        """Count what the consumer receives, not what is under way; of several iterations the last one counts."""
        before, last = time.perf_counter(), len(self)
        shown = self._source.options.progress if self._rank == 0 else False
        with track(f"epoch {epoch} of {self._source.table}", last, enabled=shown, unit="batches") as tracker:
            tracker.advance(first, resumed=first)
            for received, (batch, num_rows) in enumerate(batches, first + 1):
                now = time.perf_counter()
                self._meter.add(num_batches=1, num_rows=num_rows, wait_s=now - before, elapsed_s=now - before)
                if self._iteration is iteration:
                    self._cursor.receive(received, last)
                tracker.advance()
                yield batch
                before = time.perf_counter()
                self._meter.add(elapsed_s=before - now)
        if self._iteration is iteration:
            self._cursor.finish(len(self._plan(0)))

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration; without it each one takes the next.

        Of an iteration of another epoch that is under way, what is received is no longer counted.

        Raises
        ------
        InvalidArgumentError
            `epoch` is no whole number of 0 or more.
        """
        epoch = check_epoch(epoch)
        if epoch != self._cursor.epoch:
            self._iteration = object()
        self._cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the consumer stands, the same on every rank: plain values, a few hundred bytes of JSON.

        What was read ahead and not yet received is not counted.
        """
        return LoaderState.of(self._source, self._plan(self._cursor.epoch), self._cursor.received).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved, at the version it was saved at, on any number of ranks.

        Raises
        ------
        InvalidArgumentError
            The state is of another table, selection, seed, shuffle or global batch size; it says which.
        VersionNotFoundError
            The version was cleaned up.
        """
        saved = LoaderState.from_dict(state)
        source = resumed(self._source, saved, self._world_size)
        if source is not self._source:
            if self._pins:
                source.pin()
            self._source, self._processes = source, None
        self._iteration = object()  # one that is under way is of what stood here before
        self._cursor.load(saved.epoch, saved.step)

    def describe(self) -> Description:
        """Predict what an epoch costs and how well it mixes, without reading a row; print it, or look at its fields.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(1000)])
        >>> print(table.loader(batch_size=64).describe())  # doctest: +ELLIPSIS
        An epoch of 'pets' as it will be, told before a row of it is read
        rows     1,000 of ...
        batches  15 of 64 rows, 1 rank, the last 40 rows of each epoch dropped
        order    exact (version 1): every order is as likely as every other
        reads    1 runs of rows and 8.00 kB an epoch
        memory   8.00 kB of rows on a rank, kept for all epochs, 0 bytes for the order
        mixing   batches from 64 places of the table (64 at random); of 100 labels that lie together 5.52 bits (5.49)
        """
        return describe(self._source, self._plan(self._cursor.epoch), self._rank, self._world_size)

    def stats(self) -> LoaderStats:
        """Return counts, seconds, and what bounds the speed, since the loader was made."""
        return self._meter.stats()


def resumed(source: Source, saved: LoaderState, world_size: int) -> Source:
    """Return what a state was saved of, which may be another version of the same.

    Raises
    ------
    InvalidArgumentError
        It was saved of something else.
    VersionNotFoundError
        The version was cleaned up.
    """
    saved.check_continues(LoaderState.of(source, source.plan(0, world_size), 0))
    if saved.version != source.version:
        source = source.at(saved.version, saved.selection)
    source = source if saved.blocks == source.blocks else source.with_blocks(saved.blocks)
    saved.check_selects(LoaderState.of(source, source.plan(0, world_size), 0))
    return source


def _again(
    kind: type[Loader], source: Source, rank: int, world_size: int, pin: bool, stands: tuple[int, int]
) -> Loader:
    loader = kind.__new__(kind)
    loader._begin(source, rank, world_size, pin=pin)  # noqa: SLF001 - it is its constructor
    loader._cursor.load(*stands)  # noqa: SLF001
    return loader
