"""Values that were found in their files and are not read yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from lakehouse.errors import translated
from lakehouse.reads.pages import DataFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from lakehouse.reads.pages import Ints, PagedFile

__all__ = ["Located", "is_text"]

_VALUES_PER_CALL = 500  # preadv takes 1,024 buffers, two a value


@dataclass(frozen=True, eq=False)
class Located:
    """Where values of one column lie in their files; each stands behind its length.

    Parameters
    ----------
    type
        Of the column: bytes or text.
    paths
        The files.
    opened
        Gives one of them held open. They may be too many to hold them all.
    owner
        Which file each value lies in; int64, shape ``(num_rows,)``, as the next three.
    begins, prefixes
        Where its length stands, and in how many bytes; the value follows.
    lengths
        Its bytes.
    """

    type: pa.DataType
    paths: Sequence[str] = field(repr=False)
    opened: Callable[[str], DataFile] = field(repr=False)
    owner: Ints = field(repr=False)
    begins: Ints = field(repr=False)
    prefixes: Ints = field(repr=False)
    lengths: Ints

    @classmethod
    def of(
        cls,
        type_: pa.DataType,
        files: Sequence[PagedFile],
        opened: Callable[[str], DataFile],
        owner: Ints,
        rows: Ints,
    ) -> Located:
        """Look up rows by the file each lies in and their number in it."""
        begins, prefixes, lengths = (np.empty(len(rows), np.int64) for _ in range(3))
        for number, file in enumerate(files):
            mine = owner == number
            begins[mine], prefixes[mine], lengths[mine] = file.locate(rows[mine])
        return cls(type_, [file.path for file in files], opened, owner, begins, prefixes, lengths)

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def nbytes(self) -> int:
        """Of the values."""
        return int(self.lengths.sum())

    def values(self, index: npt.NDArray[np.int64]) -> list[bytes] | list[str]:
        """Read some values by their number, in the order of the index: straight into what is given out.

        Raises
        ------
        CorruptTableError
            A file is gone or shorter now, or holds something else, or a text is no UTF-8.
        """
        read: Any = DataFile.text if is_text(self.type) else DataFile.value
        owner, begins = self.owner[index], self.begins[index]
        found: list[Any] = [None] * len(index)
        order = np.lexsort((begins, owner))
        parts = (part[order].tolist() for part in (owner, begins, self.prefixes[index], self.lengths[index]))
        with translated(f"reading {len(index)} values"):
            for i, number, begin, prefix, length in zip(order.tolist(), *parts, strict=True):
                found[i] = read(self.opened(self.paths[number]), begin, prefix, length)
        return found

    def array(self) -> pa.Array | None:
        """Read all values to one buffer, those that lie together by one call; None if the type cannot hold as much.

        Raises
        ------
        CorruptTableError
            As for `values`.
        """
        offsets = np.concatenate(([0], np.cumsum(self.lengths)))
        width = np.int32 if pat.is_binary(self.type) or pat.is_string(self.type) else np.int64
        if offsets[-1] > np.iinfo(width).max:
            return None
        data = pa.allocate_buffer(int(offsets[-1]))
        with translated(f"reading {len(self)} values"):
            self._read_into(memoryview(data), offsets.tolist())
        buffers = [None, pa.py_buffer(offsets.astype(width)), data]
        return self._checked(pa.Array.from_buffers(self.type, len(self), buffers, null_count=0))

    def _checked(self, cells: pa.Array) -> pa.Array:
        if is_text(self.type):
            try:
                cells.validate(full=True)
            except pa.ArrowInvalid:
                self.values(np.arange(len(self)))  # raises what tells which one
                raise
        return cells

    def _read_into(self, out: memoryview, offsets: list[int]) -> None:
        lengths, files = np.zeros(len(self), "<u8"), [self.opened(path) for path in self.paths]
        said, prefixes = lengths.view(np.uint8).data, self.prefixes.tolist()
        for run in self._runs():
            parts = ((said[8 * i : 8 * i + prefixes[i]], out[offsets[i] : offsets[i + 1]]) for i in run)
            files[self.owner[run[0]]].read_into(list(chain.from_iterable(parts)), int(self.begins[run[0]]))
        if len(wrong := np.flatnonzero(lengths != self.lengths)):
            first = wrong[0]
            raise files[self.owner[first]].no_value(int(self.begins[first]), int(self.lengths[first]))

    def _runs(self) -> Iterator[list[int]]:
        """Give values that lie directly one behind the other in one file."""
        order = np.lexsort((self.begins, self.owner))
        ends = self.begins + self.prefixes + self.lengths
        follows = (self.begins[order[1:]] == ends[order[:-1]]) & (self.owner[order[1:]] == self.owner[order[:-1]])
        ordered, cuts = order.tolist(), np.flatnonzero(~follows) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(ordered)]):
            for first in range(start, stop, _VALUES_PER_CALL):
                yield ordered[first : min(first + _VALUES_PER_CALL, stop)]


def is_text(type_: pa.DataType) -> bool:
    """Whether values are text, not bytes."""
    return bool(pat.is_string(type_) or pat.is_large_string(type_))
