"""Filling columns from a spool: rounds of plan, stage and commit, like a backfill whose values are there already."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, reads, storage
from lakehouse.errors import ConflictError, translated
from lakehouse.features.evolution import columns, revisions
from lakehouse.features.evolution.declaring import Declaration
from lakehouse.features.jobs import runs
from lakehouse.features.jobs.options import BackfillResult, Options
from lakehouse.features.storing import landing, staging
from lakehouse.leases import lease, leases_of
from lakehouse.pins import pinned
from lakehouse.progress import Tracker, track
from lakehouse.schema.lineage import Feature, owner_of
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakehouse.features.evolution.spool import Keys, Rows, Spool
    from lakehouse.features.storing.pieces import Piece
    from lakehouse.leases import Lease

__all__ = ["Intake", "placed"]

_COMMIT_EVERY_S = 60.0


def placed(snapshot: Snapshot, on: str) -> Iterator[Keys]:
    """Yield keys and addresses of all rows, in order."""
    for batch in _rows(snapshot, on):
        yield batch.column(0), np.asarray(batch["_rowaddr"])


def _rows(snapshot: Snapshot, on: str, where: str | None = None) -> Iterator[pa.RecordBatch]:
    """Yield key, row id and address of rows, in order."""
    with translated(f"reading {on!r} of {snapshot.name!r}"):
        yield from snapshot.dataset.scanner(
            columns=[on], filter=where, with_row_id=True, with_row_address=True, scan_in_order=True
        ).to_batches()


@dataclass(frozen=True)
class Intake:
    """Data that are to become columns.

    Parameters
    ----------
    snapshot
        The table as it was found; rows added later are left to the next call.
    spool
        The data.
    on
        The column by which rows are found.
    source
        What the data came from.
    keep
        Whether rows without data keep what they have.
    progress
        See `lakehouse.progress.track`.
    """

    snapshot: Snapshot
    spool: Spool
    on: str
    source: str
    keep: bool
    progress: bool | None

    def fill(self, fields: Sequence[pa.Field]) -> BackfillResult:
        """Declare columns that share a stamp, or their next generation, and fill them."""
        names = ", ".join(field.name for field in fields)
        asked = f"taking {names} of {self.snapshot.name!r} from {self.source}"
        token = self._declare(fields, asked)
        with lease(leases_of(self.snapshot), token, f"filling {names} of {self.snapshot.name!r}") as held:
            feature = revisions.redeclare(self.snapshot, token, self._next, asked, {revisions.EVENT: "imported"})
            now = open_snapshot(self.snapshot.lake, self.snapshot.name)
            if not reads.count_rows(now, _todo(landing.check_same(now.dataset, feature))):
                return BackfillResult(now.version)
            with runs.begin(now, [(feature, None)], Options(progress=self.progress), [held.owner.id]) as run:
                filling = _Filling(self, feature, held, run, BackfillResult(now.version))
                run.finished(result := filling.run())
                return result

    def _declare(self, fields: Sequence[pa.Field], asked: str) -> str:
        physical = tuple(storage.physical_field(field) for field in fields)
        columns.declare(
            self.snapshot, [Declaration(physical, "data", self.source, (self.on,), self.spool.digest)], asked
        )
        now = open_snapshot(self.snapshot.lake, self.snapshot.name)
        feature = owner_of(now.features, fields[0].name)
        if feature is None:
            raise ConflictError(f"{asked}: the column was dropped at this moment; call again")
        return feature.token

    def _next(self, dataset: Any, now: Feature) -> Feature:
        """Return the generation that holds this data; rows that keep their values stay true."""
        inputs = (commit.top_ids(dataset)[self.on],)
        now = replace(now, num_columns=len(now.columns))  # some may have been dropped
        if (now.code_hash, now.inputs) == (self.spool.digest, inputs):
            return now
        after = now.altered(source=self.source, code_hash=self.spool.digest, inputs=inputs, called=(self.on,))
        return replace(after, oldest=now.oldest, oldest_before=now.oldest_before) if self.keep else after


@dataclass
class _Filling:
    """The filling of columns that share a stamp: rounds of plan, stage and commit until nothing is left."""

    what: Intake
    feature: Feature
    held: Lease
    log: runs.Run
    result: BackfillResult

    def run(self) -> BackfillResult:
        snapshot, newest_id = self.what.snapshot, None
        with track(f"filling {self.feature.name}", snapshot.num_rows, enabled=self.what.progress) as tracker:
            while True:
                now = open_snapshot(snapshot.lake, snapshot.name)
                self.feature = landing.check_same(now.dataset, self.feature)
                todo = _Todo(now, self.feature, self.what.on, newest_id)
                matched = self.what.spool.place(todo.rows())
                newest_id = todo.newest_id
                if matched.num_rows + (0 if self.what.keep else matched.num_missing) == 0:
                    return self.result
                self.held.cover(todo.fragments)
                with pinned(now):
                    if not landing.cover(now, self.feature, todo.fragments.values()):
                        self._round(now, todo, tracker)

    def _round(self, now: Snapshot, todo: _Todo, tracker: Tracker) -> None:
        """Stage and commit what is to do at one version; what others moved meanwhile is left to the next round."""
        spool, keep_missing = self.what.spool, not self.what.keep
        staged: list[staging.Staged] = []
        since = time.monotonic()
        for fragment_id, rows in _by_fragment(spool.in_order(keep_missing=keep_missing)):
            offsets = staging.offsets_of(pa.array(spool.addresses(fragment_id, keep_missing=keep_missing)))
            pieces = _stamped(rows, self.feature, tracker)
            staged.append(staging.stage_pieces(now, self.feature, todo.fragments[fragment_id], pieces, offsets))
            if time.monotonic() - since > _COMMIT_EVERY_S:
                self._commit(now, staged)
                staged, since = [], time.monotonic()
        self._commit(now, staged)

    def _commit(self, now: Snapshot, staged: list[staging.Staged]) -> None:
        if not staged:
            return
        self.held.check()
        message = f"filling {self.feature.name!r} from {self.what.source}"
        version, landed = landing.commit_staged(now, self.feature, staged, message, run=self.log.id)
        for file in landed:
            counts = {"num_rows": file.num_rows, "num_filled": file.num_rows, "nbytes_written": file.nbytes}
            self.result += BackfillResult(version or now.version, **counts)
        if landed:
            hashes = {path: sha for file in landed for path, sha in file.sha256.items()}
            self.log.committed(version, hashes, self.result)


class _Todo:
    """The rows of a version that do not hold this generation.

    Parameters
    ----------
    snapshot, feature
        What to look at.
    on
        The column by which rows are found.
    newest_id
        Rows with a later id, which are counted upwards, came after the call; None until that is known.
    """

    def __init__(self, snapshot: Snapshot, feature: Feature, on: str, newest_id: int | None) -> None:
        self._snapshot, self._feature, self._on = snapshot, feature, on
        self._limit = newest_id
        self.newest_id = -1 if newest_id is None else newest_id
        self.fragments: dict[int, Any] = {}

    def rows(self) -> Iterator[Keys]:
        """Yield keys and addresses, and note the fragments they are in."""
        for batch in _rows(self._snapshot, self._on, _todo(self._feature)):
            ids, addresses = np.asarray(batch[reads.ROW_ID]), np.asarray(batch["_rowaddr"])
            keys = batch.column(0)
            if self._limit is not None:
                old = ids <= self._limit
                keys, addresses = keys.filter(pa.array(old)), addresses[old]
            else:
                self.newest_id = max(self.newest_id, int(ids.max(initial=0)))
            for number in np.unique(addresses >> np.uint64(32)).tolist():
                if number not in self.fragments:
                    self.fragments[number] = self._snapshot.dataset.get_fragment(number)
            yield keys, addresses


def _todo(feature: Feature) -> str:
    stamp = quoted(feature.stamp)
    return f"({stamp} IS NULL OR {stamp} <> {feature.done})"


def _by_fragment(
    windows: Iterator[Rows],
) -> Iterator[tuple[int, Iterator[Rows]]]:
    """Cut windows of rows in order of their addresses at the ends of fragments."""

    def cut() -> Iterator[tuple[int, pa.Table, Any]]:
        for rows, addresses in windows:
            numbers = addresses >> np.uint64(32)
            for number in np.unique(numbers).tolist():
                start, stop = (int(np.searchsorted(numbers, number, side=side)) for side in ("left", "right"))
                yield number, rows.slice(start, stop - start), addresses[start:stop]

    for number, group in itertools.groupby(cut(), key=lambda piece: piece[0]):
        yield number, ((rows, addresses) for _, rows, addresses in group)


def _stamped(pieces: Iterator[Rows], feature: Feature, tracker: Tracker) -> Iterator[Piece]:
    for rows, addresses in pieces:
        values = rows.select(list(feature.columns))
        done = pa.array(np.full(rows.num_rows, feature.done, dtype=np.int32))
        tracker.advance(rows.num_rows)
        yield values.append_column(feature.stamp, done), staging.offsets_of(pa.array(addresses))
