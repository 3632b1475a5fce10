"""MosaicML's `StreamingDataset`."""

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

_ENCODINGS = {"image": "bytes", "text": "str", "narrow": "float64"}


class MosaicMl(Reader):
    """Shards of 64 MB, its default, shuffled by py1e, its default, over blocks of as many rows as all buffers have."""

    arm: ClassVar[Arm] = Arm("MosaicML Streaming 0.13", "peer", "py1e")
    environment: ClassVar[str | None] = "mosaicml"
    layout: ClassVar[str] = "mds"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import streaming
        from streaming.base.util import clean_stale_shared_memory

        clean_stale_shared_memory()
        dataset = streaming.StreamingDataset(
            local=str(folder),
            shuffle=True,
            shuffle_seed=job.seed,
            batch_size=job.batch_size,
            num_canonical_nodes=1,
            shuffle_block_size=job.buffer_rows,
        )
        self._loader = dataloader(dataset, job, kind=streaming.StreamingDataLoader)

    @staticmethod
    def load() -> None:
        import streaming  # noqa: F401
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        from streaming import MDSWriter

        with MDSWriter(out=str(folder), columns={"id": "int", "payload": _ENCODINGS[rows.kind]}) as writer:
            for row in rows.rows():
                writer.write({"id": row["id"], "payload": row["payload"]})

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)

    def state(self) -> Any:
        return self._loader.state_dict()

    def resume(self, state: Any) -> None:
        self._loader.load_state_dict(state)
