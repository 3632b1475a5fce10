"""Opening video and audio containers, on guard: FFmpeg reads playlists, network addresses and devices if it may."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from lakehouse._optional import require
from lakehouse.errors import MediaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.stream import Stream

__all__ = ["duration_s", "opened"]

# Demuxers that read one file and nothing it names. Without such a list text that says `ffconcat` or `#EXTM3U`
# is a playlist, which opens other files and addresses.
_DEMUXERS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,ivf,wav,mp3,flac,aac,aiff,au,caf,w64"
_BUFFER_NBYTES = 64 << 10  # of one read; Lance fetches at least as much
_TIME_BASE = 1_000_000  # FFmpeg's AV_TIME_BASE: container times are in microseconds


@contextmanager
def opened(file: BinaryIO, what: str, *, options: dict[str, str] | None = None) -> Iterator[InputContainer]:
    """Open a container over a seekable file; only the ranges FFmpeg asks for are read.

    Parameters
    ----------
    file
        Left open, at no particular position.
    what
        ``"video"`` or ``"audio"``, for messages.
    options
        FFmpeg options of the decoders.

    Raises
    ------
    MediaError
        It is no container of these formats, or what is done inside the block does not decode.
    MissingDependencyError
        PyAV is not installed.
    """
    av = require("av", f"reading {what}")
    file.seek(0)
    try:
        with av.open(
            file,
            metadata_errors="replace",
            buffer_size=_BUFFER_NBYTES,
            options=options or {},
            container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"},
        ) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(
            f"not {what} that can be read: {error.strerror}; read are MP4, MOV, Matroska, WebM, AVI, …"
        ) from error


def duration_s(container: InputContainer, stream: Stream) -> float | None:
    """Return the length of a stream in seconds, or of the container, or ``None`` if neither is stated."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / _TIME_BASE if container.duration else None
