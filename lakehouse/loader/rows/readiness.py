"""Whether what a loader reads is there and true: rows by the stamps of the features it needs, before any is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lakehouse import reads, types
from lakehouse.errors import DataError, InvalidArgumentError, translated
from lakehouse.features.jobs.backfill import Options, backfill_columns
from lakehouse.features.records import audit
from lakehouse.features.records.counts import stamps, todo
from lakehouse.schema.lineage import TODO, Feature
from lakehouse.snapshot import open_snapshot
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt
    import pyarrow as pa

    from lakehouse.features.records.rowids import RowIds
    from lakehouse.loader.options import OnMissing
    from lakehouse.loader.rows.needs import Needs
    from lakehouse.snapshot import Snapshot

__all__ = ["Gap", "Readiness", "doubted", "made_ready"]

_STAMPS = 1 << 20  # stamps at a time, 4 MB each
_ROUNDS = 3  # of filling: others may add rows meanwhile; who adds them faster than that is told so


@dataclass(frozen=True)
class Gap:
    """Rows in which one feature is not ready.

    Parameters
    ----------
    column
        The feature.
    num_missing
        Rows never computed.
    num_stale
        Rows whose value is of an older function, of inputs that changed, or that others wrote.
    num_failed
        Rows whose function failed.
    """

    column: str
    num_missing: int = 0
    num_stale: int = 0
    num_failed: int = 0

    def __str__(self) -> str:
        counts = (("missing", self.num_missing), ("stale", self.num_stale), ("failed", self.num_failed))
        return f"{self.column!r} is " + ", ".join(f"{word} in {count:,}" for word, count in counts if count)


@dataclass(frozen=True)
class Readiness:
    """How many of the rows asked for can be read.

    Parameters
    ----------
    num_rows
        Rows asked for.
    num_unready
        Rows of them in which some feature is not ready.
    gaps
        By feature; those that are ready everywhere are not told.
    num_filled
        Rows that were filled first.

    Examples
    --------
    >>> print(Readiness(100, 7, (Gap("phash", num_missing=7),)))
    7 of 100 rows are not ready: 'phash' is missing in 7
    """

    num_rows: int
    num_unready: int = 0
    gaps: tuple[Gap, ...] = ()
    num_filled: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a backfill would find anything to do."""
        return any(gap.num_missing + gap.num_stale for gap in self.gaps)

    def __str__(self) -> str:
        if not self.num_unready:
            return f"all {self.num_rows:,} rows are ready"
        return f"{self.num_unready:,} of {self.num_rows:,} rows are not ready: {'; '.join(map(str, self.gaps))}"


def made_ready(
    snapshot: Snapshot,
    needs: Needs,
    on_missing: OnMissing,
    *,
    progress: bool | None = None,
    remember: bool = False,
) -> tuple[Snapshot, Readiness]:
    """Count the rows that are not ready, and refuse or fill them.

    Parameters
    ----------
    snapshot
        The version that was asked for.
    needs
        What its rows must have.
    on_missing
        ``"raise"`` refuses, ``"skip"`` only counts, ``"fill"`` fills the rows asked for.
    progress
        See `lakehouse.progress.track`; of the filling.
    remember
        Whether to keep what was read of the log of the table, so that nobody reads it again.

    Returns
    -------
    Snapshot, Readiness
        The version to read, which is a newer one if rows were filled.

    Raises
    ------
    DataError
        Rows are not ready; it says how many of which features, and what to do.
    InvalidArgumentError
        Rows are to be filled, and the table is pinned to a version.
    BackfillError, SchemaError
        Of the filling.
    """
    if on_missing == "fill" and snapshot.pinned:
        raise InvalidArgumentError(
            f"{snapshot.name!r} is pinned to version {snapshot.version}, and on_missing='fill' makes a newer one; open "
            "it without a version, or choose on_missing='skip'"
        )
    found = left = counted(snapshot, needs, remember=remember)
    if not found.num_unready or on_missing == "skip":
        return snapshot, found
    if on_missing == "raise":
        raise DataError(f"{_told(snapshot, needs, found)}; on_missing='skip' leaves them out, 'fill' fills them now")
    for _ in range(_ROUNDS):
        if left.is_open:
            snapshot = _fill(snapshot, needs, progress=progress)
            left = counted(snapshot, needs, remember=remember)
    if left.num_unready:
        raise DataError(f"after filling, {_told(snapshot, needs, left)}; on_missing='skip' leaves them out")
    return snapshot, Readiness(left.num_rows, num_filled=found.num_unready)


