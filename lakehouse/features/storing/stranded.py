"""Values computed before their rows were moved, by a compaction or an update: true still where the inputs are the same.

They are found by row id, and the inputs as they are now are compared with those of the version the values were computed
from. Nothing cheaper tells: row-level versions change with every column that anybody fills, and go back on a restore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse import reads
from lakehouse.errors import NotFoundError
from lakehouse.features.storing.checkpoints import OFFSET, ROW_ID, chosen
from lakehouse.schema.lineage import Feature, input_names
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt


class Stranded:
    """Parts whose fragments are not what they were.

    Parameters
    ----------
    snapshot
        The version to fill now.
    feature
        What is computed.
    schema
        `checkpoints.part_schema`.
    parts
        Tables of it, each with the version it was computed from.
    """

    def __init__(
        self, snapshot: Snapshot, feature: Feature, schema: pa.Schema, parts: Iterable[tuple[int, pa.Table]]
    ) -> None:
        self._snapshot = snapshot
        self._feature = feature
        self._schema = schema
        self._parts = sorted(parts, key=lambda part: part[0])
        self._ends = np.cumsum([part.num_rows for _, part in self._parts], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.uint64), *(np.asarray(part[ROW_ID]) for _, part in self._parts)])
        self._order = np.argsort(ids, kind="stable")  # of one row computed twice, the later one comes last
        self._sorted = ids[self._order]

    def find(self, ids: npt.NDArray[np.uint64], offsets: npt.NDArray[np.int64]) -> pa.Table:
        """Return what is known of these rows and still true.

        Parameters
        ----------
        ids, offsets
            Row ids and where in their fragment the rows are now.
        """
        at = np.searchsorted(self._sorted, ids, side="right") - 1
        hit = (at >= 0) & (self._sorted[at] == ids) if len(self._sorted) else np.zeros(len(ids), dtype=bool)
        rows, wanted = self._order[at[hit]], ids[hit]
        of = np.searchsorted(self._ends, rows, side="right")
        versions = np.array([version for version, _ in self._parts], dtype=np.int64)[of]
        same = np.zeros(len(wanted), dtype=bool)
        for version in np.unique(versions):
            here = versions == version
            same[here] = self._unchanged(int(version), wanted[here])
        found = pa.concat_tables([self._schema.empty_table(), *self._chosen(rows[same], of[same])])
        moved = offsets[hit][same][np.argsort(rows[same])]
        place = found.schema.get_field_index(OFFSET)
        return found.set_column(place, found.schema.field(place), pa.array(moved, pa.uint32()))

    def _chosen(self, rows: npt.NDArray[np.int64], of: npt.NDArray[np.int64]) -> Iterator[pa.Table]:
        """Yield some rows in order, without touching parts that have none: each fragment has a hundred of its own."""
        for number in np.unique(of):
            part = self._parts[number][1]
            mask = np.zeros(part.num_rows, dtype=bool)
            mask[rows[of == number] - self._ends[number]] = True  # counted from its end
            yield chosen(part, mask)

    def _unchanged(self, version: int, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        try:
            then = open_snapshot(self._snapshot.lake, self._snapshot.name, version)
            return unchanged(then, self._snapshot, self._feature, ids)
        except NotFoundError:  # the version was cleaned up: nobody can tell, so they are computed again
            return np.zeros(len(ids), dtype=bool)


def unchanged(then: Snapshot, now: Snapshot, feature: Feature, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Tell which rows, given by their ids, have the same inputs of a feature in two versions of a table.

    Raises
    ------
    RowNotFoundError
        One of them is not in both.
    """
    names = input_names(feature, then.field_ids), input_names(feature, now.field_ids)
    size = reads.rows_per_batch(now, names[1])
    pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
    same = [
        equal_rows(
            reads.take_row_ids(then, piece, names[0], max_media_nbytes=None),
            reads.take_row_ids(now, piece, names[1], max_media_nbytes=None),
        )
        for piece in pieces
    ]
    return np.concatenate([np.zeros(0, dtype=bool), *same])


def equal_rows(one: pa.Table, other: pa.Table) -> npt.NDArray[np.bool_]:
    """Tell which rows of two tables are equal, column by column in order, whatever the columns are called.

    Halves are compared until they are equal or one row: cheap where little differs, and it works for every Arrow type.
    """
    pairs = [(_plain(a), _plain(b)) for a, b in zip(one.columns, other.columns, strict=True)]
    same = np.zeros(one.num_rows, dtype=bool)
    todo = [(0, one.num_rows)]
    while todo:
        start, stop = todo.pop()
        if all(a.slice(start, stop - start).equals(b.slice(start, stop - start)) for a, b in pairs):
            same[start:stop] = True
        elif stop - start > 1:
            middle = (start + stop) // 2
            todo += [(start, middle), (middle, stop)]
    return same


def _plain(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
