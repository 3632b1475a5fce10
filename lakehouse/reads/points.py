"""Rows by id, position or key, order and repeats kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import types
from lakehouse.errors import InvalidArgumentError, RowNotFoundError, translated
from lakehouse.media import sizes
from lakehouse.media.blobs import read_blobs
from lakehouse.media.sizes import MAX_MEDIA_NBYTES
from lakehouse.reads.masked import is_worth_a_scan, masked
from lakehouse.reads.places import places
from lakehouse.reads.rowids import ROW_ID, row_ids_at, row_ids_of_keys, whole_numbers
from lakehouse.reads.scans import recoded, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.reads.located import Located
    from lakehouse.reads.rowids import RowIds
    from lakehouse.snapshot import Snapshot

_ADDRESS = "_rowaddr"
# Of 65,536 rows of 16 bytes, strewn over 5 million, one take held 106 MB, and 64 of them 13, for a tenth more CPU.
_STREWN_ROWS, _STREWN = 1 << 10, 4


def take_row_ids(
    snapshot: Snapshot,
    row_ids: Sequence[int] | RowIds,
    columns: Iterable[str] | None = None,
    *,
    max_media_nbytes: int | None = MAX_MEDIA_NBYTES,
) -> pa.Table:
    """Read rows by row id, order and repeats kept.

    Parameters
    ----------
    snapshot
        The version to read.
    row_ids
        Whole numbers, as `row_ids` and ``_rowid`` give them.
    columns
        Names; None means all.
    max_media_nbytes
        Refuse to read more media than this; None for no limit.

    Raises
    ------
    RowNotFoundError
        An id that is not in this version.
    ResourceLimitError
        The media of these rows are larger than `max_media_nbytes`.
    """
    names, ids = snapshot.columns(columns), _checked(snapshot, row_ids)
    if len(ids) == 0:
        return schema_of(snapshot, names).empty_table()
    sizes.check_rows(snapshot, names, ids, max_media_nbytes)
    read, located = _read(snapshot, ids, names, more_follow=False)
    if not names:
        return pa.table({ROW_ID: ids}).select([])
    return finished(read | _read_whole(snapshot, ids, located), snapshot, names)


def locate_row_ids(
    snapshot: Snapshot, row_ids: Sequence[int] | RowIds, columns: Iterable[str] | None = None
) -> tuple[pa.Table, dict[str, Located]]:
    """Read rows by row id as `take_row_ids` does, of values that can be found no more than where they lie.

    Read one by one when they are wanted, scattered values of 0.3 to 3 KB cost 60 to 40 % of the CPU of a copy through
    one buffer.

    Returns
    -------
    table, located
        The columns that were read, and where the values of the others are, by name.

    Raises
    ------
    RowNotFoundError
        An id that is not in this version.
    """
    names, ids = snapshot.columns(columns), _checked(snapshot, row_ids)
    if len(ids) == 0:
        return schema_of(snapshot, names).empty_table(), {}
    read, located = _read(snapshot, ids, names, more_follow=True)
    return finished(read, snapshot, [name for name in names if name not in located]), located


def _checked(snapshot: Snapshot, row_ids: Sequence[int] | RowIds) -> RowIds:
    given = whole_numbers(row_ids, "row ids")
    if (given < 0).any():
        raise RowNotFoundError(f"no row of {snapshot.name!r} has the row id {given.min()}; they are 0 or more")
    return given.astype(np.uint64)


def _read(
    snapshot: Snapshot, ids: RowIds, names: Sequence[str], *, more_follow: bool
) -> tuple[dict[str, pa.ChunkedArray], dict[str, Located]]:
    """Read what Lance has to read, and find the rest."""
    blobs = [name for name in names if types.is_blob(snapshot.schema.field(name))]
    placed = places(snapshot, (name for name in names if name not in blobs), len(ids))
    plain = [name for name in names if name not in blobs and name not in placed]
    # Asked for without a plain column, Lance returns no rows at all: then another one stands in.
    table = _taken(snapshot, ids, [*plain, _ADDRESS] if placed else plain or [ROW_ID])
    read = {name: table[name] for name in plain}
    located = {}
    for name, where in placed.items():
        found = where.locate(ids, np.asarray(table[_ADDRESS], np.uint64), more_follow=more_follow)
        if found is None:
            read[name] = _taken(snapshot, ids, [name])[name]
        else:
            located[name] = found
    return read | {name: pa.chunked_array([_blobs(snapshot, name, ids)]) for name in blobs}, located


def _read_whole(snapshot: Snapshot, ids: RowIds, located: dict[str, Located]) -> dict[str, pa.ChunkedArray]:
    read = {}
    for name, where in located.items():
        cells = where.array()
        read[name] = _taken(snapshot, ids, [name])[name] if cells is None else pa.chunked_array([cells])
    return read


def _taken(snapshot: Snapshot, ids: RowIds, columns: list[str]) -> pa.Table:
    with translated(f"reading {len(ids)} rows of {snapshot.name!r}"):
        if is_worth_a_scan(snapshot, len(ids)):
            table = masked(snapshot, ids, columns)
        else:
            take = snapshot.dataset._take_rows  # noqa: SLF001 - the only take by row id
            table = pa.concat_tables([take(part, columns=columns) for part in _parts(snapshot, ids)])
    if table is None or table.num_rows != len(ids):
        raise _missing_rows(snapshot, ids)
    return table


def _parts(snapshot: Snapshot, ids: RowIds) -> list[RowIds]:
    """Cut ids that are in order, so that each take stays in a stretch of the table: Lance holds all pages it touches.

    Not in a bucket, where reads that are under way together hide each other's latency.
    """
    num_parts = len(ids) // _STREWN_ROWS
    lies_strewn = num_parts > 1 and int(ids[-1]) - int(ids[0]) > _STREWN * len(ids)
    if lies_strewn and snapshot.location.is_local and (ids[1:] > ids[:-1]).all():
        return np.array_split(ids, num_parts)
    return [ids]


def take(
    snapshot: Snapshot,
    offsets: Sequence[int] | npt.NDArray[np.int64],
    columns: Iterable[str] | None = None,
    **limits: int | None,
) -> pa.Table:
    """Read rows by their position in the table, order and repeats kept.

    Raises
    ------
    RowNotFoundError
        An offset outside the table.
    """
    return take_row_ids(snapshot, row_ids_at(snapshot, offsets), columns, **limits)


def get(
    snapshot: Snapshot, keys: Sequence[Any], columns: Iterable[str] | None = None, **limits: int | None
) -> pa.Table:
    """Read rows by the schema's key, order and repeats kept.

    Raises
    ------
    RowNotFoundError
        Keys that are not in the table; all are named, the first ten in words.
    SchemaError
        The table has no key.
    """
    return take_row_ids(snapshot, row_ids_of_keys(snapshot, keys), columns, **limits)


def head(snapshot: Snapshot, n: int = 5, columns: Iterable[str] | None = None) -> pa.Table:
    """Read the first rows of the table."""
    return take(snapshot, range(min(_count(n), snapshot.num_rows)), columns)


def sample(snapshot: Snapshot, n: int, seed: int | None = None, columns: Iterable[str] | None = None) -> pa.Table:
    """Read `n` rows drawn without repeats, in table order."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(snapshot.num_rows, size=min(_count(n), snapshot.num_rows), replace=False)
    return take(snapshot, np.sort(drawn), columns)


