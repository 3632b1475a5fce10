"""Who fills: a lake, in this process or with workers, and plain pylance by hand."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, ClassVar, Protocol

from benchmarks.harness import Arm

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.backfill_functions import Features

_FORMAT = "2.2"  # as a lake's tables have it


class Filler(Protocol):
    """One arm, open on a working copy: `declare` is made ready, `fill` is what the clock sees."""

    arm: ClassVar[Arm]

    def __init__(self, folder: Path) -> None: ...

    def declare(self, features: Features) -> None:
        """Add the columns, empty."""
        ...

    def fill(self, features: Features) -> None:
        """Compute and store every row of them."""
        ...


class Backfill:
    """`backfill`: stamps, checkpoints, provenance, other writers welcome."""

    arm: ClassVar[Arm] = Arm("lakehouse backfill", "ours", "open Table")
    num_workers: ClassVar[int] = 0

    def __init__(self, folder: Path) -> None:
        import lakehouse as lh

        self._table = lh.connect(folder / "lake").open_table("t")

    def declare(self, features: Features) -> None:
        self._table.add_columns(features.udfs)

    def fill(self, features: Features) -> None:
        self._table.backfill(list(features.udfs), num_workers=self.num_workers, progress=False)


class OneWorker(Backfill):
    """One process beside the one that commits."""

    arm: ClassVar[Arm] = Arm("lakehouse backfill, 1 worker", "ours", "open Table")
    num_workers: ClassVar[int] = 1


class TwoWorkers(Backfill):
    """Two processes beside the one that commits."""

    arm: ClassVar[Arm] = Arm("lakehouse backfill, 2 workers", "ours", "open Table")
    num_workers: ClassVar[int] = 2


class ByHand:
    """Scan a fragment, compute batch by batch into its column file, and commit all files at once.

    The fastest way pylance has that keeps other writers: no stamps, nothing kept if it stops, nothing known of the column.
    """

    arm: ClassVar[Arm] = Arm("pylance by hand: scan, compute, write", "plain", "open LanceDataset")

    def __init__(self, folder: Path) -> None:
        import lance

        self._dataset = lance.dataset(str(folder / "lake" / "t.lance"))

    def declare(self, features: Features) -> None:
        self._dataset.add_columns(features.schema)

    def fill(self, features: Features) -> None:
        import lance
        import pyarrow as pa
        from lance.file import LanceFileWriter

        groups = []
        for fragment in self._dataset.get_fragments():
            name = f"{uuid.uuid4().hex}.lance"
            with LanceFileWriter(f"{self._dataset.uri}/data/{name}", features.schema, version=_FORMAT) as writer:
                for batch in fragment.to_batches(columns=[features.read], batch_size=features.by_hand_rows):
                    columns = features.by_hand(batch.column(0))
                    writer.write_batch(pa.record_batch(columns, schema=features.schema))
            file = lance.fragment.DataFile.create(self._dataset, name)
            groups.append(lance.LanceOperation.DataReplacementGroup(fragment.fragment_id, file))
        replacement = lance.LanceOperation.DataReplacement(groups)
        lance.LanceDataset.commit(self._dataset, replacement, read_version=self._dataset.version)


FILLERS: dict[str, type[Filler]] = {
    "one_worker": OneWorker,
    "ours": Backfill,
    "two_workers": TwoWorkers,
    "by_hand": ByHand,
}
