"""A table as batches, on one of several ranks."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse._lance import check_process
from lakehouse.loader import ranks, threads
from lakehouse.loader.arrays import arrays_of_this_installation
from lakehouse.loader.columns import ROW_ID, Column, Form, column_of
from lakehouse.loader.cursor import Cursor
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.pipeline import Pipeline
from lakehouse.loader.plan import Plan
from lakehouse.loader.reader import Reader
from lakehouse.loader.selection import select
from lakehouse.loader.state import LoaderState
from lakehouse.loader.stats import Meter
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from lakehouse.loader.reader import Portion, RowBlock
    from lakehouse.loader.selection import Selection
    from lakehouse.loader.stats import LoaderStats
    from lakehouse.snapshot import Snapshot

__all__ = ["Loader"]

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

    Raises
    ------
    ColumnNotFoundError
        A column the table does not have.
    SchemaError
        A column whose type has no form in a batch.
    FilterError
        `where` does not parse.
    InvalidArgumentError
        Several ranks without a pinned version and without ``torch.distributed`` to agree on one.

    Examples
    --------
    >>> import lakehouse as lh, pyarrow as pa, tempfile
    >>> lake = lh.connect(tempfile.mkdtemp())
    >>> t = lake.create_table("pets", data=pa.table({"x": range(10), "name": list("abcdefghij")}))
    >>> loader = t.loader(where="x > 1", batch_size=4, shuffle=False)
    >>> for batch in loader:
    ...     print(batch["x"].tolist(), batch["name"])
    [2, 3, 4, 5] ['c', 'd', 'e', 'f']
    [6, 7, 8, 9] ['g', 'h', 'i', 'j']
    """

    def __init__(self, snapshot: Snapshot, options: LoaderOptions | None = None) -> None:
        check_process()
        self._options = options or LoaderOptions()
        self._arrays = arrays_of_this_installation()
        self._columns = _columns(snapshot, self._options)
        self._rank, self._world_size, together = ranks.resolve(self._options)
        if together:
            snapshot, selection = ranks.select_together(snapshot, self._select, self._rank)
        else:
            ranks.check_pinned(snapshot, self._world_size)
            selection = self._select(snapshot)
        self._snapshot = snapshot
        self._selection = selection
        self._meter = Meter(threads.num_threads())
        self._cursor = Cursor()
        self._iteration = object()
        if not len(self) and selection.num_rows:
            _logger.warning(
                "%d rows are fewer than a global batch of %d and drop_last leaves them out: there are no batches",
                selection.num_rows,
                self._global_batch_size,
            )

    def _select(self, snapshot: Snapshot) -> Selection:
        without = (
            [c.name for c in self._columns if c.form is not Form.VALUES] if self._options.on_missing == "skip" else []
        )
        return select(snapshot, self._options.where, without_nulls=without)

    @property
    def _global_batch_size(self) -> int:
        return self._options.batch_size * self._world_size

    def _plan(self, epoch: int) -> Plan:
        return Plan(
            self._selection.num_rows,
            self._global_batch_size,
            seed=self._options.seed,
            epoch=epoch,
            shuffle=self._options.order,
            drop_last=self._options.drop_last,
        )

    def __len__(self) -> int:
        return len(self._plan(0))

    def __repr__(self) -> str:
        return (
            f"<Loader of {self._snapshot.name!r} at version {self._snapshot.version}: {self._selection.num_rows:,} "
            f"rows, {len(self):,} batches of {self._options.batch_size}, {self.batch_type}, rank {self._rank} of "
            f"{self._world_size}, epoch {self._cursor.epoch}, batch {self._cursor.received}>"
        )

    @property
    def batch_type(self) -> str:
        """What numbers come as: ``"torch"`` where torch is installed, else ``"numpy"``."""
        return self._arrays.name

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The words of each category column, by their codes."""
        return {column.name: column.values for column in self._columns if column.form is Form.CODES}

    def __iter__(self) -> Iterator[Any]:
        check_process()
        epoch, first = self._cursor.begin(len(self))
        self._iteration = iteration = object()
        return self._batches(self._plan(epoch), first, iteration)

    def _batches(self, plan: Plan, first: int, iteration: object) -> Iterator[Any]:
        before = time.perf_counter()
        with threads.started(self._options.prefetch_batches) as pools:
            reader = Reader(self._snapshot, self._selection, self._columns, self._meter)

            def row_at(position: int) -> RowBlock:
                return reader.read(self._selection.row_ids(plan.rows(np.array([position]))))

            pipeline = Pipeline(self._columns, self._options, plan, self._arrays, row_at, pools.rows, self._meter)
            portions = reader.portions(self._shares(plan, first), pools.reads)
            mark_pads = self._world_size > 1 and not self._options.drop_last

            def make(portion: Portion) -> tuple[Any, int]:
                return pipeline.batch(portion, mark_pads=mark_pads), len(portion.positions)

            batches = threads.prefetched(make, portions, pools.batches, self._options.prefetch_batches)
            for received, (batch, num_rows) in enumerate(batches, first + 1):
                now = time.perf_counter()
                self._meter.add(num_batches=1, num_rows=num_rows, wait_s=now - before, elapsed_s=now - before)
                if self._iteration is iteration:
                    self._cursor.received = received
                yield batch
                before = time.perf_counter()
                self._meter.add(elapsed_s=before - now)
        if self._iteration is iteration:
            self._cursor.finish(len(plan))

    def _shares(self, plan: Plan, first: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        for step in range(first, len(plan)):
            positions = plan.positions(step, self._rank, self._world_size)
            yield positions, plan.rows(positions)

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration; without it each one takes the next.

        Raises
        ------
        InvalidArgumentError
            `epoch` is no whole number of 0 or more.
        """
        self._cursor.set_epoch(check_epoch(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Return where the consumer stands, the same on every rank: plain values, a few hundred bytes of JSON.

        What was read ahead and not yet received is not counted.
        """
        return self._state().to_dict()

    def _state(self) -> LoaderState:
        return LoaderState.of(self._snapshot, self._selection, self._plan(self._cursor.epoch), self._cursor.received)

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
        saved.check_continues(self._state())
        snapshot, selection = self._snapshot, self._selection
        if saved.version != snapshot.version:
            snapshot = open_snapshot(snapshot.lake, snapshot.name, saved.version)
            selection = self._select(snapshot)
        saved.check_selects(LoaderState.of(snapshot, selection, self._plan(0), 0))
        self._columns = _columns(snapshot, self._options)
        self._snapshot, self._selection = snapshot, selection
        self._cursor.load(saved.epoch, saved.step)

    def stats(self) -> LoaderStats:
        """Return counts, seconds, and what bounds the speed, since the loader was made."""
        return self._meter.stats()


def _columns(snapshot: Snapshot, options: LoaderOptions) -> tuple[Column, ...]:
    names = list(options.columns) if options.columns is not None else list(snapshot.schema.names)
    snapshot.columns([name for name in names if name != ROW_ID])
    return tuple(
        Column(ROW_ID, Form.NUMBERS) if name == ROW_ID else column_of(snapshot.schema.field(name)) for name in names
    )
