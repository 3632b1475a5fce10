"""Media of a row as arrays: pictures and clips, and what is to be known about them beside."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse.errors import MediaError, translated
from lakehouse.loader.forms.clips import Clip
from lakehouse.loader.forms.sizes import Pad
from lakehouse.media.clips import read_clips
from lakehouse.media.codecs import decode_rgb, resized
from lakehouse.media.ranges import Ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from PIL import Image

    from lakehouse.loader.forms.columns import Column
    from lakehouse.loader.forms.sizes import Size
    from lakehouse.loader.stats import Meter

__all__ = ["HINT", "decoded"]

HINT = "leave the row out with where=…, or pass on_bad_rows='substitute' or 'mask'"


def decoded(
    column: Column, cell: Any, row_id: int, rng: Callable[[], np.random.Generator], meter: Meter
) -> dict[str, npt.NDArray[Any]]:
    """Decode one picture or the clips of one video.

    Parameters
    ----------
    column
        Which one, and how.
    cell
        The bytes, as an Arrow scalar too, or a handle on them; None for NULL.
    row_id
        Whose it is.
    rng
        Makes the generator that a random clip draws from.
    meter
        Where reads and short clips are counted.

    Returns
    -------
    dict
        Arrays by their names in a batch, the column's own first. Pixels are uint8 with the channels before height and
        width; they lie in memory channels last, as they are decoded.

    Raises
    ------
    MediaError
        It is NULL, does not decode, or has not enough frames.
    """
    if cell is None:
        raise MediaError(f"column {column.name!r} of row id {row_id} is NULL; {HINT}")
    try:
        if isinstance(column.decode, Clip):
            arrays = _clips(column.decode, cell, column.decode.places(rng()), meter)
        else:
            arrays = _picture(cell if isinstance(cell, bytes) else cell.as_py(), column.decode)
    except MediaError as error:
        raise MediaError(f"column {column.name!r} of row id {row_id}: {error}; {HINT}") from error
    arrays[""] = np.moveaxis(arrays[""], -1, -3)
    return {column.name + ending: array for ending, array in arrays.items()}


def _picture(data: bytes, size: Size | None) -> dict[str, npt.NDArray[Any]]:
    pixels = decode_rgb(data, fit=None if size is None else size.inside)
    return _padded(pixels, size)


def _padded(pixels: npt.NDArray[np.uint8], size: Size | None) -> dict[str, npt.NDArray[Any]]:
    if not isinstance(size, Pad):
        return {"": pixels}
    return {"": size.padded(pixels), "_size": np.array(pixels.shape[-3:-1], np.int64)}


def _clips(clip: Clip, cell: Any, places: list[float], meter: Meter) -> dict[str, npt.NDArray[Any]]:
    with translated("reading video"), _opened(cell) as file:
        clips = read_clips(file, places, clip.num_frames, clip.stride, partial(_sized, size=clip.size))
        if isinstance(file, Ranges):
            meter.add(num_reads=file.num_reads, nbytes_read=file.nbytes)
    shortest = min(map(len, clips))
    if shortest == 0 or (shortest < clip.num_frames and clip.short == "raise"):
        raise MediaError(f"the video has {shortest} frames for a clip of {clip.num_frames}")
    meter.add(num_short_clips=sum(len(frames) < clip.num_frames for frames in clips))
    clips = [frames + frames[-1:] * (clip.num_frames - len(frames)) for frames in clips]
    pixels = np.stack([np.stack([np.asarray(frame) for frame in frames]) for frames in clips])
    times = np.array([[frame.info["time_s"] for frame in frames] for frames in clips])
    arrays = _padded(pixels if clip.per_video > 1 else pixels[0], clip.size)
    return arrays | {"_pts_s": times if clip.per_video > 1 else times[0]}


def _opened(cell: Any) -> Any:
    if isinstance(cell, bytes | pa.Scalar):
        return pa.BufferReader(cell if isinstance(cell, bytes) else cell.as_buffer())
    return Ranges(cell.open())


def _sized(frame: Image.Image, size: Size | None) -> Image.Image:
    if size is None:
        return frame
    small = resized(frame, *size.inside(*frame.size))
    small.info["time_s"] = frame.info["time_s"]
    return small
