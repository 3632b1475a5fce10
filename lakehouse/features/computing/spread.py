"""Values computed by many processes: what `compute.Functions` does, spread over workers."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import BackfillError
from lakehouse.features.computing.compute import feature_with
from lakehouse.features.computing.units import Unit
from lakehouse.features.storing import checkpoints
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakehouse.features.computing.asked import Asked
    from lakehouse.features.computing.compute import Computed
    from lakehouse.features.computing.dispatch import Dispatch
    from lakehouse.snapshot import Snapshot

__all__ = ["Spread"]

_PAUSE = 20  # times what a look took: listing the many parts of a slow function takes a twentieth of the time at most


class Spread:
    """Python functions in other processes; they save what they compute.

    Parameters
    ----------
    dispatch
        Who hands out the rows.
    """

    saves = True

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    @property
    def hungry(self) -> bool:
        """Whether the workers could do with another fragment."""
        return self._dispatch.hungry

    def run(self, snapshot: Snapshot, fragment: Any, asked: Asked) -> Iterator[Computed]:
        """Have the rows computed from now on, and return what gives their values as they are saved, in any order."""
        saved = {token: _Saved(snapshot, fragment, token, asked.rows(token)[0]) for token in asked.tokens}
        lake = Location(snapshot.lake.uri, dict(snapshot.lake.storage_options))  # without what it holds open
        self._dispatch.add(Unit(lake, snapshot.name, snapshot.version, fragment.fragment_id, asked))
        return self._computed(saved)

    def drop(self, token: str) -> None:
        """Have nothing more of a feature computed."""
        self._dispatch.drop(token)

    def _computed(self, saved: dict[str, _Saved]) -> Iterator[Computed]:
        while saved := {t: each for t, each in saved.items() if each.is_missing and t not in self._dispatch.dropped}:
            self._dispatch.wait()
            for token, each in saved.items():
                if token in self._dispatch.stopped:
                    self.drop(token)
                    yield token, self._dispatch.stopped[token]
                elif not each.is_due and not self._dispatch.idle:
                    continue
                elif (part := each.news()).num_rows:
                    yield token, part
                elif each.is_missing and self._dispatch.idle:
                    self.drop(token)
                    yield token, each.gone()


class _Saved:
    """What workers save of the rows of one feature in one fragment."""

    def __init__(self, snapshot: Snapshot, fragment: Any, token: str, ids: npt.NDArray[np.uint64]) -> None:
        self._feature = feature_with(snapshot, token)
        self._kept = checkpoints.Checkpoints(snapshot, self._feature)
        self._inputs = checkpoints.fingerprint(fragment, checkpoints.input_ids(snapshot.dataset, self._feature))
        self._schema = checkpoints.part_schema(self._feature, snapshot.physical)
        self._left = ids
        self._seen: set[str] = set()
        self._next_look = 0.0
        # What is there already the driver knows, and wants some of those rows computed again.
        self._kept.load(self._inputs, self._schema, self._seen)

    @property
    def is_missing(self) -> bool:
        return len(self._left) > 0

    @property
    def is_due(self) -> bool:
        return monotonic() > self._next_look

    def news(self) -> pa.Table:
        """Return what was saved since; a worker thought dead may have saved what its successor saved too."""
        began = monotonic()
        part = self._kept.load(self._inputs, self._schema, self._seen)
        self._next_look = began + (1 + _PAUSE) * (monotonic() - began)
        there, first = np.unique(np.asarray(part[checkpoints.ROW_ID]), return_index=True)
        wanted = np.isin(there, self._left)
        self._left = self._left[~np.isin(self._left, there)]
        return part.take(pa.array(first[wanted]))

    def gone(self) -> BackfillError:
        return BackfillError(
            f"{len(self._left)} rows of {self._feature.name!r} were computed and what was kept of them is gone: "
            "somebody else filled or dropped the column meanwhile; look at it and run it again"
        )
