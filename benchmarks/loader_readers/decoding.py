"""The bound of every decoded level: Pillow alone, over pictures that lie in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from benchmarks.harness import Arm
from benchmarks.loader_readers.reader import Reader
from benchmarks.loader_readers.torch_loading import collated, made_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows


class Decoding(Reader):
    """One thread, no reads."""

    arm: ClassVar[Arm] = Arm("Pillow alone, one thread", "bound", "pictures in memory")
    layout: ClassVar[str] = "nothing"
    kinds = ("image",)
    levels = ("decode", "augment")

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        self._rows, self._job = rows, job

    @staticmethod
    def load() -> None:
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        """Nothing to write."""

    def batches(self) -> Iterator[Any]:
        sample, size = made_by(self._job.level, self._job.seed), self._job.batch_size
        order = np.random.default_rng(self._job.seed).permutation(self._rows.num_rows).tolist()
        for start in range(0, len(order) - size + 1, size):
            yield collated(sample({"id": n, "payload": self._rows.payload(n)}) for n in order[start : start + size])
