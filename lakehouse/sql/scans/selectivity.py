"""How many rows a condition keeps, guessed from a few of them: an index is worth it only for few.

Lance 14 looks up a range in a B-tree at 55 ns a row that it finds, and then reads those rows one by one: 1.8 million
rows took 125 ms, where all of them are scanned in 20.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.errors import translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from lakehouse.snapshot import Snapshot

__all__ = ["FEW", "sampled"]

FEW = 0.05
"""The share of the rows up to which an index is faster than a scan of narrow columns."""

_NUM_ROWS = 64  # one in twenty of them is seen with 96 % certainty
_LEAST_ROWS = 16
_KEPT = 256  # samples, of some hundred bytes

_samples: OrderedDict[tuple[str, int, tuple[str, ...]], pa.Table | None] = OrderedDict()
_lock = threading.Lock()


def sampled(snapshot: Snapshot, columns: Sequence[str]) -> pa.Table | None:
    """Return columns of some rows, drawn once a version; None where too few were found."""
    place = (snapshot.uri, snapshot.version, tuple(columns))
    with _lock:
        if place in _samples:
            _samples.move_to_end(place)
            return _samples[place]
    drawn = _drawn(snapshot, columns)
    with _lock:
        _samples[place] = drawn
        while len(_samples) > _KEPT:
            _samples.popitem(last=False)
    return drawn


def _drawn(snapshot: Snapshot, columns: Sequence[str]) -> pa.Table | None:
    with translated(f"drawing rows of {snapshot.name!r}"):
        physical = sum(fragment.physical_rows for fragment in snapshot.dataset.get_fragments())
        ids = np.unique(np.random.default_rng(0).integers(0, max(1, physical), _NUM_ROWS)).astype(np.uint64)
        # Ids that are gone are left out without a word, which is right here.
        table: pa.Table = snapshot.dataset._take_rows(ids, columns=list(columns))  # noqa: SLF001 - the only take by row id
    return table if table.num_rows >= _LEAST_ROWS else None
