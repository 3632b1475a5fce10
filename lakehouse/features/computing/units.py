"""Units of work: rows of one fragment at one version, as data that any process can be handed.

A unit's values are not returned: each batch is saved as a part of a checkpoint, which the driver stages, so a process
that is killed costs one batch and nothing large travels between processes.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse._lance import check_process
from lakehouse.errors import LakehouseError
from lakehouse.features.computing.asked import Asked
from lakehouse.features.computing.compute import Functions, feature_with, part_of
from lakehouse.features.computing.kept import Keeping
from lakehouse.features.storing import checkpoints
from lakehouse.features.storing.checkpoints import Upkeep
from lakehouse.features.udfs.calls import CellError, Outcome
from lakehouse.features.udfs.shipping import Shipped, held, hold, unpacked
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lakehouse.features.udfs.udf import UDF
    from lakehouse.location import Location

__all__ = ["Unit", "UnitResult", "begin", "run_held", "run_shipped", "run_unit", "save_lost", "unsaved"]

_PIECES = 16  # of a unit whose worker died: the row at fault among 65,536 stands alone after four deaths
# A unit is cut to take two seconds, so a function begins with twenty milliseconds of it.
_FIRST_SHARE, _FIRST_ROWS = 100, 16


@dataclass(frozen=True, eq=False)
class Unit:
    """Rows of one fragment to compute.

    Parameters
    ----------
    lake, table, version
        The snapshot to compute from.
    fragment_id
        The fragment.
    asked
        The rows, and which of them each feature wants.
    deaths
        Workers that died of it, or of what it was cut from.
    """

    lake: Location
    table: str
    version: int
    fragment_id: int
    asked: Asked
    deaths: int = 0

    @property
    def num_rows(self) -> int:
        """How many rows have to be read."""
        return self.asked.num_rows

    def only(self, rows: Any) -> Unit:
        """Return the unit of some of the rows: a slice or a mask."""
        return replace(self, asked=self.asked.only(rows))

    def cut(self, num_rows: int) -> Iterator[Unit]:
        """Yield units of at most so many rows each, in order."""
        for start in range(0, self.num_rows, num_rows):
            yield self.only(slice(start, start + num_rows))

    def after_death(self) -> list[Unit]:
        """Return the smaller units to try when a worker died of this one: each feature by itself, then fewer rows."""
        if len(self.asked.tokens) > 1:
            return [replace(self, asked=asked) for asked in self.asked.apart()]
        each = -(-self.num_rows // _PIECES)
        return [replace(unit, deaths=self.deaths + 1) for unit in self.cut(max(each, 1))]


@dataclass(frozen=True)
class UnitResult:
    """How long the rows of a unit took; what became of them is in the checkpoints.

    Parameters
    ----------
    num_rows
        Rows that were read.
    seconds
        From the first to the last.
    stopped
        Features that nothing more can be computed of, by token, and why.
    """

    num_rows: int
    seconds: float
    stopped: dict[str, LakehouseError] = field(default_factory=dict)


def run_unit(unit: Unit, udfs: Mapping[str, UDF]) -> UnitResult:
    """Compute a unit with these functions, by the token of their features, saving what they give.

    Raises
    ------
    UnsupportedTableError
        This process was forked.
    """
    check_process()
    began = time.perf_counter()
    place, stopped = _Place.of(unit), {}
    functions = Functions(udfs, max(unit.num_rows // _FIRST_SHARE, _FIRST_ROWS))
    keeping = {token: place.keeping(token, udfs[token]) for token in unit.asked.tokens}
    last = began
    for token, part in functions.run(place.snapshot, place.fragment, unit.asked):
        if isinstance(part, LakehouseError):
            stopped[token] = part
        else:
            keeping[token].add(part, time.perf_counter() - last)
        last = time.perf_counter()
    for each in keeping.values():
        each.keep()
    return UnitResult(unit.num_rows, time.perf_counter() - began, stopped)


def run_shipped(shipped: Mapping[str, Shipped], unit: Unit) -> UnitResult:
    """Compute a unit where units of any job may come next."""
    return run_unit(unit, unpacked(shipped))


def begin(shipped: Mapping[str, Shipped]) -> None:
    """Get a process ready for the units of one job: Lance and this module take a second to load."""
    hold(shipped)


def run_held(unit: Unit) -> UnitResult:
    """Compute a unit in a process that is ready."""
    return run_unit(unit, held(unit.asked.tokens))


def unsaved(unit: Unit) -> Unit:
    """Return the unit of the rows that no process saved before it died; failed ones may be of an earlier attempt."""
    place, left = _Place.of(unit), {}
    for token in unit.asked.tokens:
        kept = place.kept(token).load(place.inputs(token), place.part_schema(token))
        there = np.asarray(kept[checkpoints.ROW_ID])[~np.asarray(kept[checkpoints.FAILED])]
        ids, offsets = unit.asked.rows(token)
        missing = ~np.isin(ids, there)
        left[token] = ids[missing], offsets[missing]
    return replace(unit, asked=Asked.of(left))


def save_lost(unit: Unit, how: str) -> None:
    """Save the one row that processes die of as failed."""
    place = _Place.of(unit)
    for token in unit.asked.tokens:
        schema = place.part_schema(token)
        nulls = [pa.nulls(1, schema.field(name).type) for name in feature_with(place.snapshot, token).columns]
        ids, offsets = unit.asked.rows(token)
        error = CellError(0, "WorkerLostError", f"{how} while computing row id {ids[0]}", unit.deaths + 1)
        part = part_of(ids, offsets, nulls, schema, Outcome({}, np.array([True]), [error]))
        place.kept(token).save(place.inputs(token), part)


@dataclass(frozen=True)
class _Place:
    """Where a unit's rows are, and where its values are kept."""

    snapshot: Snapshot
    fragment: Any

    @classmethod
    def of(cls, unit: Unit) -> _Place:
        snapshot = _opened(unit.lake, unit.table, unit.version, unit.asked.tokens)
        return cls(snapshot, snapshot.dataset.get_fragment(unit.fragment_id))

    def kept(self, token: str) -> checkpoints.Checkpoints:
        return checkpoints.Checkpoints(self.snapshot, feature_with(self.snapshot, token))

    def inputs(self, token: str) -> str:
        ids = checkpoints.input_ids(self.snapshot.dataset, feature_with(self.snapshot, token))
        return checkpoints.fingerprint(self.fragment, ids)

    def keeping(self, token: str, udf: UDF) -> Keeping:
        # The driver gets values by what is kept, so all are; a size that the user chose is what may be lost.
        free_s = 0.0 if udf.batch_size is None else math.inf
        upkeep = Upkeep(is_local=self.snapshot.lake.is_local, free_s=free_s)
        return Keeping(self.kept(token), self.inputs(token), upkeep)

    def part_schema(self, token: str) -> pa.Schema:
        return checkpoints.part_schema(feature_with(self.snapshot, token), self.snapshot.physical)


# A worker is given units of one version, and opening it takes longer than many a unit. The tokens are part of the key
# because a table may be dropped and made again while a pool of somebody else's lives on.
@lru_cache(maxsize=4)
def _opened(lake: Location, table: str, version: int, tokens: tuple[str, ...]) -> Snapshot:
    snapshot = open_snapshot(lake, table, version)
    assert {feature.token for feature in snapshot.features.values()}.issuperset(tokens)
    return snapshot
