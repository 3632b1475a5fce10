"""One file per fragment, covering all its physical rows: columns, stamp, and the stamps of what depends on them."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, storage
from lakehouse._lance import lance
from lakehouse.errors import CorruptTableError, translated
from lakehouse.features import checkpoints
from lakehouse.schema.lineage import TODO, Feature, dependents, features_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from lakehouse.snapshot import Snapshot

_WINDOW = 65_536  # physical rows gathered and written at a time


@dataclass(frozen=True)
class Fields:
    """What the files of a feature hold.

    Parameters
    ----------
    stored
        By name, the field ids by which data files know the feature's columns, its stamp, then the stamps of all
        features computed from it, which go back to "to do" where it changes. In one file, value and stamps are atomic;
        and whoever fills one of those features at the same time conflicts, because both write its stamp.
    tokens
        Of the features whose stamps are reset.
    """

    stored: dict[str, frozenset[int]]
    tokens: frozenset[str]

    @classmethod
    def of(cls, dataset: Any, feature: Feature) -> Fields:
        """Work them out from the schema of one version."""
        tops = commit.top_ids(dataset)
        stale = dependents(features_of(dataset.schema), tops, feature.columns)
        names = (*feature.columns, feature.stamp, *(each.stamp for each in stale))
        stored = commit.stored_ids(dataset)
        return cls({name: stored[name] for name in names}, frozenset(each.token for each in stale))

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order of the file."""
        return tuple(self.stored)

    @property
    def ids(self) -> frozenset[int]:
        """All field ids."""
        return frozenset().union(*self.stored.values())

    def absent(self, fragment: Any) -> tuple[str, ...]:
        """Return the columns that no file of a fragment has; there they read as NULL."""
        present = {field for file in fragment.data_files() for field in file.fields}
        return tuple(name for name, ids in self.stored.items() if not ids & present)


@dataclass(frozen=True)
class Staged:
    """A finished column file that no version names yet.

    Parameters
    ----------
    fragment_id
        The fragment it belongs to.
    inputs, own
        Fingerprints of the inputs and of the fields it replaces when it was made.
    tokens
        The features whose stamps it resets.
    data_file
        Lance's description of the file; it goes by field id, so a rename in between does no harm.
    num_rows, num_failed
        Rows newly filled, and newly failed.
    nbytes
        The file's size.
    """

    fragment_id: int
    inputs: str
    own: str
    tokens: frozenset[str]
    data_file: Any
    num_rows: int
    num_failed: int
    nbytes: int


def stage(snapshot: Snapshot, feature: Feature, fragment: Any, values: pa.Table, failed_stamp: int) -> Staged:
    """Write the column file of one fragment.

    Parameters
    ----------
    snapshot
        The version the values were computed from.
    feature
        What is filled.
    fragment
        The Lance fragment.
    values
        Newly computed rows, `checkpoints.part_schema`; rows it leaves out keep what they have.
    failed_stamp
        The stamp of rows that failed.
    """
    fields = Fields.of(snapshot.dataset, feature)
    schema = storage.select(snapshot.physical, fields.names)
    offsets = np.asarray(values[checkpoints.OFFSET], dtype=np.int64)
    new = _with_stamps(values, feature, failed_stamp, schema)
    name = _write(snapshot, schema, _in_place(snapshot, fragment, new, offsets, schema))
    with translated(f"describing the new file of {feature.name!r}"):
        data_file = lance.fragment.DataFile.create(snapshot.dataset, name)
    num_failed = int(np.count_nonzero(np.asarray(values[checkpoints.FAILED])))
    return Staged(
        fragment_id=fragment.fragment_id,
        inputs=checkpoints.fingerprint(fragment, checkpoints.input_ids(snapshot.dataset, feature)),
        own=checkpoints.fingerprint(fragment, fields.ids),
        tokens=fields.tokens,
        data_file=data_file,
        num_rows=values.num_rows - num_failed,
        num_failed=num_failed,
        nbytes=_verify(snapshot, name, fragment.physical_rows, schema),
    )


def stage_nothing(snapshot: Snapshot, names: Sequence[str], fragment: Any) -> Any:
    """Write a file of NULLs, and stamps of 0, for some columns of a fragment; return Lance's description of it."""
    schema = storage.select(snapshot.physical, names)
    absent = np.full(fragment.physical_rows, -1, dtype=np.int64)
    name = _write(snapshot, schema, _gathered(schema.empty_table(), absent, schema))
    _verify(snapshot, name, fragment.physical_rows, schema)
    with translated(f"describing the new file of {names[0]!r}"):
        return lance.fragment.DataFile.create(snapshot.dataset, name)


