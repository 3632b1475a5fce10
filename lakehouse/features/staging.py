"""One file per fragment, covering all its physical rows: the feature's columns and its stamp, verified before use."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, storage
from lakehouse._lance import lance
from lakehouse.errors import BackfillError, CorruptTableError, translated
from lakehouse.features import checkpoints
from lakehouse.schema.lineage import TODO, Feature, features_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lakehouse.snapshot import Snapshot

_WINDOW = 65_536  # physical rows gathered and written at a time


@dataclass(frozen=True)
class Staged:
    """A finished column file that no version names yet.

    Parameters
    ----------
    fragment_id
        The fragment it belongs to.
    inputs, own
        Fingerprints of the inputs and of the feature's present columns when it was made.
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
    names = [*feature.columns, feature.stamp]
    schema = storage.select(snapshot.physical, names)
    new = _with_stamps(values, feature, failed_stamp, schema)
    offsets = np.asarray(values[checkpoints.OFFSET], dtype=np.int64)
    kept, kept_offsets = _kept(snapshot, fragment, names, schema, offsets)
    rows = pa.concat_tables([new, kept])
    at = np.full(fragment.physical_rows, -1, dtype=np.int64)
    at[offsets] = np.arange(new.num_rows)
    at[kept_offsets] = new.num_rows + np.arange(kept.num_rows)
    name = f"{uuid.uuid4().hex}.lance"
    _write(snapshot, name, rows, at, schema)
    with translated(f"describing the new file of {feature.name!r}"):
        data_file = lance.fragment.DataFile.create(snapshot.dataset, name)
    num_failed = int(np.count_nonzero(np.asarray(values[checkpoints.FAILED])))
    return Staged(
        fragment_id=fragment.fragment_id,
        inputs=checkpoints.fingerprint(fragment, feature.inputs),
        own=checkpoints.fingerprint(fragment, own_ids(snapshot.dataset, feature)),
        data_file=data_file,
        num_rows=values.num_rows - num_failed,
        num_failed=num_failed,
        nbytes=_verify(snapshot, name, fragment.physical_rows, schema),
    )


def own_ids(dataset: Any, feature: Feature) -> list[int]:
    """Return the field ids of a feature's columns and stamp."""
    names = {*feature.columns, feature.stamp}
    return [field.id() for field in dataset.lance_schema.fields() if field.name() in names]


def _with_stamps(values: pa.Table, feature: Feature, failed_stamp: int, schema: pa.Schema) -> pa.Table:
    failed = np.asarray(values[checkpoints.FAILED])
    stamps = np.where(failed, failed_stamp, feature.done).astype(np.int32)
    columns = [values[name] for name in feature.columns]
    return pa.table([*columns, pa.array(stamps)], schema=schema)


def _kept(
    snapshot: Snapshot, fragment: Any, names: Sequence[str], schema: pa.Schema, new: np.ndarray[Any, Any]
) -> tuple[pa.Table, np.ndarray[Any, Any]]:
    """The rows of the fragment that are not computed anew, with what they hold now."""
    if len(new) == fragment.count_rows():
        return schema.empty_table(), np.empty(0, dtype=np.int64)
    with translated(f"reading {names[0]!r}"):
        now = snapshot.dataset.scanner(columns=list(names), fragments=[fragment], with_row_address=True).to_table()
    at = offsets_of(now["_rowaddr"])
    other = ~np.isin(at, new)
    return now.select(list(names)).filter(pa.array(other)).cast(schema), at[other]


