"""Columns from elsewhere, found by a key: declared like features, with stamps, so that they land like a backfill.

What a column came from is its source, a digest of the content its code hash. Other content is the next generation, so
the stamps say at any moment which rows hold which; the same call after a kill goes on where the table is.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakehouse import types
from lakehouse.conform import conform, matching
from lakehouse.data import as_source
from lakehouse.errors import (
    AlreadyExistsError,
    BadRowsError,
    DuplicateKeyError,
    InvalidArgumentError,
    RowNotFoundError,
    SchemaError,
)
from lakehouse.features.evolution.intake import Intake, placed
from lakehouse.features.evolution.spool import Spool, spooled
from lakehouse.features.jobs.options import BackfillResult
from lakehouse.progress import track
from lakehouse.schema.lineage import Feature, owner_of
from lakehouse.sources.parquet import Parquet, read_parquet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.data import Source
    from lakehouse.features.evolution.spool import Matched
    from lakehouse.snapshot import Snapshot

__all__ = ["ImportResult", "OnMissing", "add_columns_from"]

OnMissing = Literal["null", "raise", "keep"]
logger = logging.getLogger("lakehouse")


@dataclass(frozen=True)
class ImportResult:
    """What came of columns from elsewhere.

    Parameters
    ----------
    version
        The version that holds them.
    columns
        What was added or filled again.
    num_rows
        Rows of the table that have data.
    num_missing
        Rows of the table that have none.
    num_unmatched
        Rows of the data whose key is not in the table; they were left out.
    unmatched
        Some of their keys.
    nbytes_written
        Bytes added to the table's folder.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"id": 1}, {"id": 2}])
    >>> result = table.add_columns_from([{"id": 2, "name": "Rex"}, {"id": 3, "name": "Mia"}], on="id", progress=False)
    >>> result.num_rows, result.num_missing, result.num_unmatched, result.unmatched
    (1, 1, 1, (3,))
    """

    version: int
    columns: tuple[str, ...]
    num_rows: int
    num_missing: int
    num_unmatched: int
    unmatched: tuple[Any, ...]
    nbytes_written: int


def add_columns_from(
    snapshot: Snapshot,
    data: Any,
    on: str | None = None,
    on_missing: OnMissing = "null",
    *,
    progress: bool | None = None,
) -> ImportResult:
    """Add or refill columns with values from elsewhere.

    Parameters
    ----------
    snapshot
        The newest version.
    data
        Arrow, a DataFrame, dictionaries, an SQL result, a source, or the path of Parquet files.
    on
        The column by whose values rows are found, in the data each at most once; None means the table's key.
    on_missing
        What rows without data get: ``"null"``, or ``"keep"`` what they have; ``"raise"`` changes nothing then.
    progress
        See `lakehouse.progress.track`.

    Raises
    ------
    DuplicateKeyError
        A key is twice in the data.
    RowNotFoundError
        No key of the data is in the table, or with ``on_missing="raise"`` a row has no data.
    AlreadyExistsError
        A column of that name is there, and did not come from elsewhere.
    BadRowsError, SchemaError, ConflictError
    """
    snapshot.check_extensible()
    if on_missing not in ("null", "raise", "keep"):
        raise InvalidArgumentError(f'on_missing={on_missing!r}; choose "null", "raise" or "keep"')
    source = read_parquet(data) if isinstance(data, str | os.PathLike) else as_source(data)
    on = _key(snapshot, source.schema, on)
    names = [name for name in source.schema.names if name != on]
    groups = _groups(snapshot, names)
    schema = matching(source.schema, _wanted(snapshot, source.schema, on))
    with spooled(schema, on) as spool:
        _spool(source, schema, spool, progress)
        matched = spool.place(placed(snapshot, on))
        _check(snapshot, spool, matched, on, on_missing)
        intake = Intake(snapshot, spool, on, _told(data, source), keep=on_missing == "keep", progress=progress)
        filled = BackfillResult(snapshot.version)
        for group in groups:
            filled += intake.fill([schema.field(name) for name in group])
        return ImportResult(
            version=filled.version,
            columns=tuple(names),
            num_rows=matched.num_rows,
            num_missing=matched.num_missing,
            num_unmatched=matched.num_unmatched,
            unmatched=matched.unmatched,
            nbytes_written=filled.nbytes_written,
        )


# What is asked for


def _key(snapshot: Snapshot, given: pa.Schema, on: str | None) -> str:
    name = on or snapshot.key
    if name is None:
        raise InvalidArgumentError(f"{snapshot.name!r} has no key; say by which column rows are found, on=…")
    snapshot.columns([name])
    if name not in given.names:
        raise InvalidArgumentError(
            f"the data has no column {name!r} to find rows by; it has {', '.join(given.names) or 'no columns'}"
        )
    if given.names == [name]:
        raise InvalidArgumentError(f"the data has no column beside {name!r}; nothing can be added from it")
    return name


def _groups(snapshot: Snapshot, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Sort columns into those that share a stamp: what came together before, and what is new."""
    there: list[Feature] = []
    for name in names:
        feature = owner_of(snapshot.features, name) if name in snapshot.schema.names else None
        if name in snapshot.schema.names and (feature is None or feature.kind != "data"):
            made = f"computed from {feature.source}" if feature else "a column of the table already"
            raise AlreadyExistsError(f"{name!r} is {made}; rename it in the data, or drop it first")
        if feature is not None and (left := [each for each in feature.columns if each not in names]):
            raise SchemaError(
                f"{', '.join(feature.columns)} came together from {feature.source}; the data lacks {left[0]!r}: "
                "give all of them, or drop those you do not want"
            )
        there += [feature] if feature is not None else []
    new = tuple(name for name in names if name not in snapshot.schema.names)
    return [feature.columns for feature in dict.fromkeys(there)] + ([new] if new else [])


