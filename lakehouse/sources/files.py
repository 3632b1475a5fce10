"""Files to rows: read ahead by a few threads, hashed, looked at, and handed on in batches of bounded size."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import json
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from mmap import mmap
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import types
from lakehouse.data import Chunk
from lakehouse.errors import DataError, InvalidArgumentError, ResourceLimitError, StorageError, closest
from lakehouse.failures import RowFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from lakehouse.sources.listing import Listing
    from lakehouse.sources.places import Found

__all__ = ["BATCH_NBYTES", "Files", "files", "to_array"]

# Measured on 6 GB of files of 0.05 to 5 MB: these peak at 100 MB over the imports; batches of 16 MB at 148, and with
# twice the threads and bytes ahead at 186, none of them faster. Threads are there to hide the 10 to 100 ms of an
# object store and to hash beside the writer.
BATCH_NBYTES = 8 << 20
BATCH_ROWS = 4096
AHEAD_NBYTES = 16 << 20
AHEAD_FILES = 64
THREADS = 4

# What is one file's own fault. Anything else (no descriptors left, no memory, no disk) would fail every file after it.
_OWN_FAULT = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.EIO,
    errno.ENAMETOOLONG,
    None,  # raised by this package, with a text of its own
}

_PROVENANCE = (
    types.field("source_uri", "string", doc="where the file was read from"),
    types.field("content_sha256", "string", doc="SHA-256 of the stored bytes, in hex"),
    types.field("ingested_at", "timestamp[us, UTC]", doc="when the row was added"),
)
_LABEL = types.field("label", "string", doc="name of the folder the file is in")


@dataclass(frozen=True)
class Files:
    """A source of one row a file, resumable by file.

    Parameters
    ----------
    listing
        Which files.
    schema
        The columns.
    fingerprint
        Names the listing and all options, not the files that happen to be there.
    look
        Makes the cells of a file from its bytes; raises `DataError` for what cannot be stored.
    """

    listing: Listing
    schema: pa.Schema
    fingerprint: str
    look: Callable[[bytes | mmap], Mapping[str, Any]]

    def count(self) -> int | None:
        """Return the number of files if that is quick to find out."""
        return self.listing.count()

    def chunks(self, done: Container[str] = frozenset()) -> Iterator[Chunk]:
        """Yield rows in the order of the listing, without reading the files in `done`."""
        todo = (found for found in self.listing.found() if found.key not in done)
        rows: list[dict[str, Any]] = []
        items: list[str] = []
        failures: list[RowFailure] = []
        nbytes = 0
        for found, outcome in _read_ahead(todo, self._row):
            size = 0 if isinstance(outcome, RowFailure) else found.nbytes
            if items and (nbytes + size > BATCH_NBYTES or len(items) >= BATCH_ROWS):
                yield self._chunk(rows, items, failures)
                rows, items, failures, nbytes = [], [], [], 0
            if isinstance(outcome, RowFailure):
                failures.append(outcome)
            else:
                rows.append(outcome)
            items.append(found.key)
            nbytes += size
        if items:
            yield self._chunk(rows, items, failures)

    def _chunk(self, rows: list[dict[str, Any]], items: list[str], failures: list[RowFailure]) -> Chunk:
        arrays = [to_array([row.pop(field.name) for row in rows], field.type) for field in self.schema]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.schema)
        return Chunk(batch, tuple(items), tuple(failures))

    def _row(self, found: Found) -> dict[str, Any] | RowFailure:
        try:
            data = _content(found)
            sha256 = hashlib.sha256(data).hexdigest()
            cells = {
                "id": sha256,
                "label": found.uri.rstrip("/").split("/")[-2:][0],
                "source_uri": found.uri,
                "content_sha256": sha256,
                "ingested_at": dt.datetime.now(dt.UTC),
                **self.look(data),
            }
            return {name: cells[name] for name in self.schema.names}
        except StorageError:
            raise
        except (DataError, ResourceLimitError) as error:
            return RowFailure(found.uri, type(error).__name__, str(error))
        except OSError as error:
            if error.errno not in _OWN_FAULT:
                raise StorageError(f"reading {found.uri}: {error.strerror}") from error
            return RowFailure(found.uri, type(error).__name__, _reason(error))


def _content(found: Found) -> bytes | mmap:
    if found.problem is not None:
        raise found.problem
    data = found.place.read(found)
    if not data:
        raise DataError("the file is empty")
    return data


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError) and error.errno is not None:
        return "the file vanished between listing and reading, or was never there"
    return error.strerror or str(error)


def _read_ahead(todo: Iterator[Found], work: Callable[[Found], Any]) -> Iterator[tuple[Found, Any]]:
    """Yield the results in order, while later files are being read by threads."""
    waiting: deque[tuple[Found, Future[Any]]] = deque()
    nbytes = 0
    with ThreadPoolExecutor(THREADS, thread_name_prefix="lakehouse-read") as pool:
        try:
            for found in todo:
                while waiting and (nbytes + found.nbytes > AHEAD_NBYTES or len(waiting) >= AHEAD_FILES):
                    nbytes -= waiting[0][0].nbytes
                    yield _next(waiting)
                waiting.append((found, pool.submit(work, found)))
                nbytes += found.nbytes
            while waiting:
                yield _next(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _next(waiting: deque[tuple[Found, Future[Any]]]) -> tuple[Found, Any]:
    """Pop the oldest; a function of its own, so that no name keeps a result alive while the reader is busy."""
    found, future = waiting.popleft()
    return found, future.result()


def to_array(values: list[Any], data_type: pa.DataType) -> pa.Array:
    """Make an Arrow array; media are copied one by one and let go, a single one is taken over as it is.

    Arrow's own builder doubles its buffer as it grows: three times the bytes for a moment.
    """
    if not (values and isinstance(values[0], bytes | mmap)):
        return pa.array(values, data_type)
    ends = np.cumsum([0, *map(len, values)], dtype=np.int64)
    if len(values) == 1:
        buffer = pa.py_buffer(values[0])
    else:
        buffer = pa.allocate_buffer(int(ends[-1]))
        target = memoryview(buffer).cast("B")
        for position, value in enumerate(values):
            target[ends[position] : ends[position + 1]] = value
            values[position] = None
    return pa.Array.from_buffers(data_type, len(values), [None, pa.py_buffer(ends), buffer])


def files(
    kind: str,
    listing: Listing,
    cells: Sequence[pa.Field],
    look: Callable[[bytes | mmap], Mapping[str, Any]],
    *,
    label_from: str | None,
    columns: Sequence[str] | None,
    options: Mapping[str, Any],
) -> Files:
    """Put a source together.

    Parameters
    ----------
    kind
        Part of the fingerprint.
    listing
        Which files.
    cells
        The columns `look` fills.
    look
        See `Files`.
    label_from
        ``"folder"`` or ``None``.
    columns
        Which columns to bring; ``None`` for all.
    options
        What else changes the rows, for the fingerprint.

    Raises
    ------
    InvalidArgumentError
        An unknown column or `label_from`.
    """
    if label_from not in (None, "folder"):
        raise InvalidArgumentError(f"label_from={label_from!r}; choose 'folder' or None")
    key = types.field("id", "string", nullable=False, doc="SHA-256 of the content, in hex")
    key = key.with_metadata({**(key.metadata or {}), types.KEY: b"true"})
    label = [_LABEL] if label_from else []
    schema = pa.schema([key, *cells, *label, *_PROVENANCE])
    if columns is not None:
        strange = [name for name in columns if name not in schema.names]
        if strange:
            there = ", ".join(schema.names)
            raise InvalidArgumentError(
                f"no column {strange[0]!r}; there are {there}{closest(strange[0], schema.names)}"
            )
        schema = pa.schema([field for field in schema if field.name in set(columns)])
    identity = [kind, listing.names, schema.names, dict(options)]
    return Files(listing, schema, hashlib.sha256(json.dumps(identity).encode()).hexdigest(), look)
