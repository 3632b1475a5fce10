"""What is filled: seeded tables of numbers, of incompressible media, and of pictures that decode."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from benchmarks.media import MediaRows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

_PICTURE_PX = (512, 384)
_SIZE_SPREAD = 0.3  # so that the sizes of the media are a column of different numbers
_COARSE = 16  # pixels of a picture's pattern: about 20 KB as JPEG


@dataclass(frozen=True)
class TableOf:
    """A table to fill columns of.

    Parameters
    ----------
    kind
        ``numbers``: x, float64, and n, int64. ``media``: random bytes. ``pictures``: JPEG files.
    num_rows, num_fragments
        Rows, and the files they lie in.
    nbytes
        Median size of the media.
    """

    kind: Literal["numbers", "media", "pictures"]
    num_rows: int
    num_fragments: int = 10
    nbytes: int = 0

    @property
    def name(self) -> str:
        """Return a folder name that tells the data apart."""
        return "_".join(str(value) for value in asdict(self).values())

    @property
    def one_row(self) -> TableOf:
        """Return the like of it with a single row."""
        return TableOf(self.kind, 1, 1, self.nbytes)

    def build(self, folder: Path) -> None:
        """Write it as the table ``t`` of a lake."""
        import pyarrow as pa

        import lakehouse as lh

        table = lh.connect(folder / "lake").create_table("t", schema=self._schema)
        for batches in self._parts():
            table.add(pa.RecordBatchReader.from_batches(self._schema, batches), progress=False)
        assert len(table.snapshot().dataset.get_fragments()) == self.num_fragments

    @property
    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        import lakehouse as lh

        if self.kind == "numbers":
            return pa.schema({"x": pa.float64(), "n": pa.int64()})
        return pa.schema([lh.types.field("image", "image")])

    def _parts(self) -> Iterator[Iterator[pa.RecordBatch]]:
        if self.kind == "media":
            for part in MediaRows(self.num_rows, self.nbytes, _SIZE_SPREAD).parts(self.num_fragments):
                yield (batch.select(["image"]).cast(self._schema) for batch in part)
            return
        random = np.random.default_rng(0)
        make = self._numbers if self.kind == "numbers" else self._pictures
        for rows in np.array_split(np.arange(self.num_rows), self.num_fragments):
            yield iter([make(rows, random)])

    def _numbers(self, rows: np.ndarray, random: np.random.Generator) -> pa.RecordBatch:
        import pyarrow as pa

        return pa.record_batch([pa.array(random.random(len(rows))), pa.array(rows)], schema=self._schema)

    def _pictures(self, rows: np.ndarray, random: np.random.Generator) -> pa.RecordBatch:
        import pyarrow as pa

        return pa.record_batch([pa.array([_picture(random) for _ in rows], pa.large_binary())], schema=self._schema)


def _picture(random: np.random.Generator) -> bytes:
    from PIL import Image

    width, height = _PICTURE_PX
    pattern = random.integers(0, 256, (height // _COARSE, width // _COARSE, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pattern).resize(_PICTURE_PX, Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()