def _with_stamps(values: pa.Table, feature: Feature, failed_stamp: int, schema: pa.Schema) -> pa.Table:
    """Put the own stamp beside newly computed values, and "to do" into the stamps of what is computed from them."""
    failed = np.asarray(values[checkpoints.FAILED])
    own = pa.array(np.where(failed, failed_stamp, feature.done).astype(np.int32))
    reset = pa.array(np.full(values.num_rows, TODO, dtype=np.int32))
    columns = [*(values[name] for name in feature.columns), own]
    return pa.table([*columns, *[reset] * (len(schema) - len(columns))], schema=schema)


def _in_place(
    snapshot: Snapshot, fragment: Any, new: pa.Table, offsets: npt.NDArray[np.int64], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yield all physical rows of the fragment in order: new rows, and what the others hold now."""
    if np.array_equal(offsets, np.arange(fragment.physical_rows)):
        yield from new.to_batches()
        return
    at = np.full(fragment.physical_rows, -1, dtype=np.int64)
    at[offsets] = np.arange(new.num_rows)
    if new.num_rows < fragment.count_rows():
        kept, places = _kept(snapshot, fragment, schema, offsets)
        at[places] = new.num_rows + np.arange(kept.num_rows)
        new = pa.concat_tables([new, kept])
    yield from _gathered(new, at, schema)


def _kept(
    snapshot: Snapshot, fragment: Any, schema: pa.Schema, new: npt.NDArray[np.int64]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Read the rows of the fragment that are not computed anew, with what they hold now."""
    with translated(f"reading {schema.names[0]!r}"):
        now = snapshot.dataset.scanner(
            columns=schema.names, fragments=[fragment], with_row_address=True, scan_in_order=True
        ).to_table()
    at = offsets_of(now["_rowaddr"])
    other = ~np.isin(at, new)
    return now.select(schema.names).filter(pa.array(other)).cast(schema), at[other]


def _gathered(rows: pa.Table, at: npt.NDArray[np.int64], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yield `rows` in the order `at`, -1 meaning a row that is deleted or has nothing yet: NULL, and a stamp of 0."""
    rows = rows.combine_chunks()  # else each `take` below would put the chunks together anew
    for start in range(0, len(at), _WINDOW):
        window = at[start : start + _WINDOW]
        taken = rows.take(pa.array(window, mask=window < 0))
        columns = [
            column.fill_null(TODO) if storage.is_stamp(field) else column
            for field, column in zip(schema, taken.columns, strict=True)
        ]
        yield from pa.table(columns, schema=schema).combine_chunks().to_batches()


def offsets_of(addresses: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the physical offsets within the fragment: the low 32 bits of a row address."""
    return (np.asarray(addresses).astype(np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _write(snapshot: Snapshot, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """Write a data file and return its name."""
    name = f"{uuid.uuid4().hex}.lance"
    location = snapshot.location
    bare = pa.schema([_bare(field) for field in schema])
    with (
        translated(f"staging {schema.names[0]!r}"),
        lance.file.LanceFileWriter(
            f"{location.uri}/data/{name}",
            schema=bare,
            version=snapshot.dataset.data_storage_version,
            storage_options=dict(location.storage_options) or None,
        ) as writer,
    ):
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=bare))
    return name


def _bare(field: pa.Field) -> pa.Field:
    """Keep what the encoder reads; the ledger is in the manifest, and would be 480 bytes more a file."""
    kept = {key: value for key, value in (field.metadata or {}).items() if key.startswith(b"lance-encoding:")}
    return field.with_metadata(kept or None)


def _verify(snapshot: Snapshot, name: str, physical_rows: int, schema: pa.Schema) -> int:
    """Read the file back before any version names it: Lance takes one of any length."""
    location = snapshot.location
    with translated(f"verifying the new file of {schema.names[0]!r}"):
        reader = lance.file.LanceFileReader(
            f"{location.uri}/data/{name}", storage_options=dict(location.storage_options) or None
        )
        metadata = reader.metadata()
    if metadata.num_rows != physical_rows or metadata.schema.types != schema.types:
        raise CorruptTableError(
            f"the staged file {name} has {metadata.num_rows} rows of {metadata.schema.types}, "
            f"{physical_rows} of {schema.types} were written"
        )
    if location.is_local:
        path = location.path / "data" / name
        _sync(path)
        _sync(path.parent)
        return path.stat().st_size
    return int(metadata.num_data_bytes)


def _sync(path: Path) -> None:
    """Lance never calls fsync on local disks; a commit must not name what a power cut can take."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
