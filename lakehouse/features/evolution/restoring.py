"""The fragments of a table with an old column in them: its files named again, or written where that cannot be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, reads
from lakehouse._lance import lance
from lakehouse.errors import ConflictError, SchemaError, translated
from lakehouse.features.records.counts import stamps_at
from lakehouse.features.storing import checkpoints, staging
from lakehouse.features.storing.stranded import unchanged
from lakehouse.schema.lineage import TODO, TOKEN, Feature, dependents, input_names, with_token
from lakehouse.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from lakehouse.features.storing.pieces import Piece
    from lakehouse.progress import Tracker

__all__ = ["Old", "Restored", "check_unaltered"]

_WINDOW = 65_536  # rows found by id at a time


@dataclass(frozen=True)
class Old:
    """The feature at the version to go back to.

    Parameters
    ----------
    snapshot, feature
        As they were.
    columns
        What the present columns were called then.
    """

    snapshot: Snapshot
    feature: Feature
    columns: tuple[str, ...]

    @classmethod
    def of(cls, then: Snapshot, now: Snapshot, feature: Feature) -> Old:
        """Find the feature in an older version.

        Raises
        ------
        SchemaError
            It did not exist, or was of another type, or an input is gone.
        """
        was = with_token(then.features, feature.token)
        called = {field.metadata[TOKEN]: field for field in then.physical if TOKEN in (field.metadata or {})}
        columns = []
        for name in feature.columns:
            here = now.physical.field(name)
            there = called.get(here.metadata[TOKEN])
            if was is None or there is None:
                also = ", and what was called so then was another column" if name in then.schema.names else ""
                raise SchemaError(f"{name!r} did not exist at version {then.version}: it was declared later{also}")
            if here.type != there.type:
                raise SchemaError(
                    f"{name!r} was {there.type} at version {then.version} and is {here.type} now; "
                    "add a new column for the old values"
                )
            columns.append(there.name)
        assert was is not None, feature
        if len(left := input_names(was, now.field_ids)) < len(was.inputs):
            raise SchemaError(
                f"{feature.name!r} was computed from {', '.join(was.called)} at version {then.version}, of which "
                f"{', '.join(left) or 'none'} is left"
            )
        return cls(then, was, tuple(columns))

    def fragments(self) -> dict[int, Any]:
        """Return the fragments of that version by their ids."""
        return {fragment.fragment_id: fragment for fragment in self.snapshot.dataset.get_fragments()}


class Restored:
    """The fragments of the newest version with the old column in them.

    Parameters
    ----------
    snapshot
        Tells which table.
    feature
        As it was declared again.
    old
        What to put back.
    """

    def __init__(self, snapshot: Snapshot, feature: Feature, old: Old) -> None:
        self._lake, self._name = snapshot.lake, snapshot.name
        self._feature = feature
        self._old = old
        self._old_fragments = old.fragments()
        self.stale: tuple[Feature, ...] = ()
        self.nbytes = 0
        self._written: dict[tuple[int, str], tuple[Any, Any]] = {}

    def stage(self, tracker: Tracker) -> None:
        """Write what has to be written, so that commits need only look it up."""
        now = self._open(commit.newest(self._old.snapshot.location))
        feature = self.found(now)
        for fragment in now.dataset.get_fragments():
            self._own_files(now, feature, fragment)
            tracker.advance()

    def operation(self, dataset: Any) -> Any:
        """Return the operation that puts the column back into every fragment; None for an empty table."""
        now = self._open(dataset)
        feature = self.found(now)
        fields = staging.Fields.of(dataset, feature)
        self.stale = tuple(dependents(now.features, now.field_ids, feature.columns))
        own = frozenset().union(*(fields.stored[name] for name in (*feature.columns, feature.stamp)))
        updated = []
        for fragment in dataset.get_fragments():
            there, files = fragment.metadata, self._own_files(now, feature, fragment)
            if _cells(_picked(there.files, own.__contains__)) != _cells(files):
                others = _picked(there.files, lambda field: field not in fields.ids)
                there = dataclasses.replace(there, files=[*others, *files])
            updated.append(there)
        if not updated:
            return None
        return lance.LanceOperation.Update(
            updated_fragments=updated, fields_modified=sorted(fields.ids), update_mode="rewrite_columns"
        )

    def _open(self, dataset: Any) -> Snapshot:
        return Snapshot(self._lake, self._name, dataset)

    def found(self, now: Snapshot) -> Feature:
        """Return the feature under the name it has now."""
        feature = with_token(now.features, self._feature.token)
        if feature is None or len(feature.columns) < len(self._old.columns):
            raise ConflictError(f"{self._feature.name!r} was dropped while it was being rolled back")
        check_unaltered(feature, self._feature)
        return feature

    def _own_files(self, now: Snapshot, feature: Feature, fragment: Any) -> list[Any]:
        """Return the old column's files for a fragment; named again where the rows are the same, else written."""
        then = self._old.snapshot
        twin = self._old_fragments.get(fragment.fragment_id)
        if twin is not None and not _same_rows(twin, fragment):
            twin = None
        stored = commit.stored_ids(now.dataset)
        values = frozenset().union(*(stored[name] for name in feature.columns))
        inputs = checkpoints.fingerprint(fragment, checkpoints.input_ids(now.dataset, feature))
        if twin is None:
            return [self._copied(now, feature, fragment, inputs, feature.columns)]
        named_again = _picked(twin.data_files(), (values | stored[feature.stamp]).__contains__)
        same = inputs == checkpoints.fingerprint(twin, checkpoints.input_ids(then.dataset, self._old.feature))
        if same or not named_again:
            return named_again
        return [*_picked(named_again, values.__contains__), self._copied(now, feature, fragment, inputs, ())]

    def _copied(self, now: Snapshot, feature: Feature, fragment: Any, inputs: str, columns: tuple[str, ...]) -> Any:
        """Write a file of columns and stamps, unless it was for the same rows and inputs."""
        key, rows = (fragment.fragment_id, inputs), fragment.metadata.row_id_meta
        known, file = self._written.get(key, (None, None))
        if file is None or known != rows:
            pieces = self._pieces(now, feature, fragment, columns)
            written = staging.stage_rows(now, (*columns, feature.stamp), fragment, pieces)
            self._written[key] = rows, (file := written.data_file)
            self.nbytes += written.nbytes
        return file

    def _pieces(self, now: Snapshot, feature: Feature, fragment: Any, columns: tuple[str, ...]) -> Iterator[Piece]:
        """Yield the rows of a fragment that were there, as they were; stamps are 0 where inputs are not the same."""
        then, names = self._old.snapshot, list(self._old.columns if columns else ())
        for ids, offsets in _windows(now, fragment, min(_WINDOW, reads.rows_per_batch(then, names))):
            found, stamps = stamps_at(then, self._old.feature, ids)
            there = np.isin(ids, found)
            if not there.any():
                continue
            filled = np.flatnonzero(stamps != TODO)
            same = unchanged(then, now, feature, ids[there][filled])
            stamps[filled[~same]] = TODO
            values = reads.take_row_ids(then, ids[there], names, max_media_nbytes=None).rename_columns(list(columns))
            yield values.append_column(feature.stamp, pa.array(stamps, pa.int32())), offsets[there]


