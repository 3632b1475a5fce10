"""Run a `UDF` over the Arrow arrays of one batch: inputs in the form asked for, results as arrays, errors as data."""

from __future__ import annotations

import random
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import BackfillError, MediaError, MissingDependencyError
from lakehouse.features.udfs.codehash import is_installed
from lakehouse.features.udfs.inputs import check_form, reader, sequence
from lakehouse.features.udfs.results import Converted, packing, to_arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.features.udfs.inputs import Column
    from lakehouse.features.udfs.udf import UDF

__all__ = ["CellError", "Outcome", "build", "call_rows"]

# Decoded pictures are about 36 MB each at 12 megapixels, so 64 of them are 2.3 GB at the very worst.
_DECODED_ROWS = 64
# Calls in all where the function raises what it names in `retry_on`: a server that restarts, a limit of requests. The
# pauses are random below a bound that doubles each time, so that workers do not come back all at once.
_CALLS = 3
_LONGEST_FIRST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class CellError:
    """Why one row has no value.

    Attributes
    ----------
    row_index
        Position in the batch.
    error
        Type of the exception.
    message
        The user's own line first: ``features.py:12 in phash: ZeroDivisionError: division by zero``.
    attempts
        Calls with this row that raised.
    """

    row_index: int
    error: str
    message: str
    attempts: int = 1


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """What a function gave for one batch.

    Attributes
    ----------
    arrays
        By output name, of the declared types, NULL where a row failed.
    failed
        Bool, shape ``(num_rows,)``.
    errors
        One for each failed row, in order.
    """

    arrays: dict[str, pa.Array]
    failed: npt.NDArray[np.bool_]
    errors: list[CellError]


def call_rows(udf: UDF, columns: Mapping[str, Column | pa.ChunkedArray]) -> Outcome:
    """Compute the outputs of `udf` for the rows of one batch.

    An exception costs its row only: a batch that raises is halved until the rows at fault stand alone. What the
    function names in `retry_on` is tried again before that: three calls in all, after random pauses of at most 1 and
    2 seconds. The halves of a batch are called once each, or an outage would cost a pause for every row.

    Parameters
    ----------
    udf
        The function; an instance of a class is built at the first call.
    columns
        The inputs by name, equally long; media as binary arrays, or as `inputs.Shared` where other functions take them
        too.

    Raises
    ------
    BackfillError
        The class could not be instantiated.
    InvalidArgumentError
        A column cannot be handed over in the form its parameter is annotated with.
    MissingDependencyError
        A medium needs a package that is not installed.
    """
    arrays = [_one_array(columns[name]) for name in udf.inputs]
    for name, array, kind in zip(udf.inputs, arrays, udf.input_kinds, strict=True):
        check_form(name, array.type, kind, batch=udf.batch)
    num_rows = len(arrays[0])
    rows = _called(udf, arrays, num_rows)
    if len(rows) < num_rows:
        arrays = [array.take(pa.array(rows)) for array in arrays]
    run = _Run(udf, packing(udf, build(udf)), len(rows))
    if udf.batch:
        run.in_batches(arrays)
    else:
        run.row_by_row(arrays)
    return _outcome(udf, run, rows, num_rows)


class _Run:
    """The calls for the rows that are not skipped; positions count those rows."""

    def __init__(self, udf: UDF, function: Callable[..., Any], num_rows: int) -> None:
        self.udf, self.function, self.num_rows = udf, function, num_rows
        self.pieces: list[tuple[npt.NDArray[np.int64], Converted]] = []
        self.errors: dict[int, tuple[str, str, int]] = {}

    def row_by_row(self, arrays: Sequence[Column]) -> None:
        readers = [reader(array, kind) for array, kind in zip(arrays, self.udf.input_kinds, strict=True)]
        function, values = self.function, []

        def call(row: int) -> Any:
            return function(*[read(row) for read in readers])

        for row in range(self.num_rows):
            try:
                values.append(function(*[read(row) for read in readers]))  # not `call`: a tenth of a microsecond
            except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                value, last, attempts = _retried(error, partial(call, row), self.udf.retry_on)
                values.append(value)
                if last is not None:
                    self.fail(row, last, attempts)
        self.keep(np.arange(self.num_rows), to_arrays(self.udf, values))

    def in_batches(self, arrays: Sequence[Column]) -> None:
        decodes = any(kind.form not in ("value", "arrow", "bytes") for kind in self.udf.input_kinds)
        size = self.udf.batch_size or (_DECODED_ROWS if decodes else max(self.num_rows, 1))
        for start in range(0, self.num_rows, size):
            rows = np.arange(start, min(start + size, self.num_rows))
            given = [array[start : start + size] for array in arrays]
            arguments: list[Any] = []
            for array, kind in zip(given, self.udf.input_kinds, strict=True):
                items, broken = sequence(array, kind)
                arguments.append(items)
                for at, error in broken.items():
                    self.fail(int(rows[at]), error)
            if self.errors:
                good = np.array([row not in self.errors for row in rows.tolist()])
                rows, arguments = rows[good], [_pick(items, np.flatnonzero(good)) for items in arguments]
            self.call(rows, arguments)

    def call(self, rows: npt.NDArray[np.int64], arguments: Sequence[Any], attempts: int = 0) -> None:
        """Call the function on these rows, and again on either half where it raises."""
        if len(rows) == 0:
            return
        last: Exception | None = None
        try:
            result = self.function(*arguments)
        except Exception as error:  # noqa: BLE001 - the user's function may raise anything
            retry_on = () if attempts else self.udf.retry_on
            result, last, more = _retried(error, partial(self.function, *arguments), retry_on)
            attempts += more
        if last is None:
            self.keep(rows, to_arrays(self.udf, result, num_rows=len(rows)))
        elif len(rows) == 1:
            self.fail(int(rows[0]), last, attempts)
        else:
            half = len(rows) // 2
            self.call(rows[:half], [items[:half] for items in arguments], attempts)
            self.call(rows[half:], [items[half:] for items in arguments], attempts)

    def keep(self, rows: npt.NDArray[np.int64], converted: Converted) -> None:
        for at, error in converted.errors.items():
            self.errors.setdefault(int(rows[at]), ("TypeError", f"{self.udf.name}: {error}", 1))
        self.pieces.append((rows, converted))

    def fail(self, row: int, error: Exception, attempts: int = 1) -> None:
        if isinstance(error, MissingDependencyError):
            raise error
        self.errors.setdefault(row, (type(error).__name__, describe(error), attempts))


