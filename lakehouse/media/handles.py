"""Media as values: a handle knows where its bytes are and reads what is asked for, when it is asked for."""

from __future__ import annotations

import base64
import html
import io
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Protocol

from lakehouse.errors import InvalidArgumentError, LakehouseError, MediaError, translated
from lakehouse.media import audio, codecs, cutting, video
from lakehouse.media.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    from PIL import Image as PILImage

__all__ = ["Audio", "Blob", "ByteSource", "BytesSource", "Handle", "Image", "Text", "Video", "handle"]

_HTML_PX = 256
_HTML_NBYTES = 22_000  # of picture; 32 KB in base64 with the text around it
_HTML_CHARS = 500


class ByteSource(Protocol):
    """Where the bytes of one medium are."""

    @property
    def nbytes(self) -> int:
        """The size in bytes."""

    def read(self) -> bytes:
        """Return all bytes."""

    def open(self) -> BinaryIO:
        """Open a seekable file over the bytes."""


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return len(self._data)

    def read(self) -> bytes:
        """Return the bytes."""
        return self._data

    def open(self) -> BinaryIO:
        """Open a file over the bytes."""
        return io.BytesIO(self._data)


class Handle:
    """One medium of a row; nothing is read before it is asked for.

    Parameters
    ----------
    source
        Where the bytes are, or the bytes themselves.
    """

    def __init__(self, source: ByteSource | bytes) -> None:
        self._source: ByteSource = BytesSource(source) if isinstance(source, bytes) else source

    def read(self) -> bytes:
        """Return all bytes."""
        with translated(f"reading {self._kind}"):
            return self._source.read()

    def open(self) -> BinaryIO:
        """Open a seekable binary file; of a stored blob only the ranges that are read are fetched."""
        with translated(f"opening {self._kind}"):
            return self._source.open()

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        with translated(f"reading the size of {self._kind}"):
            return self._source.nbytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _repr_html_(self) -> str:
        """Show it in a notebook, in 32 KB at most; what cannot be shown says why."""
        try:
            return self._html()
        except LakehouseError as error:
            return _caption(f"{self!r} {error}")

    def _html(self) -> str:
        return _caption(f"{self!r} {self.nbytes:,} bytes")

    @property
    def _kind(self) -> str:
        return type(self).__name__.lower()

    @contextmanager
    def _file(self) -> Iterator[BinaryIO]:
        """Open for one reading; what the storage raises is no fault of the medium."""
        with translated(f"reading {self._kind}"), self._source.open() as file:
            yield file


class Image(Handle):
    """A picture.

    Examples
    --------
    >>> import lakehouse as lh, numpy as np
    >>> from lakehouse.media.codecs import encode_image
    >>> image = lh.Image(encode_image(np.zeros((3, 4, 3), np.uint8)))
    >>> image.info.width_px, image.info.format, image.pil().size, image.numpy().shape
    (4, 'PNG', (4, 3), (3, 4, 3))
    """

    @cached_property
    def info(self) -> codecs.ImageInfo:
        """Size, format and orientation, from the header alone."""
        with self._file() as file:
            return codecs.image_info(file, max_pixels=sys.maxsize)  # the limit guards decoding

    def pil(self, *, max_pixels: int = codecs.MAX_IMAGE_PIXELS) -> PILImage.Image:
        """Decode with Pillow, the pixels as they are stored: EXIF orientation is in `info` and not applied.

        Raises
        ------
        MediaError
            The bytes do not decode, or are a picture larger than `max_pixels`.
        """
        return codecs.decode_image(self.read(), max_pixels=max_pixels)

    def numpy(self, *, max_pixels: int = codecs.MAX_IMAGE_PIXELS) -> npt.NDArray[np.uint8]:
        """Decode to uint8 RGB of shape ``(height, width, 3)``, as it is stored.

        Raises
        ------
        MediaError
            As `pil`.
        """
        return codecs.decode_rgb(self.read(), max_pixels=max_pixels)

    def _html(self) -> str:
        info = self.info
        small = thumbnail(self.read(), _HTML_PX, max_nbytes=_HTML_NBYTES)
        return _picture(small) + _caption(f"{info.format} {info.width_px} x {info.height_px} px, {self.nbytes:,} bytes")


