"""Point reads and scans of one snapshot, with media as bytes.

Rows are read by row id. Lance's `take(offsets)` costs 250 to 2,000 times as much CPU after a small delete, drops
out-of-range offsets and panics on an unknown column, so offsets are mapped to row ids
here, names are checked first, and every read counts what came back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import DuplicateKeyError, InvalidArgumentError, RowNotFoundError, SchemaError, translated
from lakehouse.media import sizes
from lakehouse.media.blobs import read_blobs
from lakehouse.media.sizes import MAX_MEDIA_NBYTES, column_nbytes, rows_per_batch
from lakehouse.where import Where, any_of, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakehouse.snapshot import Snapshot

RowIds = npt.NDArray[np.uint64]
ROW_ID = "_rowid"
_KEPT_ROW_IDS = 1 << 23  # 64 MB; a snapshot remembers the row ids of fragments it was asked about

_row_ids: WeakKeyDictionary[Snapshot, dict[int, RowIds]] = WeakKeyDictionary()


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
    names = snapshot.columns(columns)
    ids = _whole_numbers(row_ids, "row ids").astype(np.uint64)
    if len(ids) == 0:
        return _schema_of(snapshot, names).empty_table()
    sizes.check_rows(snapshot, names, ids, max_media_nbytes)
    blobs = [name for name in names if types.is_blob(snapshot.schema.field(name))]
    plain = [name for name in names if name not in blobs]
    with translated(f"reading {len(ids)} rows of {snapshot.name!r}"):
        # Asked for without a plain column, Lance returns no rows at all: then the row id stands in.
        table = snapshot.dataset._take_rows(ids, columns=plain or [ROW_ID])  # noqa: SLF001 - the only take by row id
    if table.num_rows != len(ids):
        raise _missing_rows(snapshot, ids)
    columns_read = {name: table[name] for name in plain}
    for name in blobs:
        columns_read[name] = pa.chunked_array([read_blobs(snapshot, name, ids)])
    if not names:
        return table.select([])
    return _finished(pa.table([columns_read[name] for name in names], names=names), snapshot, names)


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


def scan(
    snapshot: Snapshot,
    columns: Iterable[str] | None = None,
    where: Where | None = None,
    *,
    batch_size: int | None = None,
    with_row_id: bool = False,
) -> pa.RecordBatchReader:
    """Stream columns of the rows that match, in table order.

    Parameters
    ----------
    snapshot
        The version to read.
    columns
        Names; None means all.
    where
        A predicate of Lance's SQL.
    batch_size
        Rows a batch; None means 8,192, fewer where media are among the columns.
    with_row_id
        Append the column ``_rowid``.
    """
    names = snapshot.columns(columns)
    schema = _schema_of(snapshot, names)
    if with_row_id:
        schema = schema.append(pa.field(ROW_ID, pa.uint64()))
    rows = rows_per_batch(snapshot, names) if batch_size is None else batch_size
    if rows < 1:
        raise InvalidArgumentError(f"batch_size is {batch_size}; it is a number of rows, 1 or more")
    with translated(f"scanning {snapshot.name!r}" + (f" where {where!r}" if where else "")):
        batches = snapshot.dataset.scanner(
            columns=names,
            filter=render(where),
            with_row_id=with_row_id or not names,
            batch_size=rows,
            batch_readahead=4,
            blob_handling="all_binary",
        ).to_reader()
    # Behind a filter Lance puts batches together beyond the size asked for.
    cut = (batch.slice(at, rows) for batch in batches for at in range(0, batch.num_rows, rows))
    return pa.RecordBatchReader.from_batches(schema, _batches(cut, snapshot, schema))


def scan_fragment(
    snapshot: Snapshot, fragment: Any, columns: Sequence[str], batch_size: int
) -> Iterator[pa.RecordBatch]:
    """Stream columns of one fragment, rows in order, media as bytes."""
    schema = _schema_of(snapshot, columns)
    with translated(f"scanning {snapshot.name!r}"):
        batches = snapshot.dataset.scanner(
            columns=list(columns),
            fragments=[fragment],
            batch_size=batch_size,
            batch_readahead=2,
            scan_in_order=True,
            blob_handling="all_binary",
        ).to_batches()
        yield from _batches(batches, snapshot, schema)


def to_table(
    snapshot: Snapshot,
    columns: Iterable[str] | None = None,
    where: Where | None = None,
    *,
    with_row_id: bool = False,
    max_media_nbytes: int | None = MAX_MEDIA_NBYTES,
) -> pa.Table:
    """Read columns of the rows that match as one Arrow table.

    Raises
    ------
    ResourceLimitError
        The media are larger than `max_media_nbytes`.
    """
    names = snapshot.columns(columns)
    sizes.check_scan(snapshot, names, where, max_media_nbytes)
    with translated(f"scanning {snapshot.name!r}"):
        table = scan(snapshot, names, where, with_row_id=with_row_id).read_all()
    return table.unify_dictionaries()


def count_rows(snapshot: Snapshot, where: Where | None = None) -> int:
    """Count the rows that match; without a predicate from the manifest alone."""
    if where is None:
        return snapshot.num_rows
    with translated(f"counting rows of {snapshot.name!r} where {where!r}"):
        return int(snapshot.dataset.count_rows(filter=render(where)))


def row_ids(snapshot: Snapshot, where: Where | None = None) -> RowIds:
    """Return the ids of the rows that match, in table order; uint64, shape ``(num_rows,)``."""
    with translated(f"selecting rows of {snapshot.name!r}" + (f" where {where!r}" if where else "")):
        table = snapshot.dataset.scanner(columns=[], filter=render(where), with_row_id=True).to_table()
    return np.asarray(table[ROW_ID], dtype=np.uint64)


def row_ids_at(snapshot: Snapshot, offsets: Sequence[int] | npt.NDArray[np.int64]) -> RowIds:
    """Map positions in the table to row ids.

    The row ids of the touched fragments are read once a snapshot: after a delete that costs 15 to 30 ns a row.
    """
    at = _whole_numbers(offsets, "offsets")
    outside = at[(at < 0) | (at >= snapshot.num_rows)]
    if len(outside):
        raise RowNotFoundError(
            f"no row at offset {outside[0]}; {snapshot.name!r} has {snapshot.num_rows} rows, counted from 0"
        )
    fragments = snapshot.dataset.get_fragments()
    ends = np.cumsum([fragment.count_rows() for fragment in fragments])
    owner = np.searchsorted(ends, at, side="right")
    found = np.empty(len(at), dtype=np.uint64)
    for number in np.unique(owner):
        start = 0 if number == 0 else ends[number - 1]
        inside = owner == number
        found[inside] = _fragment_row_ids(snapshot, fragments[number])[(at[inside] - start).astype(np.int64)]
    return found


def row_ids_of_keys(snapshot: Snapshot, keys: Sequence[Any]) -> RowIds:
    """Map keys to row ids, through the key's index where there is one."""
    key = snapshot.key
    if key is None:
        raise SchemaError(f"{snapshot.name!r} has no key; read by offset with take(), or by row id with take_row_ids()")
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence | np.ndarray | pa.Array | pa.ChunkedArray):
        raise InvalidArgumentError(f"get() takes a list of keys; for one row use t[{keys!r}]")
    wanted = _as_keys(keys, snapshot.schema.field(key))
    if len(wanted) == 0:
        return np.empty(0, dtype=np.uint64)
    with translated(f"looking up {len(wanted)} keys of {snapshot.name!r}"):
        found = snapshot.dataset.scanner(
            columns=[key], filter=any_of(key, wanted.unique().to_pylist()), with_row_id=True
        ).to_table()
    there = found[key].combine_chunks()
    if len(there) != len(there.unique()):
        raise DuplicateKeyError(
            f"{len(there) - len(there.unique())} of these keys are more than once in {snapshot.name!r}; "
            "t.to_arrow(where=…) shows them"
        )
    position = pc.index_in(wanted, value_set=there)
    if position.null_count:
        missing = wanted.filter(position.is_null()).unique().to_pylist()
        named = ", ".join(repr(k) for k in missing[:10]) + (" …" if len(missing) > 10 else "")
        raise RowNotFoundError(
            f"no row of {snapshot.name!r} has the key {named} ({len(missing)} of {len(wanted)} keys missing)"
        )
    ids: RowIds = np.asarray(found[ROW_ID], dtype=np.uint64)[np.asarray(position)]
    return ids


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


