"""Pictures: bytes to header and pixels, and back.

Pillow's format classes are used one by one, not `PIL.Image.open`: that one checks sizes against a global that other
code may change, warns where this module refuses, and tries forty formats where five are wanted.
"""

from __future__ import annotations

import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lakehouse.errors import InvalidArgumentError, LakehouseError, MediaError, translated
from lakehouse.media import jpeg
from lakehouse.media.endings import picture_ends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from mmap import mmap

    import numpy as np
    import numpy.typing as npt
    from PIL import Image
    from PIL.ImageFile import ImageFile

__all__ = [
    "FORMATS",
    "MAX_IMAGE_PIXELS",
    "ImageInfo",
    "check_image",
    "decode_image",
    "decode_rgb",
    "encode_image",
    "image_info",
    "loaded",
    "opened",
    "oriented",
    "resized",
]

# 150 MB as RGB. Pillow alone takes a 20 KB PNG of 13000 x 13000 with a warning and 483 MB of memory.
MAX_IMAGE_PIXELS = 50_000_000

# What the web and cameras write, by decoders small enough to be fuzzed well. Left out for their record of
# vulnerabilities: EPS, FITS, PSD, GD, JPEG 2000, and TIFF and AVIF, which users miss: convert, or use a `blob` column.
_MAGIC = {
    "JPEG": (0, b"\xff\xd8\xff"),
    "PNG": (0, b"\x89PNG\r\n\x1a\n"),
    "WEBP": (8, b"WEBP"),
    "GIF": (0, b"GIF8"),
    "BMP": (0, b"BM"),
}
FORMATS = tuple(_MAGIC)
_REFUSED = {
    "TIFF": (0, b"II*\0"),
    "TIFF (big-endian)": (0, b"MM\0*"),
    "AVIF": (4, b"ftypavi"),
    "HEIC": (4, b"ftyphei"),
    "JPEG 2000": (4, b"jP  "),
    "PSD": (0, b"8BPS"),
    "PDF": (0, b"%PDF"),
    "EPS": (0, b"%!PS"),
}
_HEADER_NBYTES = 64 << 10  # holds the header of nearly all pictures; one read instead of Pillow's dozens
_ORIENTATION = 0x0112  # EXIF 2.32, table 4


@dataclass(frozen=True)
class ImageInfo:
    """What the header of a picture says.

    Parameters
    ----------
    width_px, height_px
        Size as stored, before `orientation` is applied.
    format
        ``JPEG``, ``PNG``, ``WEBP``, ``GIF`` or ``BMP``.
    orientation
        EXIF orientation, 1 to 8; 1, upright, where the file says nothing.
    mode
        Pillow's name for the pixels, such as ``RGB``, ``L``, ``RGBA``, ``P`` or ``CMYK``.
    """

    width_px: int
    height_px: int
    format: str
    orientation: int
    mode: str


