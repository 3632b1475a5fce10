"""DuckDB's own storage: ALTER, UPDATE, CHECKPOINT."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchmarks.column_writers.writer import EXPRESSION
from benchmarks.harness import Arm
from benchmarks.harness.environment import NUM_THREADS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from benchmarks.media import MediaRows

_SCAN_ROWS = 2048


class DuckDBUpdate:
    """The column is written to memory and the log, then to the file by CHECKPOINT, which is part of the work."""

    arm: ClassVar[Arm] = Arm("DuckDB ALTER + UPDATE + CHECKPOINT", "peer", "open connection, 2 threads")
    layout: ClassVar[str] = "duckdb"
    immutable: ClassVar[frozenset[str]] = frozenset()  # one file, changed in place

    def __init__(self, folder: Path) -> None:
        self._connection = _connect(folder)

    @staticmethod
    def build(folder: Path, rows: MediaRows, num_fragments: int) -> None:  # noqa: ARG004  # DuckDB has one file
        with _connect(folder) as connection:
            connection.register("source", rows.reader())
            connection.execute("CREATE TABLE media AS SELECT * FROM source")
            connection.unregister("source")

    def add(self) -> None:
        self._connection.execute("ALTER TABLE media ADD COLUMN f DOUBLE")
        self._connection.execute(f"UPDATE media SET f = {EXPRESSION}")
        self._connection.execute("CHECKPOINT")

    def scan(self, columns: list[str]) -> Iterable[pa.RecordBatch]:
        query = f"SELECT {', '.join(columns)} FROM media ORDER BY position"
        batches: Iterable[pa.RecordBatch] = self._connection.sql(query).to_arrow_reader(_SCAN_ROWS)
        return batches


def _connect(folder: Path) -> duckdb.DuckDBPyConnection:
    import duckdb

    return duckdb.connect(str(folder / "media.duckdb"), config={"threads": NUM_THREADS})
