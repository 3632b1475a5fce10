"""Rows of Parquet files."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.data import Chunk
from lakehouse.errors import DataError, InvalidArgumentError, SchemaError, StorageError, closest
from lakehouse.failures import RowFailure
from lakehouse.sources.files import BATCH_NBYTES
from lakehouse.sources.listing import Listing, listing

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from lakehouse.sources.places import Found

__all__ = ["Parquet", "read_parquet"]

_EXTENSIONS = (".parquet", ".pq", ".parq")
_BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Parquet:
    """A source of the rows of Parquet files, resumable by batch.

    Parameters
    ----------
    listing
        Which files.
    schema
        The columns, as the first file has them.
    fingerprint
        Names listing, columns and how rows are cut into batches.
    allow_others
        Whether files may have further columns, which are left out.
    """

    listing: Listing
    schema: pa.Schema
    fingerprint: str
    allow_others: bool

    def count(self) -> int | None:
        """Return ``None``: the number of batches is in the footers of all files."""
        return None

    def chunks(self, done: Container[str] = frozenset()) -> Iterator[Chunk]:
        """Yield batches of about 8 MB in order; what is in `done` is left out."""
        for found in self.listing.found():
            if found.key in done:  # it could not be opened
                continue
            try:
                with _opened(found) as file:
                    self._check(file.schema_arrow)
                    for group in range(file.metadata.num_row_groups):
                        yield from self._group(file, group, found, done)
            except StorageError:
                raise
            except (DataError, SchemaError, pa.ArrowException, OSError) as error:
                yield self._failed(found.uri, found.key, error)

    def _group(self, file: pq.ParquetFile, group: int, found: Found, done: Container[str]) -> Iterator[Chunk]:
        size = _batch_rows(file.metadata.row_group(group), set(self.schema.names))
        start, key = 0, f"{found.key}|group {group}"
        if key in done:  # it could not be read
            return
        starts = range(0, file.metadata.row_group(group).num_rows, size)
        if all(f"{key} row {row}" in done for row in starts):
            return
        try:
            for batch in file.iter_batches(size, row_groups=[group], columns=self.schema.names):
                item = f"{key} row {start}"
                start += batch.num_rows
                if item not in done:
                    yield Chunk(batch.select(self.schema.names).cast(self.schema), (item,))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield self._failed(f"{found.uri} row group {group} from row {start}", key, error)

    def _check(self, there: pa.Schema) -> None:
        missing = [name for name in self.schema.names if name not in there.names]
        others = [name for name in there.names if name not in self.schema.names]
        if missing:
            raise SchemaError(f"no column {missing[0]!r}, which the first file has; it has {', '.join(there.names)}")
        if others and not self.allow_others:
            raise SchemaError(f"a column {others[0]!r}, which the first file has not; name those wanted with columns=")

    def _failed(self, source: str, key: str, error: Exception) -> Chunk:
        failure = RowFailure(source, type(error).__name__, str(error))
        return Chunk(pa.RecordBatch.from_pylist([], schema=self.schema), (key,), (failure,))


def read_parquet(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Parquet:
    """Read the rows of Parquet files: a source for `add` and `create_table`.

    Which files are taken: as in `read_images`. All have the columns of the first one; a file that lacks one, has
    another, or is broken is a bad row. Names of folders (``year=2024``) are not made into columns.

    Parameters
    ----------
    paths
        A folder, a file, a glob (``**`` is any depth), a URL that fsspec knows, or several of these.
    columns
        Only these; ``None`` is all.
    storage_options
        Credentials and endpoints for a URL, named as for `connect` or as fsspec names them.

    Raises
    ------
    NotFoundError
        There is no such file.
    DataError
        None of the files is Parquet.
    InvalidArgumentError
        The first file has no such column.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import lakehouse as lh, pyarrow as pa, pyarrow.parquet as pq
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.parquet")
    >>> pq.write_table(pa.table({"x": [1, 2], "y": ["a", "b"]}), path)
    >>> next(lh.read_parquet(path, columns=["x"]).chunks()).batch.to_pylist()
    [{'x': 1}, {'x': 2}]
    """
    files = listing(paths, _EXTENSIONS, storage_options)
    schema = _first_schema(files)
    if columns is not None:
        strange = [name for name in columns if name not in schema.names]
        if strange:
            there = f"the first file has {', '.join(schema.names)}{closest(strange[0], schema.names)}"
            raise InvalidArgumentError(f"no column {strange[0]!r}; {there}")
        schema = pa.schema([schema.field(name) for name in columns])
    identity = ["parquet", files.names, schema.names, BATCH_NBYTES, _BATCH_ROWS]
    fingerprint = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return Parquet(files, schema, fingerprint, allow_others=columns is not None)


@contextmanager
def _opened(found: Found) -> Iterator[pq.ParquetFile]:
    if found.problem is not None:
        raise found.problem
    with found.place.open(found) as source, pq.ParquetFile(source, pre_buffer=False) as file:
        yield file


def _first_schema(files: Listing) -> pa.Schema:
    problem: Exception | None = None
    for found in files.found():
        try:
            with _opened(found) as file:
                return pa.schema([_plain(field) for field in file.schema_arrow])
        except StorageError:
            raise
        except (DataError, pa.ArrowException, OSError) as error:
            problem = error
    raise DataError(f"none of the files is readable Parquet; the last one: {problem}") from problem


def _plain(field: pa.Field) -> pa.Field:
    metadata = {k: v for k, v in (field.metadata or {}).items() if not k.startswith(b"PARQUET:")}
    return field.with_metadata(metadata or None)


def _batch_rows(group: pq.RowGroupMetaData, names: set[str]) -> int:
    """Rows of about `BATCH_NBYTES`, from the sizes the footer states."""
    parts = (group.column(i) for i in range(group.num_columns))
    nbytes: int = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in names)
    fitting: int = BATCH_NBYTES * group.num_rows // max(nbytes, 1)
    return max(1, min(_BATCH_ROWS, fitting))
