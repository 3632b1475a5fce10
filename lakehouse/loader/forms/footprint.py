"""What a row weighs, told from the files' footers before anything is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse.loader.forms.columns import ROW_ID
from lakehouse.media.sizes import mean_nbytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.loader.forms.columns import Column
    from lakehouse.snapshot import Snapshot

__all__ = ["INDEX_NBYTES", "most_nbytes", "most_rows", "read_nbytes", "row_nbytes"]

INDEX_NBYTES = 64
"""What a row takes beside its cells: position, rank, row id and place in the read, and the sort that orders them."""

# Where a read costs as much for its bytes as for being one: a request of 20 to 100 ms at 50 to 100 MB/s, and on a
# local disk 100 µs at 2 GB/s.
_LOCAL, _REMOTE = 256 << 10, 2 << 20
# Of rows of 16 bytes, 65,536 of 10 M cost 1 µs of CPU each in one read and 37 µs in reads of 1,024: many of them share
# a page, or none do.
_MOST_ROWS = 1 << 16


def row_nbytes(snapshot: Snapshot, columns: Sequence[Column]) -> float:
    """Return the bytes of a row of these columns, as it is stored and not decoded."""
    return sum(_cell_nbytes(snapshot, column.name) for column in columns)


def _cell_nbytes(snapshot: Snapshot, column: str) -> float:
    if column == ROW_ID:
        return 8.0
    try:
        width: int = snapshot.schema.field(column).type.bit_width
    except ValueError:  # text, bytes and lists have none
        width = 0
    return max(width / 8, mean_nbytes(snapshot, column))


def read_nbytes(snapshot: Snapshot) -> int:
    """Return from how many bytes on a read costs no more by the byte."""
    return _LOCAL if snapshot.lake.is_local else _REMOTE


def most_nbytes(snapshot: Snapshot) -> int:
    """Return how many bytes one read takes at most.

    On a local disk 8 MB of texts of 2 kB cost as much CPU as 1 and hold 100 MB instead of 22, of vectors of 2 kB
    they cost a tenth less. In a bucket requests that are under way together hide each other's latency.
    """
    return (1 << 20) if snapshot.lake.is_local else (8 << 20)


def most_rows(snapshot: Snapshot, nbytes: float) -> int:
    """Return how many rows of so many bytes one read takes at most, at least one."""
    return max(1, min(_MOST_ROWS, int(most_nbytes(snapshot) / max(nbytes, 1.0))))
