"""Images in Parquet, tuned in two ways and at its defaults."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.harness import Arm
from benchmarks.point_readers.page_index import pages, values_start

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.media import Ints, MediaRows
    from benchmarks.point_readers.reader import Selector

_LENGTH_NBYTES = 4  # PLAIN byte arrays: a little-endian length before each value


class ParquetPages:
    """Pages found through the page index: what the format can give, with no library's overhead."""

    arm: ClassVar[Arm] = Arm(
        "Parquet, a page an image, page index by hand",
        "peer",
        "open file, page index in memory; no Python library reads one",
    )
    layout: ClassVar[str] = "parquet-pages"
    selects: ClassVar[Selector] = "row id"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        self._file = os.open(folder / "media.parquet", os.O_RDONLY)
        self._pages = pages(folder / "media.parquet", "image")
        self._first_rows = np.array([page.first_row for page in self._pages])

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        # At 8 KB alone, the best of arXiv 2504.15247, small images share pages and 1.2 × the payload is read.
        _write(folder, rows, row_group_rows=rows.num_rows, max_rows_per_page=1, write_page_index=True, **_PLAIN)

    def request(self, positions: Ints) -> Ints:
        return positions

    def read(self, request: Ints) -> list[memoryview]:
        numbers = np.searchsorted(self._first_rows, request, side="right") - 1
        skips = request - self._first_rows[numbers]
        return [self._value(n, skip) for n, skip in zip(numbers.tolist(), skips.tolist(), strict=True)]

    def payloads(self, delivered: list[memoryview]) -> Iterable[memoryview]:
        return delivered

    def _value(self, number: int, skip: int) -> memoryview:
        page = os.pread(self._file, self._pages[number].nbytes, self._pages[number].offset)
        start = values_start(page)
        for _ in range(skip):
            start += _LENGTH_NBYTES + int.from_bytes(page[start : start + _LENGTH_NBYTES], "little")
        end = start + _LENGTH_NBYTES + int.from_bytes(page[start : start + _LENGTH_NBYTES], "little")
        return memoryview(page)[start + _LENGTH_NBYTES : end]


class ParquetRowGroups:
    """A row group a row: the fastest random access through pyarrow, paid for in the footer."""

    arm: ClassVar[Arm] = Arm(
        "Parquet, one-row row groups, pyarrow", "peer", "open ParquetFile, footer in memory, pre_buffer off"
    )
    layout: ClassVar[str] = "parquet-row-groups"
    selects: ClassVar[Selector] = "row id"
    row_group_rows: ClassVar[int] = 1

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(folder / "media.parquet", pre_buffer=False)

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        _write(folder, rows, row_group_rows=1, write_statistics=False, **_PLAIN)

    def request(self, positions: Ints) -> Ints:
        return positions

    def read(self, request: Ints) -> pa.ChunkedArray:
        groups, inverse = np.unique(request // self.row_group_rows, return_inverse=True)
        images = self._file.read_row_groups(groups.tolist(), columns=["image"])["image"]
        return images.take(inverse * self.row_group_rows + request % self.row_group_rows)

    def payloads(self, delivered: pa.ChunkedArray) -> Iterable[memoryview]:
        return (memoryview(value.as_buffer()) for value in delivered)


class ParquetDefaults(ParquetRowGroups):
    """What pyarrow writes unasked: large row groups, snappy, dictionaries tried first."""

    arm: ClassVar[Arm] = Arm("Parquet at pyarrow's defaults", "footnote", "open ParquetFile, footer in memory")
    layout: ClassVar[str] = "parquet-defaults"
    row_group_rows: ClassVar[int] = 1 << 20  # pyarrow's default

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        _write(folder, rows, row_group_rows=ParquetDefaults.row_group_rows)


_PLAIN: dict[str, Any] = {"compression": "none", "use_dictionary": False}


def _write(folder: Path, rows: MediaRows, *, row_group_rows: int, **settings: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetWriter(folder / "media.parquet", rows.schema, **settings) as writer:
        if row_group_rows < rows.num_rows:
            for batch in rows.batches():
                writer.write_batch(batch, row_group_size=row_group_rows)
        else:  # one row group needs all rows at hand
            writer.write_table(pa.Table.from_batches(rows.batches()), row_group_size=row_group_rows)
