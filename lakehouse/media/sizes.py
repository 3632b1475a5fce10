"""How many bytes a read of media would bring, told before they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import ResourceLimitError, translated
from lakehouse.media.blobs import blob_sizes
from lakehouse.where import quoted, render

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakehouse.snapshot import Snapshot
    from lakehouse.where import Where

MAX_MEDIA_NBYTES = 2 << 30  # what fits beside a job on a laptop; batches stream beyond it
_SCAN_ROWS = 8192
_SCAN_MEDIA_NBYTES = 8 << 20  # research/feasibility.md §7: batches of 2 to 8 MB were fastest and bounded memory
_SAMPLED = 256  # blob descriptors looked at to know what is usual in a column
_SURE = 4  # this far below the limit the largest of the sample may speak for all, and no more descriptors are read

# A snapshot never changes, so what was learned about it holds as long as it lives.
_stored: WeakKeyDictionary[Snapshot, dict[str, int]] = WeakKeyDictionary()
_samples: WeakKeyDictionary[Snapshot, dict[str, tuple[float, int]]] = WeakKeyDictionary()


def column_nbytes(snapshot: Snapshot) -> dict[str, int]:
    """Return the stored bytes of each column, from the files' footers; of a blob the descriptors alone."""
    known = _stored.get(snapshot)
    if known is None:
        with translated(f"reading statistics of {snapshot.name!r}"):
            stats = {field.id: field.bytes_on_disk for field in snapshot.dataset.stats.data_stats().fields}
        known = {f.name(): _total(f, stats) for f in snapshot.dataset.lance_schema.fields()}
        _stored[snapshot] = known
    return dict(known)


def _total(field: Any, stats: dict[int, int]) -> int:
    return int(stats.get(field.id(), 0)) + sum(_total(child, stats) for child in field.children())


def mean_nbytes(snapshot: Snapshot, column: str) -> float:
    """Return the bytes a row of a media column has: of blobs by a sample, of others by what is stored."""
    if types.is_blob(snapshot.schema.field(column)):
        return _sample(snapshot, column)[0]
    return column_nbytes(snapshot).get(column, 0) / max(snapshot.num_rows, 1)


def rows_per_batch(snapshot: Snapshot, names: Sequence[str]) -> int:
    """Return how many rows to read at a time so that their media stay at a few megabytes."""
    media = _media(snapshot, names)
    if not media or snapshot.num_rows == 0:
        return _SCAN_ROWS
    mean = sum(mean_nbytes(snapshot, name) for name in media)
    return max(1, min(_SCAN_ROWS, int(_SCAN_MEDIA_NBYTES / max(mean, 1))))


def check_rows(snapshot: Snapshot, names: Sequence[str], row_ids: Sequence[int], limit: int | None) -> None:
    """Refuse to read more media than `limit` bytes for these rows; None is no limit.

    Blobs are counted by their descriptors. Inline media have none, so their mean speaks for the rows.

    Raises
    ------
    ResourceLimitError
    """
    if limit is None:
        return

    def exactly(name: str) -> int:
        return int(pc.sum(blob_sizes(snapshot, name, row_ids)).as_py() or 0)

    _check(snapshot, names, len(row_ids), exactly, limit)


def check_scan(snapshot: Snapshot, names: Sequence[str], where: Where | None, limit: int | None) -> None:
    """Refuse to read more media than `limit` bytes for the rows that match; None is no limit.

    Raises
    ------
    ResourceLimitError
    """
    if limit is None or not _media(snapshot, names) or _is_sure(snapshot, names, snapshot.num_rows, limit):
        return

    def exactly(name: str) -> int:
        size = f"{quoted(name)}.size"
        with translated(f"measuring {name!r}"):
            batches = snapshot.dataset.scanner(
                columns={"size": size}, filter=render(where), blob_handling="all_descriptions"
            ).to_batches()
            return sum(pc.sum(batch["size"]).as_py() or 0 for batch in batches)

    with translated(f"counting rows of {snapshot.name!r}"):
        num_rows = snapshot.num_rows if where is None else int(snapshot.dataset.count_rows(filter=render(where)))
    _check(snapshot, names, num_rows, exactly, limit)


def _check(snapshot: Snapshot, names: Sequence[str], num_rows: int, exactly: Any, limit: int) -> None:
    media = _media(snapshot, names)
    if not media or _is_sure(snapshot, names, num_rows, limit):
        return
    expected = {
        name: exactly(name)
        if types.is_blob(snapshot.schema.field(name))
        else int(mean_nbytes(snapshot, name) * num_rows)
        for name in media
    }
    if sum(expected.values()) > limit:
        largest = max(expected, key=lambda name: expected[name])
        raise ResourceLimitError(
            f"{num_rows} rows hold about {sum(expected.values()) / 1e9:.1f} GB of media, most of it in {largest!r}, over "
            f"max_media_nbytes ({limit / 1e9:.1f} GB); leave the column out, read fewer rows, or stream it in batches"
        )


def _is_sure(snapshot: Snapshot, names: Sequence[str], num_rows: int, limit: int) -> bool:
    """Whether these rows cannot come near the limit, by what the manifest says and a sample of blobs."""
    if limit < MAX_MEDIA_NBYTES:
        return False
    media = _media(snapshot, names)
    blobs = [name for name in media if types.is_blob(snapshot.schema.field(name))]
    if len(blobs) < len(media) and _files_nbytes(snapshot) * max(1, num_rows / max(snapshot.num_rows, 1)) > limit:
        return False
    return sum(_sample(snapshot, name)[1] for name in blobs) * num_rows * _SURE <= limit


def _files_nbytes(snapshot: Snapshot) -> int:
    files = (file for fragment in snapshot.dataset.get_fragments() for file in fragment.data_files())
    return sum(file.file_size_bytes or 0 for file in files)


def _sample(snapshot: Snapshot, column: str) -> tuple[float, int]:
    """Mean and largest size in bytes of blobs spread over the table."""
    known = _samples.setdefault(snapshot, {})
    if column not in known:
        spread = np.unique(np.linspace(0, snapshot.num_rows - 1, _SAMPLED).astype(np.int64))
        with translated(f"measuring {column!r}"):
            descriptors = snapshot.dataset.take(spread[spread >= 0], columns=[column])[column]
        sizes = pc.fill_null(pc.struct_field(descriptors, "size"), 0)
        known[column] = (pc.mean(sizes).as_py() or 0.0, pc.max(sizes).as_py() or 0)
    return known[column]


def _media(snapshot: Snapshot, names: Iterable[str]) -> list[str]:
    return [name for name in names if types.is_bytes_media(snapshot.schema.field(name))]


__all__ = ["MAX_MEDIA_NBYTES", "check_rows", "check_scan", "column_nbytes", "mean_nbytes", "pa", "rows_per_batch"]
