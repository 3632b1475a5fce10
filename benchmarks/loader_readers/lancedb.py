"""LanceDB's `StreamingDataset`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm
from benchmarks.loader_readers.lance import ToBatches
from benchmarks.loader_readers.torch_loading import collated, made_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows

# At 64 rows a read, its default, narrow rows take three times the time; more than 256 pictures at once are 100 MB.
_READ_ROWS = {"image": 256, "text": 1024, "narrow": 1024}


class LanceDb(ToBatches):
    """Rows by the permutation table it builds, transformed in its own threads, put together by torch's DataLoader."""

    arm: ClassVar[Arm] = Arm("lancedb 0.40 StreamingDataset", "peer", "one split, 256 to 1,024 rows a read")
    shuffles: ClassVar[bool] = True
    levels = ("raw", "decode", "augment")

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import lancedb
        from lancedb.streaming import StreamingDataLoader, StreamingDataset

        sample = made_by(job.level, job.seed)

        def samples(batch: pa.RecordBatch) -> list[Any]:
            return [sample(record) for record in batch.to_pylist()]

        table = lancedb.connect(folder).open_table("rows")
        self._dataset = StreamingDataset(
            table,
            columns=["id", "payload"],
            shuffle_seed=job.seed,
            read_batch_size=_READ_ROWS[rows.kind],
            transform=samples,
        )
        self._batches = StreamingDataLoader(
            self._dataset, batch_size=job.batch_size, collate_fn=collated, num_workers=0
        )

    @staticmethod
    def load() -> None:
        import lancedb.streaming  # noqa: F401
        import torch  # noqa: F401

    def batches(self) -> Iterator[Any]:
        return iter(self._batches)

    def state(self) -> Any:
        return self._dataset.state_dict()

    def resume(self, state: Any) -> None:
        self._dataset.load_state_dict(state)

    def plan_nbytes(self) -> int:
        return int(self._dataset._perm_table.to_arrow().nbytes)