def _whole_numbers(values: Any, what: str) -> npt.NDArray[Any]:
    array = np.asarray(values).reshape(-1)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidArgumentError(f"{what} are whole numbers, not {array.dtype}; for keys use get()")
    return array


def _as_keys(keys: Any, field: pa.Field) -> pa.Array:
    values = keys.to_pylist() if hasattr(keys, "to_pylist") else list(keys)
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"the key {field.name!r} is {field.type}: {error}") from error


def _missing_rows(snapshot: Snapshot, ids: RowIds) -> RowNotFoundError:
    with translated(f"looking up row ids of {snapshot.name!r}"):
        there = snapshot.dataset._take_rows(np.unique(ids), columns=[ROW_ID])[ROW_ID]  # noqa: SLF001 - as above
    missing = np.setdiff1d(ids, np.asarray(there))
    named = ", ".join(map(str, missing[:10])) + (" …" if len(missing) > 10 else "")
    return RowNotFoundError(
        f"no row of {snapshot.name!r} at version {snapshot.version} has the row id {named} "
        f"({len(missing)} of {len(ids)} missing)"
    )


def _fragment_row_ids(snapshot: Snapshot, fragment: Any) -> RowIds:
    kept = _row_ids.setdefault(snapshot, {})
    found = kept.get(fragment.fragment_id)
    if found is None:
        with translated(f"reading row ids of {snapshot.name!r}"):
            table = snapshot.dataset.scanner(columns=[], fragments=[fragment], with_row_id=True).to_table()
        found = np.asarray(table[ROW_ID], dtype=np.uint64)
        if sum(map(len, kept.values())) + len(found) <= _KEPT_ROW_IDS:
            kept[fragment.fragment_id] = found
    return found


