"""How many tokens each selected row has: counted once a machine, and mapped by all of its processes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse.loader import threads
from lakehouse.loader.batches.reader import Reader
from lakehouse.loader.forms.columns import Column, Form, taken
from lakehouse.loader.rows.arrayfiles import ArrayFile, shared
from lakehouse.loader.rows.choice import made_by
from lakehouse.loader.stats import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from lakehouse.loader.forms.packing import Packing
    from lakehouse.loader.rows.selection import Selection
    from lakehouse.snapshot import Snapshot

__all__ = ["token_counts"]

_ROWS = 1024
_FEW_ROWS = 1 << 14  # these are counted in less time than a file takes


def token_counts(snapshot: Snapshot, selection: Selection, packing: Packing) -> npt.NDArray[np.uint32]:
    """Give the number of tokens of each selected row; uint32, shape ``(num_rows,)``.

    Raises
    ------
    DataError
        A row without tokens or without their number.
    """

    def counted() -> ArrayFile:
        return ArrayFile(
            {}, {"counts": np.concatenate([np.empty(0, np.uint32), *_counts(snapshot, selection, packing)])}
        )

    if selection.num_rows <= _FEW_ROWS:
        return counted().arrays["counts"]
    of = [snapshot.uri, snapshot.version, made_by(snapshot), selection.digest, packing.lengths or packing.column]
    key = hashlib.sha256(repr(of).encode()).hexdigest()[:32]
    return shared(f"tokens-{key}", counted).arrays["counts"]


def _counts(snapshot: Snapshot, selection: Selection, packing: Packing) -> Iterator[npt.NDArray[np.uint32]]:
    name = packing.lengths or packing.column
    column = packing.column_of(snapshot.schema.field(packing.column))
    read = Column(name, Form.NUMBERS) if packing.lengths else column
    ranks = (
        [np.arange(first, min(first + _ROWS, selection.num_rows))] for first in range(0, selection.num_rows, _ROWS)
    )
    reader = Reader(snapshot, [read], lambda batches: [selection.row_ids(batch) for batch in batches], Meter(1))
    with threads.started(1) as pools:
        for portion in reader.portions(ranks, pools.reads):
            block, index = portion.rows()
            cells = block.columns[name]
            yield packing.counts(taken(pa.array(cells), index), block.row_ids[index])