def offsets_of(addresses: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    """Return the physical offsets within the fragment: the low 32 bits of a row address."""
    return (np.asarray(addresses).astype(np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _write(snapshot: Snapshot, name: str, rows: pa.Table, at: np.ndarray[Any, Any], schema: pa.Schema) -> None:
    """Write `rows` in the order `at`, -1 meaning a row that is deleted or has nothing yet: NULL, and a stamp of 0."""
    location = snapshot.location
    with (
        translated(f"staging {schema.names[0]!r}"),
        lance.file.LanceFileWriter(
            f"{location.uri}/data/{name}",
            schema=schema,
            version=snapshot.dataset.data_storage_version,
            storage_options=dict(location.storage_options) or None,
        ) as writer,
    ):
        for start in range(0, len(at), _WINDOW):
            window = at[start : start + _WINDOW]
            taken = rows.take(pa.array(window, mask=window < 0))
            columns = [
                column.fill_null(TODO) if storage.is_stamp(field) else column
                for field, column in zip(schema, taken.columns, strict=True)
            ]
            for batch in pa.table(columns, schema=schema).combine_chunks().to_batches():
                writer.write_batch(batch)


def _verify(snapshot: Snapshot, name: str, physical_rows: int, schema: pa.Schema) -> int:
    """Read the file back before any version names it: Lance accepts one of the wrong length or none (reliability §0.4)."""
    location = snapshot.location
    with translated(f"verifying the new file of {schema.names[0]!r}"):
        reader = lance.file.LanceFileReader(
            f"{location.uri}/data/{name}", storage_options=dict(location.storage_options) or None
        )
        metadata = reader.metadata()
    if metadata.num_rows != physical_rows or metadata.schema.types != schema.types:
        raise CorruptTableError(
            f"the staged file {name} has {metadata.num_rows} rows of {metadata.schema.types}, {physical_rows} of {schema.types} were written"
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


def commit_staged(
    snapshot: Snapshot, feature: Feature, staged: Sequence[Staged], message: str
) -> tuple[int | None, list[Staged]]:
    """Commit column files whose ground is as it was when they were made.

    Returns
    -------
    tuple
        The version, or None if none could be committed; and the files that went into it.

    Raises
    ------
    BackfillError
        The feature was dropped or redeclared meanwhile.
    ConflictError
    """
    went_in: list[Staged] = []

    def build(dataset: Any) -> Any:
        _check_same_feature(dataset, feature)
        own = own_ids(dataset, feature)
        fragments = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
        went_in[:] = [file for file in staged if _unmoved(file, fragments.get(file.fragment_id), feature, own)]
        if not went_in:
            return None
        groups = [lance.LanceOperation.DataReplacementGroup(file.fragment_id, file.data_file) for file in went_in]
        return lance.LanceOperation.DataReplacement(groups)

    properties = {"lakehouse:column": feature.name, "lakehouse:code_hash": feature.code_hash}
    done = commit.commit_operation(snapshot.location, build, properties, message)
    return (done.version, list(went_in)) if done else (None, [])


def _check_same_feature(dataset: Any, feature: Feature) -> None:
    """Field ids are used again after a drop: without the token, float bytes would land in somebody's new int column."""
    now = {f.token: f for f in features_of(dataset.schema).values()}.get(feature.token)
    if now is None:
        raise BackfillError(f"{feature.name!r} was dropped while it was being filled; nothing more is written")
    if now.generation != feature.generation or now.code_hash != feature.code_hash:
        raise BackfillError(
            f"{feature.name!r} was given another function while it was being filled; backfill again with the new one"
        )


def _unmoved(file: Staged, fragment: Any, feature: Feature, own: list[int]) -> bool:
    return (
        fragment is not None
        and checkpoints.fingerprint(fragment, feature.inputs) == file.inputs
        and checkpoints.fingerprint(fragment, own) == file.own
    )


def cover(snapshot: Snapshot, feature: Feature) -> bool:
    """Give fragments that have only some of the feature's fields an all-NULL file for the others.

    `DataReplacement` takes a file only where all its fields are present or all are absent (research/feasibility.md
    §3): a column that was dropped and added again, or rows appended by others with the value but no stamp.

    Returns
    -------
    bool
        Whether the table has a new version now.
    """
    own = own_ids(snapshot.dataset, feature)
    names = {field_id: name for name, field_id in snapshot.field_ids.items()}
    wanted: dict[tuple[str, ...], list[Any]] = {}
    for fragment in snapshot.dataset.get_fragments():
        present = {field for file in fragment.data_files() for field in file.fields}
        absent = tuple(names[field] for field in own if field not in present)
        if 0 < len(absent) < len(own):
            wanted.setdefault(absent, []).append(fragment)
    for absent, fragments in wanted.items():  # all files of one transaction must have the same fields
        _cover_with(snapshot, absent, fragments)
    return bool(wanted)


def _cover_with(snapshot: Snapshot, absent: tuple[str, ...], fragments: Sequence[Any]) -> None:
    schema = storage.select(snapshot.physical, absent)
    groups = []
    for fragment in fragments:
        name = f"{uuid.uuid4().hex}.lance"
        _write(snapshot, name, schema.empty_table(), np.full(fragment.physical_rows, -1, dtype=np.int64), schema)
        data_file = lance.fragment.DataFile.create(snapshot.dataset, name)
        groups.append(lance.LanceOperation.DataReplacementGroup(fragment.fragment_id, data_file))
    operation = lance.LanceOperation.DataReplacement(groups)
    commit.commit_operation(snapshot.location, lambda _: operation, {}, f"covering {', '.join(absent)}")
