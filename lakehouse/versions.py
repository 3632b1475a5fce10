"""What happened to a table, and names for its versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, layout
from lakehouse.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    VersionNotFoundError,
    closest,
    translated,
)
from lakehouse.snapshot import Tag, tags_of

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

HISTORY = pa.schema(
    [
        pa.field("version", pa.int64()),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
        pa.field("operation", pa.string()),
        pa.field("author", pa.string()),
        pa.field("message", pa.string()),
        pa.field("num_rows", pa.int64()),
        pa.field("tags", pa.list_(pa.string())),
    ]
)


def history(snapshot: Snapshot, limit: int | None = None) -> pa.Table:
    """Return the versions up to this one, newest first.

    Returns
    -------
    pyarrow.Table
        ``version, timestamp, operation, author, message, num_rows, tags``; author and message are NULL for
        commits that were not made by this library.
    """
    if limit is not None and limit < 1:
        raise InvalidArgumentError(f"limit is {limit}; it is a number of versions, 1 or more")
    dataset = snapshot.dataset
    with translated(f"reading the history of {snapshot.name!r}"):
        named: dict[int, list[str]] = {}
        for name, version in tags(snapshot).items():
            named.setdefault(version, []).append(name)
        kept = [v for v in dataset.versions() if v["version"] <= snapshot.version]
        rows = [_row(snapshot, version, named) for version in kept[::-1][:limit]]
    return pa.Table.from_pylist(rows, schema=HISTORY)


def _row(snapshot: Snapshot, version: dict[str, Any], named: dict[int, list[str]]) -> dict[str, Any]:
    number = version["version"]
    transaction = commit.transaction_of(snapshot.dataset, number)
    properties = commit.properties_of(snapshot.location, number, transaction) if transaction else {}
    return {
        "version": number,
        "timestamp": version["timestamp"].astimezone(),
        "operation": type(transaction.operation).__name__ if transaction else None,
        "author": properties.get(commit.AUTHOR),
        "message": properties.get(commit.OPERATION),
        "num_rows": int(version["metadata"].get("total_rows", 0)),
        "tags": sorted(named.get(number, [])),
    }


def tag(snapshot: Snapshot, name: str) -> None:
    """Name this version.

    Raises
    ------
    AlreadyExistsError
        The tag is on another version.
    """
    if not name:
        raise InvalidArgumentError("a tag needs a name; it is empty")
    if name.isdigit():
        raise InvalidArgumentError(f"a tag cannot be {name!r}: it would read as a version number")
    if name.startswith(layout.PIN):
        raise InvalidArgumentError(f"a tag cannot be {name!r}: {layout.PIN} names the versions that jobs are reading")
    with translated(f"reading the tags of {snapshot.name!r}"):
        there = tags_of(snapshot.dataset).get(name)
    if there == Tag(snapshot.branch, snapshot.version):
        return
    if there is not None:
        line = f" on branch {there.branch!r}" if there.branch else ""
        raise AlreadyExistsError(
            f"the tag {name!r} is on version {there.version} of {snapshot.name!r}{line}; untag({name!r}) first"
        )
    with translated(f"tagging version {snapshot.version} of {snapshot.name!r} as {name!r}"):
        snapshot.dataset.tags.create(name, snapshot.version)


def untag(snapshot: Snapshot, name: str) -> None:
    """Remove a tag; the version stays until it is cleaned up.

    Raises
    ------
    VersionNotFoundError
        No such tag.
    """
    there = tags(snapshot)
    if name not in there:
        raise VersionNotFoundError(
            f"no tag {name!r} on {snapshot.name!r}; it has {', '.join(there) or 'no tags'}{closest(name, there)}"
        )
    with translated(f"removing the tag {name!r} of {snapshot.name!r}"):
        snapshot.dataset.tags.delete(name)


def tags(snapshot: Snapshot) -> dict[str, int]:
    """Return the tags people made on this line, the main one or a branch, and their versions, sorted by name."""
    with translated(f"reading the tags of {snapshot.name!r}"):
        there = sorted(tags_of(snapshot.dataset).items())
    return {name: on.version for name, on in there if on.branch == snapshot.branch and not name.startswith(layout.PIN)}
