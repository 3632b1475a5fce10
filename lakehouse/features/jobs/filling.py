"""One feature that is being filled: what is to do, what is there, its staged files, its commits, its result.

The table is the ledger: what is to do is what the stamps say. What others moved meanwhile is planned again; values that
are computed are found again by row id, so that nothing is computed twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, reads
from lakehouse.errors import BackfillError, LakehouseError
from lakehouse.features.computing.kept import Keeping, Kept
from lakehouse.features.jobs import grouping
from lakehouse.features.jobs.failing import Failing, settle_killed
from lakehouse.features.jobs.options import BackfillResult, Options
from lakehouse.features.jobs.todo import Todo
from lakehouse.features.storing import checkpoints, landing, staging
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from lakehouse.features.computing.asked import Rows
    from lakehouse.features.jobs.runs import Run
    from lakehouse.features.jobs.todo import Admits
    from lakehouse.features.storing.checkpoints import Upkeep
    from lakehouse.leases import Lease
    from lakehouse.progress import Tracker
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

__all__ = ["Begun", "Filling"]


@dataclass(frozen=True)
class Begun:
    """A fragment whose rows are being computed for one feature.

    Parameters
    ----------
    fragment
        The Lance fragment.
    ids
        Row ids of all rows to fill.
    missing
        Those that nobody has computed yet.
    keeping
        What is computed.
    """

    fragment: Any
    ids: npt.NDArray[np.uint64]
    missing: Rows
    keeping: Keeping


class Filling:
    """One feature of a job.

    Parameters
    ----------
    snapshot
        The newest version.
    feature
        What to fill.
    options
        Which rows, and what to do about failures.
    lease
        The right to fill it.
    begin_run
        Begins its log, once something is to do.
    upkeep
        Decides what of the computed rows is kept; None where they come saved.

    Attributes
    ----------
    result
        What was done so far.
    error
        Why it ended before its time; the other features of the job go on.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        feature: Feature,
        options: Options,
        lease: Lease,
        begin_run: Callable[[], Run],
        upkeep: Upkeep | None,
    ) -> None:
        self.feature, self.token = feature, feature.token
        self.result = BackfillResult(snapshot.version)
        self.error: LakehouseError | None = None
        self._options, self._lease, self._begin_run, self._upkeep = options, lease, begin_run, upkeep
        self._failing = Failing(options)
        self._run: Run | None = None
        self._rounds, self._is_done = 0, False
        self._admits: Admits | None = None
        self._committed = time.monotonic()
        self._staged: list[tuple[staging.Staged, npt.NDArray[np.uint64]]] = []
        self._unlanded: list[npt.NDArray[np.uint64]] = []
        self._landed: list[staging.Staged] = []
        self._finished: dict[str, str | None] = {}  # see `Todo`
        self._fragments: dict[int, int] = {}  # those to do and those done in this round, and how many rows each had
        self.move_to(snapshot)
        self._kept.checkpoints.drop_others()

    def move_to(self, snapshot: Snapshot) -> None:
        """Go on from another version.

        Raises
        ------
        BackfillError
            The feature is not what it was, see `landing.check_same`.
        """
        self.feature = landing.check_same(snapshot.dataset, self.feature)  # under another name, maybe
        self._snapshot = snapshot
        self._kept = Kept(snapshot, self.feature)

    def plan(self) -> list[tuple[Any, int]]:
        """Return the fragments that have rows to fill, and how many of them."""
        if self._is_done:
            return []
        self._todo = Todo(self._snapshot, self.feature, self._options, self._admits, self._finished)
        limit = self._options.limit - self.result.num_rows if self._options.limit is not None else None
        work = self._todo.fragments(limit)
        if work:
            self._run = self._run or self._begin_run()
            self._forget(self._snapshot)
            self._fragments = {fragment.fragment_id: fragment.count_rows() for fragment, _ in work}
            self._manifest_nbytes = commit.manifest_nbytes(self._snapshot.dataset)
            self._lease.cover(self._fragments)
        return work

    def cover(self, work: Sequence[tuple[Any, int]]) -> bool:
        """Make sure that the fragments can be filled; whether the table has a new version for it."""
        return landing.cover(self._snapshot, self.feature, [fragment for fragment, _ in work])

    def begin(self, fragment: Any, num_rows: int, tracker: Tracker) -> Begun:
        """Find what is computed already of a fragment.

        Raises
        ------
        BackfillError
            Too much of it failed.
        """
        ids, offsets = self._todo.rows(fragment, num_rows)
        keeping = Keeping(self._kept.checkpoints, self._kept.fingerprint(fragment), self._upkeep)
        tries_again = self._options.on_error == "raise" or self._options.only == "failed"
        known = self._kept.of(fragment, (ids, offsets), failed_too=not tries_again)
        if known.num_rows == 0:
            return Begun(fragment, ids, (ids, offsets), keeping)
        keeping.put(known)
        if self._rounds == 0:
            self._add(num_resumed=known.num_rows)
            tracker.advance(known.num_rows, resumed=known.num_rows)
        self._failing.look_at(self._snapshot, self.feature, known)
        missing = ~np.isin(ids, np.asarray(known[checkpoints.ROW_ID]))
        return Begun(fragment, ids, (ids[missing], offsets[missing]), keeping)

    def take(self, begun: Begun, part: pa.Table | LakehouseError, seconds: float, tracker: Tracker) -> None:
        """Take rows that were computed in so many seconds.

        Raises
        ------
        BackfillError
            Too many failed.
        LakehouseError
            No more can be computed.
        """
        if isinstance(part, LakehouseError):
            raise part
        begun.keeping.add(part, seconds)
        self._add(num_computed=part.num_rows)
        try:
            failed = self._failing.look_at(self._snapshot, self.feature, part)
        except BackfillError:
            begun.keeping.keep()
            raise
        tracker.advance(part.num_rows, failed=failed)

    def stage(self, begun: Begun) -> staging.Staged:
        """Write the file of a fragment that is computed; may be called from another thread."""
        values = pa.concat_tables([self._kept.schema.empty_table(), *begun.keeping.parts()])
        assert values.num_rows == len(begun.ids)
        failed = self.feature.done if self._options.on_error == "null" else self.feature.failed
        return staging.stage(self._snapshot, self.feature, begun.fragment, values, failed)

    def staged(self, file: staging.Staged, begun: Begun) -> None:
        """Take a file into the next commit."""
        self._staged.append((file, begun.ids))

    @property
    def is_due(self) -> bool:
        """Whether to commit what is staged."""
        waited = time.monotonic() - self._committed
        share = len(self._staged) / max(len(self._fragments), 1)
        return bool(self._staged) and grouping.is_due(waited, share, self._manifest_nbytes)

    def commit(self) -> None:
        """Commit what is staged; files whose ground had moved are made anew in the next round.

        Raises
        ------
        BackfillError
            The feature is not what it was.
        ConflictError
            Others kept committing first, or somebody took the lease.
        """
        group, self._staged = self._staged, []
        if not group or self._run is None:
            return
        self._committed = time.monotonic()
        self._lease.check()
        told = self._failing.record(self._snapshot, self.feature, [ids for _, ids in group])
        message = f"filling {self.feature.name!r}"
        files = [file for file, _ in group]
        version, landed = landing.commit_staged(self._snapshot, self.feature, files, message, self._run.id)
        self._unlanded += [ids for file, ids in group if file not in landed]
        if version is None:
            return
        for file in landed:
            self._add(
                version,
                num_rows=file.num_rows + file.num_failed,
                num_failed=file.num_failed,
                num_filled=file.num_rows,
                nbytes_written=file.nbytes,
            )
        self._failing.settle(self._snapshot, self.feature, [ids for file, ids in group if file in landed], but=told)
        self._run.committed(version, {path: sha for f in landed for path, sha in f.sha256.items()}, self.result)
        self._landed += landed
        if self._options.from_stamps:
            fragments = {file.fragment_id: self._snapshot.dataset.get_fragment(file.fragment_id) for file in landed}
            self._finished |= {commit.path_of(f.data_file): fragments[f.fragment_id].deletion_file() for f in landed}

    def end_group(self) -> None:
        """Commit in mid-round, and make room for what comes.

        Raises
        ------
        BackfillError, ConflictError
        """
        self.commit()
        done = {file.fragment_id for file in self._landed}
        self._forget(open_snapshot(self._snapshot.lake, self._snapshot.name))
        self._lease.cover(self._fragments.keys() - done)

    def end_round(self) -> None:
        """Commit what is left of a round, and decide which rows the next one may look at.

        Rows that others add are taken up once, in the second round; or a job beside a steady writer would never end.

        Raises
        ------
        BackfillError, ConflictError
        """
        try:
            self._failing.check_rate(self.feature)
        finally:
            self.commit()
        self._rounds += 1
        if not self._options.from_stamps:
            left = np.concatenate([np.empty(0, dtype=np.uint64), *self._unlanded])
            self._admits = lambda ids: np.isin(ids, left)
            self._is_done = len(left) == 0
        elif self._rounds == 2:
            last = reads.row_ids(self._snapshot).max(initial=0)
            self._admits = lambda ids: ids <= last
        self._unlanded = []

    def finish(self) -> None:
        """Clean up when nothing is left to do."""
        settle_killed(self._snapshot, self.feature)
        if self._options.is_whole:
            self._kept.checkpoints.drop_all()
        else:
            self._forget(self._snapshot)
        self._add(num_skipped=self._snapshot.num_rows - self.result.num_rows)
        if self._run is not None:
            self._run.finished(self.result)

    def _forget(self, now: Snapshot) -> None:
        """Remove what is kept of committed fragments, but for those that lost rows: an update may have moved them."""
        rows = {fragment.fragment_id: fragment.count_rows() for fragment in now.dataset.get_fragments()}
        for file in self._landed:
            if rows.get(file.fragment_id) == self._fragments[file.fragment_id]:
                self._kept.checkpoints.drop(file.inputs)
        self._landed = []

    def _add(self, version: int | None = None, **counts: int) -> None:
        self.result += BackfillResult(version or self.result.version, **counts)
