"""`Table.loader`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm
from benchmarks.loader_readers.reader import Reader
from benchmarks.loader_rows import arrow_field, augmented

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows


class Ours(Reader):
    """A true shuffle of all rows by `Table.loader`, in this process's own threads."""

    arm: ClassVar[Arm] = Arm("lakehouse loader", "ours", "shuffle=True, threads")
    layout: ClassVar[str] = "lake"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import lakehouse as lh

        table = lh.connect(folder / "lake").open_table("raw" if job.level == "raw" else "pictures")
        self._loader = table.loader(
            columns=["id", "payload"],
            batch_size=job.batch_size,
            shuffle=self.shuffles,
            seed=job.seed,
            transform=_augmented if job.level == "augment" else None,
        )

    @staticmethod
    def load() -> None:
        import torch  # noqa: F401

        from lakehouse import connect  # noqa: F401 - the names load lazily, and with this one the rest

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        import pyarrow as pa

        import lakehouse as lh
        from lakehouse import types

        lake, plain = lh.connect(folder / "lake"), arrow_field(rows)
        tables = {"raw": plain}
        if rows.kind == "image":
            tables["pictures"] = types.field("payload", "image")
        for name, field in tables.items():
            schema = pa.schema(
                [pa.field("id", pa.int64(), nullable=False), pa.field("label", pa.int64(), nullable=False), field]
            )
            table, half = lake.create_table(name, schema=schema), rows.num_rows // 2
            for part in (range(half), range(half, rows.num_rows)):
                table.add(rows.reader(plain, part), progress=False)
            if rows.num_deleted:
                table.delete(f"id % {half // rows.num_deleted} = 0")

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def resume(self, state: Any) -> None:
        self._loader.load_state_dict(state)

    def plan_nbytes(self) -> int:
        import pickle

        return len(pickle.dumps(self._loader._source))


class OursInOrder(Ours):
    """The same in the order of the table."""

    arm: ClassVar[Arm] = Arm("lakehouse loader, in order", "ours", "shuffle=False, threads")
    shuffles: ClassVar[bool] = False
    levels = ("raw",)


class OursMany(Ours):
    """A hundred million rows: nothing may grow with them."""

    arm: ClassVar[Arm] = Arm("lakehouse loader, very long table", "ours", "shuffle=True, threads")
    layout: ClassVar[str] = "lake"
    kinds = ("byte",)
    levels = ("raw",)

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import lakehouse as lh

        table = lh.connect(folder / "lake").open_table("raw")
        self._loader = table.loader(columns=["_rowid", "payload"], batch_size=job.batch_size, seed=job.seed)

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        import lakehouse as lh

        stream = rows.bytes_reader()
        lh.connect(folder / "lake").create_table("raw", schema=stream.schema).add(stream, progress=False)

    def samples(self, batch: Any) -> Mapping[str, Any]:
        return {"id": batch["_rowid"], "payload": batch["payload"]}


def _augmented(row: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
    return {**row, "payload": augmented(row["payload"], rng)}
