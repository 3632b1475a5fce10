"""Ways to fetch a batch of images: the bound, plain pylance, tuned peers, a lake."""

from benchmarks.point_readers.files import FileEach, FlatFile, FlatFileByKey
from benchmarks.point_readers.lance import PylanceByKey, PylanceReadBlobs, PylanceTake, PylanceTakeRows
from benchmarks.point_readers.ours import Ours, OursByKey, OursLatest
from benchmarks.point_readers.parquet import ParquetDefaults, ParquetPages, ParquetRowGroups
from benchmarks.point_readers.reader import Reader
from benchmarks.point_readers.sqlite import SqliteByKey, SqliteByRowId

READERS: dict[str, type[Reader]] = {
    "ours": Ours,
    "ours_latest": OursLatest,
    "flat_file": FlatFile,
    "pylance_take": PylanceTake,
    "pylance_take_rows": PylanceTakeRows,
    "pylance_read_blobs": PylanceReadBlobs,
    "parquet_pages": ParquetPages,
    "parquet_row_groups": ParquetRowGroups,
    "sqlite": SqliteByRowId,
    "raw_files": FileEach,
    "parquet_defaults": ParquetDefaults,
    "ours_by_key": OursByKey,
    "flat_file_by_key": FlatFileByKey,
    "pylance_by_key": PylanceByKey,
    "sqlite_by_key": SqliteByKey,
}

__all__ = ["READERS", "Reader"]