def _retried(
    error: Exception, call: Callable[[], Any], retry_on: tuple[type[Exception], ...]
) -> tuple[Any, Exception | None, int]:
    """Call again while it raises what is worth that; return the result or the last error, and the number of calls."""
    attempts = 1
    while isinstance(error, retry_on) and attempts < _CALLS:
        time.sleep(random.uniform(0, _LONGEST_FIRST_WAIT_S * 2 ** (attempts - 1)))  # noqa: S311 - no secret
        attempts += 1
        try:
            return call(), None, attempts
        except Exception as again:  # noqa: BLE001 - the user's function may raise anything
            error = again
    return None, error, attempts


def _outcome(udf: UDF, run: _Run, rows: npt.NDArray[np.int64], num_rows: int) -> Outcome:
    parts = [converted.arrays for _, converted in run.pieces]
    joined = [pa.concat_arrays(each) if len(each) > 1 else each[0] for each in zip(*parts, strict=True)]
    joined = joined or [pa.array([], data_type) for data_type in udf.outputs.values()]
    failed = np.zeros(num_rows, dtype=np.bool_)
    if run.errors or sum(len(piece) for piece, _ in run.pieces) < num_rows:
        failed[rows[list(run.errors)]] = True
        place = np.full(num_rows, -1)
        at = np.concatenate([rows[:0], *(rows[piece] for piece, _ in run.pieces)])
        place[at] = np.arange(len(at))
        place[failed] = -1
        joined = [array.take(pa.array(place, mask=place < 0)) for array in joined]
    errors = [CellError(int(rows[at]), *run.errors[at]) for at in sorted(run.errors)]
    return Outcome(dict(zip(udf.outputs, joined, strict=True)), failed, errors)


def build(udf: UDF) -> Callable[..., Any]:
    """Return what is called for the rows, the instance of a class built if it is not yet.

    Raises
    ------
    BackfillError
        The class could not be instantiated.
    """
    try:
        return udf.function
    except Exception as error:
        raise BackfillError(f"{udf.name} could not be built: {describe(error)}") from error


def _one_array(array: Column | pa.ChunkedArray) -> Column:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _called(udf: UDF, arrays: Sequence[Column], num_rows: int) -> npt.NDArray[np.int64]:
    """Return the rows that the function is called with: those without a NULL that it does not take."""
    strict = [a for a, kind in zip(arrays, udf.input_kinds, strict=True) if not kind.takes_null and a.null_count]
    if not strict:
        return np.arange(num_rows)
    return np.flatnonzero(~np.any([np.asarray(array.is_null()) for array in strict], axis=0))


def _pick(items: Any, at: npt.NDArray[np.int64]) -> Any:
    if isinstance(items, list):
        return [items[i] for i in at.tolist()]
    return items.take(pa.array(at)) if isinstance(items, pa.Array) else items[at]


_PACKAGE = str(Path(__file__).parents[1])


def describe(error: BaseException) -> str:
    """Say what went wrong with the user's own line first, and where below it was raised."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_PACKAGE)]
    own = [frame for frame in frames if not is_installed(frame.filename)]
    if isinstance(error, MediaError) or not frames:
        return what
    line = (own or frames)[-1]
    text = f"{_place(line)}: {what}"
    return text if line is frames[-1] else f"{text} (raised at {_place(frames[-1])})"


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"
