"""From rows that were read to a batch: decode, transform, collate."""

from __future__ import annotations

import inspect
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lakehouse.errors import InvalidArgumentError, LakehouseError, MediaError
from lakehouse.loader.collate import check_stacks, collate
from lakehouse.loader.columns import Form, gather
from lakehouse.loader.plan import derive_key
from lakehouse.media.codecs import decode_rgb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    import numpy.typing as npt

    from lakehouse.loader.arrays import Arrays
    from lakehouse.loader.columns import Column
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.plan import Plan
    from lakehouse.loader.reader import Portion, RowBlock
    from lakehouse.loader.stats import Meter

__all__ = ["Pipeline", "wants_rng"]

_T = TypeVar("_T")
_ROWS_PER_TASK = 8  # some milliseconds of decoding, against 50 µs to hand a task to a thread
_MAX_SUBSTITUTES = 16  # a longer run of bad rows is no accident
_FOR_TRANSFORMS = 2  # what the key is for; 1 is the order
_logger = logging.getLogger("lakehouse")


@dataclass(frozen=True)
class _Bad:
    """A row that could not be decoded or transformed."""

    row_id: int
    error: Exception


class Pipeline:
    """Makes one epoch's batches of the rows read for them.

    Parameters
    ----------
    columns
        What each column becomes.
    options
        The transform, the collation, what bad rows do.
    plan
        Seeds transforms, and tells repeats from rows.
    arrays
        What numbers are handed out as.
    row_at
        Reads the one row at a position, to stand in for a bad one.
    executor
        Where rows are decoded and transformed.
    meter
        Where it is counted.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        options: LoaderOptions,
        plan: Plan,
        arrays: Arrays,
        row_at: Callable[[int], RowBlock],
        executor: Executor,
        meter: Meter,
    ) -> None:
        self._columns = columns
        self._options = options
        self._plan = plan
        self._arrays = arrays
        self._row_at = row_at
        self._executor = executor
        self._meter = meter
        self._by_row = bool(options.transform or options.collate_fn) or options.on_bad_rows != "raise"
        self._wants_rng = wants_rng(options.transform)

    def batch(self, portion: Portion, *, mark_pads: bool) -> Any:
        """Make a batch of its rows.

        Raises
        ------
        DataError
            A NULL where a tensor must stand, or images of different sizes.
        MediaError
            A picture does not decode.
        """
        block, index = portion.rows()
        cells, row_ids = self._cells(block, index), block.row_ids[index]
        marks = {"_is_pad": portion.positions >= self._plan.num_rows} if mark_pads else {}
        if not self._by_row:
            return self._by_column(cells, row_ids) | self._wrapped(marks)
        rows, bad = self._rows(cells, row_ids, portion.positions)
        if self._options.on_bad_rows == "mask":
            marks["_is_bad"] = bad
        if self._options.collate_fn is not None:
            marked = [{**row, **{key: mark[i] for key, mark in marks.items()}} for i, row in enumerate(rows)]
            return self._options.collate_fn(marked)
        return collate(rows, self._arrays, row_ids) | self._wrapped(marks)

    def rows(self, portion: Portion) -> list[Mapping[str, Any]]:
        """Make the rows, decoded and transformed, and do not put them together."""
        block, index = portion.rows()
        return self._rows(self._cells(block, index), block.row_ids[index], portion.positions)[0]

    def _rows(
        self, cells: dict[str, Any], row_ids: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]
    ) -> tuple[list[Mapping[str, Any]], npt.NDArray[np.bool_]]:
        found = self._each(lambda i: self._row(cells, i, int(row_ids[i]), int(positions[i])), len(row_ids))
        return self._mended(found, positions)

    def _cells(self, block: RowBlock, index: npt.NDArray[np.int64]) -> dict[str, Any]:
        return {
            column.name: gather(column, block.columns[column.name], index, block.row_ids) for column in self._columns
        }

    def _by_column(self, cells: dict[str, Any], row_ids: npt.NDArray[np.uint64]) -> dict[str, Any]:
        batch = {}
        for column in self._columns:
            values = cells[column.name]
            if column.form is Form.IMAGES:
                batch[column.name] = self._arrays.wrap(self._images(column.name, values, row_ids))
            elif column.form is Form.RAGGED:
                batch[column.name] = [self._arrays.wrap(value) for value in values]
            else:
                batch[column.name] = values if isinstance(values, list) else self._arrays.wrap(values)
        return batch

    def _images(self, name: str, cells: Sequence[Any], row_ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
        """Decode each picture into its place in the batch: stacked afterwards they would lie in memory twice."""
        first = _decoded(name, cells[0], int(row_ids[0]))
        images = np.empty((len(cells), *first.shape), np.uint8)
        images[0] = first

        def place(i: int) -> None:
            image = _decoded(name, cells[i + 1], int(row_ids[i + 1]))
            check_stacks(name, first.shape, image.shape, row_ids[[0, i + 1]])
            images[i + 1] = image

        self._each(place, len(cells) - 1)
        return images

    def _wrapped(self, marks: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
        return {name: self._arrays.wrap(mark) for name, mark in marks.items()}

    def _each(self, work: Callable[[int], _T], num_rows: int) -> list[_T]:
        def some(first: int) -> list[_T]:
            began = time.perf_counter()
            done = [work(i) for i in range(first, min(first + _ROWS_PER_TASK, num_rows))]
            self._meter.add(decode_s=time.perf_counter() - began)
            return done

        return [row for part in self._executor.map(some, range(0, num_rows, _ROWS_PER_TASK)) for row in part]

    def _row(self, cells: dict[str, Any], i: int, row_id: int, position: int) -> Mapping[str, Any] | _Bad:
        try:
            row = {column.name: self._cell(column, cells[column.name][i], row_id) for column in self._columns}
            return row if self._options.transform is None else self._transformed(row, position)
        except Exception as error:
            if not isinstance(error, LakehouseError):
                error.add_note(f"in the transform of row id {row_id}")
            if self._options.on_bad_rows == "raise" or isinstance(error, InvalidArgumentError):
                raise
            return _Bad(row_id, error)

    def _cell(self, column: Column, cell: Any, row_id: int) -> Any:
        if column.form is Form.IMAGES:
            cell = np.ascontiguousarray(_decoded(column.name, cell, row_id))
        return self._arrays.wrap(cell) if isinstance(cell, np.ndarray) else cell

    def _transformed(self, row: dict[str, Any], position: int) -> Mapping[str, Any]:
        transform = self._options.transform
        assert transform is not None
        extra = {"rng": self._rng(position)} if self._wants_rng else {}
        result = transform(row, **extra)
        if not hasattr(result, "keys"):
            raise InvalidArgumentError(
                f"the transform returned {type(result).__name__}; return the row, a mapping of names to values"
            )
        return result

    def _rng(self, position: int) -> np.random.Generator:
        """Depends on nothing but seed, epoch and position: the same after a resume and on any topology."""
        key = derive_key(self._plan.seed, self._plan.epoch, _FOR_TRANSFORMS)
        return np.random.Generator(np.random.Philox(key=key, counter=position % self._plan.num_rows))

    def _mended(
        self, rows: list[Mapping[str, Any] | _Bad], positions: npt.NDArray[np.int64]
    ) -> tuple[list[Mapping[str, Any]], npt.NDArray[np.bool_]]:
        """Put another row where one is bad: a rank never gets shorter."""
        bad = np.array([isinstance(row, _Bad) for row in rows], dtype=np.bool_)
        good = [row for row in rows if not isinstance(row, _Bad)]
        if len(good) == len(rows):
            return good, bad
        self._meter.add(num_bad_rows=int(bad.sum()))
        mended = []
        for row, position in zip(rows, positions.tolist(), strict=True):
            if not isinstance(row, _Bad):
                mended.append(row)
                continue
            _logger.warning("bad row, row id %d: %s: %s", row.row_id, type(row.error).__name__, row.error)
            masked = self._options.on_bad_rows == "mask" and good
            mended.append(good[0] if masked else self._substitute(row, position))
        return mended, bad

    def _substitute(self, bad: _Bad, position: int) -> Mapping[str, Any]:
        """Take the next good row of the global order, whoever's it is: the same one on any topology."""
        for following in range(position + 1, position + 1 + _MAX_SUBSTITUTES):
            block = self._row_at(following)
            cells = self._cells(block, block.order)
            row = self._row(cells, 0, int(block.row_ids[0]), following)
            if not isinstance(row, _Bad):
                return row
        raise bad.error


def _decoded(name: str, cell: Any, row_id: int) -> npt.NDArray[np.uint8]:
    hint = "leave the row out with where=…, or pass on_bad_rows='substitute' or 'mask'"
    if not cell.is_valid:
        raise MediaError(f"column {name!r} of row id {row_id} is NULL; {hint}")
    try:
        pixels = decode_rgb(cell.as_py())
    except MediaError as error:
        raise MediaError(f"column {name!r} of row id {row_id}: {error}; {hint}") from error
    return pixels.transpose(2, 0, 1)


def wants_rng(transform: Callable[..., Any] | None) -> bool:
    """Whether a transform has a parameter for random numbers."""
    if transform is None:
        return False
    try:
        return "rng" in inspect.signature(transform).parameters
    except ValueError:  # a builtin that tells no signature
        return False
