"""One file per fragment, covering all its physical rows: columns, stamp, and the stamps of what depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, storage
from lakehouse.errors import translated
from lakehouse.features.storing import checkpoints
from lakehouse.features.storing.columnfile import ColumnFile, write
from lakehouse.features.storing.pieces import Offsets, Piece, in_order, in_place, merged
from lakehouse.media.sizes import rows_per_batch
from lakehouse.schema.lineage import TODO, Feature, dependents, features_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lakehouse.snapshot import Snapshot


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
    file
        The file, with its sidecars.
    num_rows, num_failed
        Rows newly filled, and newly failed.
    """

    fragment_id: int
    inputs: str
    own: str
    tokens: frozenset[str]
    file: ColumnFile
    num_rows: int
    num_failed: int

    @property
    def data_file(self) -> Any:
        """Lance's description of the file; it goes by field id, so a rename in between does no harm."""
        return self.file.data_file

    @property
    def nbytes(self) -> int:
        """The bytes of the file and its sidecars."""
        return self.file.nbytes

    @property
    def sha256(self) -> dict[str, str]:
        """What the files hold, see `ColumnFile`."""
        return self.file.sha256


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
    failed = np.asarray(values[checkpoints.FAILED])
    num_failed = int(np.count_nonzero(failed))
    stamp = np.full(values.num_rows, feature.done, dtype=np.int32)
    if num_failed:
        stamp[failed] = failed_stamp
    offsets = np.asarray(values[checkpoints.OFFSET], dtype=np.int64)
    rows = values.select(list(feature.columns)).append_column(feature.stamp, pa.array(stamp))
    return stage_pieces(snapshot, feature, fragment, in_order(rows, offsets), offsets, num_failed)


def stage_pieces(
    snapshot: Snapshot,
    feature: Feature,
    fragment: Any,
    pieces: Iterator[Piece],
    offsets: Offsets,
    num_failed: int = 0,
) -> Staged:
    """Write the column file of one fragment from a stream.

    Parameters
    ----------
    snapshot, feature, fragment
        As in `stage`.
    pieces
        New rows: the feature's columns, media as bytes, and its stamp.
    offsets
        The physical offsets of all of them; other rows keep what they have.
    num_failed
        How many of them failed.
    """
    fields = Fields.of(snapshot.dataset, feature)
    schema = _logical(snapshot, fields.names)
    new: Iterator[Piece] = ((_with_resets(rows, schema), at) for rows, at in pieces)
    if len(offsets) < fragment.count_rows():
        new = merged(new, _kept(snapshot, feature, fragment, schema, offsets))
    return Staged(
        fragment_id=fragment.fragment_id,
        inputs=checkpoints.fingerprint(fragment, checkpoints.input_ids(snapshot.dataset, feature)),
        own=checkpoints.fingerprint(fragment, fields.ids),
        tokens=fields.tokens,
        file=stage_rows(snapshot, fields.names, fragment, new),
        num_rows=len(offsets) - num_failed,
        num_failed=num_failed,
    )


def stage_rows(snapshot: Snapshot, names: Sequence[str], fragment: Any, pieces: Iterable[Piece] = ()) -> ColumnFile:
    """Write a file of some columns of a fragment: NULLs, and stamps of 0, but for the rows given.

    Parameters
    ----------
    snapshot
        The version that has the columns.
    names
        Columns and stamps.
    fragment
        The Lance fragment.
    pieces
        Rows with these columns, media as bytes, and their physical offsets, ascending over all pieces.
    """
    num_rows = fragment.physical_rows
    batches = in_place(pieces, num_rows, _logical(snapshot, names))
    return write(snapshot, storage.select(snapshot.physical, names), batches, num_rows)


def _logical(snapshot: Snapshot, names: Sequence[str]) -> pa.Schema:
    """Return columns as they are handed about, media as bytes; stamps, which users do not see, as they are."""
    chosen = storage.select(snapshot.physical, names)
    return pa.schema([each if storage.is_stamp(each) else storage.logical_field(each) for each in chosen])


def _with_resets(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Put "to do" into the stamps of what is computed from these rows."""
    reset = pa.array(np.full(rows.num_rows, TODO, dtype=np.int32))
    return pa.table([*rows.columns, *[reset] * (len(schema) - rows.num_columns)], schema=schema)


def _kept(snapshot: Snapshot, feature: Feature, fragment: Any, schema: pa.Schema, new: Offsets) -> Iterator[Piece]:
    """Yield the rows of the fragment that are not computed anew, with what they hold now."""
    with translated(f"reading {schema.names[0]!r}"):
        batches = snapshot.dataset.scanner(
            columns=schema.names,
            fragments=[fragment],
            with_row_address=True,
            batch_size=rows_per_batch(snapshot, feature.columns),
            batch_readahead=2,
            scan_in_order=True,
            blob_handling="all_binary",
        ).to_batches()
        for batch in batches:
            at = offsets_of(batch["_rowaddr"])
            other = ~np.isin(at, new)
            if other.any():
                rows = pa.Table.from_batches([batch]).select(schema.names).filter(pa.array(other))
                yield pa.table(rows.columns, schema=schema), at[other]


def offsets_of(addresses: pa.Array | pa.ChunkedArray) -> Offsets:
    """Return the physical offsets within the fragment: the low 32 bits of a row address."""
    return (np.asarray(addresses).astype(np.uint64) & np.uint64(0xFFFFFFFF)).astype(np.int64)
