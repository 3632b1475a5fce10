"""Which rows of a version are to be filled: what the stamps say, and for untouched fragments the manifest alone."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from lakehouse import commit, reads
from lakehouse.errors import translated
from lakehouse.features.jobs.options import Options, pending
from lakehouse.features.storing.landing import lost_values
from lakehouse.features.storing.staging import Fields, offsets_of
from lakehouse.where import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

    Admits: TypeAlias = Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.bool_]]

_ROWS = 1 << 20  # ids and addresses at a time, 16 MB; in Lance's batches of 8,192 they take four times as long


class Todo:
    """The rows to fill.

    Parameters
    ----------
    snapshot
        The version.
    feature
        What to fill.
    options
        Which rows.
    admits
        Takes row ids and tells which of them may be filled; None for all.
    finished
        Data files that left nothing to do in their fragment, each with the fragment's deletion file of then; where both
        are in use, nobody has to look.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        feature: Feature,
        options: Options,
        admits: Admits | None = None,
        finished: Mapping[str, str | None] = MappingProxyType({}),
    ) -> None:
        self._snapshot = snapshot
        self._feature = feature
        self._options = options
        self._admits, self._finished = admits, finished
        self._fields = Fields.of(snapshot.dataset, feature)

    def fragments(self, limit: int | None = None) -> list[tuple[Any, int]]:
        """Return the fragments with rows to fill, and how many: all together not more than `limit`."""
        fragments = [f for f in self._snapshot.dataset.get_fragments() if not self._is_finished(f)]
        counts: Counter[int] = Counter()
        if self._admits is None:
            counts.update({f.fragment_id: f.count_rows() for f in fragments if self._is_untouched(f)})
        for _, addresses in self._scan([f for f in fragments if f.fragment_id not in counts]):
            numbers = np.bincount((addresses >> np.uint64(32)).astype(np.int64))
            counts.update({int(number): int(numbers[number]) for number in np.flatnonzero(numbers)})
        chosen = []
        for fragment in fragments:
            num_rows = counts[fragment.fragment_id]
            if limit is not None:
                num_rows = min(num_rows, limit)
                limit -= num_rows
            if num_rows:
                chosen.append((fragment, num_rows))
        return chosen

    def rows(self, fragment: Any, num_rows: int) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Return ids and physical offsets of the first rows of a fragment that are to be filled."""
        if self._is_whole(fragment):
            with translated(f"planning {self._feature.name!r}"):
                rows = self._snapshot.dataset.scanner(
                    columns=[], fragments=[fragment], with_row_id=True, batch_size=_ROWS, limit=num_rows
                ).to_table()
            return np.asarray(rows[reads.ROW_ID]), np.arange(num_rows)
        parts = [(np.empty(0, np.uint64), np.empty(0, np.uint64)), *self._scan([fragment])]
        ids = np.concatenate([part[0] for part in parts])[:num_rows]
        return ids, offsets_of(np.concatenate([part[1] for part in parts])[:num_rows])

    def _is_untouched(self, fragment: Any) -> bool:
        """Whether every row of the fragment is to be filled, because nothing of the feature is in its files."""
        own = {*self._feature.columns, self._feature.stamp}
        is_wanted = self._options.where is None and self._options.includes_missing
        return is_wanted and own <= set(self._fields.absent(fragment))

    def _is_finished(self, fragment: Any) -> bool:
        own = [self._fields.stored[name] for name in (*self._feature.columns, self._feature.stamp)]
        if not self._finished:
            return False
        gone = fragment.deletion_file()
        files = [file for file in fragment.data_files() if self._finished.get(commit.path_of(file), "") == gone]
        return bool(files) and all(any(ids & set(file.fields) for file in files) for ids in own)

    def _is_whole(self, fragment: Any) -> bool:
        """Whether the rows to fill are all physical rows of the fragment."""
        is_intact = fragment.count_rows() == fragment.physical_rows
        return is_intact and self._admits is None and self._is_untouched(fragment)

    def _scan(self, fragments: Sequence[Any]) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
        """Yield ids and addresses of rows to fill."""
        rest: list[Any] = []
        lost: list[Any] = []
        for fragment in fragments:
            is_lost = self._options.includes_missing and lost_values(self._feature, self._fields.absent(fragment))
            (lost if is_lost else rest).append(fragment)
        predicate: str | None = pending(self._feature, self._options)
        if predicate == "true" or all(self._is_untouched(f) for f in rest):
            predicate = None
        for group, where in ((rest, predicate), (lost, render(self._options.where))):
            if group:
                yield from self._matching(group, where)

    def _matching(
        self, fragments: Sequence[Any], where: str | None
    ) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]]:
        with translated(f"planning {self._feature.name!r}"):
            batches = self._snapshot.dataset.scanner(
                columns=[],
                filter=where,
                fragments=fragments,
                with_row_id=True,
                with_row_address=True,
                scan_in_order=True,
                batch_size=_ROWS,
            ).to_batches()
            for batch in batches:
                ids, addresses = np.asarray(batch[reads.ROW_ID]), np.asarray(batch["_rowaddr"])
                wanted = slice(None) if self._admits is None else self._admits(ids)
                yield ids[wanted], addresses[wanted]
