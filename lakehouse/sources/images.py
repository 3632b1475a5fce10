"""Pictures from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from lakehouse import types
from lakehouse.media.codecs import FORMATS, MAX_IMAGE_PIXELS, check_image
from lakehouse.sources.files import Files, files
from lakehouse.sources.listing import listing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from mmap import mmap

__all__ = ["read_images"]

_EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp")
_CELLS = (
    types.field("image", "image", doc=f"the file as it came: {', '.join(FORMATS)}"),
    types.field("width", "int32", unit="px", doc="width as stored, before orientation is applied"),
    types.field("height", "int32", unit="px", doc="height as stored, before orientation is applied"),
    types.field("format", "string", doc="what the bytes are, whatever the file is called"),
    types.field("orientation", "int8", doc="EXIF orientation, 1 to 8; 1 is upright"),
)


def read_images(
    pattern: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    label_from: Literal["folder"] | None = None,
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Files:
    """Read pictures from files, one row each: a source for `add` and `create_table`.

    Files are listed while they are read, in a stable order, hidden ones left out. Of a folder those are taken, at any
    depth, that are called like a picture; what a glob matches or a path names is taken whatever it is called. The bytes
    decide what a file is: a PNG called ``.jpg`` is a PNG. A file that is empty, cut off, no picture, too large in
    pixels, or that cannot be read is a bad row, which ``add(…, on_bad_rows=…)`` raises, skips or records.

    Parameters
    ----------
    pattern
        A folder, a file, a glob (``**`` is any depth), a URL that fsspec knows, or several of these.
    label_from
        ``"folder"``: a column `label` with the name of the folder each file is in.
    columns
        Only these of ``id, image, width, height, format, orientation, label, source_uri, content_sha256,
        ingested_at``; ``None`` is all. `id` is the SHA-256 of the bytes, so the same picture twice is the same key.
    storage_options
        Credentials and endpoints for a URL, named as for `connect` or as fsspec names them.
    max_pixels
        Larger pictures are bad rows: a few KB can unpack to gigabytes.

    Raises
    ------
    NotFoundError
        There is no such file or folder; when read, that nothing matched.
    InvalidArgumentError
        An unknown column or `label_from`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import lakehouse as lh, numpy as np
    >>> from lakehouse.media.codecs import encode_image
    >>> folder = pathlib.Path(tempfile.mkdtemp(), "cats")
    >>> folder.mkdir()
    >>> _ = (folder / "a.png").write_bytes(encode_image(np.zeros((3, 4), np.uint8)))
    >>> source = lh.read_images(folder, label_from="folder", columns=["width", "height", "label"])
    >>> next(source.chunks()).batch.to_pylist()
    [{'width': 4, 'height': 3, 'label': 'cats'}]
    """

    def look(data: bytes | mmap) -> dict[str, Any]:
        info = check_image(data, max_pixels=max_pixels)
        return {
            "image": data,
            "width": info.width_px,
            "height": info.height_px,
            "format": info.format,
            "orientation": info.orientation,
        }

    found = listing(pattern, _EXTENSIONS, storage_options)
    options = {"max_pixels": max_pixels}
    return files("images", found, _CELLS, look, label_from=label_from, columns=columns, options=options)
