"""Plain pylance: `add_columns` with the expression."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from benchmarks.column_writers.writer import EXPRESSION
from benchmarks.harness import Arm

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import lance
    import pyarrow as pa

    from benchmarks.media import MediaRows

LANCE_FILES = frozenset({".lance", ".blob"})
_FORMAT: Final = "2.2"


class PylanceAddColumns:
    """One Merge commit: the fastest way there is, and the one that loses its work to any other writer."""

    arm: ClassVar[Arm] = Arm("pylance add_columns", "plain", "open LanceDataset")
    layout: ClassVar[str] = "lance"
    immutable: ClassVar[frozenset[str]] = LANCE_FILES

    def __init__(self, folder: Path) -> None:
        import lance

        self._dataset: lance.LanceDataset = lance.dataset(str(folder / "media.lance"))

    @staticmethod
    def build(folder: Path, rows: MediaRows, num_fragments: int) -> None:
        import lance

        schema = rows.schema
        if rows.median_nbytes:
            field = schema.field("image").with_metadata({"lance-encoding:compression": "none"})
            schema = schema.set(schema.get_field_index("image"), field)
        for part in rows.parts(num_fragments):
            batches = (batch.cast(schema) for batch in part)
            path = folder / "media.lance"
            lance.write_dataset(
                batches,
                path,
                schema=schema,
                mode="append" if path.exists() else "create",
                data_storage_version=_FORMAT,
                enable_stable_row_ids=True,  # as a lake's tables have them
            )

    def add(self) -> None:
        self._dataset.add_columns({"f": EXPRESSION})

    def scan(self, columns: list[str]) -> Iterable[pa.RecordBatch]:
        batches: Iterable[pa.RecordBatch] = self._dataset.to_batches(columns=columns)
        return batches
