"""What a function returns for a medium → what is stored: bytes as they are, pixels as PNG, a text as a string."""

from __future__ import annotations

from typing import Any

import numpy as np

from lakehouse.media.codecs import encode_image
from lakehouse.media.handles import Handle, Text

__all__ = ["encoded"]


def encoded(value: Any, kind: str) -> bytes | str | None:
    r"""Return what a value of a media column is stored as.

    Parameters
    ----------
    value
        Bytes, a handle, or None; of a text a string; of an image a Pillow image, or uint8 of shape
        ``(height, width)`` or ``(height, width, 3 or 4)``. Pixels are encoded as PNG.
    kind
        ``image``, ``video``, ``audio``, ``text`` or ``blob``.

    Raises
    ------
    TypeError
        It is none of these.
    InvalidArgumentError
        PNG cannot hold such pixels: CMYK, floats.

    Examples
    --------
    >>> import numpy as np
    >>> encoded(b"as it is", "image"), encoded(np.zeros((3, 4), np.uint8), "image")[:4]
    (b'as it is', b'\x89PNG')
    """
    if isinstance(value, Handle) and (kind == "blob" or type(value).__name__.lower() == kind):
        value = value.text() if isinstance(value, Text) and kind == "text" else value.read()
    if value is None or isinstance(value, str if kind == "text" else bytes):
        return value
    if kind != "text" and isinstance(value, bytearray | memoryview):
        return bytes(value)
    if kind == "image" and _has_pixels(value):
        return encode_image(value)
    pixels = " or uint8 pixels of shape (height, width[, 3 or 4])" if kind == "image" else ""
    what = f"{value.dtype} array of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"of {kind} a function returns {'str' if kind == 'text' else 'bytes'}{pixels}, not {what}")


def _has_pixels(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype == np.uint8 and (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4)))
    from PIL.Image import Image

    return isinstance(value, Image)
