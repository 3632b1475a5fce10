"""A table made by LanceDB, copied once into one whose rows keep their identity when they move.

LanceDB creates tables without stable row ids, old ones in a format that takes no new columns; nothing changes that
later. The original is moved aside, not deleted; of the three steps (copy, move aside, move in) each can be killed and
the next call goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import layout, reads
from lakehouse.errors import ConflictError, UnsupportedTableError, translated
from lakehouse.progress import track
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from lakehouse.location import Location
    from lakehouse.progress import Tracker
    from lakehouse.snapshot import Snapshot

logger = logging.getLogger("lakehouse")


def adopt(lake: Location, name: str, create: Callable[[Location, pa.Schema, Any], None], progress: bool | None) -> None:
    """Give a table stable row ids and files of today's format by copying it, unless it has them.

    Parameters
    ----------
    lake
        The lake's folder.
    name
        The table.
    create
        Makes a table at a location from a schema and a reader of logical batches.
    progress
        See `lakehouse.progress.track`.

    Raises
    ------
    ConflictError
        Somebody wrote to the table during the copy, which is dropped.
    UnsupportedTableError
        The lake is on an object store, where a folder cannot be renamed.
    """
    if not lake.is_local:
        raise UnsupportedTableError(
            f"adopt() renames folders, which {lake.uri} cannot do; "
            f"read {name!r} and create_table(data=…) it under another name"
        )
    copy = layout.side(lake).child("adopting").child(name + layout.TABLE_SUFFIX)
    place = layout.table_location(lake, name)
    if copy.exists() and not place.exists():  # killed between the two moves
        copy.path.rename(place.path)
        return
    snapshot = open_snapshot(lake, name)
    if snapshot.dataset.has_stable_row_ids and not snapshot.is_legacy:
        return
    copy.delete("")
    with translated(f"copying {name!r}"), track(f"copying {name}", snapshot.num_rows, enabled=progress) as tracker:
        create(copy, snapshot.schema, _counted(reads.scan(snapshot), tracker))
    if open_snapshot(lake, name).version != snapshot.version:
        copy.delete("")
        raise ConflictError(f"{name!r} was written to while it was being copied; stop the writers and adopt it again")
    aside = _aside(lake, snapshot)
    place.path.rename(aside)
    copy.path.rename(place.path)
    _tell(snapshot, place, aside)


def _counted(reader: pa.RecordBatchReader, tracker: Tracker) -> pa.RecordBatchReader:
    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            tracker.advance(batch.num_rows, nbytes=batch.nbytes)
            yield batch

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _aside(lake: Location, snapshot: Snapshot) -> Path:
    aside = layout.side(lake).child("adopted").path / f"{snapshot.name}-v{snapshot.version}{layout.TABLE_SUFFIX}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    return aside


def _tell(snapshot: Snapshot, place: Location, aside: Path) -> None:
    indexed = [index.name for index in snapshot.dataset.describe_indices()]
    rebuild = f"; build its indexes again: {', '.join(indexed)}" if indexed else ""
    # A warning, because it costs disk and because the default logger shows nothing less.
    logger.warning(
        "adopted %s: %s rows, %s bytes copied, history starts anew%s; the original is at %s, remove it when content",
        snapshot.name,
        f"{snapshot.num_rows:,}",
        f"{place.nbytes():,}",
        rebuild,
        aside,
    )


__all__ = ["adopt"]
