"""Perceptual hash: 64 bits that stay when a picture is scaled or compressed."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.media.codecs import MAX_IMAGE_PIXELS, loaded, opened

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["phash"]

_SIDE_PX, _KEPT = 32, 8


def phash(image: bytes) -> int:
    """Hash a picture by its low frequencies, 64 bits; similar pictures differ in few of them.

    The usual pHash: 32 x 32 grey pixels, their cosine transform, and of its 8 x 8 lowest frequencies which lie above
    the median. Bit 63 is the constant term.

    Parameters
    ----------
    image
        A file's bytes.

    Raises
    ------
    MediaError
        The bytes do not decode.
    """
    from PIL.Image import Resampling

    file = opened(image, MAX_IMAGE_PIXELS)
    file.draft("L", (8 * _SIDE_PX, 8 * _SIDE_PX))  # JPEG can decode at 1/2, 1/4, 1/8: many times faster
    small = loaded(file).convert("L").resize((_SIDE_PX, _SIDE_PX), Resampling.LANCZOS)
    basis = _cosines()
    low = basis @ np.asarray(small, dtype=np.float64) @ basis.T
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes())


@cache
def _cosines() -> npt.NDArray[np.float64]:
    """Return the lowest frequencies of the discrete cosine transform, type II, one a row."""
    at = np.arange(_SIDE_PX)
    return np.cos(np.pi * np.outer(np.arange(_KEPT), 2 * at + 1) / (2 * _SIDE_PX))
