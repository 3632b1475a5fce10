"""DuckDB over its own format, over Parquet, and over a plain Lance dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchmarks.harness import Arm
from benchmarks.harness.environment import NUM_THREADS

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb
    import pyarrow as pa

    from benchmarks.sql_tables import Readers

_FEW_ROWS = 2_048  # DuckDB's smallest row group: of images it reads whole ones


class _OfDuckDb:
    def __init__(self, folder: Path) -> None:
        import duckdb

        self.connection = duckdb.connect(config={"threads": NUM_THREADS})
        self._open(self.connection, folder)

    def _open(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        raise NotImplementedError

    def ask(self, text: str) -> pa.Table:
        return self.connection.sql(text).to_arrow_table()


class Native(_OfDuckDb):
    """Tables of DuckDB's own."""

    arm: ClassVar[Arm] = Arm("DuckDB, its own format", "peer", "database open")
    layout: ClassVar[str] = "native"

    def _open(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        connection.execute(f"ATTACH '{folder}/all.duckdb' AS kept (READ_ONLY)")
        connection.execute("USE kept")

    @staticmethod
    def build(folder: Path, readers: Readers) -> None:
        import duckdb

        with duckdb.connect(str(folder / "all.duckdb")) as connection:
            for name, read in readers.items():
                connection.register("given", read())
                connection.execute(f"CREATE TABLE {name} AS FROM given")
                connection.unregister("given")


class Parquet(_OfDuckDb):
    """Parquet as DuckDB writes it: zstd, 122,880 rows a group."""

    arm: ClassVar[Arm] = Arm(
        "DuckDB on Parquet, zstd", "peer", "connection open, 122,880 rows a row group as by default"
    )
    layout: ClassVar[str] = "parquet"
    _row_group_rows: ClassVar[int] = 122_880

    def _open(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        for path in sorted(folder.glob("*.parquet")):
            connection.execute(f"CREATE VIEW {path.stem} AS FROM '{path}'")

    @classmethod
    def build(cls, folder: Path, readers: Readers) -> None:
        import duckdb

        with duckdb.connect() as connection:
            for name, read in readers.items():
                connection.register("given", read())
                options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {cls._row_group_rows}"
                connection.execute(f"COPY given TO '{folder}/{name}.parquet' ({options})")
                connection.unregister("given")


class ParquetSmallGroups(Parquet):
    """Parquet written for images: the smallest row groups, so that the fewest images are read for one."""

    arm: ClassVar[Arm] = Arm(
        "DuckDB on Parquet, zstd, smallest row groups", "peer", f"connection open, {_FEW_ROWS:,} rows a row group"
    )
    layout: ClassVar[str] = "parquet-small-groups"
    _row_group_rows: ClassVar[int] = _FEW_ROWS


class LanceDataset(_OfDuckDb):
    """`lance.dataset` objects that DuckDB scans."""

    arm: ClassVar[Arm] = Arm("DuckDB on lance.dataset", "plain", "connection and datasets open")
    layout: ClassVar[str] = "lake"

    def _open(self, connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
        import lance

        for path in sorted((folder / "lake").glob("*.lance")):
            connection.register(path.stem, lance.dataset(str(path)))
