"""What is computed already of the rows to fill: by a job that was stopped, or before others moved the rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.features.storing import checkpoints
from lakehouse.features.storing.checkpoints import Checkpoints, Upkeep
from lakehouse.features.storing.stranded import Stranded

if TYPE_CHECKING:
    from lakehouse.features.computing.asked import Rows
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

__all__ = ["Keeping", "Kept"]

_HELD_NBYTES = 64 << 20  # of values in memory; more of one fragment are written down even if computing is cheap


class Kept:
    """The values of one feature that need not be computed for a version.

    Parameters
    ----------
    snapshot
        The version to fill.
    feature
        What is computed.
    """

    def __init__(self, snapshot: Snapshot, feature: Feature) -> None:
        self.checkpoints = Checkpoints(snapshot, feature)
        self.schema = checkpoints.part_schema(feature, snapshot.physical)
        self._snapshot, self._feature = snapshot, feature
        self._inputs = checkpoints.input_ids(snapshot.dataset, feature)
        self._stranded: Stranded | None = None
        self._is_empty = self.checkpoints.is_empty()

    def fingerprint(self, fragment: Any) -> str:
        """Return what identifies the inputs of a fragment."""
        return checkpoints.fingerprint(fragment, self._inputs)

    def of(self, fragment: Any, rows: Rows, *, failed_too: bool) -> pa.Table:
        """Return what is known of rows of a fragment, each row once; of failures only if they are not tried again."""
        ids, offsets = rows
        if self._is_empty:
            return self.schema.empty_table()
        found = self.checkpoints.load(self.fingerprint(fragment), self.schema)
        found = pa.concat_tables([found, self._moved().find(ids, offsets)])
        there, failed = np.asarray(found[checkpoints.ROW_ID]), np.asarray(found[checkpoints.FAILED])
        wanted = np.isin(there, ids)
        if not failed_too:
            wanted &= ~failed
        order = np.lexsort((failed, there))
        order = order[wanted[order]]
        once = np.zeros(len(there), dtype=bool)
        once[order[np.unique(there[order], return_index=True)[1]]] = True
        return checkpoints.chosen(found, once)

    def _moved(self) -> Stranded:
        if self._stranded is None:
            # Rows deleted in a fragment may have been moved by an update; the others are where they were.
            fragments = self._snapshot.dataset.get_fragments()
            known = {self.fingerprint(f) for f in fragments if f.count_rows() == f.physical_rows}
            parts = self.checkpoints.stranded(known, self.schema)
            self._stranded = Stranded(self._snapshot, self._feature, self.schema, parts)
        return self._stranded


class Keeping:
    """Computed rows of one fragment, kept as far as that is worth it.

    Parameters
    ----------
    checkpoints
        Where.
    inputs
        The fingerprint of the fragment's inputs.
    upkeep
        Decides what is worth it; None where the parts come saved.
    """

    def __init__(self, checkpoints: Checkpoints, inputs: str, upkeep: Upkeep | None) -> None:
        self._checkpoints, self._inputs, self._upkeep = checkpoints, inputs, upkeep
        self._kept: list[pa.Table] = []
        self._waiting: list[pa.Table] = []
        self._waiting_nbytes = 0

    def put(self, part: pa.Table) -> None:
        """Take what is kept already."""
        self._kept.append(part)

    def add(self, part: pa.Table, seconds: float) -> None:
        """Take what was computed in so many seconds."""
        self._waiting.append(part)
        self._waiting_nbytes += part.nbytes
        upkeep = self._upkeep
        if upkeep and (upkeep.worth(self._waiting_nbytes, seconds) or self._waiting_nbytes > _HELD_NBYTES):
            self.keep()

    def keep(self) -> None:
        """Keep all of it, worth it or not."""
        if self._waiting and self._upkeep:
            began = time.perf_counter()
            self._kept.append(self._checkpoints.save(self._inputs, pa.concat_tables(self._waiting)))
            self._upkeep.took(self._waiting_nbytes, time.perf_counter() - began)
            self._waiting, self._waiting_nbytes = [], 0

    def parts(self) -> list[pa.Table]:
        """Return all of it."""
        return [*self._kept, *self._waiting]
