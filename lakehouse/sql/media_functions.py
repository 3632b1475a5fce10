"""What functions on media there are, and what each may be called on.

What a call can never do ends its statement: a column of another kind, an argument that is no number. What depends on
the row is NULL and counted unless the statement is strict: bytes that do not decode, a moment the video does not have.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types as pt

from lakehouse import types
from lakehouse.errors import QueryError
from lakehouse.media import handles, phash, thumbnails

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakehouse.sql.scans.carried import Carried

__all__ = ["FUNCTIONS", "Function", "check_number", "check_types", "wrong_arguments"]


@dataclass(frozen=True)
class Function:
    """A function of one medium.

    Parameters
    ----------
    kind
        The kind of handle it takes.
    returns
        Its type in DuckDB.
    arrow
        The same in Arrow.
    compute
        Takes a handle and the further arguments, numbers, of which there are `least` to `most`.
    """

    kind: str
    returns: str
    arrow: pa.DataType
    compute: Callable[..., Any]
    least: int = 0
    most: int = 0


def _of_info(kind: str, name: str, returns: str, arrow: pa.DataType) -> Function:
    return Function(kind, returns, arrow, lambda medium: getattr(medium.info, name))


def _thumbnail(image: handles.Image, max_px: int = 256) -> bytes:
    return thumbnails.thumbnail(image.read(), max_px)


def _frame_at(video: handles.Video, t_s: float) -> bytes:
    buffer = io.BytesIO()
    video.frame_at(float(t_s)).save(buffer, "PNG")
    return buffer.getvalue()


FUNCTIONS: Mapping[str, Function] = {
    "image_width": _of_info("image", "width_px", "INTEGER", pa.int32()),
    "image_height": _of_info("image", "height_px", "INTEGER", pa.int32()),
    "image_format": _of_info("image", "format", "VARCHAR", pa.string()),
    "video_width": _of_info("video", "width_px", "INTEGER", pa.int32()),
    "video_height": _of_info("video", "height_px", "INTEGER", pa.int32()),
    "video_duration_s": _of_info("video", "duration_s", "DOUBLE", pa.float64()),
    "video_fps": _of_info("video", "fps", "DOUBLE", pa.float64()),
    "video_codec": _of_info("video", "codec", "VARCHAR", pa.string()),
    "audio_duration_s": _of_info("audio", "duration_s", "DOUBLE", pa.float64()),
    "audio_sample_rate_hz": _of_info("audio", "sample_rate_hz", "INTEGER", pa.int32()),
    "thumbnail": Function("image", "BLOB", pa.binary(), _thumbnail, most=1),
    "frame_at": Function("video", "BLOB", pa.binary(), _frame_at, least=1, most=1),
    "phash": Function("image", "UBIGINT", pa.uint64(), lambda image: phash.phash(image.read())),
    "media_sha256": Function("blob", "VARCHAR", pa.string(), lambda medium: hashlib.sha256(medium.read()).hexdigest()),
    "media_nbytes": Function("blob", "BIGINT", pa.int64(), lambda medium: medium.nbytes),
    "media_bytes": Function("blob", "BLOB", pa.binary(), lambda medium: medium.read()),
}
"""By the name they are called by. `media_sha256` and `media_nbytes` are what DuckDB's own ``sha256`` and
``octet_length`` become where they are called on a medium: the same answers, from late bytes or from none."""


def check_number(name: str, num_arguments: int) -> None:
    """Check how many arguments a function is given after the medium.

    Raises
    ------
    QueryError
        They are too few or too many.
    """
    if not FUNCTIONS[name].least <= num_arguments <= FUNCTIONS[name].most:
        raise wrong_arguments(name)


def wrong_arguments(name: str) -> QueryError:
    """Say what a function takes."""
    function = FUNCTIONS[name]
    more = {(0, 0): "", (0, 1): " and, if you like, one number", (1, 1): " and one number"}
    return QueryError(f"{name}() takes a column of {function.kind}s{more[function.least, function.most]}, by position")


def check_types(name: str, media: pa.Array, source: Carried | None, arguments: Sequence[pa.Array]) -> None:
    """Check what a function is called on.

    Raises
    ------
    QueryError
        The column is of another kind, or an argument is no number.
    """
    if source is not None:
        _check_column(name, source)
    elif media.null_count < len(media) and not (pt.is_binary(media.type) or pt.is_large_binary(media.type)):
        raise QueryError(f"{name}(): a value of type {media.type} is no medium; media functions take columns of bytes")
    for column in arguments:
        kind = column.type
        number = pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind)
        if not number and column.null_count < len(column):
            raise QueryError(f"{name}() takes a number after the column, not a value of type {kind}")


def _check_column(name: str, source: Carried) -> None:
    kind, there = FUNCTIONS[name].kind, types.media_kind(source.snapshot.schema.field(source.column))
    if there not in types.BYTES_MEDIA:
        raise QueryError(f"{name}(): {source.column!r} of {source.snapshot.name!r} is no medium of bytes")
    if "blob" in (kind, there) or there == kind or (kind, there) == ("audio", "video"):  # a video has a sound track
        return
    other = name.replace(kind, there)
    advice = f"{other}() takes it" if other in FUNCTIONS else f"{there}s are for {', '.join(_functions_of(there))}"
    raise QueryError(
        f"{name}() takes {kind}s; {source.column!r} of {source.snapshot.name!r} is a column of {there}s: {advice}"
    )


def _functions_of(kind: str) -> list[str]:
    return [f"{name}()" for name, function in FUNCTIONS.items() if function.kind == kind]
