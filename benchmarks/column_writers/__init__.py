"""Ways to add a computed column to a table: plain pylance, peers, a lake."""

from benchmarks.column_writers.duckdb import DuckDBUpdate
from benchmarks.column_writers.lance import PylanceAddColumns
from benchmarks.column_writers.ours import Ours
from benchmarks.column_writers.parquet import ParquetRewrite
from benchmarks.column_writers.writer import Writer

WRITERS: dict[str, type[Writer]] = {
    "ours": Ours,
    "pylance_add_columns": PylanceAddColumns,
    "duckdb": DuckDBUpdate,
    "parquet_rewrite": ParquetRewrite,
}

__all__ = ["WRITERS", "Writer"]
