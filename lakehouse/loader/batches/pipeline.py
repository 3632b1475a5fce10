"""From rows that were read to a batch: decode, transform, collate."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lakehouse import reads
from lakehouse.errors import DataError, InvalidArgumentError, LakehouseError, StorageError
from lakehouse.loader.forms.collate import check_stacks, collate
from lakehouse.loader.forms.columns import Form, gather
from lakehouse.loader.forms.decoding import HINT, decoded
from lakehouse.loader.forms.packing import DOCUMENTS
from lakehouse.loader.forms.room import room_for
from lakehouse.loader.order.permutation import derive_key
from lakehouse.loader.threads import ROWS_PER_TASK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    import numpy.typing as npt

    from lakehouse.loader.batches.reader import Portion, RowBlock
    from lakehouse.loader.forms.arrays import Arrays
    from lakehouse.loader.forms.columns import Column, Index
    from lakehouse.loader.forms.packing import Documents
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.order.plan import Plan
    from lakehouse.loader.stats import Meter

__all__ = ["Pipeline", "has_rows_to_make", "wants_rng"]

_T = TypeVar("_T")
_MOST_TOLD = 5
_MAX_SUBSTITUTES = 16  # a longer run of bad rows is no accident
_FOR_TRANSFORMS, _FOR_CLIPS = 2, 10  # what a key is for; 1 and 3 to 6 are orders
_MEDIA = (Form.IMAGES, Form.CLIPS)
_NO_IDS = np.empty(0, np.uint64)
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
        Reads what stands at a position, to take the place of a bad row.
    executor
        Where rows are decoded and transformed.
    meter
        Where it is counted.
    documents
        What sequences are cut from, where tokens are packed.
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
        documents: Documents | None = None,
    ) -> None:
        self._columns = columns if documents is None else documents.columns
        self._documents = documents
        self._options = options
        self._plan = plan
        self._arrays = arrays
        self._row_at = row_at
        self._executor = executor
        self._meter = meter
        self.by_row = _is_by_row(options)
        self._names_rows = self.by_row or any(column.form in _MEDIA for column in self._columns)
        self._wants_rng = wants_rng(options.transform)
        self._ragged = {column.name for column in self._columns if column.form is Form.RAGGED}
        self._num_told = 0
        self._changed: set[str] = set()  # of them, those that the transform makes something else of

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
        cells, ids = self._cells(block, index, portion.positions, named=self._names_rows)
        marks = {"_is_pad": portion.positions >= self._plan.num_rows} if mark_pads else {}
        if self.by_row:
            return self._arrays.handed_out(self._of_rows(cells, ids, portion.positions, marks))
        return self._arrays.handed_out(self._by_column(cells, ids, portion.positions) | self._wrapped(marks))

    def _of_rows(
        self,
        cells: dict[str, Any],
        ids: npt.NDArray[np.uint64],
        positions: npt.NDArray[np.int64],
        marks: dict[str, npt.NDArray[np.bool_]],
    ) -> Any:
        rows, bad = self._rows(cells, ids, positions)
        if self._options.on_bad_rows == "mask":
            marks["_is_bad"] = bad
        with self._meter.timed("decode_s"):
            if self._options.collate_fn is not None:
                return self._options.collate_fn(_marked(rows, marks) if marks else rows)
            return collate(rows, self._arrays, ids, self._ragged - self._changed) | self._wrapped(marks)

    def rows(self, portion: Portion) -> list[Mapping[str, Any]]:
        """Make the rows, decoded and transformed, and do not put them together."""
        return self._rows(*self._cells(*portion.rows(), portion.positions), portion.positions)[0]

    def _rows(
        self, cells: dict[str, Any], ids: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]
    ) -> tuple[list[Mapping[str, Any]], npt.NDArray[np.bool_]]:
        found = self._each(lambda i: self._row(cells, i, int(ids[i]), int(positions[i])), len(ids))
        return self._mended(found, positions)

    def _cells(
        self, block: RowBlock, index: Index, positions: npt.NDArray[np.int64], *, named: bool = True
    ) -> tuple[dict[str, Any], npt.NDArray[np.uint64]]:
        """Give the cells of each column, and what names their rows in messages, if one may be named."""
        if self._documents is None:
            cells = {column.name: self._gathered(column, block, index) for column in self._columns}
            return cells, block.row_ids[index] if named else _NO_IDS
        data = block.columns[self._columns[0].name]
        with self._meter.timed("decode_s"):
            cells = self._documents.cells(data, _numbers(index), block.row_ids, positions)
        return cells, cells[DOCUMENTS][:, 0].astype(np.uint64)

    def _gathered(self, column: Column, block: RowBlock, index: Index) -> Any:
        data = block.columns[column.name]
        if isinstance(data, reads.Located):
            return self._read(data, _numbers(index))
        with self._meter.timed("decode_s"):
            return self._taken(column, data, index, block)

    def _taken(self, column: Column, data: Any, index: Index, block: RowBlock) -> Any:
        try:
            return gather(column, data, index, block.row_ids)
        except DataError:
            if self._options.on_bad_rows == "raise":
                raise
        cells: list[Any] = []
        for each in _numbers(index):  # some of these rows are bad, and the others are not
            try:
                cells += list(gather(column, data, each[None], block.row_ids))
            except DataError as error:
                cells.append(error)
        return cells

    def _read(self, located: reads.Located, index: npt.NDArray[np.int64]) -> list[bytes] | list[str]:
        with self._meter.timed("read_s"):
            values = located.values(index)
        self._meter.add(nbytes_read=int(located.lengths[index].sum()))
        return values

    def _by_column(
        self, cells: dict[str, Any], ids: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        batch: dict[str, Any] = {}
        for column in self._columns:
            values = cells[column.name]
            if column.form in _MEDIA:
                batch |= self._media(column, values, ids, positions)
            elif column.form is Form.RAGGED:
                batch[column.name] = [self._arrays.wrap(value) for value in values]
            else:
                batch[column.name] = values if isinstance(values, list) else self._arrays.wrap(values)
        return batch

    def _media(
        self, column: Column, cells: list[Any], ids: npt.NDArray[np.uint64], positions: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Decode straight into the batch: pictures in a list first would lie in memory twice."""
        first = self._decoded(column, cells[0], int(ids[0]), int(positions[0]))
        together = {key: room_for(array, len(cells)) for key, array in first.items()}

        def place(i: int) -> None:
            arrays = self._decoded(column, cells[i], int(ids[i]), int(positions[i])) if i else first
            for key, array in arrays.items():
                check_stacks(key, first[key].shape, array.shape, ids[[0, i]])
                together[key][i] = array

        self._each(place, len(cells))
        return {key: self._arrays.wrap(array) for key, array in together.items()}

    def _decoded(self, column: Column, cell: Any, row_id: int, position: int) -> dict[str, npt.NDArray[Any]]:
        return decoded(column, cell, row_id, lambda: self._rng(_FOR_CLIPS, position), self._meter)

    def _wrapped(self, marks: dict[str, npt.NDArray[np.bool_]]) -> dict[str, Any]:
        return {name: self._arrays.wrap(mark) for name, mark in marks.items()}

    def _each(self, work: Callable[[int], _T], num_rows: int) -> list[_T]:
        def some(first: int) -> list[_T]:
            with self._meter.timed("decode_s"):
                return [work(i) for i in range(first, min(first + ROWS_PER_TASK, num_rows))]

        return [row for part in self._executor.map(some, range(0, num_rows, ROWS_PER_TASK)) for row in part]

    def _row(self, cells: dict[str, Any], i: int, row_id: int, position: int) -> Mapping[str, Any] | _Bad:
        try:
            row: dict[str, Any] = {}
            for column in self._columns:
                row |= self._cell(column, cells[column.name][i], row_id, position)
            return row if self._options.transform is None else self._transformed(row, position)
        except Exception as error:
            if not isinstance(error, LakehouseError):
                error.add_note(f"in the transform of row id {row_id}")
            if self._options.on_bad_rows == "raise" or isinstance(error, InvalidArgumentError | StorageError):
                raise
            return _Bad(row_id, error)

    def _cell(self, column: Column, cell: Any, row_id: int, position: int) -> dict[str, Any]:
        if isinstance(cell, DataError):
            raise cell
        arrays = self._decoded(column, cell, row_id, position) if column.form in _MEDIA else {column.name: cell}
        return {
            key: self._arrays.wrap(value) if isinstance(value, np.ndarray) else value for key, value in arrays.items()
        }

    def _transformed(self, row: dict[str, Any], position: int) -> Any:
        transform = self._options.transform
        assert transform is not None
        extra = {"rng": self._rng(_FOR_TRANSFORMS, position)} if self._wants_rng else {}
        given = {name: row[name] for name in self._ragged}  # the transform may change the row itself
        result = transform(row, **extra)
        if hasattr(result, "keys"):
            self._changed |= {name for name, value in given.items() if result.get(name) is not value}
        return result

    def _rng(self, purpose: int, position: int) -> np.random.Generator:
        """Depends on nothing but seed, epoch and position: the same after a resume and on any topology."""
        key = derive_key(self._plan.seed, self._plan.epoch, purpose)
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
            self._tell(row)
            masked = self._options.on_bad_rows == "mask" and good
            mended.append(good[0] if masked else self._substitute(row, position))
        return mended, bad

    def _tell(self, bad: _Bad) -> None:
        """Log the first bad rows of an epoch: where one in a hundred is, there are thousands."""
        self._num_told += 1
        if self._num_told <= _MOST_TOLD:
            text = str(bad.error).removesuffix(f"; {HINT}")
            more = "; the next ones are counted in stats(), not logged" if self._num_told == _MOST_TOLD else ""
            _logger.warning("bad row, row id %d: %s: %s%s", bad.row_id, type(bad.error).__name__, text, more)

    def _substitute(self, bad: _Bad, position: int) -> Mapping[str, Any]:
        """Take the next good row of the global order, whoever's it is: the same one on any topology."""
        for following in range(position + 1, position + 1 + _MAX_SUBSTITUTES):
            block = self._row_at(following)
            cells, ids = self._cells(block, block.index(0), np.array([following]))
            row = self._row(cells, 0, int(ids[0]), following)
            if not isinstance(row, _Bad):
                return row
        raise bad.error


