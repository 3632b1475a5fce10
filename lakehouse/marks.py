"""Who made a version that Lance committed by itself: such a transaction has no room for a word of ours.

A mark is written after the commit, under the version and the random id of its transaction, so that it can belong to
nothing else. A kill in between leaves a commit that looks like somebody else's, which is the safe side.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from lakehouse import layout
from lakehouse.errors import StorageError
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Mapping


def leave(table: Location, version: int, transaction_id: str, properties: Mapping[str, str]) -> None:
    """Write the mark of a commit, if the store lets us: the commit itself is done."""
    with suppress(StorageError):
        _folder(table).write_bytes(_name(version, transaction_id), json.dumps(properties).encode(), durable=False)


def read(table: Location, version: int, transaction_id: str) -> dict[str, str]:
    """Return what is said of a commit; nothing if it bears no mark."""
    try:
        properties: dict[str, str] = json.loads(_folder(table).read_bytes(_name(version, transaction_id)) or "{}")
    except FileNotFoundError:
        return {}
    return properties


def forget_before(table: Location, version: int) -> None:
    """Remove the marks of versions that were cleaned up."""
    folder = _folder(table)
    for name in folder.listdir():
        if int(name.partition("-")[0]) < version:
            folder.delete(name)


def _folder(table: Location) -> Location:
    lake, _, name = table.uri.rpartition("/")
    side = layout.side(Location(lake, table.storage_options))
    return side.child("marks").child(name.removesuffix(layout.TABLE_SUFFIX))


def _name(version: int, transaction_id: str) -> str:
    return f"{version}-{transaction_id}.json"
