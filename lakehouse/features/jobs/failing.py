"""Rows that a function failed on: counted against what is allowed, told by key, recorded before they are committed."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import numpy as np

from lakehouse import failures, reads
from lakehouse.errors import BackfillError
from lakehouse.failures import RowFailure
from lakehouse.features.records.counts import stamps_at
from lakehouse.features.storing import checkpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from lakehouse.features.jobs.options import Options
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

__all__ = ["Failing", "settle_killed"]

_RATE_FROM = 100  # computed rows; a share of fewer says little


class Failing:
    """The failures of one filling.

    Parameters
    ----------
    options
        What is allowed.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._told: dict[int, RowFailure] = {}
        self._seen = self._failed = 0
        self._has_earlier = False
        self._last_message = ""

    def look_at(self, snapshot: Snapshot, feature: Feature, part: pa.Table) -> int:
        """Note the failures of computed rows; return their number.

        Raises
        ------
        BackfillError
            They are too many.
        """
        failed = int(np.count_nonzero(np.asarray(part[checkpoints.FAILED])))
        self._seen += part.num_rows
        self._failed += failed
        if not failed:
            return 0
        bad = part.filter(part[checkpoints.FAILED])
        keys = _called(snapshot, bad)
        for row, key in zip(bad.to_pylist(), keys, strict=True):
            self._told[row[checkpoints.ROW_ID]] = RowFailure(
                key,
                row[checkpoints.ERROR],
                row[checkpoints.MESSAGE],
                feature.name,
                row[checkpoints.ROW_ID],
                row[checkpoints.ATTEMPTS],
                row[checkpoints.COMPUTATION],
            )
        self._last_message = bad[checkpoints.MESSAGE][-1].as_py()
        if self._options.on_error == "raise":
            raise BackfillError(
                f"{feature.name!r} failed on row {keys[0]}: {bad[checkpoints.MESSAGE][0]}; what was computed "
                'before it is kept, run it again after mending the function, or with on_error="record"'
            )
        self.check_rate(feature, least=_RATE_FROM)
        return failed

    def check_rate(self, feature: Feature, least: int = 1) -> None:
        """Stop where more than the share that is allowed failed, of at least so many rows.

        Raises
        ------
        BackfillError
        """
        rate = self._options.max_error_rate
        if rate is not None and self._seen >= least and self._failed > rate * self._seen:
            raise BackfillError(
                f"{feature.name!r} failed on {self._failed} of {self._seen} rows, more than "
                f"max_error_rate={rate}; the last one: {self._last_message}"
            )

    def record(self, snapshot: Snapshot, feature: Feature, ids: Sequence[npt.NDArray[np.uint64]]) -> str:
        """Write down the failures of these rows, so that a kill loses none; return the id they are recorded under."""
        run = f"{feature.token}-{time.time_ns()}-{uuid.uuid4().hex[:8]}"
        failed = np.fromiter(self._told, dtype=np.uint64)
        told = [self._told.pop(row_id) for row_id in failed[np.isin(failed, np.concatenate(ids))].tolist()]
        self._has_earlier = failures.has_any(snapshot.lake, snapshot.name, feature.token, but=run)
        if self._has_earlier:
            failures.begin_settling(snapshot.lake, snapshot.name, run)
        if told and self._options.on_error == "record":
            computations = {failure.row_id: failure.computation for failure in told if failure.row_id is not None}
            before = failures.attempts(snapshot.lake, snapshot.name, feature.token, computations)
            failures.record(snapshot.lake, snapshot.name, run, told, before)
        return run

    def settle(self, snapshot: Snapshot, feature: Feature, ids: Sequence[npt.NDArray[np.uint64]], *, but: str) -> None:
        """Take back what earlier runs recorded of rows that are committed now."""
        if self._has_earlier:
            failures.settle(snapshot.lake, snapshot.name, feature.token, np.concatenate(ids), but=but)


def settle_killed(snapshot: Snapshot, feature: Feature) -> None:
    """Take back what was recorded of rows that jobs committed which were killed right after it."""

    def are_filled(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        there, stamps = stamps_at(snapshot, feature, ids)
        return np.isin(ids, there[(stamps >= feature.true_from) & (stamps % 2 == 0)])

    failures.settle_killed(snapshot.lake, snapshot.name, feature.token, are_filled)


def _called(snapshot: Snapshot, rows: pa.Table) -> list[str]:
    """Name rows as the user does: by their keys, else by their row ids."""
    ids = np.asarray(rows[checkpoints.ROW_ID])
    if snapshot.key is None:
        return [f"row id {row_id}" for row_id in ids]
    return [str(key) for key in reads.take_row_ids(snapshot, ids, [snapshot.key])[0].to_pylist()]
