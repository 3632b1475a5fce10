"""How many bytes a read of media would bring, told before they are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import ResourceLimitError, translated
from lakehouse.media.blobs import blob_sizes
from lakehouse.units import format_nbytes
from lakehouse.where import quoted, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from lakehouse.snapshot import Snapshot
    from lakehouse.where import Where

MAX_MEDIA_NBYTES = 2 << 30  # what fits beside a job on a laptop; batches stream beyond it
_SCAN_ROWS = 8192
_SCAN_MEDIA_NBYTES = 8 << 20  # batches of 2 to 8 MB were fastest and bounded memory
# Reads of so few rows are not worth a look at sizes first, unless the caller set a limit of their own below this.
_FEW_BLOBS, _FEW_INLINE, _LOW_LIMIT = 8, 256, 256 << 20
_SAMPLED_FRAGMENTS, _SAMPLED_ROWS = 8, 32
_SURE = 4  # this far below the limit, the largest of the sample speaks for all and no more descriptors are read


@dataclass
class _Known:
    """What was learned about a snapshot, which never changes."""

    stored: dict[str, int] | None = None
    files_nbytes: int | None = None
    samples: dict[str, tuple[float, int]] = field(default_factory=dict)


_known: WeakKeyDictionary[Snapshot, _Known] = WeakKeyDictionary()


def column_nbytes(snapshot: Snapshot) -> dict[str, int]:
    """Return the stored bytes of each column, from the files' footers; of a blob the descriptors alone."""
    known = _known.setdefault(snapshot, _Known())
    if known.stored is None:
        with translated(f"reading statistics of {snapshot.name!r}"):
            stats = {field.id: field.bytes_on_disk for field in snapshot.dataset.stats.data_stats().fields}
        known.stored = {f.name(): _total(f, stats) for f in snapshot.dataset.lance_schema.fields()}
    return dict(known.stored)


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


def check_rows(
    snapshot: Snapshot, names: Sequence[str], row_ids: Sequence[int] | npt.NDArray[np.uint64], limit: int | None
) -> None:
    """Refuse to read more media than `limit` bytes for these rows; None is no limit.

    Blobs are counted by their descriptors. Inline media have none, so their mean speaks for the rows.

    Raises
    ------
    ResourceLimitError
    """

    def exactly(name: str) -> int:
        return int(pc.sum(blob_sizes(snapshot, name, row_ids)).as_py() or 0)

    _check(snapshot, names, len(row_ids), exactly, limit)


def check_scan(snapshot: Snapshot, names: Sequence[str], where: Where | None, limit: int | None) -> None:
    """Refuse to read more media than `limit` bytes for the rows that match; None is no limit.

    Raises
    ------
    ResourceLimitError
    """

    def exactly(name: str) -> int:
        with translated(f"measuring {name!r} of {snapshot.name!r}"):
            return sum(int(pc.sum(sizes).as_py() or 0) for sizes in _scanned_sizes(snapshot, name, where))

    num_rows = snapshot.num_rows
    if limit is not None and where is not None and not _is_sure(snapshot, _media(snapshot, names), num_rows, limit):
        with translated(f"counting rows of {snapshot.name!r} where {where!r}"):
            num_rows = int(snapshot.dataset.count_rows(filter=render(where)))
    _check(snapshot, names, num_rows, exactly, limit)


def _check(
    snapshot: Snapshot, names: Sequence[str], num_rows: int, exactly: Callable[[str], int], limit: int | None
) -> None:
    media = _media(snapshot, names)
    if limit is None or _is_sure(snapshot, media, num_rows, limit):
        return
    expected = {
        name: exactly(name)
        if types.is_blob(snapshot.schema.field(name))
        else int(mean_nbytes(snapshot, name) * num_rows)
        for name in media
    }
    if sum(expected.values()) > limit:
        largest = max(expected, key=lambda name: expected[name])
        rows = "one row holds" if num_rows == 1 else f"{num_rows:,} rows hold"
        fewer = "raise the limit" if num_rows == 1 else "read fewer rows, or stream it in batches"
        raise ResourceLimitError(
            f"{rows} about {format_nbytes(sum(expected.values()))} of media, most of it in {largest!r}, "
            f"over max_media_nbytes ({format_nbytes(limit)}); leave it out, {fewer}"
        )


def _is_sure(snapshot: Snapshot, media: Sequence[str], num_rows: int, limit: int) -> bool:
    """Whether these rows cannot come near the limit, by what the manifest says and a sample of blobs."""
    if not media or num_rows == 0:
        return True
    if limit < _LOW_LIMIT:
        return False
    blobs = [name for name in media if types.is_blob(snapshot.schema.field(name))]
    if len(blobs) < len(media) and num_rows >= _FEW_INLINE:
        repeats = max(1.0, num_rows / max(snapshot.num_rows, 1))
        if _files_nbytes(snapshot) * repeats > limit:
            return False
    if not blobs or num_rows < _FEW_BLOBS:
        return True
    return sum(_sample(snapshot, name)[1] for name in blobs) * num_rows * _SURE <= limit


def _files_nbytes(snapshot: Snapshot) -> int:
    known = _known.setdefault(snapshot, _Known())
    if known.files_nbytes is None:
        files = (file for fragment in snapshot.dataset.get_fragments() for file in fragment.data_files())
        known.files_nbytes = sum(file.file_size_bytes or 0 for file in files)
    return known.files_nbytes


def _sample(snapshot: Snapshot, column: str) -> tuple[float, int]:
    """Mean and largest size in bytes of the first blobs of a few fragments."""
    samples = _known.setdefault(snapshot, _Known()).samples
    if column not in samples:
        fragments = snapshot.dataset.get_fragments()
        chosen = {int(at) for at in np.linspace(0, max(len(fragments) - 1, 0), _SAMPLED_FRAGMENTS)}
        found = [pa.array([], pa.uint64())]
        with translated(f"measuring {column!r} of {snapshot.name!r}"):
            for at in sorted(chosen) if fragments else ():
                found += _scanned_sizes(snapshot, column, fragments=[fragments[at]], limit=_SAMPLED_ROWS)
        sizes = pc.fill_null(pa.concat_arrays([each.cast(pa.uint64()) for each in found]), 0)
        samples[column] = (pc.mean(sizes).as_py() or 0.0, pc.max(sizes).as_py() or 0)
    return samples[column]


def _scanned_sizes(snapshot: Snapshot, column: str, where: Where | None = None, **options: Any) -> list[pa.Array]:
    scanner = snapshot.dataset.scanner(
        columns={"size": f"{quoted(column)}.size"}, filter=render(where), blob_handling="all_descriptions", **options
    )
    return [batch["size"] for batch in scanner.to_batches()]


def _media(snapshot: Snapshot, names: Iterable[str]) -> list[str]:
    return [name for name in names if types.is_bytes_media(snapshot.schema.field(name))]


__all__ = ["MAX_MEDIA_NBYTES", "check_rows", "check_scan", "column_nbytes", "mean_nbytes", "rows_per_batch"]
