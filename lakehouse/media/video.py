"""Video: what a container's header says, single frames, and frames at a pace."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from math import floor
from typing import TYPE_CHECKING, BinaryIO

from lakehouse.errors import InvalidArgumentError, MediaError
from lakehouse.media.container import duration_s, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av import VideoFrame, VideoStream
    from av.container import InputContainer
    from PIL import Image

__all__ = [
    "MAX_FRAME_PIXELS",
    "VideoInfo",
    "check_times",
    "decoded_from",
    "frame_at",
    "frames",
    "on_screen",
    "opened_video",
    "picture_of",
    "seeks",
    "ticks_of",
    "time_of",
    "video_info",
]

MAX_FRAME_PIXELS = 50_000_000  # as for pictures; 8K has 33 million

# Seek when the next frame wanted is further on than this, else decode up to it: a seek goes back to a key frame,
# which encoders set every 10 s or less (x264: every 250 frames).
_SEEK_GAP_S = 5.0
_NO_INDEX = {"mpegts", "mpeg"}


@dataclass(frozen=True)
class VideoInfo:
    """What the header of a video says, of its first video stream.

    Parameters
    ----------
    width_px, height_px
        Size of a frame as coded, before the container's rotation is applied.
    duration_s
        Length in seconds; ``None`` where the container does not say (live recordings).
    fps
        Frames a second, on average.
    codec
        FFmpeg's name, such as ``h264``, ``vp9`` or ``av1``.
    num_frames
        As the container states it, else `duration_s` times `fps`.
    format
        FFmpeg's name of the container, such as ``mov,mp4,m4a,3gp,3g2,mj2``, ``matroska,webm`` or ``avi``.
    """

    width_px: int
    height_px: int
    duration_s: float | None
    fps: float | None
    codec: str
    num_frames: int | None
    format: str


def video_info(file: BinaryIO) -> VideoInfo:
    """Read the header of a video.

    Raises
    ------
    MediaError
        It is no video, holds no video stream, or its frames are larger than `MAX_FRAME_PIXELS`.
    """
    with opened_video(file) as (container, stream):
        length_s = duration_s(container, stream)
        fps = float(stream.average_rate) if stream.average_rate else None
        estimate = round(length_s * fps) if length_s and fps else None
        return VideoInfo(
            width_px=stream.codec_context.width,
            height_px=stream.codec_context.height,
            duration_s=length_s,
            fps=fps,
            codec=stream.codec_context.name,
            num_frames=stream.frames or estimate,
            format=container.format.name,
        )


def frame_at(file: BinaryIO, t_s: float) -> Image.Image:
    """Decode the frame on screen at a time, upright.

    Parameters
    ----------
    file
        A seekable file; from the key frame before `t_s` on it is read.
    t_s
        Seconds from the first frame, below the duration.

    Returns
    -------
    PIL.Image.Image
        RGB; ``info["time_s"]`` is when the frame appeared.

    Raises
    ------
    InvalidArgumentError
        There is no such time in the video.
    MediaError
        It does not decode.
    """
    with opened_video(file) as (container, stream):
        check_times(container, stream, t_s)
        for frame in on_screen(container, stream, [t_s]):
            return picture_of(frame, stream)
    raise MediaError(f"no frame could be decoded at {t_s} s")


def frames(
    file: BinaryIO, start_s: float = 0.0, end_s: float | None = None, fps: float | None = None
) -> Iterator[Image.Image]:
    """Decode the frames of a stretch of time, one after the other.

    Parameters
    ----------
    file
        A seekable file, needed until the last frame is taken.
    start_s, end_s
        Seconds from the first frame, `end_s` excluded; ``None`` is the end.
    fps
        Frames a second: those on screen at ``start_s``, ``start_s + 1 / fps`` … ``None`` is every frame once.

    Yields
    ------
    PIL.Image.Image
        RGB; ``info["time_s"]`` is when the frame appeared.

    Raises
    ------
    InvalidArgumentError
        `start_s` is not in the video or not before `end_s`, or `fps` is not positive.
    MediaError
        It does not decode.
    """
    if fps is not None and not fps > 0:
        raise InvalidArgumentError(f"fps={fps}; give a number above 0, or None for every frame")
    with opened_video(file) as (container, stream):
        end_s = check_times(container, stream, start_s, end_s)
        if fps is None:
            chosen = _all_between(container, stream, start_s, end_s)
        else:
            end = float("inf") if end_s is None else ticks_of(stream, end_s)
            times = takewhile(lambda t: ticks_of(stream, t) < end, (start_s + i / fps for i in count()))
            chosen = on_screen(container, stream, times)
        for frame in chosen:
            yield picture_of(frame, stream)


@contextmanager
def opened_video(file: BinaryIO) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open the first stream of moving pictures: music files carry their cover as a video stream."""
    with opened(file, "video", options={"max_pixels": str(MAX_FRAME_PIXELS)}) as container:
        moving = [s for s in container.streams.video if not s.disposition & type(s.disposition).attached_pic]
        if not moving:
            there = ", ".join(f"{s.type}" for s in container.streams) or "nothing"
            raise MediaError(f"no video stream in this {container.format.name} file; it holds {there}")
        size = moving[0].codec_context
        if size is None or not size.width * size.height:
            raise MediaError("the video stream has no size or a codec that is unknown here")
        if size.width * size.height > MAX_FRAME_PIXELS:
            raise MediaError(f"frames of {size.width} x {size.height} px; the limit is {MAX_FRAME_PIXELS:,} pixels")
        yield container, moving[0]


