"""Upkeep: small fragments put together, without getting into anybody's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse import commit, leases, storage
from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify
from lakehouse.compaction import Chosen, CompactResult, LeftAlone, Size, chosen
from lakehouse.errors import InvalidArgumentError, translated
from lakehouse.features.jobs.backfill import resolve
from lakehouse.ingest import FRAGMENT_NBYTES, FRAGMENT_ROWS
from lakehouse.progress import track
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Collection

    from lakehouse.leases import Owner
    from lakehouse.snapshot import Snapshot

__all__ = ["FRAGMENT_NBYTES", "FRAGMENT_ROWS", "CompactResult", "LeftAlone", "compact", "measure", "release"]

# A task that others came before is planned again, with what is left of its fragments; a table in which the third try
# fails too is too busy to be worth copying a fourth time.
_ROUNDS = 3
_LOOKERS = 16  # a look at a bucket takes tens of milliseconds


def compact(
    snapshot: Snapshot,
    *,
    target_rows_per_fragment: int = FRAGMENT_ROWS,
    max_nbytes_per_fragment: int = FRAGMENT_NBYTES,
    progress: bool | None = None,
) -> CompactResult:
    """Put small neighbouring fragments together and take out deleted rows; every group of fragments is one commit.

    Fragments that somebody fills are left alone. Row ids, indexes, stamps and values are what they were; the order of
    an unordered scan may change. Lance copies whole rows, blob files included. The files that were copied stay for
    older versions until a clean-up removes those.

    Parameters
    ----------
    snapshot
        The newest version.
    target_rows_per_fragment
        Rows a fragment should have; those with fewer are put together.
    max_nbytes_per_fragment
        Bytes a fragment should have at most, media included: where rows are large, fewer of them are put together, and
        a fragment of half that size is left as it is unless most of its rows are deleted.
    progress
        See `lakehouse.progress.track`.

    Raises
    ------
    InvalidArgumentError
        A size below 1.
    """
    for name, value in (("rows", target_rows_per_fragment), ("bytes", max_nbytes_per_fragment)):
        if value < 1:
            raise InvalidArgumentError(f"fragments of {value} {name} cannot be; give 1 or more")
    before = open_snapshot(snapshot.lake, snapshot.name)
    sizes = measure(before)
    job = _Job(before, chosen(sizes, target_rows_per_fragment, max_nbytes_per_fragment))
    job.run(progress)
    after = open_snapshot(snapshot.lake, snapshot.name)
    there = {fragment.fragment_id for fragment in after.dataset.get_fragments()}
    return CompactResult(
        version=after.version if job.num_rows_moved else before.version,
        num_fragments_before=len(sizes),
        num_fragments_after=len(there),
        num_rows_moved=job.num_rows_moved,
        num_tasks_lost=job.num_tasks_lost,
        nbytes_written=job.nbytes_written,
        nbytes_untouched=sum(size.nbytes for size in sizes if size.fragment_id in there),
        left=tuple(LeftAlone(owner.fragments, str(owner)) for owner in job.left.values() if owner.fragments),
    )


def release(snapshot: Snapshot, column: str) -> str | None:
    """Take the lease on filling a column from whoever holds it: that job stops before its next commit.

    Returns
    -------
    str or None
        Who held it; None if nobody did.

    Raises
    ------
    ColumnNotFoundError, SchemaError
        There is no such column, or nothing computes it.
    """
    (feature,) = resolve(snapshot, column)
    owner = leases.release(leases.leases_of(snapshot), feature.token)
    return None if owner is None else str(owner)


def measure(snapshot: Snapshot) -> list[Size]:
    """Return the sizes of all fragments: from the manifest, and those of blob files by looking at them."""
    with translated(f"measuring the fragments of {snapshot.name!r}"), ThreadPoolExecutor(_LOOKERS) as pool:
        metadata = [fragment.metadata for fragment in snapshot.dataset.get_fragments()]
        nbytes = pool.map(partial(_nbytes, snapshot, _blob_ids(snapshot)), metadata)
        return [
            Size(each.id, each.num_rows, each.num_deletions, size) for each, size in zip(metadata, nbytes, strict=True)
        ]


class _Job:
    """Tasks, one after the other, each planned on the version that is the newest by then: a conflict costs one."""

    def __init__(self, snapshot: Snapshot, chosen: Chosen) -> None:
        self._snapshot = snapshot
        self._chosen = chosen
        self._lost: set[int] = set()
        self._blob_ids = _blob_ids(snapshot)
        self.left: dict[str, Owner] = {}  # by lease
        self.num_rows_moved = self.num_tasks_lost = self.nbytes_written = 0

    def run(self, progress: bool | None) -> None:
        """Go on until nothing is left to do; what is lost to others is tried again after the rest."""
        rounds = 1
        tasks = self._tasks()
        with track(f"compacting {self._snapshot.name}", sum(map(_num_rows, tasks)), enabled=progress) as tracker:
            while tasks or (self._lost and rounds < _ROUNDS):
                if tasks:
                    self._carry_out(tasks[0])
                    tracker.advance(_num_rows(tasks[0]))
                else:
                    rounds += 1
                    self._lost.clear()
                self._snapshot = open_snapshot(self._snapshot.lake, self._snapshot.name)
                tasks = self._tasks()

    def _tasks(self) -> list[Any]:
        """Plan over the fragments there were at first: new ones are done, or come faster than they can be compacted."""
        dataset = self._snapshot.dataset
        there = {fragment.fragment_id for fragment in dataset.get_fragments()}
        self._look_at_leases(there)
        left = {each for owner in self.left.values() for each in owner.fragments}
        options: Any = {
            "target_rows_per_fragment": self._chosen.target_rows,
            "excluded_fragment_ids": sorted((there - self._chosen.fragment_ids) | left | self._lost),
        }
        with translated(f"planning the compaction of {self._snapshot.name!r}"):
            return list(lance.optimize.Compaction.plan(dataset, options).tasks)

    def _look_at_leases(self, there: set[int]) -> None:
        """Add the fragments that somebody works on to those that are left alone."""
        for owner in leases.holders(leases.leases_of(self._snapshot)).values():
            before = self.left[owner.id].fragments if owner.id in self.left else ()
            self.left[owner.id] = replace(owner, fragments=tuple(sorted({*before, *(there & {*owner.fragments})})))

    def _carry_out(self, task: Any) -> None:
        """Copy the fragments of a task and commit the copy, unless others changed them meanwhile."""
        asked = f"compacting {self._snapshot.name!r}"
        with translated(asked):
            copy = task.execute(self._snapshot.dataset)
        self.nbytes_written += sum(_nbytes(self._snapshot, self._blob_ids, each) for each in copy.new_fragments)
        if commit.retrying(self._snapshot.location, partial(_committed, self._snapshot, copy), asked):
            self.num_rows_moved += _num_rows(task)
        else:
            self.num_tasks_lost += 1
            self._lost |= {fragment.id for fragment in task.fragments}


def _num_rows(task: Any) -> int:
    return sum(fragment.num_rows for fragment in task.fragments)


def _committed(snapshot: Snapshot, copy: Any, newest: Any) -> bool:
    """Commit a copy on the newest version; False if it is of something that is no more."""
    if _indexes(snapshot.dataset) != _indexes(newest):  # Lance has no clear word for one that is gone
        return False
    try:
        lance.optimize.Compaction.commit(newest, [copy])
    except Exception as error:
        if classify(error) is Outcome.UNKNOWN and not _has_landed(snapshot, copy):
            raise
    return _has_landed(snapshot, copy)


def _has_landed(snapshot: Snapshot, copy: Any) -> bool:
    """Whether the newest version has the copy, whatever the answer to its commit was."""
    now = open_snapshot(snapshot.lake, snapshot.name).dataset.get_fragments()
    there = {file.path for fragment in now for file in fragment.data_files()}
    return any(file.path in there for fragment in copy.new_fragments for file in fragment.files)


def _indexes(dataset: Any) -> set[str]:
    return {index.name for index in dataset.describe_indices()}


def _blob_ids(snapshot: Snapshot) -> frozenset[int]:
    stored = commit.stored_ids(snapshot.dataset)
    return frozenset().union(*(stored[field.name] for field in snapshot.physical if storage.is_blob_type(field.type)))


def _nbytes(snapshot: Snapshot, blob_ids: Collection[int], fragment: Any) -> int:
    """Return the bytes of a fragment's files; the blobs of a data file lie in a folder of its name."""
    nbytes = sum(file.file_size_bytes or 0 for file in fragment.files)
    for file in fragment.files:
        if any(field in blob_ids for field in file.fields):
            nbytes += snapshot.location.nbytes(f"data/{file.path.removesuffix('.lance')}")
    return nbytes
