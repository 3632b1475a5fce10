"""Images in Lance through plain pylance: each of its calls, at the best settings known for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import lance
    import pyarrow as pa

    from benchmarks.media import Ints, MediaRows
    from benchmarks.point_readers.reader import Selector

_HANDLE = "open LanceDataset, caches warm"
_FORMAT: Final = "2.2"


class PylanceTake:
    """`LanceDataset.take` by offset from an inline binary column."""

    arm: ClassVar[Arm] = Arm("pylance take", "plain", _HANDLE)
    layout: ClassVar[str] = "lance-inline"
    selects: ClassVar[Selector] = "row id"

    def __init__(self, folder: Path, rows: MediaRows) -> None:
        import lance

        self.dataset: lance.LanceDataset = lance.dataset(str(folder / "media.lance"))
        self._ids = rows.ids

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        import lance

        # Row ids stay addresses (no stable row ids): the shortest way there is. Media are compressed already.
        field = rows.schema.field("image").with_metadata({"lance-encoding:compression": "none"})
        schema = rows.schema.set(rows.schema.get_field_index("image"), field)
        batches = (batch.cast(schema) for batch in rows.batches())
        dataset = lance.write_dataset(batches, folder / "media.lance", schema=schema, data_storage_version=_FORMAT)
        dataset.create_scalar_index("id", "BTREE")

    def request(self, positions: Ints) -> Any:
        return positions.tolist()

    def read(self, request: Any) -> Any:
        return self.dataset.take(request, columns=["image"])

    def payloads(self, delivered: Any) -> Iterable[bytes | memoryview]:
        return (memoryview(value.as_buffer()) for value in delivered["image"])


class PylanceTakeRows(PylanceTake):
    """`LanceDataset._take_rows` by row id, the private call its own libraries use."""

    arm: ClassVar[Arm] = Arm("pylance _take_rows", "plain", _HANDLE)

    def read(self, request: Any) -> Any:
        return self.dataset._take_rows(request, columns=["image"])


class PylanceReadBlobs(PylanceTake):
    """`LanceDataset.read_blobs` from a blob v2 column."""

    arm: ClassVar[Arm] = Arm("pylance read_blobs", "plain", _HANDLE)
    layout: ClassVar[str] = "lance-blobs"

    @staticmethod
    def build(folder: Path, rows: MediaRows) -> None:
        import lance
        import pyarrow as pa

        at = rows.schema.get_field_index("image")
        schema = rows.schema.set(at, lance.blob_field("image"))

        def batches() -> Iterable[pa.RecordBatch]:
            for batch in rows.batches():
                columns = [*batch.columns[:at], lance.blob_array(batch["image"].to_pylist())]
                yield pa.RecordBatch.from_arrays(columns, schema=schema)

        lance.write_dataset(batches(), folder / "media.lance", schema=schema, data_storage_version=_FORMAT)

    def read(self, request: Any) -> Any:
        return self.dataset.read_blobs("image", ids=request, preserve_order=True)

    def payloads(self, delivered: Any) -> Iterable[bytes | memoryview]:
        return (image for _, image in delivered)


class PylanceByKey(PylanceTake):
    """A filter on the indexed key; a filter answers in its own order, so the caller's is restored."""

    arm: ClassVar[Arm] = Arm("pylance filter, BTREE on the key", "plain", _HANDLE)
    selects: ClassVar[Selector] = "key"

    def request(self, positions: Ints) -> list[str]:
        return [self._ids[n] for n in positions.tolist()]

    def read(self, request: list[str]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        words = ", ".join(f"'{key}'" for key in request)
        found = self.dataset.to_table(columns=["id", "image"], filter=f"id IN ({words})")
        return found.take(pc.index_in(pa.array(request), found["id"]))


def row_ids(uri: str) -> Ints:
    """Return the row id at each position, shape ``(num_rows,)``."""
    import lance

    table = lance.dataset(uri).to_table(columns=["position"], with_row_id=True)
    order = np.argsort(table["position"].to_numpy())
    found: Ints = table["_rowid"].to_numpy()[order].astype(np.int64)
    return found
