"""Videos from files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakehouse import types
from lakehouse._optional import require
from lakehouse.errors import MediaError
from lakehouse.media.endings import container_ends
from lakehouse.media.video import video_info
from lakehouse.sources.files import Files, files
from lakehouse.sources.listing import listing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from mmap import mmap

__all__ = ["read_videos"]

_EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".ts", ".mts", ".m2ts", ".flv", ".wmv", ".ogv", ".3gp"),
)
_CELLS = (
    types.field("video", "video", doc="the file as it came"),
    types.field("width", "int32", unit="px", doc="width of a frame as coded, before rotation is applied"),
    types.field("height", "int32", unit="px", doc="height of a frame as coded, before rotation is applied"),
    types.field("duration_s", "float64", unit="s", doc="length, from the container"),
    types.field("fps", "float64", unit="1/s", doc="frames a second, on average"),
    types.field("codec", "string", doc="codec of the first video stream as FFmpeg names it: h264, vp9, av1"),
    types.field("num_frames", "int64", doc="number of frames, from the container or from duration and fps"),
)


def read_videos(
    pattern: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    label_from: Literal["folder"] | None = None,
    columns: Sequence[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Files:
    """Read videos from files, one row each: a source for `add` and `create_table`.

    Which files are taken and what is a bad row: as in `read_images`. Size, length and codec come from the container's
    header, no frame is decoded. A file is held in memory while it is stored; one of more than 2 GiB is a bad row.

    Parameters
    ----------
    pattern
        A folder, a file, a glob (``**`` is any depth), a URL that fsspec knows, or several of these.
    label_from
        ``"folder"``: a column `label` with the name of the folder each file is in.
    columns
        Only these of ``id, video, width, height, duration_s, fps, codec, num_frames, label, source_uri,
        content_sha256, ingested_at``; ``None`` is all.
    storage_options
        Credentials and endpoints for a URL, named as for `connect` or as fsspec names them.

    Raises
    ------
    NotFoundError
        There is no such file or folder; when read, that nothing matched.
    InvalidArgumentError
        An unknown column or `label_from`.
    MissingDependencyError
        PyAV is not installed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import lakehouse as lh
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.mp4")
    >>> _ = path.write_bytes(b"no video")
    >>> chunk = next(lh.read_videos(path).chunks())
    >>> chunk.batch.num_rows, chunk.failures[0].error
    (0, 'MediaError')
    """
    require("av", "reading videos")
    found = listing(pattern, _EXTENSIONS, storage_options)
    return files("videos", found, _CELLS, _look, label_from=label_from, columns=columns, options={})


def _look(data: bytes | mmap) -> dict[str, Any]:
    info = video_info(pa.BufferReader(data))
    if not container_ends(pa.BufferReader(data)):
        raise MediaError(f"the file is cut off: {info.format} says it is longer than {len(data):,} bytes")
    return {
        "video": data,
        "width": info.width_px,
        "height": info.height_px,
        "duration_s": info.duration_s,
        "fps": info.fps,
        "codec": info.codec,
        "num_frames": info.num_frames,
    }
