"""What brings pictures of all sizes to the one size that a batch has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lakehouse.errors import InvalidArgumentError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Pad", "Resize", "Size"]

_MAX_PX = 16_384


@dataclass(frozen=True)
class Resize:
    """Bring each picture to one size, whatever its proportions: bilinear, over all pixels that a new one covers.

    A large JPEG is decoded at a fraction of its size, at least twice the one wanted.

    Parameters
    ----------
    height_px, width_px
        Of every picture in the batch.

    Examples
    --------
    >>> import lakehouse as lh
    >>> lh.Resize(224, 224).inside(640, 480)
    (224, 224)
    """

    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        _check(self)

    def inside(self, width_px: int, height_px: int) -> tuple[int, int]:  # noqa: ARG002 - all become the same
        """Give the width and height that a picture of this size gets."""
        return self.width_px, self.height_px


@dataclass(frozen=True)
class Pad:
    """Put each picture into the upper left corner of a black one; larger ones are first shrunk until they fit.

    Proportions stay, nothing is enlarged. How far the picture goes is in the batch beside it: of a column ``image``
    as ``image_size``, int64, shape ``(num_rows, 2)``, height and width in pixels.

    Parameters
    ----------
    height_px, width_px
        Of every picture in the batch.

    Examples
    --------
    >>> import lakehouse as lh
    >>> lh.Pad(256, 256).inside(640, 480), lh.Pad(256, 256).inside(100, 50)
    ((256, 192), (100, 50))
    """

    height_px: int
    width_px: int

    def __post_init__(self) -> None:
        _check(self)

    def inside(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Give the width and height that a picture of this size gets."""
        scale = min(1.0, self.width_px / width_px, self.height_px / height_px)
        return max(1, round(width_px * scale)), max(1, round(height_px * scale))

    def padded(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Put pixels that fit, shape ``(…, height, width, channels)``, into the upper left corner."""
        *leading, height_px, width_px, channels = pixels.shape
        whole = np.zeros((*leading, self.height_px, self.width_px, channels), np.uint8)
        whole[..., :height_px, :width_px, :] = pixels
        return whole


Size = Resize | Pad


def _check(size: Size) -> None:
    for name in ("height_px", "width_px"):
        value = getattr(size, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_PX:
            raise InvalidArgumentError(f"{name} is {value!r}; it is a whole number of pixels, 1 to {_MAX_PX:,}")
