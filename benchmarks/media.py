"""Seeded rows of incompressible media."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

Ints: TypeAlias = npt.NDArray[np.int64]

_JFIF_HEADER = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
_MIN_NBYTES = 1 << 10
_MAX_NBYTES = 1 << 20
_BATCH_NBYTES = 8 << 20
_NUM_LABELS = 50


@dataclass(frozen=True)
class MediaRows:
    """Rows of (id, position, label, score, image): the same for the same fields, on every machine.

    Images are random bytes behind a JPEG header, so that no format gains by compressing; their sizes are log-normal.

    Parameters
    ----------
    num_rows
        How many.
    median_nbytes
        Median size of an image; 0 leaves the image column out.
    spread
        Standard deviation of the logarithm of the sizes; 0.866 puts the 99th percentile at 7.5 × the median.
    seed
        Of sizes, bytes, labels and scores.
    """

    num_rows: int
    median_nbytes: int
    spread: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        """Return a folder name that tells the data apart from that of other parameters."""
        return f"{self.num_rows}-rows_{self.median_nbytes}-bytes_{self.spread}-spread_seed-{self.seed}"

    @cached_property
    def sizes(self) -> Ints:
        """Return the size of each image in bytes, shape ``(num_rows,)``."""
        if not self.median_nbytes:
            return np.zeros(self.num_rows, dtype=np.int64)
        logarithms = self._rng("sizes").normal(np.log(self.median_nbytes), self.spread, self.num_rows)
        return np.clip(np.rint(np.exp(logarithms)), _MIN_NBYTES, _MAX_NBYTES).astype(np.int64)

    @cached_property
    def scores(self) -> npt.NDArray[np.float64]:
        """Return uniform floats in [0, 1), shape ``(num_rows,)``."""
        return self._rng("scores").random(self.num_rows)

    @cached_property
    def ids(self) -> list[str]:
        """Return the rows' keys: 32 hexadecimal digits, in no order."""
        return [hashlib.blake2b(f"{self.seed}/{n}".encode(), digest_size=16).hexdigest() for n in range(self.num_rows)]

    def images(self) -> Iterator[bytes]:
        """Yield each row's image in order."""
        rng = self._rng("images")
        for nbytes in self.sizes.tolist():
            yield _JFIF_HEADER + rng.bytes(nbytes - len(_JFIF_HEADER))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow batches of about 8 MB."""
        for part in self.parts(1):
            yield from part

    def parts(self, num_parts: int) -> Iterator[Iterator[pa.RecordBatch]]:
        """Yield `num_parts` runs of batches, equal in rows to one; take each whole before the next."""
        images = self.images()
        ends = np.linspace(0, self.num_rows, num_parts + 1).astype(int).tolist()
        for start, stop in itertools.pairwise(ends):
            yield self._batches(start, stop, images)

    def _batches(self, first: int, end: int, images: Iterator[bytes]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        rows_per_batch = max(1, _BATCH_NBYTES // (self.median_nbytes + 64))
        for start in range(first, end, rows_per_batch):
            stop = min(start + rows_per_batch, end)
            columns: list[pa.Array] = [
                pa.array(self.ids[start:stop], pa.string()),
                pa.array(np.arange(start, stop), pa.int64()),
                pa.array([f"label-{n}" for n in self._labels[start:stop].tolist()], pa.string()),
                pa.array(self.scores[start:stop], pa.float64()),
            ]
            if self.median_nbytes:
                columns.append(pa.array(itertools.islice(images, stop - start), pa.large_binary()))
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def reader(self) -> pa.RecordBatchReader:
        """Return `batches` as a stream."""
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self.schema, self.batches())

    @cached_property
    def _labels(self) -> Ints:
        return self._rng("labels").integers(0, _NUM_LABELS, self.num_rows)

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema: nothing nullable, so that no format stores more than values."""
        import pyarrow as pa

        fields = [("id", pa.string()), ("position", pa.int64()), ("label", pa.string()), ("score", pa.float64())]
        if self.median_nbytes:
            fields.append(("image", pa.large_binary()))
        return pa.schema([pa.field(name, type_, nullable=False) for name, type_ in fields])

    def _rng(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *purpose.encode()])
