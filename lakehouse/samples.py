"""Rows as mappings whose media are lazy handles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lakehouse import reads, types
from lakehouse.media.blobs import MediaBatch
from lakehouse.media.handles import BytesSource, handle
from lakehouse.values import python_values

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot


class Row(Mapping[str, Any]):
    """One row. Plain values are there; a medium is opened when it is asked for, together with its neighbours'.

    A NULL medium is None; text is an `lh.Text`.
    """

    def __init__(
        self, values: dict[str, Any], media: dict[str, tuple[str, MediaBatch, int]], names: Sequence[str]
    ) -> None:
        self._values = values
        self._media = media
        self._names = list(names)

    def __getitem__(self, name: str) -> Any:
        """Return a value, or a handle of a medium."""
        if name in self._media:
            kind, batch, position = self._media[name]
            return None if batch.is_null(position) else handle(kind, batch.source(position))
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        shown = (
            f"{n!r}: <{self._media[n][0]}>" if n in self._media else f"{n!r}: {self._values[n]!r}" for n in self._names
        )
        return "{" + ", ".join(shown) + "}"


def rows(snapshot: Snapshot, row_ids: Sequence[int] | reads.RowIds) -> list[Row]:
    """Return rows by row id, order and repeats kept; plain columns come in one read."""
    names = snapshot.schema.names
    kinds = {f.name: kind for f in snapshot.schema if (kind := types.media_kind(f)) and kind != "text"}
    texts = {f.name for f in snapshot.schema if types.media_kind(f) == "text"}
    plain = reads.take_row_ids(snapshot, row_ids, [name for name in names if name not in kinds])
    columns = {name: python_values(plain[name]) for name in plain.column_names}
    batches = {name: MediaBatch(snapshot, name, [int(i) for i in row_ids]) for name in kinds}
    return [
        Row(
            {name: _text(of[position]) if name in texts else of[position] for name, of in columns.items()},
            {name: (kinds[name], batches[name], position) for name in kinds},
            names,
        )
        for position in range(len(row_ids))
    ]


def _text(value: str | None) -> Any:
    return None if value is None else handle("text", BytesSource(value.encode()))
