"""Rows that every loader is given: pictures, texts or numbers; the same for the same settings on every machine."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.harness.trial import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kind = Literal["image", "text", "narrow", "byte"]
NUM_LABELS = 100  # rows are sorted by label, which is what a shuffle has to undo
_BYTES = 127
_POOL = 200  # distinct pictures and texts; each row has bytes of its own on the disk all the same
_JPEG_QUALITY = 90
_GRAIN = {341: 14.0, 500: 16.5}  # by width: what brings the mean to 45 and 100 KB
_BATCH_NBYTES = 8 << 20
_TEXT_MEDIAN, _TEXT_SPREAD, _TEXT_MOST = 1_500, 0.7, 8_000  # log-normal, 0.5 to 8 KB
POOLS = REPOSITORY / "benchmarks" / "data" / "loader" / "pools"


@dataclass(frozen=True)
class LoaderRows:
    """Rows of (id, label, payload): `id` counts up, `label` with it, and the payload belongs to the id.

    Parameters
    ----------
    kind
        A JPEG, a text, a float64, or one byte and no id, for tables so long that eight bytes a row are many.
    num_rows
        How many.
    width_px, height_px
        Of each picture.
    num_deleted
        Rows deleted of each half afterwards, which is a fragment of a lake.
    uncompressed
        Whether what Lance would compress is stored as it is.
    """

    kind: Kind
    num_rows: int
    width_px: int = 0
    height_px: int = 0
    num_deleted: int = 0
    uncompressed: bool = False

    @property
    def name(self) -> str:
        how = "_uncompressed" if self.uncompressed else ""
        return f"{self.kind}_{self.num_rows}_{self.width_px}x{self.height_px}_{self.num_deleted}{how}"

    def payload(self, number: int) -> Any:
        """Return what belongs to a row's id."""
        if self.kind == "narrow":
            return number * 0.5
        if self.kind == "byte":
            return number % _BYTES
        from_pool = self.pool[number % len(self.pool)]
        # No two alike, else a format that stores equal values once would win by that. Decoders stop at a JPEG's end mark.
        return f"{number:012} {from_pool}" if self.kind == "text" else from_pool + number.to_bytes(8, "little")

    def label(self, number: int) -> int:
        return number * NUM_LABELS // self.num_rows

    @cached_property
    def nbytes(self) -> int:
        """Payload of an average row in bytes."""
        if self.kind in ("narrow", "byte"):
            return 8 if self.kind == "narrow" else 1
        return sum(map(len, self.pool)) // len(self.pool)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows in order."""
        for number in range(self.num_rows):
            yield {"id": number, "label": self.label(number), "payload": self.payload(number)}

    @cached_property
    def pool(self) -> list[Any]:
        """The distinct payloads; pictures come from `make_pool`."""
        if self.kind == "text":
            return _texts()
        return [path.read_bytes() for path in sorted(self._pool_folder.glob("*.jpg"))]

    @property
    def _pool_folder(self) -> Path:
        return POOLS / f"{self.width_px}x{self.height_px}"

    def make_pool(self) -> None:
        """Encode the pictures, once; this needs scikit-learn, which the peers' environments do not have."""
        if self.kind != "image" or self._pool_folder.exists():
            return
        part = self._pool_folder.with_suffix(".part")
        part.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(_pictures(self.width_px, self.height_px)):
            (part / f"{number:03}.jpg").write_bytes(picture)
        part.rename(self._pool_folder)

    def reader(self, payload: Any, part: range | None = None) -> Any:
        """Return the rows, or a part of them, as a stream of Arrow batches with `payload` as the field of the payloads."""
        import pyarrow as pa

        schema = pa.schema(
            [pa.field("id", pa.int64(), nullable=False), pa.field("label", pa.int64(), nullable=False), payload]
        )
        step = max(1, _BATCH_NBYTES // (self.nbytes + 16))

        def batches() -> Iterator[pa.RecordBatch]:
            whole = part or range(self.num_rows)
            for start in range(whole.start, whole.stop, step):
                numbers = range(start, min(start + step, whole.stop))
                cells = [list(numbers), [self.label(n) for n in numbers], [self.payload(n) for n in numbers]]
                yield pa.RecordBatch.from_arrays(
                    [pa.array(c, f.type) for c, f in zip(cells, schema, strict=True)], schema=schema
                )

        return pa.RecordBatchReader.from_batches(schema, batches())

    def bytes_reader(self) -> Any:
        """Return the rows of one byte as a stream of Arrow batches."""
        import pyarrow as pa

        schema, step = pa.schema([pa.field("payload", pa.int8(), nullable=False)]), _BYTES << 17
        cells = pa.array(np.arange(step) % _BYTES, pa.int8())
        lengths = (min(step, self.num_rows - start) for start in range(0, self.num_rows, step))
        return pa.RecordBatchReader.from_batches(
            schema, (pa.RecordBatch.from_arrays([cells[:length]], schema=schema) for length in lengths)
        )


def arrow_field(rows: LoaderRows) -> Any:
    """Return the Arrow field of the payloads as they are, without a meaning of ours."""
    import pyarrow as pa

    type_ = {"image": pa.large_binary(), "text": pa.string(), "narrow": pa.float64()}[rows.kind]
    # A JPEG does not shrink, and by default Lance puts each into a frame of zstd.
    metadata = {"lance-encoding:compression": "none"} if rows.kind == "image" or rows.uncompressed else None
    return pa.field("payload", type_, nullable=False, metadata=metadata)


def decoded(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode a JPEG to RGB, uint8, shape ``(3, height, width)``: the one decoder of every arm but ours, which has the same."""
    from PIL import Image

    return np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1))


def augmented(image: Any, rng: np.random.Generator) -> Any:
    """Cut a random part of a picture, resize it to 224 × 224 and mirror it now and then: uint8, shape ``(3, 224, 224)``."""
    import torch

    image = torch.as_tensor(image)
    height, width = image.shape[1:]
    tall, wide = (int(size * np.sqrt(rng.uniform(0.3, 1.0))) for size in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    part = image[None, :, top : top + tall, left : left + wide]
    small = torch.nn.functional.interpolate(part, (224, 224), mode="bilinear", antialias=True, align_corners=False)[0]
    return small.flip(2) if rng.random() < 0.5 else small


def _pictures(width_px: int, height_px: int) -> Iterator[bytes]:
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(width_px)
    photos = load_sample_images().images
    grain = _GRAIN[width_px]
    for number in range(_POOL):
        photo = photos[number % len(photos)]
        top, left = (
            int(rng.integers(0, size - part + 1))
            for size, part in zip(photo.shape, (height_px, width_px), strict=False)
        )
        part = photo[top : top + height_px, left : left + width_px].astype(np.int16)
        # Grain of a sensor, without which these two photographs are smoother and smaller than an average one.
        noisy = np.clip(part + rng.normal(0, grain, part.shape), 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "JPEG", quality=_JPEG_QUALITY)
        yield file.getvalue()


def _texts() -> list[str]:
    rng = np.random.default_rng(0)
    words = np.array(["".join(map(chr, rng.integers(97, 123, size))) for size in rng.integers(2, 11, 5_000)])
    lengths = np.clip(rng.lognormal(np.log(_TEXT_MEDIAN), _TEXT_SPREAD, 5 * _POOL), 500, _TEXT_MOST).astype(int)
    return [" ".join(rng.choice(words, length // 5).tolist())[:length] for length in lengths.tolist()]