def doubted(snapshot: Snapshot, needs: Needs, *, remember: bool = False) -> dict[str, RowIds]:
    """Return, by token, the rows in which nobody vouches for a feature that is needed."""
    if not needs.features:
        return {}
    rows = audit.unverified(snapshot, audit.known(snapshot, remember=remember and not snapshot.pinned))
    return {feature.token: rows[feature.token] for feature in needs.features if feature.token in rows}


def counted(snapshot: Snapshot, needs: Needs, *, remember: bool = False) -> Readiness:
    """Count the rows asked for that are not ready; they are looked at only if some row of the table may not be."""
    doubts = doubted(snapshot, needs, remember=remember)
    told = stamps(snapshot, needs.features)
    is_fresh = (_is_fresh(f, (n for each in told[f.token].values() for n in each.by_stamp)) for f in needs.features)
    if not doubts and all(is_fresh):
        return Readiness(reads.count_rows(snapshot, needs.where) if needs.features else 0)
    total, found = Counter[str](), {feature: Counter[str]() for feature in needs.features}
    with translated(f"counting the rows of {snapshot.name!r} that are ready"):
        batches = snapshot.dataset.scanner(
            columns=[feature.stamp for feature in needs.features],
            filter=needs.asked(),
            with_row_id=True,
            batch_size=_STAMPS,
        ).to_batches()
        for batch in batches:
            total.update(_tallied(batch, found, doubts))
    gaps = (_gap(snapshot, needs, feature, counts) for feature, counts in found.items() if counts.total())
    return Readiness(total["rows"], total["unready"], tuple(gaps))


def _is_fresh(feature: Feature, found: Iterable[int]) -> bool:
    return all(stamp >= feature.true_from and stamp % 2 == 0 for stamp in found)


def _tallied(
    batch: pa.RecordBatch, found: Mapping[Feature, Counter[str]], doubts: Mapping[str, RowIds]
) -> dict[str, int]:
    """Add to the counts of each feature; return the rows, and those in which any is not ready."""
    unready = np.zeros(batch.num_rows, np.bool_)
    for feature, counts in found.items():
        stamp: npt.NDArray[np.int64] = np.asarray(batch[feature.stamp].fill_null(TODO), np.int64)
        is_open = stamp == TODO
        is_doubted = np.zeros(len(stamp), np.bool_)
        if feature.token in doubts:
            is_doubted = doubts[feature.token].contains(batch[reads.ROW_ID]) & ~is_open
        is_stale = is_doubted | (~is_open & (stamp < feature.true_from))
        is_failed = ~is_open & ~is_stale & (stamp % 2 == 1)
        for word, rows in (("missing", is_open), ("stale", is_stale), ("failed", is_failed)):
            counts[word] += int(rows.sum())
            unready |= rows
    return {"rows": len(unready), "unready": int(unready.sum())}


def _gap(snapshot: Snapshot, needs: Needs, feature: Feature, counts: Counter[str]) -> Gap:
    """Tell rows that were reset from rows that never had a value, by the value; a picture's would have to be read."""
    num_reset = 0
    if counts["missing"] and types.media_kind(snapshot.schema.field(feature.name)) is None:
        tests = [todo(feature), f"{quoted(feature.name)} IS NOT NULL", *filter(None, [needs.asked()])]
        num_reset = reads.count_rows(snapshot, " AND ".join(f"({test})" for test in tests))
    return Gap(feature.name, counts["missing"] - num_reset, counts["stale"] + num_reset, counts["failed"])


def _told(snapshot: Snapshot, needs: Needs, found: Readiness) -> str:
    by_name = {feature.name: feature for feature in needs.features}
    gaps = [(gap, by_name[gap.column]) for gap in found.gaps]
    todos = []
    if computed := [gap.column for gap, f in gaps if f.kind != "data" and gap.num_missing + gap.num_stale]:
        todos.append(f"backfill({computed!r}) fills them")
    if failed := [gap.column for gap, f in gaps if f.kind != "data" and gap.num_failed]:
        todos.append(f"errors({failed!r}) says why they failed, backfill({failed!r}, only='failed') tries again")
    todos += [
        f"{gap.column!r} came from {f.source}: add_columns_from(…) brings it" for gap, f in gaps if f.kind == "data"
    ]
    return f"{snapshot.name!r} at version {snapshot.version}: {found}. {'; '.join(todos)}"


def _fill(snapshot: Snapshot, needs: Needs, *, progress: bool | None) -> Snapshot:
    """Fill first what decides which rows match, then what is read of these."""
    for features, where in ((needs.by_where, needs.unjudged()), (needs.by_columns, needs.where)):
        names = [feature.name for feature in features if feature.kind != "data"]
        if names:
            newest = open_snapshot(snapshot.lake, snapshot.name)
            backfill_columns(newest, names, None, Options(where=where, progress=progress))
    return open_snapshot(snapshot.lake, snapshot.name)
