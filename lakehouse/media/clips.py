"""Clips for training: so many frames, so far apart, read out of the stretch of the file that holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from lakehouse.errors import MediaError
from lakehouse.media.container import duration_s
from lakehouse.media.video import decoded_from, on_screen, opened_video, picture_of, ticks_of, time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from av import VideoFrame, VideoStream
    from av.container import InputContainer
    from PIL import Image

__all__ = ["read_clips"]

_TRIES = 4  # of a beginning that leaves enough frames


def read_clips(
    file: BinaryIO,
    places: Sequence[float],
    num_frames: int,
    stride: int | None,
    each: Callable[[Image.Image], Image.Image] = lambda frame: frame,
) -> list[list[Image.Image]]:
    """Decode clips of one video.

    Parameters
    ----------
    file
        A seekable file; the header and, for each clip, from the key frame before it to its end are read.
    places
        Where each clip begins: 0 at the first frame, just below 1 as late as the video has enough frames behind it.
    num_frames
        Of a clip.
    stride
        Frames from one to the next. None: one out of each of `num_frames` equal parts of the video, at the place of
        the part.
    each
        Applied to each frame as it becomes a picture, so that those of a large video are not held.

    Returns
    -------
    list
        The clips, each as RGB pictures whose ``info["time_s"]`` says when they appear. A video that has not enough
        frames gives those it has.

    Raises
    ------
    MediaError
        It does not decode, or does not say how long it is and that is needed.
    """
    with opened_video(file) as (container, stream):
        stream.codec_context.thread_count = 1  # rows are decoded side by side
        return [
            [each(picture_of(frame, stream)) for frame in _frames(container, stream, place, num_frames, stride)]
            for place in places
        ]


def _frames(
    container: InputContainer, stream: VideoStream, place: float, num_frames: int, stride: int | None
) -> list[VideoFrame]:
    length_s = duration_s(container, stream)
    if length_s is None and (stride is None or place > 0):
        raise MediaError("the video does not say how long it is, as live recordings do not; use policy='start'")
    if stride is None:
        times = [(part + place) / num_frames * (length_s or 0.0) for part in range(num_frames)]
        shown = on_screen(container, stream, times)
        return list({time_of(frame): frame for frame in shown}.values())
    fps = float(stream.average_rate or 0)
    behind_s = (num_frames - 1) * stride / fps if fps else 0.0
    start_s = place * max(0.0, (length_s or 0.0) - behind_s)
    return _from(container, stream, ticks_of(stream, start_s), num_frames, stride)


def _from(container: InputContainer, stream: VideoStream, ticks: int, num_frames: int, stride: int) -> list[VideoFrame]:
    """Take every `stride`-th frame from the one on screen at `ticks` on, or from earlier on where the video ends."""
    first = stream.start_time or 0
    num_wanted = (num_frames - 1) * stride + 1
    for _ in range(_TRIES):
        frames, times = _run(container, stream, ticks, num_frames, stride)
        if len(frames) == num_frames or not times or ticks <= first:
            return frames
        # A variable pace, or a length that is not quite true: begin as many frames earlier as are missing.
        earlier = times[-num_wanted] if len(times) >= num_wanted else times[0] - 1
        ticks = max(first, min(earlier, ticks - 1))
    return _run(container, stream, first, num_frames, stride)[0]  # a damaged file, whose times go to and fro


def _run(
    container: InputContainer, stream: VideoStream, ticks: int, num_frames: int, stride: int
) -> tuple[list[VideoFrame], list[int]]:
    """Give the frames as far as there are, and the times of all that were decoded for them."""
    times: list[int] = []
    kept: list[VideoFrame] = []
    num_seen = 0  # from the frame on screen at `ticks` on
    for frame in decoded_from(container, stream, ticks):
        times.append(time_of(frame))
        if times[-1] <= ticks:
            kept, num_seen = [], 0
        if num_seen % stride == 0 and len(kept) < num_frames:
            kept.append(frame)
        num_seen += 1
        if len(kept) == num_frames and times[-1] > ticks:
            break
    return kept, times