def _wanted(snapshot: Snapshot, given: pa.Schema, on: str) -> pa.Schema:
    """Return the columns as the table has them or is to have them."""
    fields = []
    for field in given:
        if field.name in snapshot.schema.names:
            fields.append(snapshot.schema.field(field.name))
        elif pa.types.is_dictionary(field.type) and types.category_values(field) is None:
            fields.append(pa.field(field.name, field.type.value_type))
        else:
            fields.append(field.with_nullable(True))
    return pa.schema([field.with_nullable(True) if field.name == on else field for field in fields])


def _told(data: Any, source: Source) -> str:
    """Say where the data came from."""
    if isinstance(source, Parquet):
        return ", ".join(source.listing.names)
    kind = type(data)
    if kind.__module__.startswith("lakehouse.sql"):
        return "SQL over " + ", ".join(f"{table} at version {number}" for table, number in data.versions.items())
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def _spool(source: Source, schema: pa.Schema, spool: Spool, progress: bool | None) -> None:
    with track("reading the data", source.count(), enabled=progress) as tracker:
        for chunk in source.chunks():
            batch, bad = conform(chunk.batch, schema, lambda row: f"row {spool.num_rows + row}")
            if failures := [*chunk.failures, *bad]:
                raise BadRowsError(f"{failures[0].source}: {failures[0].message}; nothing was changed")
            spool.append(batch)
            tracker.advance(batch.num_rows)
    if twice := spool.twice():
        raise DuplicateKeyError(
            f"the key {twice[0]!r} is {twice[1]} times in the data; which row should win? Nothing was changed"
        )


def _check(snapshot: Snapshot, spool: Spool, matched: Matched, on: str, on_missing: OnMissing) -> None:
    if matched.num_missing and on_missing == "raise":
        raise RowNotFoundError(
            f"{matched.num_missing} rows of {snapshot.name!r} have no data, {on} = {_some(matched.missing)} among "
            'them; on_missing="null" leaves them empty, "keep" as they are. Nothing was changed'
        )
    if spool.num_rows and snapshot.num_rows and not matched.num_rows:
        raise RowNotFoundError(
            f"no row of {snapshot.name!r} has a key of the data, {on} = {_some(matched.unmatched)} for example; "
            "is it the right column? Nothing was changed"
        )
    if matched.num_unmatched:
        logger.warning(
            "%s of %s rows of the data have no row in %r (%s = %s) and are left out",
            f"{matched.num_unmatched:,}", f"{spool.num_rows:,}", snapshot.name, on, _some(matched.unmatched),
        )  # fmt: skip


def _some(keys: tuple[Any, ...]) -> str:
    return ", ".join(map(repr, keys))