def image_info(data: bytes | BinaryIO, *, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageInfo:
    """Read the header of a picture; no pixel is decoded.

    Parameters
    ----------
    data
        The bytes, or a seekable file of which mostly the first 64 KB are read.
    max_pixels
        Larger pictures are refused.

    Raises
    ------
    MediaError
        It is no picture of `FORMATS`, its header is broken, or it is larger than `max_pixels`.

    Examples
    --------
    >>> import numpy as np
    >>> image_info(encode_image(np.zeros((3, 4), np.uint8)))
    ImageInfo(width_px=4, height_px=3, format='PNG', orientation=1, mode='L')
    """
    if isinstance(data, bytes):
        return _info(opened(data, max_pixels))
    with translated("reading an image"):
        data.seek(0)
        head = data.read(_HEADER_NBYTES)
    if len(head) == _HEADER_NBYTES:
        try:
            return _info(opened(head, max_pixels))
        except MediaError:  # the header goes on behind it: a long EXIF or ICC block, or WebP, which Pillow reads whole
            with translated("reading an image"):
                head += data.read()
    return _info(opened(head, max_pixels))


def check_image(data: bytes | mmap, *, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageInfo:
    """Read the header and look whether the file is whole, which costs no decoding unless it seems cut.

    Marks of the end and lengths are looked at, and the checksums of PNG; a picture that seems cut is decoded to be
    sure. Damage inside compressed pixels is found when they are decoded, not here.

    Raises
    ------
    MediaError
        As `image_info`, or the file is cut off or damaged.
    """
    info = image_info(data if isinstance(data, bytes) else cast("BinaryIO", data), max_pixels=max_pixels)
    if not picture_ends(data, info.format):
        decode_image(data[:], max_pixels=max_pixels)
    return info


def decode_image(data: bytes, *, max_pixels: int = MAX_IMAGE_PIXELS) -> Image.Image:
    """Decode the pixels as they are stored, the first frame of an animation.

    EXIF orientation is not applied, as in Pillow and torchvision: `PIL.ImageOps.exif_transpose` does.

    Raises
    ------
    MediaError
        The bytes are no whole picture of `FORMATS`, or it is larger than `max_pixels`.

    Examples
    --------
    >>> import numpy as np
    >>> decode_image(encode_image(np.zeros((3, 4, 3), np.uint8))).size
    (4, 3)
    """
    return loaded(opened(data, max_pixels))


def decode_rgb(
    data: bytes, *, max_pixels: int = MAX_IMAGE_PIXELS, fit: Callable[[int, int], tuple[int, int]] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode to RGB pixels: grey, 16 bit, palette and CMYK are converted, transparency is dropped.

    Parameters
    ----------
    data
        The bytes.
    max_pixels
        Larger pictures are refused.
    fit
        Maps width and height as stored to those wanted, in pixels; a large JPEG is then decoded at a half, a quarter
        or an eighth, still at least twice the size wanted. None keeps them.

    Returns
    -------
    numpy.ndarray
        uint8, ``(height, width, 3)``, 0 to 255; of its own memory.

    Raises
    ------
    MediaError
        As `decode_image`.
    """
    import numpy as np

    if fit is None:
        pixels = jpeg.decoded(data, max_pixels)
        return pixels if pixels is not None else np.array(_as_rgb(decode_image(data, max_pixels=max_pixels)))
    image = opened(data, max_pixels)
    width_px, height_px = fit(*image.size)
    image.draft(None, (2 * width_px, 2 * height_px))
    return np.array(resized(_as_rgb(loaded(image)), width_px, height_px))


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # Pillow's own conversion clips all above 255 to white
        return _grey(image)
    if "transparency" in image.info:  # straight to RGB Pillow warns of what is asked for here
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _grey(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image

    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")


def resized(image: Image.Image, width_px: int, height_px: int) -> Image.Image:
    """Bring a picture to a size, bilinear over all pixels that a new one covers, as torchvision with ``antialias``."""
    from PIL.Image import Resampling

    if image.size == (width_px, height_px):
        return image
    return image.resize((width_px, height_px), Resampling.BILINEAR, reducing_gap=2.0)


def encode_image(image: Image.Image | npt.NDArray[np.uint8], format: str = "PNG") -> bytes:  # noqa: A002 - Pillow's word
    """Encode pixels; PNG, WEBP and BMP keep them exactly.

    Parameters
    ----------
    image
        A Pillow image, or uint8 of shape ``(height, width)`` or ``(height, width, 3 or 4)``.
    format
        ``PNG``, ``JPEG`` (quality 95), ``WEBP`` (lossless), ``GIF`` or ``BMP``.

    Raises
    ------
    InvalidArgumentError
        An unknown format, or one that cannot hold such pixels: JPEG has no transparency.
    """
    from PIL import Image

    if format not in FORMATS:
        raise InvalidArgumentError(f"cannot encode as {format!r}; choose {', '.join(FORMATS)}")
    options: dict[str, Any] = (
        {"quality": 95} if format == "JPEG" else {"lossless": True, "exact": True} if format == "WEBP" else {}
    )
    buffer = io.BytesIO()
    try:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(buffer, format, **options)
    except (OSError, ValueError, TypeError, KeyError) as error:
        what = getattr(image, "mode", None) or f"{image.dtype} {image.shape}"  # type: ignore[union-attr]  # an array has no mode
        raise InvalidArgumentError(f"cannot encode pixels of kind {what} as {format}: {error}") from error
    return buffer.getvalue()


def opened(data: bytes, max_pixels: int) -> ImageFile:
    """Parse the header with the one class its first bytes name, and refuse what is too large before any pixel."""
    name = _named(data, _MAGIC)
    if name is None:
        raise MediaError(_not_an_image(data))
    with _decoding(f"broken {name} header"):
        image = _factory(name)(io.BytesIO(data))
    width_px, height_px = image.size
    if width_px * height_px > max_pixels:
        raise MediaError(
            f"{name} of {width_px} x {height_px} px has {width_px * height_px:,} pixels, the limit is "
            f"max_pixels={max_pixels:,}; raise the limit if the source is trusted"
        )
    return image


def _factory(name: str) -> Callable[[BinaryIO], ImageFile]:
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    classes: dict[str, Callable[[BinaryIO], ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
    }
    return classes[name]


def loaded(image: ImageFile) -> Image.Image:
    """Decode the pixels of an opened picture."""
    with _decoding(f"{image.format} of {image.width} x {image.height} px does not decode"):
        image.load()
    return image


def _info(image: ImageFile) -> ImageInfo:
    return ImageInfo(image.width, image.height, str(image.format), oriented(image), image.mode)


def oriented(image: Image.Image) -> int:
    """Return the EXIF orientation from the bytes the header held: `getexif` of a PNG would decode all pixels first."""
    from PIL.Image import Exif

    exif = Exif()
    try:
        exif.load(image.info.get("exif", b""))
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a broken EXIF block fails in many ways and says nothing of the picture
        return 1
    return value if value in range(1, 9) else 1


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Translate at the seam over Pillow, which answers broken bytes with nearly any exception."""
    try:
        yield
    except (LakehouseError, MemoryError):
        raise
    except Exception as error:
        raise MediaError(f"{what}: {error or type(error).__name__}") from error


def _named(data: bytes, table: dict[str, tuple[int, bytes]]) -> str | None:
    return next((name for name, (at, magic) in table.items() if data[at : at + len(magic)] == magic), None)


def _not_an_image(data: bytes) -> str:
    if not data:
        return "the file is empty"
    refused = _named(data, _REFUSED)
    what = f"{refused} is not read" if refused else f"not an image (it starts with {data[:12]!r})"
    return f"{what}; read are {', '.join(FORMATS)}"
