"""A lake: the column is declared, then filled by a backfill in one commit, other writers welcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchmarks.column_writers.lance import LANCE_FILES
from benchmarks.column_writers.writer import EXPRESSION
from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.media import MediaRows

_SCHEMA = """
name = "media"
key = "id"
[columns]
id       = { type = "string", nullable = false }
position = { type = "int64", nullable = false }
label    = { type = "string" }
score    = { type = "float64" }
"""
_IMAGE = 'image = { type = "image" }\n'


class Ours:
    """`add_columns` and `backfill`: column, stamps, provenance, two commits at least."""

    arm: ClassVar[Arm] = Arm("lakehouse add_columns + backfill", "ours", "open Table")
    layout: ClassVar[str] = "lake"
    immutable: ClassVar[frozenset[str]] = LANCE_FILES

    def __init__(self, folder: Path) -> None:
        import lakehouse as lh

        self._table = lh.connect(folder / "lake").open_table("media")

    @staticmethod
    def build(folder: Path, rows: MediaRows, num_fragments: int) -> None:
        import pyarrow as pa

        import lakehouse as lh

        schema = folder / "media.toml"
        schema.write_text(_SCHEMA + (_IMAGE if rows.median_nbytes else ""))
        table = lh.connect(folder / "lake").create_table("media", schema=schema)
        for part in rows.parts(num_fragments):
            table.add(pa.RecordBatchReader.from_batches(rows.schema, part), progress=False)
        assert len(table.snapshot().dataset.get_fragments()) == num_fragments

    def add(self) -> None:
        self._table.add_columns({"f": EXPRESSION})
        self._table.backfill("f", progress=False)

    def scan(self, columns: list[str]) -> Iterable[pa.RecordBatch]:
        batches: Iterable[pa.RecordBatch] = self._table.to_batches(columns=columns)
        return batches
