"""One filling of one feature: plan from the stamps of a version, compute into checkpoints, stage, commit, look again.

The table is the ledger: what is to do is what the stamps say. What others moved meanwhile is planned again; values that
are computed are found again by row id, so that nothing is computed twice.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import failures, reads
from lakehouse.errors import BackfillError, translated
from lakehouse.failures import RowFailure
from lakehouse.features import checkpoints, landing, staging
from lakehouse.features.options import BackfillResult, Options, pending
from lakehouse.features.stranded import Stranded
from lakehouse.progress import Tracker, track
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.where import render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TypeAlias

    import numpy.typing as npt

    from lakehouse.features.compute import Compute
    from lakehouse.schema.lineage import Feature

    Ids: TypeAlias = npt.NDArray[np.uint64]
    Offsets: TypeAlias = npt.NDArray[np.int64]
    Group: TypeAlias = list[tuple[staging.Staged, Ids]]

# One commit when the job is short; a longer one shows its work at each third, and at least once a minute: every
# commit rewrites the manifest (DESIGN.md, "How a column is filled", 5).
_THIRD_AFTER_S = 10.0
_COMMIT_EVERY_S = 60.0
_RATE_FROM = 100  # computed rows; a share of fewer says little


class Job:
    """Rows of one feature to fill.

    Parameters
    ----------
    snapshot
        The newest version.
    feature
        What to fill.
    compute
        What computes it.
    options
        Which rows, and what to do about failures.
    """

    def __init__(self, snapshot: Snapshot, feature: Feature, compute: Compute, options: Options) -> None:
        self._feature = feature
        self._compute = compute
        self._options = options
        self._schema = checkpoints.part_schema(feature, snapshot.physical)
        self._failures: dict[int, RowFailure] = {}
        self._seen = self._seen_failed = self._rounds = 0
        self._result = BackfillResult(snapshot.version)
        self._committed = time.monotonic()
        self._move_to(snapshot)

    def _move_to(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._checkpoints = checkpoints.Checkpoints(snapshot, self._feature)
        self._inputs = checkpoints.input_ids(snapshot.dataset, self._feature)
        self._fields = staging.Fields.of(snapshot.dataset, self._feature)

    def _move_on(self) -> None:
        newest = open_snapshot(self._snapshot.lake, self._snapshot.name)
        landing.check_same(newest.dataset, self._feature)
        self._move_to(newest)

    def run(self) -> BackfillResult:
        """Plan, compute and commit until nothing is left to do.

        Raises
        ------
        BackfillError, ConflictError
        """
        landing.check_same(self._snapshot.dataset, self._feature)
        self._checkpoints.drop_others()
        left: Ids | None = None  # None: whatever the stamps say
        work = self._planned(left)
        total = sum(num_rows for _, num_rows in work)
        with track(f"filling {self._feature.name}", total, enabled=self._options.progress) as tracker:
            while work:
                unlanded = self._round(work, left, tracker)
                left = None if self._options.from_stamps else unlanded
                if left is not None and len(left) == 0:
                    break
                self._move_on()
                work = self._planned(left)
        if self._options.limit is None:
            self._checkpoints.drop_all()
        self._tally(num_skipped=self._snapshot.num_rows - self._result.num_rows)
        return self._result

    def _tally(self, version: int | None = None, **counts: int) -> None:
        self._result += BackfillResult(version or self._result.version, **counts)

    def work(self, only: Ids | None = None) -> list[tuple[Any, int]]:
        """Return the fragments with rows to fill, and how many; `only` leaves out all other row ids."""
        fragments = self._snapshot.dataset.get_fragments()
        counts: Counter[int] = Counter()
        if only is None:
            counts.update({f.fragment_id: f.count_rows() for f in fragments if self._is_untouched(f)})
        for _, addresses in self._scan([f for f in fragments if f.fragment_id not in counts], only):
            found, numbers = np.unique(addresses >> np.uint64(32), return_counts=True)
            counts.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
        budget = self._options.limit - self._result.num_rows if self._options.limit is not None else None
        work = []
        for fragment in fragments:
            num_rows = counts[fragment.fragment_id] if budget is None else min(counts[fragment.fragment_id], budget)
            if num_rows:
                work.append((fragment, num_rows))
            budget = None if budget is None else budget - num_rows
        return work

    def rows_of(self, fragment: Any, num_rows: int, only: Ids | None = None) -> tuple[Ids, Offsets]:
        """Return ids and physical offsets of the first rows of a fragment that are to be filled."""
        parts = [(np.empty(0, np.uint64), np.empty(0, np.uint64)), *self._scan([fragment], only)]
        ids = np.concatenate([part[0] for part in parts])[:num_rows]
        return ids, staging.offsets_of(np.concatenate([part[1] for part in parts])[:num_rows])

    def _planned(self, only: Ids | None) -> list[tuple[Any, int]]:
        """Plan at a version whose fragments can all be filled."""
        while True:
            work = self.work(only)
            if not landing.cover(self._snapshot, self._feature, [fragment for fragment, _ in work]):
                return work
            self._move_on()

    def _is_untouched(self, fragment: Any) -> bool:
        """Whether every row of the fragment is to be filled, which the manifest alone tells."""
        return (
            self._options.where is None
            and self._options.includes_missing
            and {*self._feature.columns, self._feature.stamp} <= set(self._fields.absent(fragment))
        )

    def _scan(self, fragments: Sequence[Any], only: Ids | None) -> Iterator[tuple[Ids, Ids]]:
        """Yield ids and addresses of rows to fill."""
        lost = []
        if self._options.includes_missing:
            lost = [f for f in fragments if landing.lost_values(self._feature, self._fields.absent(f))]
        rest = [f for f in fragments if f not in lost]
        groups = ((rest, pending(self._feature, self._options)), (lost, render(self._options.where)))
        for group, predicate in groups:
            if not group:
                continue
            if predicate == "true" or all(self._is_untouched(fragment) for fragment in group):
                predicate = None
            with translated(f"planning {self._feature.name!r}"):
                batches = self._snapshot.dataset.scanner(
                    columns=[],
                    filter=predicate,
                    fragments=group,
                    with_row_id=True,
                    with_row_address=True,
                    scan_in_order=True,
                ).to_batches()
                for batch in batches:
                    ids, addresses = np.asarray(batch[reads.ROW_ID]), np.asarray(batch["_rowaddr"])
                    wanted = slice(None) if only is None else np.isin(ids, only)
                    yield ids[wanted], addresses[wanted]

    def _round(self, work: Sequence[tuple[Any, int]], only: Ids | None, tracker: Tracker) -> Ids:
        """Compute and commit; return the ids of rows whose fragment was moved by somebody else."""
        staged: Group = []
        unlanded: list[Ids] = [np.empty(0, dtype=np.uint64)]
        third = -(-len(work) // 3)
        stranded = self._stranded()
        try:
            for fragment, num_rows in work:
                ids, offsets = self.rows_of(fragment, num_rows, only)
                staged.append((self._fill(fragment, ids, offsets, stranded, tracker), ids))
                waited = time.monotonic() - self._committed
                if waited > _COMMIT_EVERY_S or (waited > _THIRD_AFTER_S and len(staged) >= third):
                    unlanded += self._commit(staged)
                    staged = []
            self._check_rate(least=1)
        except (KeyboardInterrupt, BackfillError):
            self._commit(staged)
            raise
        unlanded += self._commit(staged)
        self._rounds += 1
        return np.concatenate(unlanded)

    def _stranded(self) -> Stranded:
        if not self._compute.worth_keeping:
            return Stranded(self._snapshot, self._feature, self._schema, ())
        known = {checkpoints.fingerprint(f, self._inputs) for f in self._snapshot.dataset.get_fragments()}
        parts = self._checkpoints.stranded(known, self._schema)
        return Stranded(self._snapshot, self._feature, self._schema, parts)

    def _fill(self, fragment: Any, ids: Ids, offsets: Offsets, stranded: Stranded, tracker: Tracker) -> staging.Staged:
        """Compute what no checkpoint has, and stage the fragment's file."""
        inputs = checkpoints.fingerprint(fragment, self._inputs)
        kept = self._kept(inputs, ids, offsets, stranded)
        missing = (
            ~np.isin(ids, np.asarray(kept[checkpoints.ROW_ID])) if kept.num_rows else np.ones(len(ids), dtype=bool)
        )
        self._look_at(kept)
        if kept.num_rows and self._rounds == 0:
            self._tally(num_resumed=kept.num_rows)
            tracker.advance(kept.num_rows)
            tracker.note(f"{self._result.num_resumed:,} rows found computed")
        parts = [kept]
        for part in self._compute.run(self._snapshot, fragment, ids[missing], offsets[missing], self._schema):
            parts.append(self._checkpoints.save(inputs, part) if self._compute.worth_keeping else part)
            self._tally(num_computed=part.num_rows)
            tracker.advance(part.num_rows, failed=self._look_at(part))
        failed = self._feature.done if self._options.on_error == "null" else self._feature.failed
        return staging.stage(self._snapshot, self._feature, fragment, pa.concat_tables(parts), failed)

    def _kept(self, inputs: str, ids: Ids, offsets: Offsets, stranded: Stranded) -> pa.Table:
        """Return what is computed already of these rows, each row once."""
        if not self._compute.worth_keeping:
            return self._schema.empty_table()
        found = self._checkpoints.load(inputs, self._schema)
        moved = stranded.find(ids, offsets)
        found = pa.concat_tables([found, moved]) if moved.num_rows else found
        if found.num_rows == 0:
            return found
        there, failed = np.asarray(found[checkpoints.ROW_ID]), np.asarray(found[checkpoints.FAILED])
        wanted = np.isin(there, ids)
        if self._options.on_error == "raise" or self._options.only == "failed":
            wanted &= ~failed  # asked to be tried again
        order = np.lexsort((failed, there))
        order = order[wanted[order]]
        first = np.unique(there[order], return_index=True)[1]
        return found.take(pa.array(order[first]))

    def _look_at(self, part: pa.Table) -> int:
        """Note the failures of a part, stop the job if they are too many; return their number."""
        failed = int(np.count_nonzero(np.asarray(part[checkpoints.FAILED])))
        self._seen += part.num_rows
        self._seen_failed += failed
        if not failed:
            return 0
        bad = part.filter(part[checkpoints.FAILED])
        keys = self._called(bad)
        for row, key in zip(bad.to_pylist(), keys, strict=True):
            row_id = row[checkpoints.ROW_ID]
            self._failures[row_id] = RowFailure(
                key, row[checkpoints.ERROR], row[checkpoints.MESSAGE], self._feature.name, row_id
            )
        if self._options.on_error == "raise":
            raise BackfillError(
                f"{self._feature.name!r} failed on row {keys[0]}: {bad[checkpoints.MESSAGE][0]}; what was computed before "
                'it is kept, run it again after mending the function, or with on_error="record"'
            )
        self._check_rate(least=_RATE_FROM)
        return failed

    def _check_rate(self, least: int) -> None:
        rate = self._options.max_error_rate
        if rate is not None and self._seen >= least and self._seen_failed > rate * self._seen:
            last = next(reversed(self._failures.values())).message
            raise BackfillError(
                f"{self._feature.name!r} failed on {self._seen_failed} of {self._seen} rows, more than "
                f"max_error_rate={rate}; the last one: {last}"
            )

    def _called(self, rows: pa.Table) -> list[str]:
        """What the user calls these rows: their keys, else their row ids."""
        ids = np.asarray(rows[checkpoints.ROW_ID])
        if self._snapshot.key is None:
            return [f"row id {row_id}" for row_id in ids]
        return [str(key) for key in reads.take_row_ids(self._snapshot, ids, [self._snapshot.key])[0].to_pylist()]

    def _commit(self, staged: Group) -> list[Ids]:
        """Commit a group; return the row ids of files whose ground had moved."""
        if not staged:
            return []
        self._committed = time.monotonic()
        run = self._record(np.concatenate([ids for _, ids in staged]))
        message = f"filling {self._feature.name!r}"
        version, landed = landing.commit_staged(self._snapshot, self._feature, [file for file, _ in staged], message)
        for file in landed:
            self._tally(
                version,
                num_rows=file.num_rows + file.num_failed,
                num_failed=file.num_failed,
                num_filled=file.num_rows,
                nbytes_written=file.nbytes,
            )
            self._checkpoints.drop(file.inputs)
        done = [ids for file, ids in staged if file in landed]
        if done:
            lake, table = self._snapshot.lake, self._snapshot.name
            failures.settle(lake, table, self._feature.token, np.concatenate(done), but=run)
        return [ids for file, ids in staged if file not in landed]

    def _record(self, ids: Ids) -> str:
        """Write down the failures of these rows before they are a version, so that a kill loses none."""
        run = f"{self._feature.token}-{uuid.uuid4().hex}"
        told = [self._failures.pop(row_id) for row_id in np.intersect1d(ids, list(self._failures)).tolist()]
        if told and self._options.on_error == "record":
            lake, table = self._snapshot.lake, self._snapshot.name
            before = failures.attempts(lake, table, self._feature.token, ids)
            failures.record(lake, table, run, told, before)
        return run
