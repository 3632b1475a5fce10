"""Pictures and video frames, made small."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Thumbnail", "thumbnail"]

MAX_SIDE_PX = 192  # twice the 96 px it is shown at, for dense displays
MAX_NBYTES = 8_000
# Side in pixels and WebP quality: the first that fits is taken. Photographs fit at the first nearly always,
# pure noise at the third.
_STEPS = ((MAX_SIDE_PX, 70), (MAX_SIDE_PX, 30), (MAX_SIDE_PX // 2, 30), (MAX_SIDE_PX // 4, 30))


@dataclass(frozen=True)
class Thumbnail:
    """A small WebP picture, or the reason why there is none."""

    data: bytes = b""
    width_px: int = 0
    height_px: int = 0
    reason: str = ""

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` URI."""
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


def thumbnail(value: Any, media: str) -> Thumbnail:
    """Make a thumbnail of a media handle.

    Parameters
    ----------
    value
        An image or video handle.
    media
        ``image`` or ``video``, of which a frame of the first second is taken.
    """
    try:
        picture = value.pil() if media == "image" else _poster(value)
    except (LakehouseError, OSError) as error:  # shown in place of the picture
        return Thumbnail(reason=str(error))
    return _encode(_displayable(picture))


def _poster(video: Any) -> Image.Image:
    from PIL import Image

    frame = video.frame_at(min(1.0, video.info.duration_s / 3))
    return frame if isinstance(frame, Image.Image) else Image.fromarray(frame)


def _displayable(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bit: stretch to 8, or all is white
        return _stretched(picture)
    if picture.mode in ("RGB", "RGBA"):
        return picture
    return picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "LA" else "RGB")


def _stretched(picture: Image.Image) -> Image.Image:
    from PIL import Image

    levels = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0.0, neginf=0.0)
    low, high = float(levels.min()), float(levels.max())
    scale = 255 / (high - low) if high > low else 0.0
    return Image.fromarray(((levels - low) * scale).astype(np.uint8)).convert("RGB")


def _encode(picture: Image.Image) -> Thumbnail:
    for side_px, quality in _STEPS:
        small = _shrunk(picture, side_px)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() <= MAX_NBYTES:
            return Thumbnail(buffer.getvalue(), *small.size)
    return Thumbnail(reason=f"no thumbnail of {MAX_NBYTES} bytes")


def _shrunk(picture: Image.Image, side_px: int) -> Image.Image:
    from PIL import Image

    scale = min(1.0, side_px / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
