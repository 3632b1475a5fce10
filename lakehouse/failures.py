"""Errors as data: which row or file failed, where, why, and in which run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.location import Location

_SUFFIX = ".arrow"
_UNSETTLED = ".unsettled"  # of a run whose failures are recorded, and those it makes void may be there still


@dataclass(frozen=True)
class RowFailure:
    """One row that could not be stored, or one cell that could not be computed.

    Parameters
    ----------
    source
        What failed, as the user knows it: a file's URI, a key, ``row 17``.
    error
        The kind of error, a class name.
    message
        What went wrong, with the user's own line first where there is one.
    column
        The column it happened in; None if the row as a whole is meant.
    row_id
        The row's id, if it is in the table.
    attempts
        Calls of the function that failed on it, in this computation.
    computation
        An id of it; recorded again after a kill, its calls count once.
    """

    source: str
    error: str
    message: str
    column: str | None = None
    row_id: int | None = None
    attempts: int = 1
    computation: str | None = None


SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.uint64()),
        pa.field("key", pa.string()),
        pa.field("column", pa.string()),
        pa.field("error", pa.string()),
        pa.field("message", pa.string()),
        pa.field("attempt", pa.int32()),
        pa.field("run", pa.string()),
    ]
)
_STORED = SCHEMA.append(pa.field("computation", pa.string()))


def record(
    lake: Location, table: str, run: str, failures: Iterable[RowFailure], before: Mapping[int, int] | None = None
) -> None:
    """Write the failures of a run.

    Parameters
    ----------
    lake, table
        Whose.
    run
        An id without slashes, in order of time; the failures of runs that begin alike can be taken back by `settle`.
    failures
        What went wrong.
    before
        How often each row, by its id, failed before.
    """
    rows = [
        {
            "row_id": f.row_id,
            "key": f.source,
            "column": f.column,
            "error": f.error,
            "message": f.message,
            "attempt": f.attempts + (before.get(f.row_id, 0) if before and f.row_id is not None else 0),
            "run": run,
            "computation": f.computation,
        }
        for f in failures
    ]
    if rows:
        _write(_folder(lake, table), f"{run}{_SUFFIX}", pa.Table.from_pylist(rows, schema=_STORED))


def record_anew(lake: Location, table: str, run: str, failures: Iterable[RowFailure], *, others: bool) -> None:
    """Write what failed of a source in place of what did when it was read before; attempts are counted on.

    Parameters
    ----------
    lake, table, run
        As in `record`, the same for the same source.
    failures
        All that failed; what was recorded and is not among them did not fail this time.
    others
        Whether those are recorded too that were not before.
    """
    part = _read(_folder(lake, table), f"{run}{_SUFFIX}")
    before = {} if part is None else {row["key"]: row for row in part.to_pylist()}
    told = []
    for failure in failures:
        earlier = before.get(failure.source)
        if earlier is None and others:
            told.append(failure)
        elif earlier is not None:
            again = failure.attempts if earlier["computation"] != failure.computation else 0
            told.append(replace(failure, attempts=earlier["attempt"] + again))
    record(lake, table, run, told)
    if before and not told:
        _folder(lake, table).delete(f"{run}{_SUFFIX}")


def read(lake: Location, table: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read what was recorded for a table.

    Returns
    -------
    pyarrow.Table
        ``row_id, key, column, error, message, attempt, run``; `key` is the source where no row was stored.
    """
    parts = [part for _, part in _parts(_folder(lake, table))]
    found = pa.concat_tables([_STORED.empty_table(), *parts]).select(SCHEMA.names)
    if columns is None:
        return found
    return found.filter(pc.is_in(found["column"], value_set=pa.array(columns, pa.string())))


