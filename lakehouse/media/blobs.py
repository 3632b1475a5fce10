"""Bytes of media columns: many at once, or one opened as a file."""

from __future__ import annotations

from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from lakehouse import types
from lakehouse.errors import RowNotFoundError, translated
from lakehouse.media.handles import handle

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from lakehouse.media.handles import Handle
    from lakehouse.snapshot import Snapshot


def read_blobs(snapshot: Snapshot, column: str, row_ids: Sequence[int] | npt.NDArray[np.uint64]) -> pa.LargeBinaryArray:
    """Read a blob column for the rows asked, order and repeats kept.

    Lance coalesces the reads; it answers with row addresses for keys even when asked by row id, so the
    result is lined up by order alone.
    """
    if len(row_ids) == 0:
        return pa.array([], pa.large_binary())
    with translated(f"reading column {column!r}"):
        pairs = snapshot.dataset.read_blobs(column, ids=list(row_ids), preserve_order=True)
    if len(pairs) != len(row_ids):
        raise RowNotFoundError(
            f"{len(row_ids) - len(pairs)} of {len(row_ids)} rows are not in version {snapshot.version}"
        )
    return pa.array([data for _, data in pairs], pa.large_binary())


def blob_sizes(snapshot: Snapshot, column: str, row_ids: Sequence[int] | npt.NDArray[np.uint64]) -> pa.UInt64Array:
    """Read the sizes in bytes from the descriptors, NULL where there is no blob; no payload is read."""
    return _take(snapshot, column, row_ids).field("size")


def _take(snapshot: Snapshot, column: str, row_ids: Sequence[int] | npt.NDArray[np.uint64]) -> pa.Array:
    """Read what is in the column's own pages: bytes of inline media, descriptors of blobs."""
    with translated(f"reading column {column!r}"):
        table = snapshot.dataset._take_rows(list(row_ids), columns=[column])  # noqa: SLF001 - the only take by row id
    if table.num_rows != len(row_ids):
        missing = len(row_ids) - table.num_rows
        raise RowNotFoundError(f"{missing} of {len(row_ids)} rows are not in version {snapshot.version}")
    return table[column].combine_chunks()


class MediaBatch:
    """The media of one column for a handful of rows.

    What lies in the column's pages (inline bytes, or the descriptors of blobs) comes for all of them in one read,
    when the first is asked for; a blob's bytes are read one by one.
    """

    def __init__(self, snapshot: Snapshot, column: str, row_ids: Sequence[int]) -> None:
        self._snapshot = snapshot
        self._column = column
        self._row_ids = list(row_ids)
        self._is_blob = types.is_blob(snapshot.schema.field(column))

    @cached_property
    def _stored(self) -> pa.Array:
        return _take(self._snapshot, self._column, self._row_ids)

    def source(self, position: int) -> StoredBytes:
        """Return the bytes of the row at a position of the batch."""
        return StoredBytes(self, position)

    def is_null(self, position: int) -> bool:
        """Whether the cell is NULL; for inline media this reads the batch."""
        return not self._stored[position].is_valid

    @cached_property
    def nulls(self) -> npt.NDArray[np.bool_]:
        """Which cells are NULL; for inline media this reads the batch."""
        return np.asarray(self._stored.is_null())

    def nbytes(self, position: int) -> int:
        """Return the size of one cell in bytes."""
        if self._is_blob:
            return int(self._stored[position]["size"].as_py())
        return len(self.read(position))

    def read(self, position: int) -> bytes:
        """Return one cell's bytes."""
        if self._is_blob:
            row = read_blobs(self._snapshot, self._column, [self._row_ids[position]])
            return cast("bytes", row[0].as_py())
        return cast("bytes", self._stored[position].as_py())

    def open(self, position: int) -> BinaryIO:
        """Open one cell as a seekable file; of a blob only the ranges that are read are fetched."""
        if not self._is_blob:
            return BytesIO(self.read(position))
        with translated(f"opening column {self._column!r}"):
            files: list[Any] = self._snapshot.dataset.take_blobs(self._column, ids=[self._row_ids[position]])
        return cast("BinaryIO", files[0])


class StoredBytes:
    """One cell of a media column; nothing is read before it is asked for."""

    def __init__(self, batch: MediaBatch, position: int) -> None:
        self._batch = batch
        self._position = position

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self._batch.nbytes(self._position)

    def read(self) -> bytes:
        """Return all bytes."""
        return self._batch.read(self._position)

    def open(self) -> BinaryIO:
        """Open a seekable file over the bytes."""
        return self._batch.open(self._position)


class BlobInputs:
    """Blobs in the place of an array of bytes, for a function that takes handles: it reads what it asks for.

    Parameters
    ----------
    snapshot
        The version.
    column
        A column of blobs.
    row_ids
        Which rows, in order.
    """

    type = pa.large_binary()

    def __init__(self, snapshot: Snapshot, column: str, row_ids: Sequence[int] | npt.NDArray[np.uint64]) -> None:
        self._snapshot, self._column = snapshot, column
        self._row_ids = np.asarray(row_ids, dtype=np.uint64)
        self._batch = MediaBatch(snapshot, column, self._row_ids.tolist())
        self._at = np.arange(len(self._row_ids))  # of these, the rows it stands for

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, rows: slice) -> BlobInputs:
        return self._of(self._at[rows])

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64] | pa.Array) -> BlobInputs:
        """Return these rows, by position."""
        return self._of(self._at[np.asarray(rows, dtype=np.int64)])

    def _of(self, at: npt.NDArray[np.int64]) -> BlobInputs:
        part = BlobInputs.__new__(BlobInputs)  # the descriptors are read once for all
        part.__dict__.update(self.__dict__, _at=at)
        return part

    def is_null(self) -> npt.NDArray[np.bool_]:
        """Tell which rows are NULL, from the descriptors."""
        return self._batch.nulls[self._at]

    @property
    def null_count(self) -> int:
        """How many rows are NULL."""
        return int(np.count_nonzero(self.is_null()))

    def handle(self, kind: str, row: int) -> Handle | None:
        """Return the handle of a row, None where it is NULL."""
        at = int(self._at[row])
        return None if self._batch.is_null(at) else handle(kind, self._batch.source(at))

    def read(self) -> pa.LargeBinaryArray:
        """Read all bytes, as a function needs them that takes no handle."""
        return read_blobs(self._snapshot, self._column, self._row_ids[self._at])
