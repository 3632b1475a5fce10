"""Versions kept from clean-up while somebody reads them.

A pin is a Lance tag, which every engine's clean-up spares, and beside it a record of who holds it. The record is there
before the tag and after it, so the tags of ended processes are found without looking through all of them.
"""

from __future__ import annotations

import os
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lakehouse import layout
from lakehouse.errors import TableNotFoundError, VersionNotFoundError, translate
from lakehouse.leases import lease, leases_of, owners, release
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

# A pin kept too long costs disk, one taken too early costs a job: sixty times as patient as a lease.
_SILENT_S = 3600.0


@contextmanager
def pinned(snapshot: Snapshot) -> Iterator[None]:
    """Keep the files of a version while the block runs, whatever cleans up; pins of ended processes are removed.

    Any number of processes may pin a version. `contextlib.ExitStack` holds several at once, or one for as long as an
    object lives.

    Parameters
    ----------
    snapshot
        The version.

    Raises
    ------
    VersionNotFoundError
        It was cleaned up already.
    """
    collect(snapshot)
    name = f"{layout.PIN}{uuid.uuid4().hex}"
    with lease(_folder(snapshot), name, f"pinning version {snapshot.version} of {snapshot.name!r}") as held:
        _tag(snapshot, name)
        try:
            yield
        finally:
            if os.getpid() == held.owner.pid:  # a fork owns nothing
                _untag(snapshot, name)


def collect(snapshot: Snapshot) -> int:
    """Remove the pins of processes that have ended, of any version of the table; return how many."""
    folder = _folder(snapshot)
    gone = [name for name, owner in owners(folder).items() if owner.is_gone(time.time(), _SILENT_S)]
    for name in gone:
        _untag(snapshot, name)
        release(folder, name)
    return len(gone)


def _tag(snapshot: Snapshot, name: str) -> None:
    # On handles of their own: while a thread reads by one, Lance 14 lets no other tag by it ("Already borrowed").
    own = open_snapshot(snapshot.lake, snapshot.name, snapshot.version)
    try:
        own.dataset.tags.create(name, own.version)
    except ValueError as error:
        raise translate(error, f"pinning version {own.version} of {own.name!r}") from error


def _untag(snapshot: Snapshot, name: str) -> None:
    """Remove the tag; it may have never come to be, somebody else collects it too, or its table or branch is gone."""
    try:
        open_snapshot(snapshot.lake, snapshot.name).dataset.tags.delete(name)
    except (TableNotFoundError, VersionNotFoundError):
        return
    except ValueError as error:
        if "Ref not found" not in str(error):
            raise translate(error, f"unpinning a version of {snapshot.name!r}") from error


def _folder(snapshot: Snapshot) -> Location:
    return leases_of(snapshot).child("pins")
