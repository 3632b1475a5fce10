"""Which rank this is, and what all ranks agree to read."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from lakehouse.errors import ConflictError, InvalidArgumentError, LakehouseError
from lakehouse.loader import torch as distributed
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.selection import Selection
    from lakehouse.snapshot import Snapshot

__all__ = ["Agree", "agreement", "resolve", "select_together"]

Agree: TypeAlias = "Callable[[Snapshot, Callable[[Snapshot], Selection]], tuple[Snapshot, Selection]]"


def resolve(options: LoaderOptions) -> tuple[int, int, bool]:
    """Give rank, world size, and whether the ranks can talk to each other.

    Named ranks may be a part of a process group that shares a model, so they are taken as they are.
    """
    if options.rank is not None and options.world_size is not None:
        return options.rank, options.world_size, False
    group = distributed.process_group()
    return (*group, group[1] > 1) if group else (0, 1, False)


def agreement(snapshot: Snapshot, options: LoaderOptions) -> tuple[int, int, Agree | None]:
    """Give rank, world size and how the ranks come to one version.

    Raises
    ------
    InvalidArgumentError
        Several ranks that cannot talk to each other, and a table that is not pinned.
    """
    rank, world_size, together = resolve(options)
    if together:
        return rank, world_size, partial(select_together, rank=rank)
    check_pinned(snapshot, world_size)
    return rank, world_size, None


def check_pinned(snapshot: Snapshot, world_size: int) -> None:
    """Refuse several ranks that might each read another version.

    Raises
    ------
    InvalidArgumentError
        The table is not pinned.
    """
    if world_size > 1 and not snapshot.pinned:
        raise InvalidArgumentError(
            f"{world_size} ranks of {snapshot.name!r} could each open another version; open the table at one "
            f"(version={snapshot.version} or a tag), or initialise torch.distributed and leave rank and world_size out"
        )


def select_together(
    snapshot: Snapshot, select: Callable[[Snapshot], Selection], rank: int
) -> tuple[Snapshot, Selection]:
    """Read rank 0's version on every rank, and check that it selects the same rows.

    Raises
    ------
    ConflictError
        This rank selects other rows than rank 0.
    InvalidArgumentError
        Rank 0 could not select; it raises the error itself.
    """
    if rank == 0:
        return snapshot, _lead(snapshot, select)
    said: dict[str, Any] = distributed.broadcast(None)
    if "error" in said:
        raise InvalidArgumentError(f"rank 0 could not open its loader: {said['error']}")
    if said["version"] != snapshot.version:
        snapshot = open_snapshot(snapshot.lake, snapshot.name, said["version"])
    selection = select(snapshot)
    if selection.digest != said["digest"]:
        raise ConflictError(
            f"rank {rank} selects {selection.num_rows} rows of {snapshot.uri}@{snapshot.version}, rank 0 "
            f"{said['num_rows']} others of {said['uri']}; give all ranks the same table and where"
        )
    return snapshot, selection


def _lead(snapshot: Snapshot, select: Callable[[Snapshot], Selection]) -> Selection:
    try:
        selection = select(snapshot)
    except LakehouseError as error:
        distributed.broadcast({"error": str(error)})
        raise
    distributed.broadcast(
        {
            "version": snapshot.version,
            "digest": selection.digest,
            "num_rows": selection.num_rows,
            "uri": snapshot.uri,
        }
    )
    return selection
