"""Grain over ArrayRecord files."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.harness import Arm
from benchmarks.loader_readers.reader import Reader
from benchmarks.loader_readers.torch_loading import collated, made_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.loader_readers.reader import Job
    from benchmarks.loader_rows import LoaderRows

_SHARDS = 8
_THREADS = 2


class Grain(Reader):
    """Its permutation of all rows, read and decoded by two threads of this process."""

    arm: ClassVar[Arm] = Arm("Grain 0.2.18", "peer", "ArrayRecord, 2 read threads")
    environment: ClassVar[str | None] = "grain"
    layout: ClassVar[str] = "array_record"

    def __init__(self, folder: Path, rows: LoaderRows, job: Job) -> None:
        import grain

        source = grain.sources.ArrayRecordDataSource([str(path) for path in sorted(folder.glob("*.array_record"))])
        sample = made_by(job.level, job.seed)
        rows_ = grain.MapDataset.source(source).seed(job.seed).shuffle().map(lambda data: sample(pickle.loads(data)))
        options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=4 * job.batch_size)
        dataset = rows_.to_iter_dataset(options).batch(job.batch_size, drop_remainder=True, batch_fn=collated)
        self._batches = iter(dataset)

    @staticmethod
    def load() -> None:
        import grain  # noqa: F401
        import torch  # noqa: F401

    @staticmethod
    def build(folder: Path, rows: LoaderRows) -> None:
        from array_record.python.array_record_module import ArrayRecordWriter

        # group_size:1 is what Grain asks for where rows are read one by one.
        writers = [
            ArrayRecordWriter(str(folder / f"{n:02}.array_record"), "group_size:1,uncompressed") for n in range(_SHARDS)
        ]
        for row in rows.rows():
            record = {"id": row["id"], "payload": row["payload"]}
            writers[row["id"] * _SHARDS // rows.num_rows].write(pickle.dumps(record))
        for writer in writers:
            writer.close()

    def batches(self) -> Iterator[Any]:
        return self._batches

    def state(self) -> Any:
        return self._batches.get_state()

    def resume(self, state: Any) -> None:
        self._batches.set_state(state)
