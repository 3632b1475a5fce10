"""Wide values by their place in the file, at a tenth of the CPU of Lance's take (6 µs against 60 for 35 KB, 14.0.2).

Bytes, and texts whose field says that they are stored uncompressed (1.5 µs against 15 for 1.9 KB).

Lance stores values of some hundred bytes and more one behind the other, each after its length, and at the end of a page
the table of where each begins. Where a column lies on this machine like that, uncompressed and without NULLs, its
values are read with nothing between the page cache and the buffer they are handed out in. Whatever looks different in
any way is left to Lance. Lengths are compared value by value, and the first value of each file with what Lance reads.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from lakehouse import storage
from lakehouse.errors import CorruptTableError, translated
from lakehouse.reads.located import Located, is_text
from lakehouse.reads.pages import DataFile, PagedFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lakehouse.reads.rowids import RowIds
    from lakehouse.snapshot import Snapshot

__all__ = ["Places", "places"]

_FEWEST_ROWS = 16  # fewer do not pay for a footer, a millisecond
_MAX_NBYTES = 32 << 20  # of places, 4 bytes a row; what lies in more files is read by Lance
_MAX_OPEN_FILES = 256
_TOLD_NBYTES = 4  # what tells where a value lies, in the table of a page
# Bytes asked for of a byte of that: a twentieth more is read at most, a fifth where more rows follow and need it too.
_WORTH, _WORTH_MORE = 20, 5

_known: WeakKeyDictionary[Snapshot, dict[str, Places]] = WeakKeyDictionary()


def places(snapshot: Snapshot, columns: Iterable[str], num_rows: int) -> dict[str, Places]:
    """Return where values lie, of the columns that may be read so, if there are as many rows as pay for it."""
    if num_rows < _FEWEST_ROWS or not snapshot.location.is_local:
        return {}
    known = _known.setdefault(snapshot, {})
    found = [name for name in columns if _may_be_found(snapshot.physical.field(name))]
    return {name: known.setdefault(name, Places(snapshot, name)) for name in found}


def _may_be_found(field: pa.Field) -> bool:
    """Whether a look at the files is worth it: text is compressed unless its field says that it is not."""
    if is_text(field.type):
        return storage.is_uncompressed(field)
    return bool(pat.is_binary(field.type) or pat.is_large_binary(field.type))


class Places:
    """Where the values of one column of one version lie.

    Parameters
    ----------
    snapshot, column
        Which; a column of bytes or text, on this machine.
    """

    def __init__(self, snapshot: Snapshot, column: str) -> None:
        self._column = column
        self._type = snapshot.physical.field(column).type
        self._field_id = snapshot.field_ids[column]
        self._folder = f"{snapshot.uri}/data"
        self._dataset = snapshot.dataset
        self._fragments: dict[int, Any] = {}
        self._num_asked: Counter[int] = Counter()
        self._files: dict[int, PagedFile | None] = {}
        self._nbytes = 0
        self._lock = Lock()
        self._held_open: Callable[[str], DataFile] = lru_cache(_MAX_OPEN_FILES)(DataFile)

    def locate(self, row_ids: RowIds, addresses: RowIds, *, more_follow: bool) -> Located | None:
        """Find the values of rows, order and repeats kept; None where Lance has to read them.

        Parameters
        ----------
        row_ids, addresses
            The rows, and where Lance says that they lie: fragment and offset in one number.
        more_follow
            Whether other rows are read after these, as in an epoch.
        """
        worth = _WORTH_MORE if more_follow else _WORTH
        fragments, owner, counts = np.unique(addresses >> np.uint64(32), return_inverse=True, return_counts=True)
        with self._lock:
            found = [self._file(*each, worth) for each in zip(fragments.tolist(), counts.tolist(), strict=True)]
        files = [file for file in found if file is not None]
        if len(files) < len(fragments):
            return None
        rows = (addresses & np.uint64(0xFFFFFFFF)).astype(np.int64)
        located = Located.of(self._type, files, self._held_open, owner, rows)
        return located if self._as_lance_reads(files, located, row_ids) else None

    def _as_lance_reads(self, files: list[PagedFile], located: Located, row_ids: RowIds) -> bool:
        """Compare a value of each file not read from before; a file whose value differs is Lance's from now on."""
        new = [number for number, file in enumerate(files) if not file.is_compared]
        if not new:
            return True
        at = np.array([np.argmax(located.owner == number) for number in new])
        with translated(f"reading {len(at)} values of {self._column!r}"):
            by_lance = self._dataset._take_rows(row_ids[at], columns=[self._column])[self._column]  # noqa: SLF001 - the only take by row id
        for number, i, its in zip(new, at, by_lance, strict=True):
            with suppress(CorruptTableError):
                files[number].is_compared = located.values(np.array([i])) == [its.as_py()]
        wrong = [files[number] for number in new if not files[number].is_compared]
        self._leave_to_lance(wrong)
        return not wrong

    def _leave_to_lance(self, files: list[PagedFile]) -> None:
        with self._lock:
            self._files.update({fragment: None for fragment, file in self._files.items() if file in files})

    def _file(self, fragment_id: int, num_rows: int, worth: int) -> PagedFile | None:
        if fragment_id not in self._files:
            fragment = self._fragment(fragment_id)
            self._num_asked[fragment_id] += num_rows
            if not _pays(fragment, self._num_asked[fragment_id], worth):
                return None
            file = self._found(fragment.metadata)
            self._nbytes += file.nbytes if file else 0
            self._files[fragment_id] = file if self._nbytes <= _MAX_NBYTES else None
        return self._files[fragment_id]

    def _fragment(self, fragment_id: int) -> Any:
        if not self._fragments:
            self._fragments = {fragment.fragment_id: fragment for fragment in self._dataset.get_fragments()}
        return self._fragments[fragment_id]

    def _found(self, metadata: Any) -> PagedFile | None:
        files = [file for file in metadata.files if self._field_id in file.fields]
        if len(files) != 1 or files[0].base_id is not None or not files[0].column_indices:
            return None  # not filled yet; lying elsewhere, as what a branch has from the main line; or in a legacy file
        column = files[0].column_indices[files[0].fields.index(self._field_id)]
        return PagedFile.read(f"{self._folder}/{files[0].path}", column, files[0].file_size_bytes)


def _pays(fragment: Any, num_asked: int, worth: int) -> bool:
    """Whether the rows asked for so far are several times larger than what tells where all lie, which is read first."""
    num_rows = int(fragment.physical_rows)
    nbytes = sum(int(file.file_size_bytes or 0) for file in fragment.metadata.files)
    return num_asked * nbytes >= worth * _TOLD_NBYTES * num_rows**2
