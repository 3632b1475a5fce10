"""Hugging Face's datasets: by index over a memory map, and as a stream."""

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

_SHARDS = 16


class HuggingFaceMap(Reader):
    """Arrow files in a memory map, read by torch's random sampler."""

    arm: ClassVar[Arm] = Arm("HF datasets 5.0.1, map", "peer", "memory map, torch's random sampler")
    environment: ClassVar[str | None] = "datasets"
    layout: ClassVar[str] = "arrow"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import torch
        from datasets import load_from_disk

        order = torch.Generator().manual_seed(job.seed)
        self._loader = dataloader(load_from_disk(str(folder)), job, shuffle=True, generator=order)

    @staticmethod
    def load() -> None:
        import datasets  # noqa: F401
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        from datasets import Dataset, Features, Value

        payload = {"image": "large_binary", "text": "string", "narrow": "float64"}[rows.kind]
        features = Features({"id": Value("int64"), "label": Value("int64"), "payload": Value(payload)})
        made = Dataset.from_generator(rows.rows, features=features, cache_dir=str(folder.with_suffix(".cache")))
        made.save_to_disk(str(folder), num_shards=_SHARDS)

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)


class HuggingFaceStream(HuggingFaceMap):
    """The same files as an iterable dataset: shards in random order, a buffer behind them."""

    arm: ClassVar[Arm] = Arm("HF datasets 5.0.1, stream", "peer", "16 shards, shuffle buffer")

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        from datasets import load_from_disk

        stream = load_from_disk(str(folder)).to_iterable_dataset(num_shards=_SHARDS)
        self._loader = dataloader(stream.shuffle(seed=job.seed, buffer_size=job.buffer_rows), job)