def attempts(lake: Location, table: str, prefix: str, computations: Mapping[int, str | None]) -> dict[int, int]:
    """Return how often rows failed before, by their ids, as far as runs that begin with `prefix` recorded it.

    Parameters
    ----------
    lake, table, prefix
        Where it is recorded.
    computations
        The rows, each with the computation that is not "before".
    """
    row_ids = pa.array(computations, pa.uint64())
    found: dict[int, int] = {}
    for _, part in _parts(_folder(lake, table), prefix):
        for row in part.filter(pc.is_in(part["row_id"], value_set=row_ids)).to_pylist():
            row_id, computation = row["row_id"], row["computation"]
            if computation is None or computation != computations[row_id]:
                found[row_id] = max(row["attempt"], found.get(row_id, 0))
    return found


def has_any(lake: Location, table: str, prefix: str, *, but: str) -> bool:
    """Whether failures of runs that begin with `prefix` are recorded, beside those of one run."""
    names = _folder(lake, table).listdir()
    return any(name.startswith(prefix) and name.endswith(_SUFFIX) and name != but + _SUFFIX for name in names)


def begin_settling(lake: Location, table: str, run: str) -> None:
    """Note that a run is about to commit rows that others failed on, so that a kill before `settle` is found out."""
    _folder(lake, table).write_bytes(f"{run}{_UNSETTLED}", b"")


def settle(lake: Location, table: str, prefix: str, row_ids: npt.NDArray[np.uint64], *, but: str) -> None:
    """Take back the failures of rows that were computed again.

    Parameters
    ----------
    lake, table
        Whose.
    prefix
        Runs that begin so; nobody else may record or settle such runs at the same time.
    row_ids
        The rows.
    but
        The run that computed them again.
    """
    folder = _folder(lake, table)
    for name, part in _parts(folder, prefix):
        if name != but + _SUFFIX:
            _leave(folder, name, part, ~np.isin(part["row_id"], row_ids))
    folder.delete(f"{but}{_UNSETTLED}")


def settle_killed(
    lake: Location, table: str, prefix: str, are_filled: Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.bool_]]
) -> None:
    """Do what runs that were killed after `begin_settling` did not come to.

    Parameters
    ----------
    lake, table, prefix
        As in `settle`.
    are_filled
        Tells of rows whether they hold a value now. What is recorded of these is void; of others the last counts.
    """
    folder = _folder(lake, table)
    unsettled = [name for name in folder.listdir() if name.startswith(prefix) and name.endswith(_UNSETTLED)]
    if not unsettled:
        return
    seen = np.empty(0, np.uint64)
    for name, part in sorted(_parts(folder, prefix), key=lambda part: part[0], reverse=True):
        ids = np.asarray(part["row_id"])
        _leave(folder, name, part, ~(np.isin(ids, seen) | are_filled(ids)))
        seen = np.concatenate([seen, ids])
    for name in unsettled:
        folder.delete(name)


def _parts(folder: Location, prefix: str = "") -> Iterator[tuple[str, pa.Table]]:
    """Yield what runs that begin with `prefix` recorded, by the names of the files."""
    for name in folder.listdir():
        if name.startswith(prefix) and name.endswith(_SUFFIX) and (part := _read(folder, name)) is not None:
            yield name, part


def _leave(folder: Location, name: str, part: pa.Table, stays: npt.NDArray[np.bool_]) -> None:
    if not stays.any():
        folder.delete(name)
    elif not stays.all():
        _write(folder, name, part.filter(pa.array(stays)))


def forget(lake: Location, table: str, prefix: str = "") -> None:
    """Remove what was recorded for a table, or for runs that begin with `prefix`."""
    folder = _folder(lake, table)
    for name in folder.listdir():
        if name.startswith(prefix):
            folder.delete(name)


def _folder(lake: Location, table: str) -> Location:
    return layout.side(lake).child("failures").child(table)


def _write(folder: Location, name: str, part: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _STORED) as writer:
        writer.write_table(part)
    folder.write_bytes(name, sink.getvalue().to_pybytes())


def _read(folder: Location, name: str) -> pa.Table | None:
    try:
        return pa.ipc.open_file(pa.py_buffer(folder.read_bytes(name))).read_all()
    except FileNotFoundError:  # settled since it was listed
        return None
