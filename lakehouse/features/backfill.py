"""The job: which rows lack a value, compute them, commit them, and say what was done.

The table is the ledger: rows are planned from the stamps of a pinned version, computed batch by batch into
checkpoints, staged one file per fragment and committed a group at a time. What others moved meanwhile is planned
again; checkpointed values are found by row id, so that nothing is computed twice.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from lakehouse import commit, failures, layout, reads
from lakehouse.errors import BackfillError, InvalidArgumentError, SchemaError, translated
from lakehouse.failures import RowFailure
from lakehouse.features import checkpoints, ledger, staging
from lakehouse.features.compute import Compute, compute_for
from lakehouse.leases import lease
from lakehouse.progress import Tracker, track
from lakehouse.schema.lineage import Feature, dependents, owner_of
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.where import Where, quoted, render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakehouse.features.udf import UDF

Only = Literal["missing", "stale", "failed", "all"]
OnError = Literal["record", "raise", "null"]

# One commit when the job is short; a longer one shows its work at each third, and at least once a minute: every
# commit rewrites the manifest (DESIGN.md, "How a column is filled", 5).
_THIRD_AFTER_S = 10.0
_COMMIT_EVERY_S = 60.0
_MEASURED_ROWS = 16  # computed to say how long all will take


@dataclass(frozen=True)
class Options:
    """What to fill and how.

    Parameters
    ----------
    where
        Only rows that match.
    only
        None: missing and stale rows. ``"missing"``, ``"stale"``, ``"failed"`` or ``"all"``.
    on_error
        ``"record"`` a failure and go on, ``"raise"`` at the first, or store ``"null"``.
    max_error_rate
        Share of failed rows, 0 to 1, above which the job stops; looked at from the hundredth row on.
    limit
        At most this many rows: a pilot.
    progress
        See `lakehouse.progress.track`.
    """

    where: Where | None = None
    only: Only | None = None
    on_error: OnError = "record"
    max_error_rate: float | None = None
    limit: int | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        if self.only not in (None, "missing", "stale", "failed", "all"):
            raise InvalidArgumentError(f'only={self.only!r}; choose None, "missing", "stale", "failed" or "all"')
        if self.on_error not in ("record", "raise", "null"):
            raise InvalidArgumentError(f'on_error={self.on_error!r}; choose "record", "raise" or "null"')
        if self.limit is not None and self.limit < 1:
            raise InvalidArgumentError(f"limit={self.limit}; it is a number of rows, 1 or more")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise InvalidArgumentError(f"max_error_rate={self.max_error_rate}; it is a share of rows, 0 to 1")


@dataclass(frozen=True)
class BackfillResult:
    """What a backfill did.

    Parameters
    ----------
    version
        The version that holds it.
    num_rows
        Rows that lacked a value.
    num_filled, num_failed
        Rows that have one now, and rows whose function failed.
    num_skipped
        Rows of the table that were left as they are.
    num_computed, num_resumed
        Rows the function ran on, and rows found computed by a job that was killed.
    nbytes_written
        Bytes added to the table's folder.
    """

    version: int
    num_rows: int
    num_filled: int
    num_failed: int
    num_skipped: int
    num_computed: int
    num_resumed: int
    nbytes_written: int


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would do.

    Parameters
    ----------
    num_rows
        Rows that lack a value.
    seconds
        Time expected, from a few rows computed now; 0 if there are none.
    nbytes
        Bytes the column files will take, about.
    becomes_stale
        Features computed from the filled ones.
    """

    num_rows: int
    seconds: float
    nbytes: int
    becomes_stale: tuple[str, ...]


@dataclass
class _Counts:
    """What happened so far."""

    version: int
    num_rows: int = 0
    num_filled: int = 0
    num_failed: int = 0
    num_computed: int = 0
    num_resumed: int = 0
    nbytes: int = 0
    failures: list[RowFailure] = field(default_factory=list)


