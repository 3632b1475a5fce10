"""The feature columns of the demo, written as a user writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

import lakehouse as lh

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["brightness", "brightness_v2", "palette", "sharpness"]

_BINS = 4


@lh.udf(pa.float32(), version="1")
def brightness(image: PIL.Image.Image) -> float:
    """Return how bright a picture is, 0 black to 1 white."""
    return float(np.asarray(image.convert("L")).mean() / 255)


@lh.udf(pa.float32(), version="2")
def brightness_v2(image: PIL.Image.Image) -> float:
    """Return the same by the median, which one lamp at night does not change."""
    return float(np.median(np.asarray(image.convert("L"))) / 255)


@lh.udf(pa.float32(), version="1")
def sharpness(image: PIL.Image.Image) -> float:
    """Return how much neighbouring pixels differ."""
    grey = np.asarray(image.convert("L"), np.float32)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


@lh.udf(pa.list_(pa.float32(), _BINS**3), batch=True, batch_size=16, version="1")
def palette(image: list[PIL.Image.Image]) -> np.ndarray:
    """Return the share of each of 64 colours, so that near vectors are pictures of like colours."""
    return np.stack([_shares(np.asarray(picture.convert("RGB"))) for picture in image])


def _shares(pixels: np.ndarray) -> np.ndarray:
    levels = pixels.reshape(-1, 3) // (256 // _BINS)
    codes = levels @ np.array([_BINS**2, _BINS, 1])
    return np.bincount(codes, minlength=_BINS**3).astype(np.float32) / len(codes)
