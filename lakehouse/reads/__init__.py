"""Point reads and scans of one snapshot, with media as bytes.

Rows are read by row id. Lance's `take(offsets)` costs 250 to 2,000 times as much CPU after a small delete, drops
out-of-range offsets and panics on an unknown column, so offsets are mapped to row ids here, names are checked first,
and every read counts what came back.
"""

from lakehouse.media.sizes import MAX_MEDIA_NBYTES, column_nbytes, rows_per_batch
from lakehouse.reads.located import Located
from lakehouse.reads.points import get, head, locate_row_ids, sample, take, take_row_ids
from lakehouse.reads.rowids import ROW_ID, RowIds, row_addresses, row_ids, row_ids_at, row_ids_of_keys
from lakehouse.reads.scans import count_rows, scan, scan_fragment, to_table
from lakehouse.reads.stretches import stretch

__all__ = [
    "MAX_MEDIA_NBYTES",
    "ROW_ID",
    "Located",
    "RowIds",
    "column_nbytes",
    "count_rows",
    "get",
    "head",
    "locate_row_ids",
    "row_addresses",
    "row_ids",
    "row_ids_at",
    "row_ids_of_keys",
    "rows_per_batch",
    "sample",
    "scan",
    "scan_fragment",
    "stretch",
    "take",
    "take_row_ids",
    "to_table",
]
