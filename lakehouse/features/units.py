"""Units of work: rows of one fragment at one version, as data that any process can be handed.

A unit's values are not returned: each batch is saved as a part of a checkpoint, which the driver stages, so a process
that is killed costs one batch and nothing large travels between processes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakehouse._lance import check_process
from lakehouse.features import checkpoints
from lakehouse.features.calls import CellError
from lakehouse.features.compute import Function, part_of
from lakehouse.features.shipping import Shipped, held, hold, unpacked
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.features.udf import UDF
    from lakehouse.location import Location
    from lakehouse.schema.lineage import Feature

__all__ = ["Unit", "UnitResult", "begin", "run_held", "run_shipped", "run_unit", "save_lost", "unsaved"]

_PIECES = 16  # of a unit whose worker died: the row at fault among 65,536 stands alone after four deaths


@dataclass(frozen=True, eq=False)
class Unit:
    """Rows of one fragment to compute.

    Parameters
    ----------
    lake, table, version
        The snapshot to compute from.
    column, token
        The feature, by its first column, and what tells it from another of that name.
    fragment_id
        The fragment.
    row_ids
        uint64, shape ``(num_rows,)``.
    offsets
        Physical offsets within the fragment, int64, shape ``(num_rows,)``.
    deaths
        Workers that died of it, or of what it was cut from.
    """

    lake: Location
    table: str
    version: int
    column: str
    token: str
    fragment_id: int
    row_ids: npt.NDArray[np.uint64] = field(repr=False)
    offsets: npt.NDArray[np.int64] = field(repr=False)
    deaths: int = 0

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(self.row_ids)

    def only(self, rows: Any) -> Unit:
        """Return the unit of some of the rows: a slice or a mask."""
        return replace(self, row_ids=self.row_ids[rows], offsets=self.offsets[rows])

    def cut(self, num_rows: int) -> Iterator[Unit]:
        """Yield units of at most so many rows each, in order."""
        for start in range(0, self.num_rows, num_rows):
            yield self.only(slice(start, start + num_rows))

    def after_death(self) -> list[Unit]:
        """Return the smaller units to try when a worker died of this one."""
        each = -(-self.num_rows // _PIECES)
        return [replace(unit, deaths=self.deaths + 1) for unit in self.cut(max(each, 1))]


@dataclass(frozen=True)
class UnitResult:
    """How long the rows of a unit took; what became of them is in the checkpoint."""

    num_rows: int
    seconds: float


def run_unit(unit: Unit, udf: UDF) -> UnitResult:
    """Compute a unit, saving each batch.

    Raises
    ------
    UnsupportedTableError
        This process was forked.
    """
    check_process()
    began = time.perf_counter()
    place = _Place.of(unit)
    function = Function(place.feature, udf)
    for part in function.run(place.snapshot, place.fragment, unit.row_ids, unit.offsets, place.part_schema):
        place.kept.save(place.inputs, part)
    return UnitResult(unit.num_rows, time.perf_counter() - began)


def run_shipped(shipped: Shipped, unit: Unit) -> UnitResult:
    """Compute a unit where any function may come next."""
    return run_unit(unit, unpacked(shipped))


def begin(shipped: Shipped) -> None:
    """Get a process ready for units of one function: that, and Lance with this module, take a second to load."""
    hold(shipped)


def run_held(unit: Unit) -> UnitResult:
    """Compute a unit in a process that is ready."""
    return run_unit(unit, held())


def unsaved(unit: Unit) -> Unit:
    """Return the unit of the rows that no process saved before it died; failed ones may be of an earlier attempt."""
    place = _Place.of(unit)
    kept = place.kept.load(place.inputs, place.part_schema)
    there = np.asarray(kept[checkpoints.ROW_ID])[~np.asarray(kept[checkpoints.FAILED])]
    return unit.only(~np.isin(unit.row_ids, there))


def save_lost(unit: Unit, how: str) -> None:
    """Save the one row that processes die of as failed."""
    place = _Place.of(unit)
    nulls = [pa.nulls(1, place.part_schema.field(name).type) for name in place.feature.columns]
    error = CellError(0, "WorkerLostError", f"{how} while computing row id {unit.row_ids[0]}")
    part = part_of(unit.row_ids, unit.offsets, nulls, place.part_schema, np.array([True]), [error])
    place.kept.save(place.inputs, part)


@dataclass(frozen=True)
class _Place:
    """Where a unit's rows are, and where its values are kept."""

    snapshot: Snapshot
    feature: Feature
    fragment: Any

    @classmethod
    def of(cls, unit: Unit) -> _Place:
        snapshot = _opened(unit.lake, unit.table, unit.version, unit.token)
        return cls(snapshot, snapshot.features[unit.column], snapshot.dataset.get_fragment(unit.fragment_id))

    @property
    def kept(self) -> checkpoints.Checkpoints:
        return checkpoints.Checkpoints(self.snapshot, self.feature)

    @property
    def inputs(self) -> str:
        return checkpoints.fingerprint(self.fragment, checkpoints.input_ids(self.snapshot.dataset, self.feature))

    @property
    def part_schema(self) -> pa.Schema:
        return checkpoints.part_schema(self.feature, self.snapshot.physical)


# A worker is given units of one version, and opening it takes longer than many a unit. The token is part of the key
# because a table may be dropped and made again while a pool of somebody else's lives on.
@lru_cache(maxsize=2)
def _opened(lake: Location, table: str, version: int, token: str) -> Snapshot:
    snapshot = open_snapshot(lake, table, version)
    assert token in {feature.token for feature in snapshot.features.values()}
    return snapshot
