"""Pictures and video frames for a page, or the reason why there is none."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.media import thumbnails

__all__ = ["Thumbnail", "thumbnail"]

MAX_SIDE_PX = 192
MAX_NBYTES = 8_000


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
        ``image``, or ``video``, of which a frame of the first second is taken.
    """
    from PIL import Image

    try:
        picture = value.read() if media == "image" else value.frame_at(_poster_s(value.info.duration_s))
        data = thumbnails.thumbnail(picture, MAX_SIDE_PX, max_nbytes=MAX_NBYTES)
    except LakehouseError as error:  # shown in place of the picture
        return Thumbnail(reason=str(error))
    return Thumbnail(data, *Image.open(io.BytesIO(data)).size)


def _poster_s(duration_s: float | None) -> float:
    """Past the black that many videos begin with, and near: what lies before it has to be read."""
    return min(1.0, duration_s / 3) if duration_s else 0.0
