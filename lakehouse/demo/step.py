"""What one step of the demo did, and the table most of them work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lakehouse as lh
from lakehouse.display import format_nbytes

if TYPE_CHECKING:
    from pathlib import Path

    from lakehouse.info import TableInfo
    from lakehouse.table import Table

__all__ = ["Step", "nbytes_changed", "nbytes_told", "pictures"]


@dataclass(frozen=True)
class Step:
    """What one step did.

    Parameters
    ----------
    title
        What it is about, in a few words.
    code
        The lines that did it, as a user writes them.
    told
        What came out, a line each.
    figures
        The same as numbers, by name.
    """

    title: str
    code: str
    told: tuple[str, ...]
    figures: dict[str, Any]


def pictures(folder: Path) -> Table:
    """Open the table of pictures."""
    return lh.connect(folder / "lake").open_table("pictures")


def nbytes_changed(before: TableInfo, after: TableInfo) -> dict[str, int]:
    """Return what a write added to a table's folder and what it left alone, as figures."""
    return {"nbytes_written": after.nbytes_on_disk - before.nbytes_on_disk, "nbytes_untouched": before.nbytes}


def nbytes_told(figures: dict[str, int]) -> str:
    """Say it."""
    written, untouched = format_nbytes(figures["nbytes_written"]), format_nbytes(figures["nbytes_untouched"])
    return f"{written} written, {untouched} untouched"
