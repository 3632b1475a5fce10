"""Faces for torch's own DataLoader: rows by their rank, and the order as a batch sampler. Neither needs torch."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse._lance import check_process
from lakehouse.errors import InvalidArgumentError
from lakehouse.loader import ranks, threads
from lakehouse.loader.arrays import arrays_of_this_installation
from lakehouse.loader.columns import Form
from lakehouse.loader.cursor import Cursor
from lakehouse.loader.options import LoaderOptions, check_epoch
from lakehouse.loader.pipeline import Pipeline
from lakehouse.loader.plan import Plan
from lakehouse.loader.reader import Portion, Reader
from lakehouse.loader.source import Source
from lakehouse.loader.state import LoaderState
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from lakehouse.loader.reader import RowBlock
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

    Raises
    ------
    InvalidArgumentError
        An option that only an order gives a meaning to.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
    >>> dataset = TableDataset(table.snapshot(), LoaderOptions(where="x > 2"))
    >>> len(dataset), int(dataset[0]["x"]), [int(row["x"]) for row in dataset.__getitems__([4, 0, 4])]
    (5, 3, [7, 3, 7])
    """

    def __init__(self, snapshot: Snapshot, options: LoaderOptions | None = None) -> None:
        check_process()
        options = options or LoaderOptions()
        if options.on_bad_rows == "mask":
            raise InvalidArgumentError("on_bad_rows='mask' marks rows of a batch, and this gives rows; use 'substitute'")
        if options.collate_fn is not None:
            raise InvalidArgumentError("hand collate_fn to torch's DataLoader, which puts these rows together")
        self._source = Source.of(snapshot, options)

    @property
    def source(self) -> Source:
        """What is read."""
        return self._source

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The words of each category column, by their codes."""
        return {column.name: column.values for column in self._source.columns if column.form is Form.CODES}

    def __len__(self) -> int:
        return self._source.selection.num_rows

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
        """
        check_process()
        ranks_ = np.asarray(indices, np.int64)
        outside = ranks_[(ranks_ < 0) | (ranks_ >= len(self))]
        if len(outside):
            raise IndexError(f"no row {outside[0]}; the dataset has {len(self)} rows")
        meter = Meter(1)
        reader = Reader(self._source.snapshot, self._source.selection, self._source.columns, meter)
        plan = Plan(len(self), 1, shuffle="none", drop_last=False)

        def row_at(position: int) -> RowBlock:
            return reader.read(self._source.selection.row_ids(np.array([position % len(self)], np.int64)))

        with threads.started(0) as here:
            portions = list(reader.portions([(ranks_, ranks_)], here.reads))
            pipeline = Pipeline(
                self._source.columns,
                self._source.options,
                plan,
                arrays_of_this_installation(),
                row_at,
                here.rows,
                meter,
            )
            return pipeline.rows(portions[0])[0]
