"""Thumbnails: small upright pictures of few bytes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, cast

from lakehouse.errors import InvalidArgumentError
from lakehouse.media.codecs import MAX_IMAGE_PIXELS, loaded, opened, oriented

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["thumbnail"]

_WEBP_PX = 16_383  # the longest side that the format has


def thumbnail(image: bytes | Image.Image, max_px: int = 256, *, max_nbytes: int = 24_000) -> bytes:
    """Make a small upright WebP picture.

    Parameters
    ----------
    image
        A file's bytes, or decoded pixels.
    max_px
        Longest side, at least 1.
    max_nbytes
        Quality, then size, are lowered until it fits.

    Raises
    ------
    InvalidArgumentError
        `max_px` is below 1.
    MediaError
        As `decode_image`.
    """
    if not max_px >= 1:
        raise InvalidArgumentError(f"no picture of at most {max_px} px a side; the least is 1")
    max_px = int(min(max_px, _WEBP_PX))
    if isinstance(image, bytes):
        file = opened(image, MAX_IMAGE_PIXELS)
        file.draft("RGB", (2 * max_px, 2 * max_px))  # JPEG can decode at 1/2, 1/4, 1/8: many times faster
        image = loaded(file)
    picture = _eight_bit(_upright(image))
    for side_px, quality in ((max_px, 75), (max_px, 40), (max_px // 2, 40), (max_px // 4, 40), (8, 40)):
        scale = min(1.0, side_px / max(picture.size))
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        buffer = io.BytesIO()
        picture.resize(size, reducing_gap=2.0).save(buffer, "WEBP", quality=quality)
        if buffer.tell() <= max_nbytes:
            return buffer.getvalue()
    raise InvalidArgumentError(f"no thumbnail fits into max_nbytes={max_nbytes}; allow at least 1,000")


def _upright(picture: Image.Image) -> Image.Image:
    from PIL.Image import Transpose

    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(oriented(picture))
    return picture if turn is None else picture.transpose(turn)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """WebP holds RGB and RGBA; deeper pixels are stretched, or nearly all of them would be white."""
    if picture.mode in ("RGB", "RGBA"):
        return picture
    if picture.mode.startswith(("I", "F")):
        low, high = cast("tuple[float, float]", picture.getextrema())
        scale = 255 / (high - low) if high > low else 0.0
        picture = picture.convert("F").point(lambda level: level * scale - low * scale).convert("L")
    transparent = "transparency" in picture.info or picture.mode in ("LA", "PA")
    return picture.convert("RGBA" if transparent else "RGB")
