"""A function tried on a few rows; nothing is stored."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import reads
from lakehouse.errors import InvalidArgumentError, no_column
from lakehouse.features.udfs.calls import CellError, call_rows
from lakehouse.features.udfs.udf import UDF, as_udf

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot


@dataclass(frozen=True)
class Preview:
    """What a function gave for a sample.

    Parameters
    ----------
    values
        The outputs, one row each.
    seconds_per_row
        Measured over the sample, the building of a class included.
    errors
        The rows it failed on.
    """

    values: pa.Table
    seconds_per_row: float
    errors: tuple[CellError, ...] = field(default=())


def preview(snapshot: Snapshot, udf: UDF, n: int = 5) -> Preview:
    """Run a function on `n` rows spread over the table.

    Raises
    ------
    ColumnNotFoundError
        An input is not there.
    """
    udf = as_udf(udf)
    if n < 1:
        raise InvalidArgumentError(f"n={n}; it is a number of rows, 1 or more")
    for name in udf.inputs:
        if name not in snapshot.schema.names:
            raise no_column(name, snapshot.schema.names)
    rows = reads.sample(snapshot, n, seed=0, columns=udf.inputs)
    start = time.perf_counter()
    try:
        outcome = call_rows(udf, {name: rows[name] for name in udf.inputs})
    finally:
        udf.close()
    seconds = (time.perf_counter() - start) / max(rows.num_rows, 1)
    return Preview(pa.table(outcome.arrays), seconds, tuple(outcome.errors))