def _count(n: int) -> int:
    if n < 0:
        raise InvalidArgumentError(f"{n} rows asked for; the number must be 0 or more")
    return n


def _missing_rows(snapshot: Snapshot, ids: RowIds) -> RowNotFoundError:
    with translated(f"looking up row ids of {snapshot.name!r}"):
        there = snapshot.dataset._take_rows(np.unique(ids), columns=[ROW_ID])[ROW_ID]  # noqa: SLF001 - as above
    missing = np.setdiff1d(ids, np.asarray(there))
    named = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
    return RowNotFoundError(
        f"no row of {snapshot.name!r} at version {snapshot.version} has the row id {named} "
        f"({len(missing)} of {len(ids)} missing)"
    )


def _blobs(snapshot: Snapshot, column: str, ids: RowIds) -> pa.Array:
    """Read each blob once, however often it is asked for."""
    unique, place = np.unique(ids, return_inverse=True)
    if len(unique) == len(ids):
        return read_blobs(snapshot, column, ids)
    return read_blobs(snapshot, column, unique).take(pa.array(place))


def finished(read: Mapping[str, pa.ChunkedArray] | pa.Table, snapshot: Snapshot, names: Sequence[str]) -> pa.Table:
    """Give columns as Lance read them their logical types."""
    schema = schema_of(snapshot, names)
    columns = [
        pa.chunked_array([recoded(chunk, field) for chunk in read[field.name].chunks], field.type) for field in schema
    ]
    return pa.table(columns, schema=schema).unify_dictionaries()
