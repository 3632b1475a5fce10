"""Selections saved under names: one file each, and a tag that keeps its version from clean-up.

The file, ``<lake>/_lakehouse/selections/<name>.arrow``, is written whole or not at all, and it is what decides: a tag
without a file is what a killed save or drop left, and the next save removes it. Who saves or drops a name holds its
lease.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import commit, layout
from lakehouse.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    UnsupportedTableError,
    closest,
    translated,
)
from lakehouse.leases import holder, lease
from lakehouse.loader.rows.arrayfiles import ArrayFile
from lakehouse.loader.rows.choice import made_by
from lakehouse.loader.saved import Generation, SavedSelection, generations
from lakehouse.loader.source import Source
from lakehouse.snapshot import open_snapshot, tags_of
from lakehouse.where import render

if TYPE_CHECKING:
    from lakehouse.loader.options import LoaderOptions
    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

__all__ = ["SELECTIONS", "drop", "open_saved", "save", "saved"]

FORMAT = 1
TAG = "lakehouse-selection-"  # how the tags begin; the name follows
_SUFFIX = ".arrow"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # it stands in the name of a file and of a tag
SELECTIONS = pa.schema(
    [
        pa.field("name", pa.string()),
        pa.field("table", pa.string()),
        pa.field("version", pa.int64()),
        pa.field("num_rows", pa.int64()),
        pa.field("where", pa.string()),
        pa.field("columns", pa.list_(pa.string())),
        pa.field("saved_by", pa.string()),
        pa.field("saved_at", pa.string()),
    ]
)


def save(snapshot: Snapshot, name: str, options: LoaderOptions) -> SavedSelection:
    """Keep what a loader with these options reads.

    Parameters
    ----------
    snapshot
        The version.
    name
        Letters, digits, ``_``, ``-`` and ``.``.
    options
        Columns, filter and order.

    Raises
    ------
    AlreadyExistsError
        The name is taken.
    ConflictError
        Somebody else is saving under this name at this moment.
    DataError
        Rows are not ready, see `LoaderOptions`.
    """
    folder = _folder(snapshot.lake)
    _check_name(name)
    _check_free(folder, name)
    where = render(options.where)
    source = Source.of(snapshot, options)
    record = {
        "format": FORMAT,
        "name": name,
        "table": source.table,
        "version": source.version,
        "where": where and where[1:-1],  # parentheses come with every rendering
        "on_missing": options.on_missing,
        "columns": [column.name for column in source.columns],
        "features": [asdict(each) for each in generations(source.snapshot, [c.name for c in source.columns])],
        "shuffle": options.order,
        "seed": options.seed,
        "saved_by": commit.author(),
        "saved_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "transaction": made_by(source.snapshot),
    }
    file = source.selection.file
    with lease(folder, name, f"saving the selection {name!r}"):
        _check_free(folder, name)
        own = open_snapshot(snapshot.lake, source.table, source.version)
        _sweep(own, folder)
        _untag(own, name)  # of a save or a drop that was killed
        with translated(f"tagging version {source.version} of {source.table!r}"):
            own.dataset.tags.create(TAG + name, source.version)
        content = ArrayFile({**file.record, **record}, file.arrays).to_bytes().to_pybytes()
        if not folder.put_if_absent(name + _SUFFIX, content):
            _check_free(folder, name)  # by one who took the lease from us
    return open_saved(snapshot.lake, name)


def open_saved(lake: Location, name: str, *, read_only: bool = False) -> SavedSelection:
    """Open a saved selection.

    Raises
    ------
    NotFoundError
        There is none of this name.
    UnsupportedTableError
        A newer release saved it.
    """
    folder = _folder(lake)
    _check_name(name)
    file = _read(folder, name)
    if file is None:
        names = _names(folder)
        there = ", ".join(names) or "none"
        raise NotFoundError(f"no selection {name!r} in {lake.uri}; it has {there}{closest(name, names)}")
    if file.record["format"] > FORMAT:
        raise UnsupportedTableError(
            f"the selection {name!r} has format {file.record['format']}, this release knows up to {FORMAT}; upgrade "
            "with: pip install -U lance-lakehouse"
        )
    plain = {each.name: file.record[each.name] for each in fields(SavedSelection) if each.name[0] != "_"}
    plain |= {"columns": tuple(plain["columns"]), "features": tuple(Generation(**each) for each in plain["features"])}
    return SavedSelection(**plain, _lake=lake, _file=file, _read_only=read_only)


def saved(lake: Location) -> pa.Table:
    """Return the saved selections of a lake, by name.

    Returns
    -------
    pyarrow.Table
        ``name, table, version, num_rows, where, columns, saved_by, saved_at``.
    """
    folder = _folder(lake)
    found = [file.record for name in _names(folder) if (file := _read(folder, name)) is not None]
    return pa.Table.from_pylist([{name: each[name] for name in SELECTIONS.names} for each in found], schema=SELECTIONS)


def drop(lake: Location, name: str) -> None:
    """Forget a saved selection; a clean-up may take its version then.

    Raises
    ------
    NotFoundError
        There is none of this name.
    ConflictError
        Somebody else is saving or dropping it at this moment.
    """
    folder = _folder(lake)
    _check_name(name)
    with lease(folder, name, f"dropping the selection {name!r}"):
        table = open_saved(lake, name).table
        folder.delete(name + _SUFFIX)
        try:
            _untag(open_snapshot(lake, table), name)
        except NotFoundError:
            return  # the table was dropped, and its tags with it


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"a selection cannot be named {name!r}; use letters, digits, '_', '-' and '.', a letter or digit first"
        )


def _check_free(folder: Location, name: str) -> None:
    file = _read(folder, name)
    if file is not None:
        there = file.record
        raise AlreadyExistsError(
            f"there is a selection {name!r} already, of {there['num_rows']:,} rows of {there['table']!r} at version "
            f"{there['version']}, saved by {there['saved_by']} on {there['saved_at']}; choose another name, or "
            f"drop_selection({name!r}) first"
        )


def _sweep(snapshot: Snapshot, folder: Location) -> None:
    """Remove the tags that killed saves and drops left."""
    names = _names(folder)
    for tag in tags_of(snapshot.dataset):
        name = tag.removeprefix(TAG)
        if name != tag and name not in names and holder(folder, name) is None and _read(folder, name) is None:
            _untag(snapshot, name)


def _untag(snapshot: Snapshot, name: str) -> None:
    try:
        open_snapshot(snapshot.lake, snapshot.name).dataset.tags.delete(TAG + name)
    except ValueError as error:
        if "Ref not found" not in str(error):
            raise


def _read(folder: Location, name: str) -> ArrayFile | None:
    """Read a file; one of this machine is mapped, and its rows are read when they are asked for."""
    try:
        if folder.is_local:
            return ArrayFile.of(pa.memory_map(str(folder.path / (name + _SUFFIX))))
        return ArrayFile.of(folder.read_bytes(name + _SUFFIX))
    except FileNotFoundError:
        return None


def _names(folder: Location) -> list[str]:
    return [entry.removesuffix(_SUFFIX) for entry in folder.listdir() if entry.endswith(_SUFFIX)]


def _folder(lake: Location) -> Location:
    return layout.side(lake).child("selections")
