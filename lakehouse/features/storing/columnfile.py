"""A data file of some columns, and the sidecars its large media lie in; no version names them yet.

Of a medium that is stored apart, values up to 64 KB lie in the data file, as Lance itself has it, and larger ones one
after the other in one sidecar for each column: ``<file>/<number>.blob``.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import storage
from lakehouse._lance import lance
from lakehouse.errors import CorruptTableError, translated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

__all__ = ["ColumnFile", "write"]

_IS_BLOB, _IS_V2 = b"lance-encoding:blob", b"ARROW:extension:name"
_INLINE_NBYTES = 64 << 10  # where Lance 14 draws the line in its own writes


@dataclass(frozen=True)
class ColumnFile:
    """A finished file.

    Parameters
    ----------
    data_file
        Lance's description of it; it goes by field id, so a rename in between does no harm.
    sizes
        Bytes of the file and its sidecars, by their path under ``data/``, the data file first.
    sha256
        What they hold, in hexadecimal, in the same order; empty on a bucket, where it would cost reading them back.
    """

    data_file: Any
    sizes: dict[str, int]
    sha256: dict[str, str]

    @property
    def nbytes(self) -> int:
        """The bytes of all files."""
        return sum(self.sizes.values())


def write(snapshot: Snapshot, schema: pa.Schema, batches: Iterable[pa.RecordBatch], num_rows: int) -> ColumnFile:
    """Write a file of columns of a table, verify it and flush it to the disk.

    Parameters
    ----------
    snapshot
        The version whose field ids it takes.
    schema
        The columns, as Lance has them.
    batches
        All physical rows of a fragment in order, media as bytes.
    num_rows
        How many these are.

    Raises
    ------
    CorruptTableError
        What can be read back is not what was to be written.
    """
    name = f"{uuid.uuid4().hex}.lance"
    location = snapshot.location
    options = dict(location.storage_options) or None
    sidecars = {
        field.name: _Sidecar(f"{location.uri}/data", options, name, number, field.name)
        for number, field in enumerate(schema, 1)
        if storage.is_blob_type(field.type)
    }
    stored = pa.schema([sidecars[field.name].field if field.name in sidecars else _bare(field) for field in schema])
    with translated(f"staging {schema.names[0]!r}"):
        writer = lance.file.LanceFileWriter(
            f"{location.uri}/data/{name}",
            schema=stored,
            version=snapshot.dataset.data_storage_version,
            storage_options=options,
        )
        with writer:
            for batch in batches:
                columns = [
                    sidecars[field.name].put(column) if field.name in sidecars else storage.from_start(column)
                    for field, column in zip(schema, batch.columns, strict=True)
                ]
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=stored))
            # The data file gets its footer last: where it is whole, all it points to is.
            beside = [sidecar.finish() for sidecar in sidecars.values()]
        sizes = {name: _verified_nbytes(location, name, num_rows, stored)}
        data_file = lance.fragment.DataFile.create(snapshot.dataset, name)
    for sidecar_sizes in beside:
        sizes |= sidecar_sizes
    digests = _flushed(location.path / "data", sizes) if location.is_local else {}
    return ColumnFile(data_file, sizes, digests)


class _Sidecar:
    """The file for the large values of one column, made when the first one comes."""

    def __init__(self, folder: str, options: dict[str, str] | None, file: str, number: int, column: str) -> None:
        self._folder, self._options, self._file = folder, options, file
        self._number, self._column = number, column
        self._nbytes = 0

    @cached_property
    def _writer(self) -> Any:
        session = lance.file.LanceFileSession(self._folder, storage_options=self._options)
        return session.open_packed_blob_writer(self._file, self._number)

    @property
    def field(self) -> pa.Field:
        """The field by which the data file points to the values."""
        return self._builder().field

    def _builder(self) -> Any:
        return lance.blob.BlobDescriptorArrayBuilder(self._column)

    def put(self, values: pa.Array) -> pa.Array:
        """Write the large ones of these values; return what the data file holds."""
        builder = self._builder()
        for value in values:
            data = value.as_py()
            if data is None:
                builder.append_null()
            elif len(data) <= _INLINE_NBYTES:
                builder.append_inline(data)
            else:
                self._writer.write_blob(data)
                builder.extend_packed(self._number, [self._nbytes], [len(data)])
                self._nbytes += len(data)
        return builder.finish()

    def finish(self) -> dict[str, int]:
        """Close it, if there is one; return its size by its path in the folder."""
        if not self._nbytes:
            return {}
        path = "/".join(self._writer.path.split("/")[-2:])
        self._writer.finish()
        return {path: self._nbytes}


def _bare(field: pa.Field) -> pa.Field:
    """Keep what the encoder reads; the ledger is in the manifest, and would be 480 bytes more a file."""
    kept = {key: value for key, value in (field.metadata or {}).items() if key.startswith(b"lance-encoding:")}
    return field.with_metadata(kept or None)


def _verified_nbytes(location: Location, name: str, num_rows: int, schema: pa.Schema) -> int:
    """Read the footer back before any version names the file: Lance takes one of any length."""
    reader = lance.file.LanceFileReader(
        f"{location.uri}/data/{name}", storage_options=dict(location.storage_options) or None
    )
    metadata = reader.metadata()
    # The fields of a blob's descriptor are listed beside it, and it has none itself.
    there = {(field.name, None if _IS_BLOB in (field.metadata or {}) else field.type) for field in metadata.schema}
    wanted = {(field.name, None if _IS_V2 in (field.metadata or {}) else field.type) for field in schema}
    if metadata.num_rows != num_rows or not wanted <= there:
        raise CorruptTableError(
            f"the staged file {name} has {metadata.num_rows} rows of {metadata.schema.types}, "
            f"{num_rows} of {schema.types} were written"
        )
    return (location.path / "data" / name).stat().st_size if location.is_local else int(metadata.num_data_bytes)


def _flushed(folder: Path, sizes: dict[str, int]) -> dict[str, str]:
    """Flush files to the disk, sidecars first, and return what they hold, while it is still in memory."""
    digests = {}
    for name, nbytes in reversed(sizes.items()):
        path = folder / name
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() != nbytes:
                raise CorruptTableError(f"the staged file {name} has {file.tell()} bytes, {nbytes} were written")
        _sync(path)
        _sync(path.parent)
    return dict(reversed(digests.items()))


def _sync(path: Path) -> None:
    """Lance never calls fsync on local disks; a commit must not name what a power cut can take."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
