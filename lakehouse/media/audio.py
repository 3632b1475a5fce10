"""Audio: what a container's header says, and the samples."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lakehouse._optional import require
from lakehouse.errors import MediaError, ResourceLimitError
from lakehouse.media.container import duration_s, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    from av import AudioStream
    from av.container import InputContainer

__all__ = ["AudioInfo", "audio_info", "samples"]

MAX_SAMPLES_NBYTES = 2 << 30  # as max_media_nbytes of reads; 3 h of stereo at 48 kHz are 4 GB


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says, of its first audio stream.

    Parameters
    ----------
    sample_rate_hz
        Samples a second and channel.
    num_channels
        1 is mono, 2 stereo.
    duration_s
        Length in seconds; ``None`` where the container does not say.
    codec
        FFmpeg's name, such as ``mp3``, ``aac``, ``flac`` or ``pcm_s16le``.
    format
        FFmpeg's name of the container, such as ``wav``, ``mp3`` or ``ogg``.
    """

    sample_rate_hz: int
    num_channels: int
    duration_s: float | None
    codec: str
    format: str


def audio_info(file: BinaryIO) -> AudioInfo:
    """Read the header of an audio file, or of the sound of a video.

    Raises
    ------
    MediaError
        It is no audio or holds no audio stream.
    """
    with _audio(file) as (container, stream):
        codec = stream.codec_context
        return AudioInfo(
            codec.sample_rate,
            codec.channels,
            duration_s(container, stream),
            codec.name,
            container.format.name,
        )


def samples(file: BinaryIO) -> npt.NDArray[np.float32]:
    """Decode all samples.

    Returns
    -------
    numpy.ndarray
        float32, ``(num_channels, num_samples)``, -1 to 1.

    Raises
    ------
    MediaError
        It does not decode.
    ResourceLimitError
        The samples would take more than 2 GiB.
    """
    av = require("av", "reading audio")
    blocks: list[npt.NDArray[np.float32]] = []
    nbytes = 0
    with _audio(file) as (container, stream):
        resampler = av.AudioResampler(format="fltp")
        for frame in container.decode(stream):
            for block in resampler.resample(frame):
                blocks.append(block.to_ndarray())
                nbytes += blocks[-1].nbytes
            if nbytes > MAX_SAMPLES_NBYTES:
                raise ResourceLimitError(
                    f"the samples take more than {MAX_SAMPLES_NBYTES:,} bytes; open() the file and decode it in parts"
                )
        num_channels = stream.codec_context.channels
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((num_channels, 0), np.float32)


@contextmanager
def _audio(file: BinaryIO) -> Iterator[tuple[InputContainer, AudioStream]]:
    with opened(file, "audio") as container:
        if not container.streams.audio:
            there = ", ".join(s.type for s in container.streams) or "nothing"
            raise MediaError(f"no audio stream in this {container.format.name} file; it holds {there}")
        yield container, container.streams.audio[0]
