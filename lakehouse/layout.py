"""What lies where inside a lake.

::

    <lake>/<table>.lance/             a plain Lance table, LanceDB's layout
    <lake>/_lakehouse/format.json     which layout this is; a newer one is refused
    <lake>/_lakehouse/ingest/         finished fragments of an add that has not committed yet
    <lake>/_lakehouse/failures/       rows and cells that could not be stored or computed
    <lake>/_lakehouse/checkpoints/    computed feature values that are not committed yet
    <lake>/_lakehouse/leases/         who is doing what right now, and which versions are being read
    <lake>/_lakehouse/runs/           who filled which column when, with what and from what
    <lake>/_lakehouse/marks/          whose the commits are that Lance builds itself
    <lake>/_lakehouse/audit/          what the log said of writes by others, up to a version
    <lake>/_lakehouse/counts/         how many rows of an immutable file are done; may be deleted
    <lake>/_lakehouse/history/        what happened to columns in versions that were cleaned up
    <lake>/_lakehouse/selections/     what was trained on, under the names it was saved under
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from lakehouse._messages import clean
from lakehouse.errors import InvalidArgumentError, StorageError, UnsupportedTableError

if TYPE_CHECKING:
    from lakehouse.location import Location

FORMAT = 1
FOLDER = "_lakehouse"
TABLE_SUFFIX = ".lance"
MAIN = "main"  # what Lance calls the line that is no branch
PIN = "lakehouse-pin-"  # how tags begin that hold a version for a process, see `lakehouse.pins`
_MARKER = "format.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")  # file systems take 255, of which others add some
_BRANCH = re.compile(r"(?!.*\.\.)[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")  # Lance's rule


def side(lake: Location) -> Location:
    """Return the folder of everything that is not a table."""
    return lake.child(FOLDER)


def table_location(lake: Location, name: str) -> Location:
    """Return a table's folder.

    Raises
    ------
    InvalidArgumentError
        The name would leave the lake or confuse another engine.
    """
    if not _NAME.fullmatch(name) or name.endswith(TABLE_SUFFIX):
        raise InvalidArgumentError(
            f"{name!r} cannot be a table name; use letters, digits, '_', '-' and '.', starting with a letter or digit, "
            "at most 200 of them"
        )
    return lake.child(name + TABLE_SUFFIX)


def on_branch(name: str, branch: str | None) -> str:
    """Return the name by which a branch of a table goes, ``pets@exp``; the main line's is the table's.

    Examples
    --------
    >>> on_branch("pets", "exp"), on_branch("pets", None), on_branch("pets", "main")
    ('pets@exp', 'pets', 'pets')
    """
    return name if branch is None or branch == MAIN else f"{name}@{branch}"


def line_location(lake: Location, name: str) -> Location:
    """Return the folder of a table, or of the branch that a name as in ``pets@exp`` means.

    Raises
    ------
    InvalidArgumentError
        One of the two would leave the lake.
    """
    table, at, branch = name.partition("@")
    if not at:
        return table_location(lake, name)
    if not _BRANCH.fullmatch(branch):
        raise InvalidArgumentError(
            f"{branch!r} cannot be a branch of {table!r}; use letters, digits, '_', '-', '.' and '/'"
        )
    return table_location(lake, table).child(f"tree/{branch}")


def table_names(lake: Location) -> list[str]:
    """Return the names of the tables that lie in a lake, sorted."""
    return [entry.removesuffix(TABLE_SUFFIX) for entry in lake.listdir() if entry.endswith(TABLE_SUFFIX)]


def check_format(lake: Location) -> None:
    """Refuse a lake written by a newer release.

    Raises
    ------
    UnsupportedTableError
        The marker names a layout this release does not know.
    """
    try:
        marker = json.loads(side(lake).read_bytes(_MARKER))
    except FileNotFoundError:
        return  # a LanceDB directory, or a lake nobody has written to yet
    if marker["format"] > FORMAT:
        raise UnsupportedTableError(
            f"the lake {lake.uri} has format {marker['format']}, this release knows up to {FORMAT}; "
            "upgrade with: pip install -U lance-lakehouse"
        )


def mark_format(lake: Location) -> None:
    """Write the marker if there is none."""
    if not side(lake).exists(_MARKER):
        _put_marker(lake)


def _put_marker(lake: Location) -> bool:
    return side(lake).put_if_absent(_MARKER, json.dumps({"format": FORMAT}).encode())


_trusted: set[Location] = set()


def check_store(lake: Location) -> None:
    """Refuse to write to a bucket where two writers can take one name; asked once a process, by the format's marker.

    Raises
    ------
    StorageError
        The store takes a name that is taken: it ignores ``If-None-Match``, and one of two commits would vanish.
    """
    if lake.is_local or lake in _trusted:
        return
    _put_marker(lake)
    if _put_marker(lake):
        raise StorageError(
            f"the store of {clean(lake.uri)} overwrites a name that is taken although asked not to (If-None-Match: *); "
            "of two commits at once one would vanish. Use a store that supports conditional writes, or connect with "
            "read_only=True"
        )
    _trusted.add(lake)


def drop(lake: Location, name: str) -> None:
    """Remove a table's folder and what is kept beside it."""
    table_location(lake, name).delete("")
    for room in ("ingest", "failures", "checkpoints", "leases", "runs", "marks", "audit", "counts", "history"):
        for entry in side(lake).listdir(room):
            if entry == name or entry.startswith(f"{name}@"):  # of a branch
                side(lake).delete(f"{room}/{entry}")
