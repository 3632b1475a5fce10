"""Plain pylance: a scan, and its dataset for torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm
from benchmarks.loader_readers.reader import Reader
from benchmarks.loader_readers.torch_loading import collated, made_by
from benchmarks.loader_rows import arrow_field

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows

_FRAGMENTS = 8  # what its shuffle shuffles


class ToBatches(Reader):
    """`LanceDataset.to_batches`, batches of the size asked for; cells to Python as the loader gives them."""

    arm: ClassVar[Arm] = Arm("pylance to_batches, in order", "plain", "")
    layout: ClassVar[str] = "lance"
    shuffles: ClassVar[bool] = False
    levels = ("raw",)

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import lance

        self._dataset, self._job = lance.dataset(folder / "rows.lance"), job

    @staticmethod
    def load() -> None:
        import lance  # noqa: F401
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        import lance

        each = -(-rows.num_rows // _FRAGMENTS)
        lance.write_dataset(
            rows.reader(arrow_field(rows)), folder / "rows.lance", max_rows_per_file=each, enable_stable_row_ids=True
        )

    def batches(self) -> Iterator[Any]:
        for batch in self._dataset.to_batches(
            columns=["id", "payload"], batch_size=self._job.batch_size, batch_readahead=4
        ):
            yield _columns(batch)


class LanceTorch(ToBatches):
    """`lance.torch.data.LanceDataset`, which shuffles fragments."""

    arm: ClassVar[Arm] = Arm("lance.torch", "plain", "ShardedFragmentSampler(randomize=True)")
    shuffles: ClassVar[bool] = True
    levels = ("raw", "decode", "augment")

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        from lance.sampler import ShardedFragmentSampler
        from lance.torch.data import LanceDataset

        sample = made_by(job.level, job.seed)

        def to_tensor(batch: pa.RecordBatch, **_: Any) -> dict[str, Any]:
            return _columns(batch) if job.level == "raw" else collated(map(sample, batch.to_pylist()))

        self._batches = LanceDataset(
            str(folder / "rows.lance"),
            job.batch_size,
            columns=["id", "payload"],
            batch_readahead=4,
            to_tensor_fn=to_tensor,
            sampler=ShardedFragmentSampler(0, 1, randomize=True, seed=job.seed),
        )

    def batches(self) -> Iterator[Any]:
        return iter(self._batches)


def _columns(batch: pa.RecordBatch) -> dict[str, Any]:
    import pyarrow as pa
    import torch

    payload = batch["payload"]
    values = torch.from_numpy(payload.to_numpy()) if pa.types.is_floating(payload.type) else payload.to_pylist()
    return {"id": torch.from_numpy(batch["id"].to_numpy()), "payload": values}