def backfill(snapshot: Snapshot, feature: Feature, udf: UDF | None, options: Options) -> BackfillResult:
    """Fill one feature.

    Parameters
    ----------
    snapshot
        The newest version.
    feature
        What to fill.
    udf
        Its function; None for an SQL expression.
    options
        Which rows, and what to do about failures.

    Raises
    ------
    BackfillError
        Stopped by ``on_error="raise"`` or `max_error_rate`; what was computed is kept and found again.
    ConflictError
        Somebody else is filling it.
    """
    snapshot.check_writable()
    leases = layout.side(snapshot.lake).child("leases").child(snapshot.name)
    with (
        lease(leases, feature.token, f"filling {feature.name!r} of {snapshot.name!r}"),
        compute_for(feature, udf) as compute,
    ):
        job = _Job(snapshot, feature, compute, options)
        with track(f"filling {feature.name}", job.plan_total(), enabled=options.progress) as tracker:
            return job.run(tracker)


class _Job:
    """One filling of one feature, round after round until no row is left."""

    def __init__(self, snapshot: Snapshot, feature: Feature, compute: Compute, options: Options) -> None:
        self._snapshot = self._covered(snapshot, feature)
        self._feature = feature
        self._compute = compute
        self._options = options
        self._run = f"{feature.name}-{uuid.uuid4().hex}"
        self._checkpoints = checkpoints.Checkpoints(snapshot, feature)
        self._counts = _Counts(snapshot.version)
        self._started = self._committed = time.monotonic()

    @staticmethod
    def _covered(snapshot: Snapshot, feature: Feature) -> Snapshot:
        return open_snapshot(snapshot.lake, snapshot.name) if staging.cover(snapshot, feature) else snapshot

    def plan_total(self) -> int:
        """Count the rows of the first round."""
        total = reads.count_rows(self._snapshot, pending(self._feature, self._options))
        return min(total, self._options.limit or total)

    def run(self, tracker: Tracker) -> BackfillResult:
        """Plan, compute and commit until nothing is left to do."""
        left: np.ndarray[Any, Any] | None = None  # None: whatever the stamps say
        while True:
            work = list(self.work(left))
            if not work:
                break
            left = self._round(work, tracker)
            if self._options.limit is not None or self._options.only in ("failed", "all"):
                if len(left) == 0:
                    break
            else:
                left = None
            self._snapshot = self._covered(open_snapshot(self._snapshot.lake, self._snapshot.name), self._feature)
        if self._options.limit is None:
            self._checkpoints.drop_all()
        return self._result()

    def work(
        self, only: np.ndarray[Any, Any] | None
    ) -> Iterator[tuple[Any, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        """Yield the fragments with rows to do: the fragment, row ids, physical offsets."""
        budget = self._options.limit - self._counts.num_rows if self._options.limit is not None else None
        predicate = render(pending(self._feature, self._options))
        for fragment in self._snapshot.dataset.get_fragments():
            with translated(f"planning {self._feature.name!r}"):
                rows = self._snapshot.dataset.scanner(
                    columns=[], filter=predicate, fragments=[fragment], with_row_id=True, with_row_address=True
                ).to_table()
            ids = np.asarray(rows[reads.ROW_ID], dtype=np.uint64)
            offsets = staging.offsets_of(rows["_rowaddr"])
            if only is not None:
                wanted = np.isin(ids, only)
                ids, offsets = ids[wanted], offsets[wanted]
            elif budget is not None:
                ids, offsets = ids[:budget], offsets[:budget]
                budget -= len(ids)
            if len(ids):
                yield fragment, ids, offsets

    def _round(self, work: Sequence[tuple[Any, Any, Any]], tracker: Tracker) -> np.ndarray[Any, Any]:
        """Compute and commit; return the ids of rows whose fragment was moved by somebody else."""
        staged: list[tuple[staging.Staged, Any]] = []
        unlanded: list[Any] = []
        third = -(-len(work) // 3)
        try:
            for fragment, ids, offsets in work:
                staged.append((self._fill(fragment, ids, offsets, tracker), ids))
                now = time.monotonic()
                if (
                    len(staged) >= third and now - self._committed > _THIRD_AFTER_S
                ) or now - self._committed > _COMMIT_EVERY_S:
                    unlanded += self._commit(staged)
                    staged = []
        except (KeyboardInterrupt, BackfillError):
            self._commit(staged)
            raise
        unlanded += self._commit(staged)
        return np.concatenate(unlanded) if unlanded else np.empty(0, dtype=np.uint64)

    def _fill(self, fragment: Any, ids: Any, offsets: Any, tracker: Tracker) -> staging.Staged:
        """Compute what no checkpoint has, and stage the fragment's file."""
        inputs = checkpoints.fingerprint(fragment, self._feature.inputs)
        schema = checkpoints.part_schema(self._feature, self._snapshot.physical)
        kept = self._checkpoints.load(inputs, schema)
        kept = kept.filter(pa.array(np.isin(np.asarray(kept[checkpoints.ROW_ID]), ids)))
        have = np.isin(ids, np.asarray(kept[checkpoints.ROW_ID]))
        if kept.num_rows:
            self._counts.num_resumed += kept.num_rows
            tracker.advance(kept.num_rows)
            tracker.note(f"{self._counts.num_resumed:,} rows found computed")
        parts = [kept]
        for part in self._compute.run(self._snapshot, fragment, ids[~have], offsets[~have], schema):
            if self._compute.worth_keeping:
                self._checkpoints.save(inputs, part)
            failed = int(np.count_nonzero(np.asarray(part[checkpoints.FAILED])))
            self._counts.num_computed += part.num_rows
            tracker.advance(part.num_rows, failed=failed)
            self._check_errors(part, failed)
            parts.append(part)
        values = pa.concat_tables(parts)
        done_stamp = self._feature.done if self._options.on_error == "null" else self._feature.failed
        return staging.stage(self._snapshot, self._feature, fragment, values, done_stamp)

    def _check_errors(self, part: pa.Table, failed: int) -> None:
        if not failed:
            return
        bad = part.filter(part[checkpoints.FAILED]).to_pylist()
        keys = self._names(part.filter(part[checkpoints.FAILED]))
        told = [
            RowFailure(
                key, row[checkpoints.ERROR], row[checkpoints.MESSAGE], self._feature.name, row[checkpoints.ROW_ID]
            )
            for row, key in zip(bad, keys, strict=True)
        ]
        self._counts.failures += told
        if self._options.on_error == "raise":
            raise BackfillError(
                f"{self._feature.name!r} failed on row {told[0].source}: {told[0].message}; what was computed before it is kept, "
                'run it again after mending the function, or with on_error="record"'
            )
        computed, rate = self._counts.num_computed, self._options.max_error_rate
        if rate is not None and computed >= 100 and len(self._counts.failures) > rate * computed:
            raise BackfillError(
                f"{self._feature.name!r} failed on {len(self._counts.failures)} of {computed} rows, more than max_error_rate={rate}; "
                f"the last one: {told[-1].message}"
            )

    def _names(self, rows: pa.Table) -> list[str]:
        """What the user calls these rows: their keys, else their row ids."""
        ids = np.asarray(rows[checkpoints.ROW_ID])
        if self._snapshot.key is None:
            return [f"row id {row_id}" for row_id in ids]
        return [str(key) for key in reads.take_row_ids(self._snapshot, ids, [self._snapshot.key])[0].to_pylist()]

    def _commit(self, staged: list[tuple[staging.Staged, Any]]) -> list[Any]:
        """Commit a group; return the row ids of files whose ground had moved."""
        if not staged:
            return []
        self._committed = time.monotonic()
        files = [file for file, _ in staged]
        version, went_in = staging.commit_staged(
            self._snapshot, self._feature, files, f"filling {self._feature.name!r}"
        )
        self._counts.version = version or self._counts.version
        for file in went_in:
            self._counts.num_rows += file.num_rows + file.num_failed
            self._counts.num_failed += file.num_failed
            self._counts.num_filled += file.num_rows
            self._counts.nbytes += file.nbytes
            self._checkpoints.drop(file.inputs)
        if self._options.on_error == "record":
            failures.record(self._snapshot.lake, self._snapshot.name, self._run, self._counts.failures)
        return [ids for file, ids in staged if file not in went_in]

    def _result(self) -> BackfillResult:
        c = self._counts
        return BackfillResult(
            version=c.version,
            num_rows=c.num_rows,
            num_filled=c.num_filled,
            num_failed=c.num_failed,
            num_skipped=self._snapshot.num_rows - c.num_rows,
            num_computed=c.num_computed,
            num_resumed=c.num_resumed,
            nbytes_written=c.nbytes,
        )


def pending(feature: Feature, options: Options) -> Where:
    """Return the predicate of the rows to fill."""
    match options.only:
        case None:
            state = f"({ledger.todo(feature)} OR {ledger.older(feature)})"
        case "missing":
            state = f"({ledger.todo(feature)} AND {quoted(feature.name)} IS NULL)"
        case "stale":
            state = f"({ledger.older(feature)} OR ({ledger.todo(feature)} AND {quoted(feature.name)} IS NOT NULL))"
        case "failed":
            state = f"{quoted(feature.stamp)} = {feature.failed}"
        case "all":
            state = "true"
    where = render(options.where)
    return f"{state} AND ({where})" if where else state


def resolve(snapshot: Snapshot, columns: str | Sequence[str] | None) -> list[Feature]:
    """Return the features to fill, inputs before what is computed from them.

    Raises
    ------
    SchemaError
        A column that nothing computes.
    """
    if columns is None:
        wanted = list(snapshot.features.values())
    else:
        wanted = []
        for name in [columns] if isinstance(columns, str) else columns:
            feature = owner_of(snapshot.features, name)
            if feature is None:
                snapshot.columns([name])
                raise SchemaError(
                    f"{name!r} is not computed by anything; features are {', '.join(snapshot.features) or 'none'}; "
                    "declare one with add_columns({name: function or SQL expression})"
                )
            wanted.append(feature)
    return _inputs_first(list(dict.fromkeys(wanted)), snapshot.field_ids)


def _inputs_first(features: list[Feature], field_ids: dict[str, int]) -> list[Feature]:
    ordered: list[Feature] = []
    waiting = list(features)
    while waiting:
        ids = {field_ids[name] for feature in waiting for name in feature.columns}
        ready = [feature for feature in waiting if not ids & set(feature.inputs)]
        ordered += ready
        waiting = [feature for feature in waiting if feature not in ready]
    return ordered


def check_available(num_workers: int, executor: Any) -> None:
    """Refuse what is not built yet, rather than ignore it."""
    if num_workers != 0 or executor != "local":
        raise InvalidArgumentError(
            "num_workers and executor are not available yet; leave them out, the job runs in this process"
        )


def backfill_columns(
    snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None, options: Options
) -> BackfillResult:
    """Fill features, inputs before what is computed from them, and add up what was done."""
    wanted = _wanted(snapshot, columns, udf)
    total = BackfillResult(snapshot.version, 0, 0, 0, 0, 0, 0, 0)
    for feature in wanted:
        done = backfill(open_snapshot(snapshot.lake, snapshot.name), feature, udf, options)
        sums = {f.name: getattr(total, f.name) + getattr(done, f.name) for f in fields(BackfillResult)}
        total = BackfillResult(**{**sums, "version": done.version})
    return total


def plan(snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None, options: Options) -> BackfillPlan:
    """Say what a backfill would do, from a few rows computed now and not stored."""
    wanted = _wanted(snapshot, columns, udf)
    num_rows, seconds, nbytes = 0, 0.0, 0
    for feature in wanted:
        rows = reads.count_rows(snapshot, pending(feature, options))
        rows = min(rows, options.limit or rows)
        num_rows += rows
        if rows:
            each, size = _measured(snapshot, feature, udf, options)
            seconds += rows * each
            nbytes += int(rows * size)
    names = [name for feature in wanted for name in feature.columns]
    stale = [f.name for f in dependents(snapshot.features, snapshot.field_ids, names) if f not in wanted]
    return BackfillPlan(num_rows, seconds, nbytes, tuple(stale))


def _measured(snapshot: Snapshot, feature: Feature, udf: UDF | None, options: Options) -> tuple[float, float]:
    """Seconds and bytes a row, of the first rows to fill."""
    job_options = replace(options, limit=min(options.limit or _MEASURED_ROWS, _MEASURED_ROWS))
    with compute_for(feature, udf) as compute:
        job = _Job(snapshot, feature, compute, job_options)
        start, num_rows, nbytes = time.perf_counter(), 0, 0
        schema = checkpoints.part_schema(feature, snapshot.physical)
        for fragment, ids, offsets in job.work():
            for part in compute.run(snapshot, fragment, ids, offsets, schema):
                num_rows += part.num_rows
                nbytes += part.select(list(feature.columns)).nbytes
        return (time.perf_counter() - start) / max(num_rows, 1), nbytes / max(num_rows, 1)


def _wanted(snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None) -> list[Feature]:
    wanted = resolve(snapshot, columns)
    if udf is not None and len(wanted) != 1:
        raise InvalidArgumentError(f"udf= belongs to one feature, {len(wanted)} are to be filled; name one")
    return wanted
