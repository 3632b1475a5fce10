"""LitData's `StreamingDataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm
from benchmarks.loader_readers.reader import Reader
from benchmarks.loader_readers.torch_loading import dataloader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows


class LitData(Reader):
    """Chunks of 64 MB, its default, shuffled whole and within."""

    arm: ClassVar[Arm] = Arm("LitData 0.2.76", "peer", "chunks of 64 MB")
    environment: ClassVar[str | None] = "litdata"
    layout: ClassVar[str] = "litdata"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import litdata

        dataset = litdata.StreamingDataset(
            str(folder), shuffle=True, drop_last=False, seed=job.seed, max_cache_size="100GB"
        )
        self._loader = dataloader(dataset, job, kind=litdata.StreamingDataLoader)

    @staticmethod
    def load() -> None:
        import litdata  # noqa: F401
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        from litdata.streaming.writer import BinaryWriter

        writer = BinaryWriter(str(folder), chunk_bytes="64MB")
        for number, row in enumerate(rows.rows()):
            writer[number] = {"id": row["id"], "payload": row["payload"]}
        writer.done()
        writer.merge()

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def resume(self, state: Any) -> None:
        self._loader.load_state_dict(state)
