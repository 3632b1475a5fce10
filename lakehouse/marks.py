"""Who made a version that Lance committed by itself: such a transaction has no room for a word of ours.

A mark is written after the commit, under the version and the random id of its transaction, so that it can belong to
nothing else. The commit is announced before, so that whoever sees it without its mark waits for that. A kill in between
leaves a commit that looks like somebody else's, which is the safe side.
"""

from __future__ import annotations

import json
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from lakehouse import layout
from lakehouse.errors import StorageError
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_ANNOUNCED = ".announced"
_MOST_S = 10.0  # to wait for a mark; a commit and its mark are milliseconds apart
_OUTLIVED_S = 60.0  # an announcement as old as this is of a process that was killed


@contextmanager
def announced(table: Location, version: int) -> Iterator[None]:
    """Announce a commit on top of a version, until it has its mark or did not come to be."""
    folder, name = _folder(table), f"{version}-{time.time_ns()}-{uuid.uuid4().hex}{_ANNOUNCED}"
    with suppress(StorageError):
        folder.write_bytes(name, b"", durable=False)
    try:
        yield
    finally:
        with suppress(StorageError):
            folder.delete(name)


def leave(table: Location, version: int, transaction_id: str, properties: Mapping[str, str]) -> None:
    """Write the mark of a commit, if the store lets us: the commit itself is done."""
    with suppress(StorageError):
        _folder(table).write_bytes(_name(version, transaction_id), json.dumps(properties).encode(), durable=False)


def read(table: Location, version: int, transaction_id: str) -> dict[str, str]:
    """Return what is said of a commit; nothing if it bears no mark, and nobody is about to leave one."""
    found = _read(table, version, transaction_id)
    if found is not None:
        return found
    pending, end = _pending(table, version), time.monotonic() + _MOST_S
    while pending and time.monotonic() < end:
        time.sleep(0.005)
        pending &= _pending(table, version)
    return _read(table, version, transaction_id) or {}


def _read(table: Location, version: int, transaction_id: str) -> dict[str, str] | None:
    try:
        properties: dict[str, str] = json.loads(_folder(table).read_bytes(_name(version, transaction_id)) or "{}")
    except FileNotFoundError:
        return None
    return properties


def _pending(table: Location, version: int) -> set[str]:
    """Return the announcements of commits that a version may be."""
    oldest = time.time_ns() - int(_OUTLIVED_S * 1e9)
    names = (name.split("-") for name in _folder(table).listdir() if name.endswith(_ANNOUNCED))
    return {"-".join(parts) for parts in names if int(parts[0]) < version and int(parts[1]) > oldest}


def _folder(table: Location) -> Location:
    lake, _, name = table.uri.rpartition("/")
    side = layout.side(Location(lake, table.storage_options))
    return side.child("marks").child(name.removesuffix(layout.TABLE_SUFFIX))


def _name(version: int, transaction_id: str) -> str:
    return f"{version}-{transaction_id}.json"