def check_times(
    container: InputContainer, stream: VideoStream, start_s: float, end_s: float | None = None
) -> float | None:
    """Check a stretch of time against a video and return its end, the video's own if none is given."""
    length_s = duration_s(container, stream)
    if not 0 <= start_s < (length_s or float("inf")):
        raise InvalidArgumentError(f"no frame at {start_s} s; the video has 0 s to {length_s or 'unknown'} s")
    if end_s is None:
        return length_s
    if not end_s > start_s:
        raise InvalidArgumentError(f"the stretch from {start_s} s to {end_s} s is empty; end_s must be after start_s")
    return end_s


def ticks_of(stream: VideoStream, t_s: float) -> int:
    """Return seconds from the first frame in the stream's own unit of time."""
    assert stream.time_base is not None  # a demuxed stream has one
    return (stream.start_time or 0) + floor(
        t_s / stream.time_base + 1e-3
    )  # 0.12 s is 2.9999999999999996 ticks of 1/25 s


def seeks(container: InputContainer, stream: VideoStream, ticks: int) -> Iterator[bool]:
    """Seek to `ticks`, then further back each time, until the caller is content; yields whether it is the start.

    MPEG streams have no index: a seek may land behind the time wanted, or between key frames.
    """
    start = stream.start_time or 0
    # A seek to the very first time misses the first frames of a transport stream; AVI refuses to seek before it.
    before = ticks_of(stream, -10) if container.format.name in _NO_INDEX else start
    for back_s in (0, 2, 10, None):
        to = before if back_s is None else ticks - (ticks_of(stream, back_s) - start)
        to = to if to > start else before
        container.seek(to, stream=stream, backward=True)
        yield to == before
        if to == before:
            return


def decoded_from(container: InputContainer, stream: VideoStream, ticks: int) -> Iterator[VideoFrame]:
    """Yield frames with a time, from one at or before `ticks` on."""
    for is_start in seeks(container, stream, ticks):
        decoded = (frame for frame in container.decode(stream) if frame.pts is not None)
        first = next(decoded, None)
        if first is not None and (is_start or time_of(first) <= ticks):
            yield first
            yield from decoded
            return


def on_screen(container: InputContainer, stream: VideoStream, times: Iterable[float]) -> Iterator[VideoFrame]:
    """Yield, for each of rising times, the last frame that appeared at or before it."""
    gap = ticks_of(stream, _SEEK_GAP_S) - ticks_of(stream, 0)
    frame = following = None
    decoded: Iterator[VideoFrame] = iter(())
    for t_s in times:
        ticks = ticks_of(stream, t_s)
        if following is None or ticks - time_of(following) > gap:
            if frame is not None and following is None:  # the last one stays on screen
                yield frame
                continue
            decoded = decoded_from(container, stream, ticks)
            frame, following = next(decoded, None), next(decoded, None)
        while following is not None and time_of(following) <= ticks:
            frame, following = following, next(decoded, None)
        if frame is None:
            return
        yield frame


def _all_between(
    container: InputContainer, stream: VideoStream, start_s: float, end_s: float | None
) -> Iterator[VideoFrame]:
    first = ticks_of(stream, start_s)
    last = None if end_s is None else ticks_of(stream, end_s)
    for frame in decoded_from(container, stream, first):
        if last is not None and time_of(frame) >= last:
            return
        if time_of(frame) >= first:
            yield frame


def time_of(frame: VideoFrame) -> int:
    """Return when a frame appears, in the stream's own unit of time."""
    assert frame.pts is not None  # decoded_from leaves out frames without one
    return frame.pts


def picture_of(frame: VideoFrame, stream: VideoStream) -> Image.Image:
    """Return a frame as an upright RGB picture; ``info["time_s"]`` is when it appears."""
    assert stream.time_base is not None  # as above
    picture: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]  # PyAV's stub has no return type
    if frame.rotation:  # phones record sideways and note it; players turn the picture
        picture = picture.rotate(frame.rotation, expand=True)
    picture.info["time_s"] = float((time_of(frame) - (stream.start_time or 0)) * stream.time_base)
    return picture
