"""Values computed by many processes: what `compute.Function` does, spread over workers."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import BackfillError
from lakehouse.features import checkpoints, executors
from lakehouse.features.compute import Compute, Expression, Function, function_of
from lakehouse.features.dispatch import Dispatch, UnitSize
from lakehouse.features.units import Unit
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakehouse.features.udf import UDF
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

__all__ = ["Spread", "compute_where"]


@contextmanager
def compute_where(feature: Feature, udf: UDF | None, num_workers: int, executor: Any) -> Iterator[Compute]:
    """Build what computes a feature where it is to be computed, and take it down again.

    An SQL expression is always computed here, by Lance's own threads.

    Raises
    ------
    SchemaError
        The function is not the one that was declared.
    InvalidArgumentError
        It cannot be sent to other processes.
    """
    function = function_of(feature, udf)
    if function is None:
        yield Expression(feature)
        return
    with closing(function), executors.runner_for(function, num_workers, executor) as runner:
        if runner is None:
            yield Function(feature, function)
        else:
            yield Spread(feature, Dispatch(runner, UnitSize(function, runner.num_workers)))


class Spread:
    """A Python function in other processes; they save what they compute."""

    worth_keeping = True
    saves = True

    def __init__(self, feature: Feature, dispatch: Dispatch) -> None:
        self._feature = feature
        self._dispatch = dispatch

    @property
    def hungry(self) -> bool:
        """Whether the workers could do with another fragment."""
        return self._dispatch.hungry

    def run(
        self,
        snapshot: Snapshot,
        fragment: Any,
        ids: npt.NDArray[np.uint64],
        offsets: npt.NDArray[np.int64],
        schema: pa.Schema,
    ) -> Iterator[pa.Table]:
        """Have the rows computed from now on, and return what gives their values as they are saved, in any order."""
        inputs = checkpoints.fingerprint(fragment, checkpoints.input_ids(snapshot.dataset, self._feature))
        kept = checkpoints.Checkpoints(snapshot, self._feature)
        seen: set[str] = set()
        kept.load(inputs, schema, seen)  # the driver knows those, and wants some of their rows computed again
        lake = Location(snapshot.lake.uri, dict(snapshot.lake.storage_options))  # without what it holds open
        unit = Unit(
            lake, snapshot.name, snapshot.version, self._feature.name, self._feature.token,
            fragment.fragment_id, ids, offsets,
        )  # fmt: skip
        self._dispatch.add(unit)
        return self._saved(kept, inputs, schema, seen, ids)

    def _saved(
        self,
        kept: checkpoints.Checkpoints,
        inputs: str,
        schema: pa.Schema,
        seen: set[str],
        ids: npt.NDArray[np.uint64],
    ) -> Iterator[pa.Table]:
        left = ids
        while len(left):
            self._dispatch.wait()
            part = kept.load(inputs, schema, seen)
            # A worker thought dead may have saved what its successor saved too.
            there, first = np.unique(np.asarray(part[checkpoints.ROW_ID]), return_index=True)
            wanted = np.isin(there, left)
            left = left[~np.isin(left, there)]
            if wanted.any():
                yield part.take(pa.array(first[wanted]))
            if len(left) and self._dispatch.idle:
                raise BackfillError(
                    f"{len(left)} rows of {self._feature.name!r} were computed and what was kept of them is gone: "
                    "somebody else filled or dropped the column meanwhile; look at it and run it again"
                )
