"""Some rows of a table, for a notebook or a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakehouse import reads, samples
from lakehouse.display.page import TableView, table_html
from lakehouse.info import outline

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

__all__ = ["first_rows", "notebook_html", "spread_rows"]


def first_rows(snapshot: Snapshot, n: int) -> list[samples.Row]:
    """Return the first rows of a table, media as lazy handles."""
    return samples.rows(snapshot, reads.row_ids_at(snapshot, range(min(n, snapshot.num_rows))))


def spread_rows(snapshot: Snapshot, n: int) -> list[samples.Row]:
    """Return rows at even distances over the table, media as lazy handles."""
    n = min(n, snapshot.num_rows)
    return samples.rows(snapshot, reads.row_ids_at(snapshot, [i * snapshot.num_rows // n for i in range(n)]))


def notebook_html(snapshot: Snapshot) -> str:
    """Draw a table with its first rows; reads the manifest and these rows, and measures nothing."""
    return table_html(TableView(outline(snapshot), first_rows(snapshot, 5)))