def _marked(rows: Sequence[Any], marks: Mapping[str, npt.NDArray[np.bool_]]) -> list[dict[str, Any]]:
    """Put marks beside the names of rows, for a collate_fn of the user's."""
    for row in rows:
        if not hasattr(row, "keys"):
            raise InvalidArgumentError(
                f"the transform returned {type(row).__name__}, which has no place for {' and '.join(marks)}; return "
                "a mapping of names to values, or choose another on_bad_rows and drop_last"
            )
    return [{**row, **{key: mark[i] for key, mark in marks.items()}} for i, row in enumerate(rows)]


def _numbers(index: Index) -> npt.NDArray[np.int64]:
    return np.arange(index.start, index.stop) if isinstance(index, slice) else index


def has_rows_to_make(columns: Sequence[Column], options: LoaderOptions) -> bool:
    """Whether rows are decoded or transformed one by one, in threads of their own."""
    return _is_by_row(options) or any(column.form in _MEDIA for column in columns)


def _is_by_row(options: LoaderOptions) -> bool:
    return bool(options.transform or options.collate_fn) or options.on_bad_rows != "raise"


def wants_rng(transform: Callable[..., Any] | None) -> bool:
    """Whether a transform has a parameter for random numbers."""
    if transform is None:
        return False
    try:
        return "rng" in inspect.signature(transform).parameters
    except ValueError:  # a builtin that tells no signature
        return False
