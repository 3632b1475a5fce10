"""Images in a lake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.harness import Arm
from benchmarks.point_readers.lance import row_ids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import lance
    import pyarrow as pa

    from benchmarks.media import Ints, MediaRows
    from benchmarks.point_readers.reader import Selector

_SCHEMA = """
name = "media"
key = "id"
[columns]
id       = { type = "string", nullable = false }
position = { type = "int64", nullable = false }
label    = { type = "string" }
score    = { type = "float64" }
image    = { type = "image" }
"""


class Ours:
    """`Table.take_row_ids` on a table opened at a version, as pylance's handle is."""

    arm: ClassVar[Arm] = Arm("lakehouse take_row_ids", "ours", "open Table pinned to a version, caches warm")
    layout: ClassVar[str] = "lake"
    selects: ClassVar[Selector] = "row id"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        import lakehouse as lh

        lake = lh.connect(folder / "lake")
        latest = lake.open_table("media")
        self.table = lake.open_table("media", version=latest.version) if self._pinned else latest
        self.dataset: lance.LanceDataset = self.table.snapshot().dataset
        self._row_ids = np.load(folder / "row_ids.npy")
        self._ids = rows.ids

    _pinned: ClassVar[bool] = True

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        import lakehouse as lh

        (folder / "media.toml").write_text(_SCHEMA)
        table = lh.connect(folder / "lake").create_table("media", schema=folder / "media.toml")
        table.add(rows.reader(), progress=False)
        table.create_index("id", lh.BTree())
        np.save(folder / "row_ids.npy", row_ids(table.uri))

    def request(self, positions: Ints) -> Any:
        return self._row_ids[positions].tolist()

    def read(self, request: Any) -> pa.Table:
        return self.table.take_row_ids(request, columns=["image"])

    def payloads(self, delivered: pa.Table) -> Iterable[memoryview]:
        return (memoryview(value.as_buffer()) for value in delivered["image"])


class OursLatest(Ours):
    """The same on an unpinned table, which looks for a newer version at each call."""

    arm: ClassVar[Arm] = Arm("lakehouse take_row_ids, latest version", "ours", "open Table, not pinned, caches warm")
    _pinned: ClassVar[bool] = False


class OursByKey(Ours):
    """`Table.get` through a BTREE on the key."""

    arm: ClassVar[Arm] = Arm("lakehouse get", "ours", "open Table pinned to a version, BTREE on the key")
    selects: ClassVar[Selector] = "key"

    def request(self, positions: Ints) -> Any:
        return [self._ids[n] for n in positions.tolist()]

    def read(self, request: Any) -> pa.Table:
        return self.table.get(request, columns=["image"])
