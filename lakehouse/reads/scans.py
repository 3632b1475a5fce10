"""Streams of rows, and categories with the codes of their declared values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import InvalidArgumentError, translated
from lakehouse.media import sizes
from lakehouse.media.sizes import MAX_MEDIA_NBYTES, rows_per_batch
from lakehouse.reads.rowids import ROW_ID
from lakehouse.where import Where, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lakehouse.snapshot import Snapshot

_ROW_ADDRESS = "_rowaddr"


def scan(
    snapshot: Snapshot,
    columns: Iterable[str] | None = None,
    where: Where | None = None,
    *,
    batch_size: int | None = None,
    with_row_id: bool = False,
    with_row_address: bool = False,
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
    with_row_address
        Append the column ``_rowaddr``: where the row lies.
    """
    names = snapshot.columns(columns)
    more = [name for name, wanted in ((ROW_ID, with_row_id), (_ROW_ADDRESS, with_row_address)) if wanted]
    schema = pa.schema([*schema_of(snapshot, names), *(pa.field(name, pa.uint64()) for name in more)])
    rows = rows_per_batch(snapshot, names) if batch_size is None else batch_size
    if rows < 1:
        raise InvalidArgumentError(f"batch_size is {batch_size}; it is a number of rows, 1 or more")
    with translated(f"scanning {snapshot.name!r}" + (f" where {where!r}" if where else "")):
        batches = snapshot.dataset.scanner(
            columns=names,
            filter=render(where, snapshot.schema.names),
            with_row_id=with_row_id or not names,
            with_row_address=with_row_address,
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
    schema = schema_of(snapshot, columns)
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
        return int(snapshot.dataset.count_rows(filter=render(where, snapshot.schema.names)))


def schema_of(snapshot: Snapshot, names: Sequence[str]) -> pa.Schema:
    """Return the logical fields of columns."""
    return pa.schema([snapshot.schema.field(name) for name in names])


def _batches(batches: Iterable[pa.RecordBatch], snapshot: Snapshot, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    with translated(f"scanning {snapshot.name!r}"):
        for batch in batches:
            arrays = [recoded(batch.column(field.name), field) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else batch.select([])


def recoded(array: pa.Array, field: pa.Field) -> pa.Array:
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
