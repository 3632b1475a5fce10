"""What is known of a table without reading its values: columns, bytes, fragments, versions, indexes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc

from lakehouse import reads, storage, types
from lakehouse.errors import translated
from lakehouse.schema.lineage import features_of, input_names
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from lakehouse.snapshot import Snapshot

__all__ = ["ColumnInfo", "Outline", "TableInfo", "inspect", "outline"]


@dataclass(frozen=True)
class ColumnInfo:
    """One column as users see it.

    Parameters
    ----------
    name
        Its name.
    type
        What it holds, in the words of `lakehouse.types.meaning`.
    media
        ``image``, ``video``, ``audio``, ``text`` or ``blob``; None for plain values.
    doc
        What the values mean: the schema's documentation, or what a feature is computed from.
    feature
        ``udf`` or ``sql`` for a feature column, else empty.
    state
        How far a feature is (``fresh``, ``stale(code)`` …); empty where nobody counted.
    coverage
        The share of rows a feature is filled for, 0 to 1; None where nobody counted.
    num_failed
        The rows a feature could not be computed for.
    nbytes
        What it occupies in this version's files, media included; None where nobody measured.
    """

    name: str
    type: str
    media: str | None = None
    doc: str = ""
    feature: str = ""
    state: str = ""
    coverage: float | None = None
    num_failed: int = 0
    nbytes: int | None = None


@dataclass(frozen=True)
class Outline:
    """What the manifest of one version of a table says.

    Parameters
    ----------
    key
        The column that names a row.
    """

    name: str
    uri: str
    version: int
    num_rows: int
    key: str | None
    columns: tuple[ColumnInfo, ...]


@dataclass(frozen=True)
class TableInfo(Outline):
    """One version of one table, measured.

    Parameters
    ----------
    num_fragments
        The pieces the rows lie in.
    num_versions
        The versions that can still be opened.
    nbytes
        What this version's columns occupy.
    nbytes_on_disk
        What the table's folder occupies, older versions and indexes included.
    indexes
        The names of the columns that have a search structure, in table order.
    """

    num_fragments: int
    num_versions: int
    nbytes: int
    nbytes_on_disk: int
    indexes: tuple[str, ...]


def outline(snapshot: Snapshot) -> Outline:
    """Gather what the manifest says; nothing else is read."""
    made: dict[str, tuple[str, str]] = {}
    for feature in features_of(snapshot.physical).values():
        inputs = ", ".join(input_names(feature, snapshot.field_ids))
        words = f"= {feature.source}" if feature.kind == "sql" else f"computed from {inputs or 'nothing'}"
        made |= dict.fromkeys(feature.columns, (feature.kind, words))
    columns = tuple(_column(field, *made.get(field.name, ("", ""))) for field in snapshot.schema)
    return Outline(snapshot.name, snapshot.uri, snapshot.version, snapshot.num_rows, snapshot.key, columns)


def inspect(snapshot: Snapshot, features: pa.Table | None = None) -> TableInfo:
    """Gather what is known of a table; reads file footers and blob sizes, no values.

    Parameters
    ----------
    snapshot
        The version to look at.
    features
        The feature columns' states, as `Table.features` returns them; None where they do not matter.
    """
    with translated(f"looking at table {snapshot.name!r}"):
        nbytes = _column_nbytes(snapshot)
        versions = snapshot.dataset.versions()
        indexed = {name for index in snapshot.dataset.describe_indices() for name in index.field_names}
    states = {row["column"]: row for row in features.to_pylist()} if features is not None else {}
    plain = outline(snapshot)
    return TableInfo(
        name=plain.name,
        uri=plain.uri,
        version=plain.version,
        num_rows=plain.num_rows,
        key=plain.key,
        columns=tuple(_measured(column, nbytes[column.name], states) for column in plain.columns),
        num_fragments=len(snapshot.dataset.get_fragments()),
        num_versions=len(versions),
        nbytes=sum(nbytes.values()),
        nbytes_on_disk=snapshot.location.nbytes(),
        indexes=tuple(column.name for column in plain.columns if column.name in indexed),
    )


def _column(field: pa.Field, feature: str, made_from: str) -> ColumnInfo:
    return ColumnInfo(
        name=field.name,
        type=types.meaning(field),
        media=types.media_kind(field),
        doc=types.doc(field) or made_from,
        feature=feature,
    )


def _measured(column: ColumnInfo, nbytes: int, states: Mapping[str, Mapping[str, Any]]) -> ColumnInfo:
    column = replace(column, nbytes=nbytes)
    if column.name not in states:
        return column
    row = states[column.name]
    return replace(column, state=row["state"], coverage=row["coverage"], num_failed=row["num_failed"])


def _column_nbytes(snapshot: Snapshot) -> dict[str, int]:
    nbytes = reads.column_nbytes(snapshot)
    # Lance counts a blob's descriptor only: neither what lies inline nor what lies in a sidecar file (14.0.2)
    for field in snapshot.physical:
        if storage.is_blob_type(field.type):
            nbytes[field.name] += _blob_nbytes(snapshot, field.name)
    return nbytes


def _blob_nbytes(snapshot: Snapshot, column: str) -> int:
    size = f"{quoted(column)}.size"
    scanner = snapshot.dataset.scanner(columns={"size": size}, blob_handling="all_descriptions")
    return sum(pc.sum(batch["size"]).as_py() or 0 for batch in scanner.to_batches())
