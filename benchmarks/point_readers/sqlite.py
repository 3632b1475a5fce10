"""Images in SQLite: read-only, memory-mapped, 8 KB pages."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, ClassVar

from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.media import Ints, MediaRows
    from benchmarks.point_readers.reader import Selector

_PAGE_NBYTES = 8192  # with 16384 the fastest for blobs of this size: sqlite.org/intern-v-extern-blob.html
_MMAP_NBYTES = 0x7FFF0000  # SQLite's maximum
_HANDLE = "open connection, immutable (no locks), mmap"


class SqliteByRowId:
    """A SELECT an image by integer primary key; SQLite's IN would lose order and repeats."""

    arm: ClassVar[Arm] = Arm("SQLite, mmap, 8 KB pages", "peer", _HANDLE)
    layout: ClassVar[str] = "sqlite"
    selects: ClassVar[Selector] = "row id"
    _query = "SELECT image FROM media WHERE position = ?"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        self._connection = sqlite3.connect(f"file:{folder / 'media.db'}?mode=ro&immutable=1", uri=True)
        self._connection.execute(f"PRAGMA mmap_size = {_MMAP_NBYTES}")
        self._ids = rows.ids

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        connection = sqlite3.connect(folder / "media.db")
        connection.execute(f"PRAGMA page_size = {_PAGE_NBYTES}")
        connection.execute(
            "CREATE TABLE media (position INTEGER PRIMARY KEY, id TEXT, label TEXT, score REAL, image BLOB)"
        )
        for batch in rows.batches():
            columns = [batch[name].to_pylist() for name in ("position", "id", "label", "score", "image")]
            connection.executemany("INSERT INTO media VALUES (?, ?, ?, ?, ?)", zip(*columns, strict=True))
        connection.execute("CREATE UNIQUE INDEX media_id ON media (id)")
        connection.commit()
        connection.close()

    def request(self, positions: Ints) -> list[int] | list[str]:
        return [int(n) for n in positions]

    def read(self, request: list[int] | list[str]) -> list[bytes]:
        execute, query = self._connection.execute, self._query
        return [execute(query, (wanted,)).fetchone()[0] for wanted in request]

    def payloads(self, delivered: list[bytes]) -> Iterable[bytes]:
        return delivered


class SqliteByKey(SqliteByRowId):
    """The same through a unique index on the text key."""

    selects: ClassVar[Selector] = "key"
    _query = "SELECT image FROM media WHERE id = ?"

    def request(self, positions: Ints) -> list[int] | list[str]:
        return [self._ids[n] for n in positions.tolist()]
