"""Which rank this is, and what all ranks agree to read."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from lakehouse.errors import ConflictError, InvalidArgumentError, LakehouseError
from lakehouse.loader.forms import torch as distributed
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.loader.options import LoaderOptions
    from lakehouse.loader.rows.asked import Asked, Chosen
    from lakehouse.snapshot import Snapshot

__all__ = ["Agree", "agreement", "resolve", "select_together"]

Agree: TypeAlias = "Callable[[Snapshot, Asked], Chosen]"


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


def select_together(snapshot: Snapshot, asked: Asked, rank: int) -> Chosen:
    """Read rank 0's version on every rank, and check that it selects the same rows; rank 0 alone counts and fills.

    Raises
    ------
    ConflictError
        This rank selects other rows than rank 0.
    InvalidArgumentError
        Rank 0 could not select; it raises the error itself.
    """
    if rank == 0:
        return _lead(snapshot, asked)
    said: dict[str, Any] = distributed.broadcast(None)
    if "error" in said:
        raise InvalidArgumentError(f"rank 0 could not open its loader: {said['error']}")
    if said["version"] != snapshot.version:
        snapshot = open_snapshot(snapshot.lake, snapshot.name, said["version"])
    chosen = replace(asked.follow(snapshot, said["without"]), readiness=said["readiness"])
    if chosen.digest != said["digest"]:
        raise ConflictError(
            f"rank {rank} selects {chosen.selection.num_rows} rows of {snapshot.uri}@{snapshot.version}, rank 0 "
            f"{said['num_rows']} others of {said['uri']}; give all ranks the same table and where"
        )
    return chosen


def _lead(snapshot: Snapshot, asked: Asked) -> Chosen:
    try:
        chosen = asked.lead(snapshot)
    except LakehouseError as error:
        distributed.broadcast({"error": str(error)})
        raise
    distributed.broadcast(
        {
            "version": chosen.snapshot.version,
            "without": chosen.without,
            "readiness": chosen.readiness,
            "digest": chosen.digest,
            "num_rows": chosen.selection.num_rows,
            "uri": chosen.snapshot.uri,
        }
    )
    return chosen
