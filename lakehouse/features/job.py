"""One filling of one feature: plan from the stamps of a version, compute into checkpoints, stage, commit, look again.

The table is the ledger: what is to do is what the stamps say. What others moved meanwhile is planned again; values that
are computed are found again by row id, so that nothing is computed twice.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import failures, reads
from lakehouse.errors import BackfillError
from lakehouse.failures import RowFailure
from lakehouse.features import checkpoints, landing, staging
from lakehouse.features.options import BackfillResult, Options
from lakehouse.features.stranded import Stranded
from lakehouse.features.todo import Todo
from lakehouse.progress import Tracker, track
from lakehouse.snapshot import Snapshot, open_snapshot

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
# commit rewrites the manifest.
_THIRD_AFTER_S = 10.0
_COMMIT_EVERY_S = 60.0
_RATE_FROM = 100  # computed rows; a share of fewer says little


@dataclass(frozen=True)
class _Begun:
    """A fragment whose rows are being computed."""

    fragment: Any
    ids: Ids
    inputs: str
    kept: pa.Table
    computed: Iterator[pa.Table]


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
        self._failures: dict[int, RowFailure] = {}
        self._seen = self._seen_failed = self._rounds = 0
        self._last_message = ""
        self._result = BackfillResult(snapshot.version)
        self._committed = time.monotonic()
        self._move_to(snapshot)

    def _move_to(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._schema = checkpoints.part_schema(self._feature, snapshot.physical)
        self._checkpoints = checkpoints.Checkpoints(snapshot, self._feature)
        self._inputs = checkpoints.input_ids(snapshot.dataset, self._feature)

    def _move_on(self) -> None:
        newest = open_snapshot(self._snapshot.lake, self._snapshot.name)
        self._feature = landing.check_same(newest.dataset, self._feature)  # under another name, maybe
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
                unlanded = self._round(work, tracker)
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

    def _planned(self, only: Ids | None) -> list[tuple[Any, int]]:
        """Plan at a version whose fragments can all be filled."""
        while True:
            self._todo = Todo(self._snapshot, self._feature, self._options, only)
            limit = self._options.limit - self._result.num_rows if self._options.limit is not None else None
            work = self._todo.fragments(limit)
            if not landing.cover(self._snapshot, self._feature, [fragment for fragment, _ in work]):
                return work
            self._move_on()

    def _round(self, work: Sequence[tuple[Any, int]], tracker: Tracker) -> Ids:
        """Compute and commit; return the ids of rows whose fragment was moved by somebody else."""
        staged: Group = []
        unlanded: list[Ids] = [np.empty(0, dtype=np.uint64)]
        third = -(-len(work) // 3)
        try:
            for one in self._staged(work, tracker):
                staged.append(one)
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

    def _staged(self, work: Sequence[tuple[Any, int]], tracker: Tracker) -> Iterator[tuple[staging.Staged, Ids]]:
        """Yield the staged files, with as many fragments begun as keep the workers busy."""
        stranded = self._stranded()
        begun: deque[_Begun] = deque()
        for fragment, num_rows in work:
            begun.append(self._begin(fragment, num_rows, stranded, tracker))
            if not self._compute.hungry:
                yield self._finish(begun.popleft(), tracker)
        while begun:
            yield self._finish(begun.popleft(), tracker)

    def _stranded(self) -> Stranded:
        if not self._compute.worth_keeping or self._checkpoints.is_empty():
            return Stranded(self._snapshot, self._feature, self._schema, ())
        known = {checkpoints.fingerprint(f, self._inputs) for f in self._snapshot.dataset.get_fragments()}
        parts = self._checkpoints.stranded(known, self._schema)
        return Stranded(self._snapshot, self._feature, self._schema, parts)

    def _begin(self, fragment: Any, num_rows: int, stranded: Stranded, tracker: Tracker) -> _Begun:
        """Find what is computed already, and have the rest computed."""
        ids, offsets = self._todo.rows(fragment, num_rows)
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
        computed = self._compute.run(self._snapshot, fragment, ids[missing], offsets[missing], self._schema)
        return _Begun(fragment, ids, inputs, kept, computed)

    def _finish(self, begun: _Begun, tracker: Tracker) -> tuple[staging.Staged, Ids]:
        """Gather the values, and stage the fragment's file."""
        parts = [begun.kept]
        for part in begun.computed:
            to_save = self._compute.worth_keeping and not self._compute.saves
            parts.append(self._checkpoints.save(begun.inputs, part) if to_save else part)
            self._tally(num_computed=part.num_rows)
            tracker.advance(part.num_rows, failed=self._look_at(part))
        failed = self._feature.done if self._options.on_error == "null" else self._feature.failed
        values = pa.concat_tables(parts)
        assert values.num_rows == len(begun.ids)
        return staging.stage(self._snapshot, self._feature, begun.fragment, values, failed), begun.ids

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
        self._last_message = bad[checkpoints.MESSAGE][-1].as_py()
        if self._options.on_error == "raise":
            raise BackfillError(
                f"{self._feature.name!r} failed on row {keys[0]}: {bad[checkpoints.MESSAGE][0]}; what was computed "
                'before it is kept, run it again after mending the function, or with on_error="record"'
            )
        self._check_rate(least=_RATE_FROM)
        return failed

    def _check_rate(self, least: int) -> None:
        rate = self._options.max_error_rate
        if rate is not None and self._seen >= least and self._seen_failed > rate * self._seen:
            raise BackfillError(
                f"{self._feature.name!r} failed on {self._seen_failed} of {self._seen} rows, more than "
                f"max_error_rate={rate}; the last one: {self._last_message}"
            )

    def _called(self, rows: pa.Table) -> list[str]:
        """Name rows as the user does: by their keys, else by their row ids."""
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
        failed = np.fromiter(self._failures, dtype=np.uint64)
        told = [self._failures.pop(row_id) for row_id in failed[np.isin(failed, ids)].tolist()] if len(failed) else []
        if told and self._options.on_error == "record":
            lake, table = self._snapshot.lake, self._snapshot.name
            before = failures.attempts(lake, table, self._feature.token, ids)
            failures.record(lake, table, run, told, before)
        return run
