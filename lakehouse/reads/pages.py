"""Pages of one column of one data file, of the one kind whose values can be found without Lance."""

from __future__ import annotations

import os
import re
import weakref
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lakehouse._lance import lance
from lakehouse.errors import CorruptTableError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DataFile", "Ints", "PagedFile"]

Ints: TypeAlias = npt.NDArray[np.int64]

# Lance 14's own words for a page of whole values, each behind its length, uncompressed, without NULLs.
_WORDS = re.compile(
    r"PageLayout \{ layout: Some\( FullZipLayout\( FullZipLayout \{ bits_rep: 0, bits_def: 0, num_items: (?P<rows>\d+),"
    r" num_visible_items: (?P=rows), value_compression: Some\( CompressiveEncoding \{ compression: Some\( Variable\( "
    r"Variable \{ offsets: Some\( CompressiveEncoding \{ compression: Some\( Flat\( Flat \{ bits_per_value: "
    r"(?P<bits>32|64), data: None, \}, \), \), \}, \), values: None, \}, \), \), \}, \), layers: \[ RepdefAllValidItem,"
    r" \], details: Some\( BitsPerOffset\( (?P=bits), \), \), \}, \), \), \}"
)


class DataFile:
    """A file held open, and closed with this object.

    Parameters
    ----------
    path
        On this machine.

    Raises
    ------
    CorruptTableError
        It is gone.
    OSError
        It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise self.damaged("is gone") from error
        weakref.finalize(self, os.close, self._descriptor)

    @property
    def nbytes(self) -> int:
        """Its size."""
        return os.fstat(self._descriptor).st_size

    def read_into(self, buffers: Sequence[memoryview], position: int) -> None:
        """Fill buffers, one after the other, from a position on; 1,024 at most.

        Raises
        ------
        CorruptTableError
            The file ends before.
        """
        wanted, read = sum(map(len, buffers)), os.preadv(self._descriptor, buffers, position)
        if read != wanted:
            raise self._ends()

    def value(self, position: int, prefix_nbytes: int, nbytes: int) -> bytes:
        """Read the value that stands at a position behind its length.

        Raises
        ------
        CorruptTableError
            The file ends before, or another length stands there.
        """
        length = os.pread(self._descriptor, prefix_nbytes, position)
        value = os.pread(self._descriptor, nbytes, position + prefix_nbytes)
        self._check(position, nbytes, length, len(length) + len(value) - prefix_nbytes)
        return value

    def text(self, position: int, prefix_nbytes: int, nbytes: int) -> str:
        """Read a text as `value` does bytes.

        Raises
        ------
        CorruptTableError
            As there, or it is no UTF-8.
        """
        read = os.pread(self._descriptor, prefix_nbytes + nbytes, position)  # one call: decoding copies anyway
        self._check(position, nbytes, read[:prefix_nbytes], len(read) - prefix_nbytes)
        try:
            return read[prefix_nbytes:].decode()
        except UnicodeDecodeError as error:
            raise self.damaged(f"has a text at byte {position} that is no UTF-8 ({error.reason})") from error

    def _check(self, position: int, nbytes: int, length: bytes, num_read: int) -> None:
        if num_read != nbytes:
            raise self._ends()
        if int.from_bytes(length, "little") != nbytes:
            raise self.no_value(position, nbytes)

    def _ends(self) -> CorruptTableError:
        return self.damaged(f"ends at byte {self.nbytes}, in the middle of a page")

    def no_value(self, position: int, nbytes: int) -> CorruptTableError:
        """Return the error to raise where another length stands."""
        return self.damaged(f"has no value of {nbytes} bytes at byte {position}")

    def damaged(self, how: str) -> CorruptTableError:
        """Return the error to raise."""
        return CorruptTableError(f"the data file {self._path} {how}; restore it from a copy")


class PagedFile:
    """Where the values of a column lie in a file: 4 bytes a row.

    Parameters
    ----------
    path
        The file.
    first_rows
        The number of the first row of each page, and of the rows; int64, shape ``(num_pages + 1,)``.
    data, prefixes
        Where the values of each page begin, and the bytes of the length before each; int64, shape ``(num_pages,)``.
    entries
        Of each page where in it each value begins and the last one ends; unsigned, as narrow as they are stored, shape
        ``(num_rows + num_pages,)``.
    """

    def __init__(self, path: str, first_rows: Ints, data: Ints, prefixes: Ints, entries: npt.NDArray[Any]) -> None:
        self.path = path
        self.is_compared = False  # whether one of its values was found to be what Lance reads
        self._first_rows, self._data, self._prefixes, self._entries = first_rows, data, prefixes, entries

    @classmethod
    def read(cls, path: str, column: int, nbytes: int | None) -> PagedFile | None:
        """Read the tables of a file; None if a page is of another kind, or the file is gone or not of this size."""
        try:
            pages = [_page(page) for page in lance.file.LanceFileReader(path).metadata().columns[column].pages]
            file = DataFile(path)
            known = [page for page in pages if page is not None]
            if len(known) < len(pages) or not pages or nbytes not in (None, file.nbytes):
                return None
            entries = np.concatenate(
                [_table(file, rows, table, width, prefix) for rows, _, table, width, prefix in known]
            )
        except (OSError, ValueError, CorruptTableError):
            return None  # Lance tells better what is wrong
        rows, data, _, _, prefixes = np.array(known).T
        return cls(path, np.cumsum([0, *rows]), data, prefixes, entries)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return self._entries.nbytes

    def locate(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Give where the lengths of rows stand, in how many bytes, and what they must be."""
        page = np.searchsorted(self._first_rows, rows, side="right") - 1
        begins, ends = (self._entries[rows + page + i].astype(np.int64) for i in (0, 1))
        prefixes = self._prefixes[page]
        return self._data[page] + begins, prefixes, ends - begins - prefixes


def _page(page: Any) -> tuple[int, int, int, int, int] | None:
    """Read what Lance says of a page: rows, where values and table begin, bytes of an entry and of a length.

    None unless it is of that kind.
    """
    said = _WORDS.fullmatch(" ".join(str(page.encoding).split()))
    if said is None or len(page.buffers) != 2:
        return None
    (data, table), rows = page.buffers, int(said["rows"])
    entry_nbytes, rest = divmod(table.size, rows + 1)
    if rest or entry_nbytes not in (1, 2, 4, 8):
        return None
    return rows, data.position, table.position, entry_nbytes, int(said["bits"]) // 8


def _table(file: DataFile, rows: int, table: int, entry_nbytes: int, prefix_nbytes: int) -> npt.NDArray[Any]:
    """Read where in a page its values begin, each after the one before, and the last one ends."""
    entries = np.empty(rows + 1, f"<u{entry_nbytes}")
    file.read_into([entries.view(np.uint8).data], table)
    if (np.diff(entries.astype(np.int64)) < prefix_nbytes).any():
        raise file.damaged("has values that end before they begin")
    return entries
