"""What is queried: TPC-H by its own generator, and images beside numbers; each in the formats that engines read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.media import MediaRows
from tests.tpch import generate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pyarrow as pa

_SIZE_SPREAD = 0.866  # as in the point queries: the 99th percentile is 7.5 × the median
_READ_ROWS = 65_536
NUM_LABELS = 50

Readers: TypeAlias = "Mapping[str, Callable[[], pa.RecordBatchReader]]"


@dataclass(frozen=True)
class TpchTables:
    """TPC-H at a scale factor."""

    scale: float

    @property
    def name(self) -> str:
        """Return a folder name that tells the data apart."""
        return f"tpch_{self.scale:g}"

    def readers(self, folder: Path) -> Readers:
        """Generate the tables under `folder` and return what reads each."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True)

        def reader(path: Path) -> pa.RecordBatchReader:
            file = pq.ParquetFile(path)
            return pa.RecordBatchReader.from_batches(file.schema_arrow, file.iter_batches(_READ_ROWS))

        files = generate(folder, self.scale)
        return {name: lambda path=path: reader(path) for name, path in files.items()}


@dataclass(frozen=True)
class MediaTables:
    """A table of images of log-normal size, and one of its fifty labels."""

    num_rows: int
    median_nbytes: int

    @property
    def rows(self) -> MediaRows:
        """The images."""
        return MediaRows(self.num_rows, self.median_nbytes, _SIZE_SPREAD)

    @property
    def name(self) -> str:
        """Return a folder name that tells the data apart."""
        return f"media_{self.num_rows}_{self.median_nbytes}"

    def readers(self, folder: Path) -> Readers:  # noqa: ARG002  # made on the way, nothing is written first
        """Return what reads each table."""
        import pyarrow as pa

        labels = pa.table(
            {
                "id": [f"label-{n}" for n in range(NUM_LABELS)],
                "name": [f"name of {n}" for n in range(NUM_LABELS)],
                "kept": [n % 10 == 0 for n in range(NUM_LABELS)],
            }
        )
        return {"media": self.rows.reader, "labels": labels.to_reader}


Tables = TpchTables | MediaTables
