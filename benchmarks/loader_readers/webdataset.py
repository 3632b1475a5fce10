"""WebDataset: tar files."""

from __future__ import annotations

import struct
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


class WebDataset(Reader):
    """Shards in random order, a buffer behind them."""

    arm: ClassVar[Arm] = Arm("WebDataset 1.0.2", "peer", "16 shards, shuffle buffer")
    environment: ClassVar[str | None] = "webdataset"
    layout: ClassVar[str] = "tar"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import random

        import webdataset as wds

        read = {"image": bytes, "text": bytes.decode, "narrow": lambda data: struct.unpack("d", data)[0]}[rows.kind]
        urls = [f"file:{path}" for path in sorted(folder.glob("*.tar"))]
        dataset = (
            wds.WebDataset(urls, shardshuffle=_SHARDS, seed=job.seed, empty_check=False)
            .shuffle(job.buffer_rows, rng=random.Random(job.seed))
            .map(lambda sample: {"id": int(sample["__key__"]), "payload": read(sample["payload"])})
        )
        self._loader = dataloader(dataset, job)

    @staticmethod
    def load() -> None:
        import torch  # noqa: F401
        import webdataset  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        import webdataset as wds

        write = {"image": bytes, "text": str.encode, "narrow": lambda value: struct.pack("d", value)}[rows.kind]
        each = -(-rows.num_rows // _SHARDS)
        with wds.ShardWriter(f"{folder}/%03d.tar", maxcount=each, maxsize=1 << 40, verbose=0) as writer:
            for row in rows.rows():
                writer.write({"__key__": f"{row['id']:09}", "payload": write(row["payload"])})

    def batches(self) -> Iterator[Any]:
        return iter(self._loader)
