"""SQL over a lake."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, ClassVar

from benchmarks.harness import Arm
from benchmarks.harness.environment import NUM_THREADS

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.sql_tables import Readers


class Ours:
    """`Lake.sql` as it comes: columns that one statement read stay in memory for the next, and so does its plan."""

    arm: ClassVar[Arm] = Arm(
        "lakehouse lake.sql", "ours", "lake open, the newest version looked for at each query, columns and plans kept"
    )
    layout: ClassVar[str] = "lake"
    _resident_nbytes: ClassVar[int | None] = None

    def __init__(self, folder: Path) -> None:
        import lakehouse as lh

        limits = lh.SqlLimits(threads=NUM_THREADS, resident_nbytes=self._resident_nbytes)
        self.lake = lh.connect(folder / "lake", sql_limits=limits)

    @staticmethod
    def build(folder: Path, readers: Readers) -> None:
        import lakehouse as lh

        lake = lh.connect(folder / "lake")
        for name, read in readers.items():
            if name == "media":
                (folder / "media.toml").write_text(_SCHEMA)
                table = lake.create_table(name, schema=folder / "media.toml")
                table.add(read(), progress=False)
                table.create_index("id", lh.BTree())
            else:
                lake.create_table(name, data=read())

    def ask(self, text: str) -> pa.Table:
        return self.lake.sql(text).arrow()

    def get(self, key: str) -> pa.Table:
        """Fetch a row by its key without SQL."""
        return self.lake.open_table("media").get([key], columns=["id", "image"])


class OursUnkept(Ours):
    """The same with nothing kept in memory: what the first query over a version costs, from open and warm files."""

    arm: ClassVar[Arm] = Arm(
        "lakehouse lake.sql, decoded and planned each time", "ours", "the same, resident_nbytes=0, no text asked twice"
    )
    _resident_nbytes: ClassVar[int | None] = 0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._asked = count()

    def ask(self, text: str) -> pa.Table:
        return super().ask(f"{text.rstrip().removesuffix(';')} -- {next(self._asked)}")


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
