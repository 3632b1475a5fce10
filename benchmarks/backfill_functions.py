"""What is computed: each function as a lake takes it, and as the same function of a batch for who does it by hand."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageStat
import pyarrow as pa
import pyarrow.compute as pc

import lakehouse as lh

if TYPE_CHECKING:
    from collections.abc import Callable

_SPINS = 20_000  # about a millisecond of pure Python
_GRID = (32, 32)  # pixels looked at, so that decoding the picture is nearly all of the work


@lh.udf(pa.float64(), batch=True)
def half(x: pa.Array) -> pa.Array:
    return pc.multiply(x, 0.5)


@lh.udf(pa.int64(), batch=True)
def size(image: pa.Array) -> pa.Array:
    return pc.binary_length(image)


@lh.udf(pa.int64())
def square(n: int) -> int:
    return n * n


@lh.udf(pa.int64())
def spin(n: int) -> int:
    for step in range(_SPINS):
        n = (n * 31 + step) & 0xFFFF
    return n


@lh.udf(pa.float64())
def brightness(image: PIL.Image.Image) -> float:
    return PIL.ImageStat.Stat(image.resize(_GRID, PIL.Image.Resampling.NEAREST)).mean[0]


@lh.udf(pa.float64())
def contrast(image: PIL.Image.Image) -> float:
    return PIL.ImageStat.Stat(image.resize(_GRID, PIL.Image.Resampling.NEAREST)).stddev[0]


@dataclass(frozen=True)
class Features:
    """Columns that are filled together.

    Parameters
    ----------
    udfs
        By column, what a lake is given.
    read
        The column they are computed from.
    by_hand
        The same by column, of a batch of that column.
    by_hand_rows
        Rows of such a batch: of those tried (64 to 65,536) the fastest.
    """

    udfs: dict[str, lh.UDF]
    read: str
    by_hand: Callable[[pa.Array], list[pa.Array]]
    by_hand_rows: int

    @property
    def schema(self) -> pa.Schema:
        """Return the new columns."""
        return pa.schema([(name, next(iter(udf.outputs.values()))) for name, udf in self.udfs.items()])


def _rows(udf: lh.UDF) -> Callable[[pa.Array], list[pa.Array]]:
    function = udf.target
    return lambda values: [pa.array([function(value) for value in values.to_pylist()], pa.int64())]


def _pictures(*udfs: lh.UDF) -> Callable[[pa.Array], list[pa.Array]]:
    def compute(images: pa.Array) -> list[pa.Array]:
        pictures = [PIL.Image.open(io.BytesIO(data.as_buffer())) for data in images]
        return [pa.array([udf.target(picture) for picture in pictures], pa.float64()) for udf in udfs]

    return compute


HALF = Features({"f": half}, "x", lambda x: [pc.multiply(x, 0.5)], 65_536)
SIZE = Features({"f": size}, "image", lambda image: [pc.binary_length(image)], 64)
SQUARE = Features({"f": square}, "n", _rows(square), 65_536)
SPIN = Features({"f": spin}, "n", _rows(spin), 65_536)
ONE_OF_PICTURES = Features({"f": brightness}, "image", _pictures(brightness), 64)
TWO_OF_PICTURES = Features({"f": brightness, "g": contrast}, "image", _pictures(brightness, contrast), 64)