def _windows(now: Snapshot, fragment: Any, size: int) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]]:
    """Yield ids and physical offsets of the live rows of a fragment, in order."""
    with translated(f"reading row ids of {now.name!r}"):
        rows = now.dataset.scanner(
            columns=[], fragments=[fragment], with_row_id=True, with_row_address=True, scan_in_order=True
        ).to_table()
    ids, offsets = np.asarray(rows[reads.ROW_ID]), staging.offsets_of(rows["_rowaddr"])
    for start in range(0, len(ids), size):
        yield ids[start : start + size], offsets[start : start + size]


def _same_rows(one: Any, other: Any) -> bool:
    """Whether two versions of a fragment hold the same rows in the same places, deleted ones included."""
    a, b = one.metadata, other.metadata
    return bool(a.physical_rows == b.physical_rows and a.row_id_meta == b.row_id_meta)


def _picked(files: Iterable[Any], wanted: Callable[[int], bool]) -> list[Any]:
    """Return entries of a fragment's data files for some fields only; what else is in those files is left out."""
    entries = []
    for file in files:
        pairs = [(f, c) for f, c in zip(file.fields, file.column_indices, strict=True) if f >= 0 and wanted(f)]
        if pairs:
            fields, places = map(list, zip(*pairs, strict=True))
            format_ = file.file_major_version, file.file_minor_version
            entries.append(
                lance.fragment.DataFile(
                    commit.path_of(file), fields, places, *format_, file.file_size_bytes, file.base_id
                )
            )
    return entries


def _cells(files: Iterable[Any]) -> set[tuple[str, int, int]]:
    return {(commit.path_of(f), *pair) for f in files for pair in zip(f.fields, f.column_indices, strict=True)}


def check_unaltered(now: Feature, expected: Feature) -> None:
    """Refuse to go on where somebody gave the feature another function meanwhile.

    Raises
    ------
    ConflictError
    """
    if (now.generation, now.oldest, now.code_hash) != (expected.generation, expected.oldest, expected.code_hash):
        raise ConflictError(
            f"{now.name!r} was given another function while it was being rolled back; it is stale now, fill it or "
            "roll it back again"
        )
