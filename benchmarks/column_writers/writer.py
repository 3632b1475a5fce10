"""What every way of adding a column to a table has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.harness import Arm
    from benchmarks.media import MediaRows

EXPRESSION = "score * 0.5"  # of a random float64: as incompressible as a column gets, and the same in every SQL


class Writer(Protocol):
    """One arm: constructed is open on a working copy; `add` is what the clock sees.

    `immutable` lists the suffixes of files that the system never changes in place.
    """

    arm: ClassVar[Arm]
    layout: ClassVar[str]
    immutable: ClassVar[frozenset[str]]

    def __init__(self, folder: Path) -> None: ...

    @staticmethod
    def build(folder: Path, rows: MediaRows, num_fragments: int) -> None:
        """Write `rows` under `folder`, in `num_fragments` files where the system has such."""
        ...

    def add(self) -> None:
        """Add float64 column f = `EXPRESSION`, filled for every row."""
        ...

    def scan(self, columns: list[str]) -> Iterable[pa.RecordBatch]:
        """Yield the rows in order of position. Not timed."""
        ...
