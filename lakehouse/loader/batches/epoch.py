"""One rank's part of one epoch: which rows of each batch, read and made into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lakehouse.loader import threads
from lakehouse.loader.batches.kept import KeptReader
from lakehouse.loader.batches.pipeline import Pipeline, has_rows_to_make
from lakehouse.loader.batches.reader import Reader
from lakehouse.loader.forms.columns import ROW_ID, Form, dense_nbytes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.loader.batches.kept import Kept
    from lakehouse.loader.batches.reader import Portion, RowBlock, Rows
    from lakehouse.loader.forms.arrays import Arrays
    from lakehouse.loader.forms.columns import Column
    from lakehouse.loader.forms.packing import Documents
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.order.plan import Plan
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.loader.stats import Meter
    from lakehouse.loader.threads import Threads
    from lakehouse.snapshot import Snapshot

    Batches = Sequence[npt.NDArray[np.int64]]

__all__ = ["Epoch"]

_LIGHT_NBYTES = 256 << 10  # copied in 30 µs; a thread is handed a batch and hands it back in 80


class _Source(Protocol):
    """What an epoch asks of `Source`, which makes epochs."""

    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def options(self) -> LoaderOptions: ...
    @property
    def selection(self) -> Selection: ...
    @property
    def is_whole_table(self) -> bool: ...
    def documents(self, plan: Plan) -> Documents | None: ...
    def kept(self, num_rows: int, meter: Meter) -> Kept | None: ...
    def ranks(self, rows: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]: ...


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

    def __init__(self, source: _Source, plan: Plan, rank: int, world_size: int, arrays: Arrays, meter: Meter) -> None:
        self._source = source
        self._plan = plan
        self._rank = rank
        self._world_size = world_size
        self._arrays = arrays
        self._meter = meter
        self._documents = source.documents(plan)
        self._in_place = False  # whether positions are asked for as they stand in the table, one after the other
        self._reader = Reader(source.snapshot, source.columns, self._rows_of, meter, together=plan.blocks is not None)

    def batches(self, steps: Iterable[int], prefetch_batches: int) -> Generator[tuple[Any, int]]:
        """Make the batches of these steps in order; with each comes its number of rows."""
        mark_pads = self._world_size > 1 and self._plan.drop_last is False
        options = self._source.options
        at_once = threads.num_at_once(options.batch_size) if has_rows_to_make(self._source.columns, options) else 1
        with threads.started(prefetch_batches, at_once) as pools:
            pipeline = self._pipeline(pools)

            def make(portion: Portion) -> tuple[Any, int]:
                return pipeline.batch(portion, mark_pads=mark_pads), len(portion.positions)

            groups = ([self._share(step) for step in together] for together in self._plan.groups(steps))
            portions = self._portions(steps, groups, pools)
            if self._is_light(pipeline):
                yield from map(make, portions)
            else:
                yield from threads.prefetched(make, portions, pools.batches, prefetch_batches, self._meter)

    def _portions(self, steps: Iterable[int], groups: Iterable[Batches], pools: Threads) -> Iterator[Portion]:
        if isinstance(steps, range) and self._documents is None:
            if self._plan.shuffle == "none":
                self._in_place = self._source.is_whole_table and self._world_size == steps.step == 1
            elif (kept := self._source.kept(len(steps) * self._source.options.batch_size, self._meter)) is not None:
                return KeptReader(kept, self._source.selection, self._ranks_of).portions(groups)
        return self._reader.portions(groups, pools.reads)

    def rows(self, positions: npt.NDArray[np.int64]) -> list[Mapping[str, Any]]:
        """Make the rows at these positions, in one read and in the caller's thread."""
        with threads.started(0) as pools:
            portions = self._reader.portions([[positions]], pools.reads)
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
            self._documents,
        )

    def _is_light(self, pipeline: Pipeline) -> bool:
        """Whether a batch takes less time to put together than to hand to a thread; it is still read ahead."""
        columns = self._source.columns
        if pipeline.by_row or self._documents or any(c.form not in (Form.NUMBERS, Form.CODES) for c in columns):
            return False
        schema = self._source.snapshot.schema
        row_nbytes = sum(8.0 if c.name == ROW_ID else dense_nbytes(schema.field(c.name).type) for c in columns)
        return row_nbytes * self._source.options.batch_size <= _LIGHT_NBYTES

    def _share(self, step: int) -> npt.NDArray[np.int64]:
        return self._plan.positions(step, self._rank, self._world_size)

    def _rows_of(self, batches: Batches) -> list[Rows]:
        if self._documents is not None:
            ranks = self._documents.ranks(batches)
        elif self._in_place and batches[-1][-1] < self._plan.num_rows:
            return [range(int(batch[0]), int(batch[-1]) + 1) for batch in batches]
        else:
            ends = np.cumsum([len(batch) for batch in batches])[:-1]
            ranks = np.split(self._ranks_of(np.concatenate(batches)), ends)
        ids = self._source.selection.row_ids(np.concatenate(ranks))
        return list(np.split(ids, np.cumsum([len(each) for each in ranks])[:-1]))

    def _ranks_of(self, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self._source.ranks(self._plan.rows(positions), self._plan.epoch)

    def _row_at(self, position: int) -> RowBlock:
        return self._reader.read([np.array([position], np.int64)])