class Video(Handle):
    """A video; frames and cuts read what they need of it, not the whole.

    Examples
    --------
    >>> import lakehouse as lh
    >>> video = lh.Video(b"no video")
    >>> video.nbytes
    8
    >>> video.info
    Traceback (most recent call last):
    ...
    lakehouse.errors.MediaError: not video that can be read: ...
    """

    @cached_property
    def info(self) -> video.VideoInfo:
        """Size, duration, pace and codec, from the container's header."""
        with self._file() as file:
            return video.video_info(file)

    def frame_at(self, t_s: float) -> PILImage.Image:
        """Decode the frame on screen `t_s` seconds after the first; ``info["time_s"]`` is when it appeared.

        Raises
        ------
        InvalidArgumentError
            The video has no such time.
        MediaError
            It does not decode.
        """
        with self._file() as file:
            return video.frame_at(file, t_s)

    def frames(
        self, start_s: float = 0.0, end_s: float | None = None, fps: float | None = None
    ) -> Iterator[PILImage.Image]:
        """Decode the frames from `start_s` to before `end_s`, one after the other.

        Parameters
        ----------
        start_s, end_s
            Seconds from the first frame; ``None`` is the end.
        fps
            Frames a second: those on screen at ``start_s``, ``start_s + 1 / fps`` … ``None`` is every frame.

        Raises
        ------
        InvalidArgumentError
            The stretch is empty or not in the video, or `fps` is not positive.
        MediaError
            It does not decode.
        """
        with self._file() as file:
            yield from video.frames(file, start_s, end_s, fps)

    def clip(self, start_s: float, end_s: float) -> Video:
        """Cut out a stretch without encoding it again, with its sound; see `lakehouse.media.cutting.clip`.

        Returns
        -------
        Video
            In memory; ``read()`` gives the MP4 or Matroska file.

        Raises
        ------
        InvalidArgumentError
            The stretch is empty or not in the video.
        MediaError
            It cannot be read, or its codec cannot be copied.
        """
        with self._file() as file:
            return Video(cutting.clip(file, start_s, end_s))

    def _html(self) -> str:
        info = self.info
        poster = self.frame_at(min(1.0, (info.duration_s or 0.0) / 3))
        length = "" if info.duration_s is None else f", {info.duration_s:.4g} s"
        size = f"{info.width_px} x {info.height_px} px"
        caption = f"{info.codec} {size}{length}, {self.nbytes:,} bytes"
        return _picture(thumbnail(poster, _HTML_PX, max_nbytes=_HTML_NBYTES)) + _caption(caption)


class Audio(Handle):
    """A sound.

    Examples
    --------
    >>> import io, lakehouse as lh, numpy as np, wave
    >>> with wave.open(file := io.BytesIO(), "wb") as writer:
    ...     writer.setparams((1, 2, 8000, 0, "NONE", ""))
    ...     writer.writeframes(np.zeros(4000, np.int16).tobytes())
    >>> sound = lh.Audio(file.getvalue())
    >>> sound.info.sample_rate_hz, sound.info.duration_s, sound.numpy().shape
    (8000, 0.5, (1, 4000))
    """

    @cached_property
    def info(self) -> audio.AudioInfo:
        """Sample rate, channels, duration and codec, from the container's header."""
        with self._file() as file:
            return audio.audio_info(file)

    def numpy(self) -> npt.NDArray[np.float32]:
        """Decode all samples to float32 of shape ``(num_channels, num_samples)``, -1 to 1."""
        with self._file() as file:
            return audio.samples(file)

    def _html(self) -> str:
        info = self.info
        length = "" if info.duration_s is None else f", {info.duration_s:.4g} s"
        what = f"{info.codec} {info.sample_rate_hz:,} Hz, {info.num_channels} channels{length}"
        return _caption(f"{what}, {self.nbytes:,} bytes")


class Text(Handle):
    """A text, stored as UTF-8.

    Examples
    --------
    >>> import lakehouse as lh
    >>> lh.Text("Grüße").text(), lh.Text("Grüße").nbytes
    ('Grüße', 7)
    """

    def __init__(self, source: ByteSource | bytes | str) -> None:
        super().__init__(source.encode() if isinstance(source, str) else source)

    def text(self) -> str:
        """Return the text.

        Raises
        ------
        MediaError
            The bytes are not UTF-8.
        """
        data = self.read()
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise MediaError(f"not UTF-8: {error.reason} at byte {error.start:,}") from error

    def __str__(self) -> str:
        return self.text()

    def _html(self) -> str:
        text = self.text()
        return _caption(text if len(text) <= _HTML_CHARS else f"{text[:_HTML_CHARS]}… {len(text):,} characters")


class Blob(Handle):
    """Bytes of any other kind.

    Examples
    --------
    >>> import lakehouse as lh
    >>> lh.Blob(b"abc").read(), lh.Blob(b"abc").open().read(1)
    (b'abc', b'a')
    """


_KINDS: dict[str, type[Handle]] = {"image": Image, "video": Video, "audio": Audio, "text": Text, "blob": Blob}


def handle(kind: str, source: ByteSource) -> Handle:
    """Make the handle of a medium.

    Parameters
    ----------
    kind
        ``image``, ``video``, ``audio``, ``text`` or ``blob``, as `lakehouse.types.media_kind` says it.
    source
        Where its bytes are.
    """
    if kind not in _KINDS:
        raise InvalidArgumentError(f"no medium is called {kind!r}; there are {', '.join(_KINDS)}")
    return _KINDS[kind](source)


def _picture(webp: bytes) -> str:
    return f'<img src="data:image/webp;base64,{base64.b64encode(webp).decode()}" style="max-width:{_HTML_PX}px">'


def _caption(text: str) -> str:
    return f"<div>{html.escape(text)}</div>"
