"""Media that several functions take, decoded once for all of them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Decoded", "Shared"]

_KEPT_NBYTES = 256 << 20  # of decoded pictures at a time; what is beyond is decoded again


class Decoded:
    """What is decoded of some media and somebody has yet to take.

    Parameters
    ----------
    takers
        How many functions take each form.

    Attributes
    ----------
    nbytes
        Of all that was decoded, taken or not.
    """

    def __init__(self, takers: Mapping[str, int]) -> None:
        self.nbytes = 0
        self._takers = takers
        self._kept: dict[tuple[str, int], Any] = {}
        self._taken: Counter[tuple[str, int]] = Counter()
        self._room = _KEPT_NBYTES

    def take(self, form: str, row: int, decode: Callable[[], Any]) -> Any:
        """Return a medium, one of its own for each that takes it: functions may change what they are given."""
        key = form, row
        if key not in self._kept:
            medium = decode()
            nbytes = _nbytes(medium)
            self.nbytes += nbytes
            if nbytes == 0 or nbytes > self._room or not _is_still(medium):
                return medium
            self._kept[key] = medium
            self._room -= nbytes
        medium = self._kept[key]
        self._taken[key] += 1
        if self._taken[key] == self._takers[form]:
            del self._kept[key]
            self._room += _nbytes(medium)
        return _copied(medium)


class Shared:
    """A column of media, some of whose forms are decoded once for several functions.

    Parameters
    ----------
    array
        The media.
    decoded
        What they have in common.
    rows
        Where in `decoded` they are; None for all from the first one.
    """

    def __init__(self, array: pa.Array, decoded: Decoded, rows: npt.NDArray[np.int64] | None = None) -> None:
        self.array = array
        self._decoded = decoded
        self._rows = np.arange(len(array)) if rows is None else rows

    @property
    def type(self) -> pa.DataType:
        """What the media are stored as."""
        return self.array.type

    @property
    def null_count(self) -> int:
        """How many are NULL."""
        return int(self.array.null_count)

    def __len__(self) -> int:
        """How many there are."""
        return len(self.array)

    def __getitem__(self, rows: slice) -> Shared:
        """Return some of them."""
        return Shared(self.array[rows], self._decoded, self._rows[rows])

    def take(self, rows: pa.Array) -> Shared:
        """Return some of them."""
        return Shared(self.array.take(rows), self._decoded, self._rows[np.asarray(rows)])

    def is_null(self) -> pa.BooleanArray:
        """Tell which are NULL."""
        return self.array.is_null()

    def once(self, form: str, decode: Callable[[int], Any]) -> Callable[[int], Any]:
        """Return what gives the medium of a row in a form, `decode` being called where nobody did before."""

        def read(row: int) -> Any:
            return self._decoded.take(form, int(self._rows[row]), lambda: decode(row))

        return read


def _nbytes(medium: Any) -> int:
    if medium is None or isinstance(medium, np.ndarray):
        return 0 if medium is None else int(medium.nbytes)
    return int(medium.width * medium.height * 4)  # Pillow keeps 4 bytes a pixel of what has colours


def _is_still(medium: Any) -> bool:
    """Whether a copy is as good as the medium: an animation reads its other frames from its file."""
    if isinstance(medium, np.ndarray):
        return True
    return not vars(medium).get("is_animated", hasattr(type(medium), "is_animated"))


def _copied(medium: Any) -> Any:
    """Return one like it, as if it were decoded anew; `PIL.Image.copy` forgets class and format.

    To copy the pixels of a photo takes half as long as to decode them, in new pages of memory. So what has no palette
    is copied when somebody writes to it.
    """
    if isinstance(medium, np.ndarray):
        return medium.copy() if medium.flags.writeable else medium
    is_late = medium.mode in ("RGB", "RGBA", "CMYK")
    kind: Any = type(medium)
    copied: Any = object.__new__(_late(kind) if is_late else kind)
    vars(copied).update(vars(medium), info=dict(medium.info))
    if is_late:
        copied.readonly = 1  # Pillow's own methods copy first where this is set
    else:
        copied.im = medium.im.copy()
        copied.palette = medium.palette and medium.palette.copy()
    return copied


@cache
def _late(kind: Any) -> type:
    """Return a class of pictures like `kind` that copy their pixels before the two writes Pillow has no eye on."""

    def load(self: Any) -> Any:
        access = kind.load(self)
        return _Pixels(self, access) if self.readonly else access

    def frombytes(self: Any, *args: Any) -> None:
        _own(self)
        kind.frombytes(self, *args)

    def reduced(self: Any, _: Any) -> Any:
        return object.__new__, (kind,), self.__getstate__()

    return type(kind.__name__, (kind,), {"load": load, "frombytes": frombytes, "__reduce_ex__": reduced})


def _own(picture: Any) -> None:
    if picture.readonly:
        picture.im = picture.im.copy()
        picture.readonly = 0


class _Pixels:
    """What `PIL.Image.load` returns of a picture whose pixels are not its own yet."""

    def __init__(self, picture: Any, access: Any) -> None:
        self._picture, self._access = picture, access

    def __getitem__(self, at: tuple[int, int]) -> Any:
        return self._access[at]

    def __setitem__(self, at: tuple[int, int], value: Any) -> None:
        _own(self._picture)
        self._access = self._picture.load()
        self._access[at] = value
