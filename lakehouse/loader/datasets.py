"""Faces for torch's own DataLoader: rows by their rank, and the order as a batch sampler. Neither needs torch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse._lance import check_process
from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import ranks
from lakehouse.loader.batches.epoch import Epoch
from lakehouse.loader.batches.pipeline import wants_rng
from lakehouse.loader.cursor import Cursor
from lakehouse.loader.forms.arrays import arrays_of_this_installation
from lakehouse.loader.forms.clips import Clip
from lakehouse.loader.forms.columns import Form
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.order.plan import Plan
from lakehouse.loader.source import Source
from lakehouse.loader.state import LoaderState
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakehouse.snapshot import Snapshot

__all__ = ["BatchSampler", "TableDataset"]


class TableDataset:
    """Rows of a version by their rank in the selection, many in one read: a map-style dataset.

    It pickles as a place and a version, and opens them in the process it finds itself in.

    Parameters
    ----------
    snapshot
        The version to read.
    options
        Columns, `where`, the transform, and what bad and missing values do; the order is the sampler's.
    pin
        As of `Loader`.

    Raises
    ------
    InvalidArgumentError
        An option that only an order gives a meaning to, or one of DataLoader's own.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
    >>> dataset = TableDataset(table.snapshot(), LoaderOptions(where="x > 2"))
    >>> len(dataset), int(dataset[0]["x"]), [int(row["x"]) for row in dataset.__getitems__([4, 0, 4])]
    (5, 3, [7, 3, 7])
    """

    def __init__(self, snapshot: Snapshot, options: LoaderOptions | None = None, *, pin: bool = True) -> None:
        check_process()
        options = options or LoaderOptions()
        if options.on_bad_rows == "mask":
            raise InvalidArgumentError(
                "on_bad_rows='mask' marks rows of a batch, and this gives rows; use 'substitute'"
            )
        for name in ("collate_fn", "pin_memory"):
            if getattr(options, name):
                raise InvalidArgumentError(f"hand {name} to torch's DataLoader, which puts these rows together")
        if wants_rng(options.transform):
            raise InvalidArgumentError(
                "a transform's rng is seeded by the position in the order, which rows by index do not have; "
                "use t.loader(…) or t.torch_iterable(…), or draw from torch's own generator"
            )
        if any(isinstance(clip, Clip) and clip.policy == "random" for clip in options.decode.values()):
            raise InvalidArgumentError(
                "a clip with policy='random' is drawn by the position in the order, which rows by index do not have; "
                "use t.loader(…) or t.torch_iterable(…), or another policy"
            )
        rank, _, agree = ranks.agreement(snapshot, options)
        self._source = Source.of(snapshot, options, agree, remember=pin)
        if pin and rank == 0:
            self._source.pin()

    @property
    def source(self) -> Source:
        """What is read."""
        return self._source

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The words of each category column, by their codes."""
        return {column.name: column.values for column in self._source.columns if column.form is Form.CODES}

    def __len__(self) -> int:
        return self._source.num_positions

    def __repr__(self) -> str:
        return f"<TableDataset of {self._source.table!r} at version {self._source.version}: {len(self):,} rows>"

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Mapping[str, Any]]:
        """Read rows in one go, order and repeats kept; torch's DataLoader calls this with a batch.

        Raises
        ------
        IndexError
            An index outside of the selection.
        InvalidArgumentError
            It is no whole number.
        """
        check_process()
        asked = np.asarray(indices).reshape(-1)
        if len(asked) and asked.dtype.kind not in "iu":
            raise InvalidArgumentError(
                f"an index is a whole number, not {asked[0]!r}; dataset[3], or dataset.__getitems__([3, 1]) for several"
            )
        positions = asked.astype(np.int64)
        outside = positions[(positions < 0) | (positions >= len(self))]
        if len(outside):
            raise IndexError(f"no row {outside[0]}; the dataset has {len(self)} rows, 0 to {len(self) - 1}")
        in_order = Plan(len(self), 1, shuffle="none")
        return Epoch(self._source, in_order, 0, 1, arrays_of_this_installation(), Meter(1)).rows(positions)


class BatchSampler:
    """Give ``DataLoader`` the batches of this rank, as ranks in the selection, in an order that all ranks agree on.

    Its state counts the batches that were drawn. A ``DataLoader`` with workers draws ahead of what it hands out, which
    ``torchdata.StatefulDataLoader`` puts right and torch's own does not. An incomplete last batch that is kept
    is filled up with repeats.

    Parameters
    ----------
    dataset
        Whose rows.
    options
        The batch size, the order, the rank and `drop_last`; None takes the dataset's.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
    >>> dataset = TableDataset(table.snapshot())
    >>> sampler = BatchSampler(dataset, LoaderOptions(batch_size=4, seed=1))
    >>> [len(batch) for batch in sampler], sorted(sum(sampler, []))
    ([4, 4], [0, 1, 2, 3, 4, 5, 6, 7])
    """

    def __init__(self, dataset: TableDataset, options: LoaderOptions | None = None) -> None:
        if not isinstance(dataset, TableDataset):
            raise InvalidArgumentError(
                f"a batch sampler is of t.torch_dataset(…), whose rows it orders, not of a {type(dataset).__name__}"
            )
        source = dataset.source
        options = replace(options or source.options, where=source.options.where)
        self._rank, self._world_size, agreed = ranks.resolve(options)
        if not agreed:
            ranks.check_pinned(source.snapshot, self._world_size)
        self._source = replace(source, options=options).ordered(self._world_size)
        self._cursor = Cursor()

    def _plan(self, epoch: int) -> Plan:
        return self._source.plan(epoch, self._world_size)

    def __len__(self) -> int:
        return self._plan(0).num_batches(self._rank, self._world_size)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, first = self._cursor.begin(len(self._plan(0)))
        return self._batches(self._plan(epoch), first)

    def _batches(self, plan: Plan, first: int) -> Iterator[list[int]]:
        last = plan.num_batches(self._rank, self._world_size)
        for step in range(first, last):
            self._cursor.receive(step + 1, last)
            yield plan.rows(plan.positions(step, self._rank, self._world_size)).tolist()
        self._cursor.finish(len(plan))

    def set_epoch(self, epoch: int) -> None:
        """Name the epoch of the next iteration; without it each one takes the next."""
        self._cursor.set_epoch(check_epoch(epoch))

    def state_dict(self) -> dict[str, Any]:
        """Return how far the batches were drawn."""
        return LoaderState.of(self._source, self._plan(self._cursor.epoch), self._cursor.received).to_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved, of this version of the table.

        Raises
        ------
        InvalidArgumentError
            The state is of other rows or other batches.
        """
        saved, here = LoaderState.from_dict(state), LoaderState.of(self._source, self._plan(0), 0)
        saved.check_continues(here)
        saved.check_selects(here)
        self._source = self._source.with_blocks(saved.blocks)
        self._cursor.load(saved.epoch, saved.step)
