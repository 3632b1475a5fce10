"""Cutting a stretch of time out of a video without encoding it again."""

from __future__ import annotations

import io
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from lakehouse._optional import require
from lakehouse.media.video import check_times, opened_video, seeks, ticks_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from av.container import InputContainer

__all__ = ["clip"]

# Codecs that an MP4 can hold; others are cut into Matroska.
_MP4_VIDEO = {"h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video"}
_MP4_AUDIO = {"aac", "mp3", "opus", "flac", "ac3", "eac3", "alac"}


def clip(file: BinaryIO, start_s: float, end_s: float) -> bytes:
    """Cut a stretch of time out of a video without encoding it again.

    Pictures and sound are copied from the key frame before `start_s` on; the file says to show
    them from `start_s` on. Up to three frames behind `end_s` stay where frames in between need them. Codecs that an
    MP4 cannot hold (VP8) become Matroska, which begins at the key frame.

    Parameters
    ----------
    file
        A seekable file; only the stretch is read.
    start_s, end_s
        Seconds from the first frame.

    Returns
    -------
    bytes
        An MP4 or Matroska file.

    Raises
    ------
    InvalidArgumentError
        `start_s` is not in the video or not before `end_s`.
    MediaError
        It cannot be read, or its codec cannot be copied.
    """
    av = require("av", "cutting video")
    out = io.BytesIO()
    with opened_video(file) as (container, stream):
        check_times(container, stream, start_s, end_s)
        streams: list[Any] = [stream, *container.streams.audio[:1]]
        names = [each.codec_context.name for each in streams]
        is_mp4 = names[0] in _MP4_VIDEO and set(names[1:]) <= _MP4_AUDIO
        with av.open(out, "w", format="mp4" if is_mp4 else "matroska") as target:
            copies = {each.index: target.add_stream_from_template(each) for each in streams}
            for packet in _packets(container, streams, start_s, end_s):
                packet.stream = copies[packet.stream.index]
                target.mux(packet)
    return out.getvalue()


def _packets(container: InputContainer, streams: list[Any], start_s: float, end_s: float) -> Iterator[Any]:
    """Yield the packets of a stretch, their times counted from `start_s`."""
    video = streams[0]
    zero = {each.index: round((ticks_of(video, start_s) * video.time_base) / each.time_base) for each in streams}
    last = {each.index: zero[each.index] + round((end_s - start_s) / each.time_base) for each in streams}
    ended: set[int] = set()
    for packet in _with_decoding_times(_from_key_frame(container, streams, zero[video.index])):
        index = packet.stream.index
        if packet.dts >= last[index]:
            ended.add(index)
        elif index == video.index or packet.pts >= zero[index]:
            packet.pts -= zero[index]
            packet.dts -= zero[index]
            yield packet
        if len(ended) == len(streams):
            return


def _from_key_frame(container: InputContainer, streams: list[Any], ticks: int) -> Iterator[Any]:
    """Yield packets from a key frame at or before `ticks` on."""
    video = streams[0]
    for is_start in seeks(container, video, ticks):
        packets: Iterator[Any] = (p for p in container.demux(streams) if p.size and p.pts is not None)
        sound = []
        for packet in packets:
            if packet.stream.index != video.index:
                sound.append(packet)
            elif packet.is_keyframe:
                if is_start or packet.pts <= ticks:
                    yield from chain(sound, [packet], packets)
                    return
                break


def _with_decoding_times(packets: Iterable[Any]) -> Iterator[Any]:
    """Give the first packets after a seek the decoding times that Matroska does not store and a muxer asks for."""
    waiting: dict[int, list[Any]] = {}
    for packet in packets:
        early = waiting.setdefault(packet.stream.index, [])
        if packet.dts is None:
            early.append(packet)
            continue
        for back, each in enumerate(reversed(early), start=1):
            each.dts = min(each.pts, packet.dts - back * (packet.duration or 1))
        yield from early
        early.clear()
        yield packet
    for early in waiting.values():  # a stream so short that none has one
        for each in early:
            each.dts = each.pts
        yield from early