def _schema_of(snapshot: Snapshot, names: Sequence[str]) -> pa.Schema:
    return pa.schema([snapshot.schema.field(name) for name in names])


def _batches(batches: Iterable[pa.RecordBatch], snapshot: Snapshot, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with translated(f"scanning {snapshot.name!r}"):
        for batch in batches:
            arrays = [_recoded(batch.column(field.name), field) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else batch.select([])


def _finished(table: pa.Table, snapshot: Snapshot, names: Sequence[str]) -> pa.Table:
    schema = _schema_of(snapshot, names)
    columns = [
        pa.chunked_array([_recoded(chunk, field) for chunk in table[field.name].chunks], field.type) for field in schema
    ]
    return pa.table(columns, schema=schema).unify_dictionaries()


def _recoded(array: pa.Array, field: pa.Field) -> pa.Array:
    """Give a category the codes of its declared values; Lance keeps a dictionary per fragment, each in its order."""
    values = types.category_values(field)
    if values is None or not isinstance(array, pa.DictionaryArray):
        return array if array.type == field.type else array.cast(field.type)
    declared = pa.array(values, field.type.value_type)
    if array.dictionary.equals(declared):
        return array
    strange = array.dictionary.filter(pc.invert(pc.is_in(array.dictionary, value_set=declared)))
    known = pa.concat_arrays([declared, strange])  # written without the library: kept, after the declared ones
    codes = pc.index_in(array.dictionary, value_set=known).take(array.indices)
    return pa.DictionaryArray.from_arrays(codes, known)


__all__ = [
    "MAX_MEDIA_NBYTES",
    "ROW_ID",
    "RowIds",
    "column_nbytes",
    "count_rows",
    "get",
    "head",
    "row_ids",
    "row_ids_at",
    "row_ids_of_keys",
    "rows_per_batch",
    "sample",
    "scan",
    "scan_fragment",
    "take",
    "take_row_ids",
    "to_table",
]
