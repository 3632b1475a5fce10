"""A column as it was at a version, everybody else's newer writes kept.

Three commits. After each of them the table tells the truth, so a kill in between does no harm, and the same call again
finishes:

1. The function of that version is declared again, as a new generation that no value has yet: the whole column is
   stale(code). Whoever fills the generation before it is refused from here on.
2. The data files of that version take the place of the present ones, and the stamps of everything computed from the
   column are taken away: one transaction, atomic. It names every fragment with all these fields, so it conflicts with
   each fill of the column or of a dependent that looked at the table before it, whichever of the two comes first. So
   nothing of a generation later than that version's survives it, or lands after it.
3. The generations that were true at that version are true again. What was filled since 1 is of the new generation,
   which is the same function.

Data files are named again, not copied. Where an input changed since, only the stamps are written anew, 0 for the rows
it changed for; where rows have moved to another fragment, they are found by row id and copied.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lakehouse import commit, failures
from lakehouse.errors import ColumnNotFoundError, SchemaError, VersionNotFoundError
from lakehouse.features.evolution import revisions
from lakehouse.features.evolution.restoring import Old, Restored, check_unaltered
from lakehouse.features.records import ledger
from lakehouse.leases import lease, leases_of
from lakehouse.pins import pinned
from lakehouse.progress import track
from lakehouse.schema.lineage import dependents, owner_of, with_token
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from lakehouse.schema.lineage import Feature

__all__ = ["RollbackResult", "rollback_column"]


@dataclass(frozen=True)
class RollbackResult:
    """What a rollback did.

    Parameters
    ----------
    version
        The version that holds it.
    rolled_back_to
        The version the column is as it was at.
    num_rows
        Rows of the table.
    num_true
        Rows that hold the value they held then, and it is true still.
    num_stale
        Rows whose value was stale then, or whose inputs changed since.
    num_missing
        Rows that had no value then, or were not there.
    nbytes_written
        Bytes added to the table's folder; 0 where neither rows nor inputs changed.
    became_stale
        Features computed from the column.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
    >>> _ = table.add_columns({"y": "x + 1"})
    >>> version = table.backfill("y", progress=False).version
    >>> _ = table.update(values={"x": 5})
    >>> _ = table.backfill("y", progress=False)
    >>> result = table.rollback_column("y", version=version)
    >>> result.num_true, result.num_stale
    (0, 1)
    """

    version: int
    rolled_back_to: int
    num_rows: int
    num_true: int
    num_stale: int
    num_missing: int
    nbytes_written: int
    became_stale: tuple[str, ...]


def rollback_column(snapshot: Snapshot, column: str, version: int, progress: bool | None = None) -> RollbackResult:
    """Put a feature's columns back as they were at a version.

    Parameters
    ----------
    snapshot
        The newest version.
    column
        Any column of the feature.
    version
        Which version.
    progress
        See `lakehouse.progress.track`.

    Raises
    ------
    VersionNotFoundError
        It was cleaned up, or never was.
    SchemaError
        The column is no feature, did not exist then, or was of another type.
    ConflictError
        It is being filled, or something computed from it is.
    """
    snapshot.check_writable()
    feature = owner_of(snapshot.features, column)
    if feature is None:
        snapshot.columns([column])
        raise SchemaError(
            f"{column!r} is not computed, so nobody knows which rows of it were true; "
            f"restore() takes the whole table back, update() changes values"
        )
    old = Old.of(_opened(snapshot, version), snapshot, feature)
    stale = dependents(snapshot.features, snapshot.field_ids, feature.columns)
    with ExitStack() as held:
        held.enter_context(pinned(old.snapshot))
        for each in (feature, *stale):
            held.enter_context(lease(leases_of(snapshot), each.token, f"filling {each.name!r} of {snapshot.name!r}"))
        return _roll_back(snapshot, feature, old, progress)


def _roll_back(snapshot: Snapshot, feature: Feature, old: Old, progress: bool | None) -> RollbackResult:
    asked = f"rolling back {feature.name!r} of {snapshot.name!r} to version {old.snapshot.version}"
    was, properties = old.feature, {commit.FILLED: feature.token, commit.FROM_VERSION: str(old.snapshot.version)}

    def declared_again(_: Any, now: Feature) -> Feature:
        return now.altered(
            source=was.source,
            code_hash=was.code_hash,
            arguments=was.arguments,
            inputs=was.inputs,
            called=was.called,
        )

    altered = revisions.redeclare(snapshot, feature.token, declared_again, asked, {revisions.EVENT: "rolling back"})
    restored = Restored(snapshot, altered, old)
    with track(f"rolling back {feature.name}", enabled=progress, unit="fragments") as tracker:
        restored.stage(tracker)  # before the commit's clock runs
        commit.commit_operation(snapshot.location, restored.operation, properties, asked)

    def true_again(_: Any, now: Feature) -> Feature:
        check_unaltered(now, altered)
        return replace(now, oldest=was.oldest, oldest_before=was.oldest)

    done = revisions.redeclare(snapshot, feature.token, true_again, asked, {revisions.EVENT: "rolled back"})
    failures.forget(snapshot.lake, snapshot.name, feature.token)  # they tell of values that are gone
    return _told(open_snapshot(snapshot.lake, snapshot.name), done, restored, old)


def _told(now: Snapshot, feature: Feature, restored: Restored, old: Old) -> RollbackResult:
    here = with_token(now.features, feature.token)
    if here is None:
        raise ColumnNotFoundError(f"{feature.name!r} was dropped right after it was rolled back")
    counted = ledger.counts(now, here)
    stale = counted.older + counted.reset
    return RollbackResult(
        version=now.version,
        rolled_back_to=old.snapshot.version,
        num_rows=counted.num_rows,
        num_true=counted.done,
        num_stale=stale,
        num_missing=counted.num_rows - counted.done - counted.failed - stale,
        nbytes_written=restored.nbytes,
        became_stale=tuple(feature.name for feature in restored.stale),
    )


def _opened(snapshot: Snapshot, version: int) -> Snapshot:
    try:
        return open_snapshot(snapshot.lake, snapshot.name, version)
    except VersionNotFoundError as error:
        if 0 < version < snapshot.version:
            raise VersionNotFoundError(
                f"version {version} of {snapshot.name!r} was cleaned up, its values are gone; "
                "column_history() tells what happened, history() which versions are left"
            ) from error
        raise
