"""Parquet: there is no adding to a file, so each is read, written anew with the column, and replaced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.media import MediaRows

_PLAIN: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": False}
_ROW_GROUP_ROWS = 1000


class ParquetRewrite:
    """Streamed by row group, no compression and no dictionary: the media is incompressible."""

    arm: ClassVar[Arm] = Arm("Parquet rewrite, pyarrow, streamed", "peer", "library imported")
    layout: ClassVar[str] = "parquet"
    immutable: ClassVar[frozenset[str]] = frozenset({".parquet"})

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def build(folder: Path, rows: MediaRows, num_fragments: int) -> None:
        import pyarrow.parquet as pq

        for number, part in enumerate(rows.parts(num_fragments)):
            with pq.ParquetWriter(folder / f"{number:04d}.parquet", rows.schema, **_PLAIN) as writer:
                for batch in part:
                    writer.write_batch(batch, row_group_size=_ROW_GROUP_ROWS)

    def add(self) -> None:
        for path in self._paths():
            _rewrite(path)

    def scan(self, columns: list[str]) -> Iterable[pa.RecordBatch]:
        import pyarrow.parquet as pq

        for path in self._paths():
            yield from pq.ParquetFile(path).iter_batches(batch_size=_ROW_GROUP_ROWS, columns=columns)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("*.parquet"))


def _rewrite(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    source = pq.ParquetFile(path)
    schema = source.schema_arrow.append(pa.field("f", pa.float64()))
    unfinished = path.with_suffix(".unfinished")
    with pq.ParquetWriter(unfinished, schema, **_PLAIN) as writer:
        for number in range(source.num_row_groups):
            rows = source.read_row_group(number)
            writer.write_table(rows.append_column(schema.field("f"), pc.multiply(rows["score"], 0.5)))
    os.replace(unfinished, path)
