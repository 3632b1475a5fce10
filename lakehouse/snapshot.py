"""One immutable version of one table: what every module above takes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse import layout, storage
from lakehouse._lance import check_process, check_tested, lance
from lakehouse.errors import (
    LakehouseError,
    TableNotFoundError,
    UnsupportedTableError,
    VersionNotFoundError,
    closest,
    no_column,
    translated,
)
from lakehouse.schema.lineage import features_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

    from lakehouse.location import Location
    from lakehouse.schema.lineage import Feature


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A table as it was at one commit.

    Parameters
    ----------
    lake
        The lake's folder.
    name
        The table's name; of a branch ``pets@exp``, by which it is opened, reported and kept apart from the main line.
    dataset
        The Lance dataset, at exactly this version.
    pinned
        Whether the handle it came from stays at this version.
    """

    lake: Location
    name: str
    dataset: Any = field(repr=False)
    pinned: bool = False

    @property
    def location(self) -> Location:
        """The table's folder, or its branch's."""
        return layout.line_location(self.lake, self.name)

    @property
    def branch(self) -> str | None:
        """The branch it is a version of; None for the main line."""
        return self.name.partition("@")[2] or None

    @property
    def uri(self) -> str:
        """The folder that `lance.dataset` opens."""
        return self.location.uri

    @cached_property
    def version(self) -> int:
        """The number of the commit."""
        return int(self.dataset.version)

    @property
    def identity(self) -> tuple[str, int, dt.datetime, tuple[str, ...]]:
        """What no other version of the lake's tables has, not even of a table that was dropped and made again."""
        made = self.dataset.get_version()
        return self.name, made["version"], made["timestamp"], tuple(made["metadata"].values())

    @cached_property
    def physical(self) -> pa.Schema:
        """The schema as Lance has it, stamps included."""
        return self.dataset.schema

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema as users see it."""
        return storage.logical_schema(self.physical)

    @cached_property
    def key(self) -> str | None:
        """The column that names a row, if the schema has one."""
        keys = [f.name for f in self.physical if storage.is_primary_key(f)]
        return keys[0] if keys else None

    @cached_property
    def num_rows(self) -> int:
        """The rows that are not deleted; read from the manifest."""
        return int(self.dataset.count_rows())

    @cached_property
    def field_ids(self) -> dict[str, int]:
        """Lance's id of each top-level column; ids are used again after a drop, see `lakehouse.schema.lineage`."""
        return {f.name(): f.id() for f in self.dataset.lance_schema.fields()}

    @cached_property
    def features(self) -> dict[str, Feature]:
        """The computed columns, by the first column of each feature."""
        return features_of(self.physical)

    def columns(self, names: Iterable[str] | None) -> list[str]:
        """Check column names and return them; all of them for None.

        Raises
        ------
        ColumnNotFoundError
            A name the table does not have.
        """
        if names is None:
            return list(self.schema.names)
        if isinstance(names, str):
            names = [names]
        names = list(dict.fromkeys(names))
        known = set(self.schema.names)
        for name in names:
            if name not in known:
                raise no_column(name, self.schema.names)
        return names

    def check_writable(self) -> None:
        """Refuse tables whose rows lose their identity when they move, and features under an untested Lance.

        Raises
        ------
        UnsupportedTableError
            The table has no stable row ids, or it has features and this release of Lance was not tested with them.
        """
        if not self.dataset.has_stable_row_ids:
            raise UnsupportedTableError(
                f"the table {self.name!r} was made without stable row ids, which feature columns need; "
                f"lake.adopt({self.name!r}) copies it once into one that has them"
            )
        if self.features:
            check_tested()

    @property
    def is_legacy(self) -> bool:
        """Whether its files are of the format Lance had before version 2, which takes no new columns."""
        return bool(self.dataset.data_storage_version == "0.1")

    def check_extensible(self) -> None:
        """Refuse tables that take no feature columns, and an untested Lance.

        Raises
        ------
        UnsupportedTableError
            As in `check_writable`, or its files are of Lance's legacy format.
        """
        check_tested()
        self.check_writable()
        if self.is_legacy:
            raise UnsupportedTableError(
                f"the files of table {self.name!r} are of Lance's legacy format, which takes no new columns; "
                f"lake.adopt({self.name!r}) copies it once into one that does"
            )


def open_snapshot(
    lake: Location, name: str, version: int | str | dt.datetime | None = None, *, session: Any = None
) -> Snapshot:
    """Open a table, or a branch as in ``pets@exp``, at a version, a tag, a time or its newest state.

    Raises
    ------
    TableNotFoundError
        There is no such table.
    VersionNotFoundError
        There is no such version, tag or branch, or no version as old as that.
    """
    check_process()
    location = layout.line_location(lake, name)
    try:
        with translated(f"opening table {name!r}"):
            if isinstance(version, dt.datetime):
                version = _version_at(location, name, version)
            dataset = lance.dataset(
                location.uri, version=version, storage_options=dict(location.storage_options) or None, session=session
            )
            tags = tags_of(dataset) if isinstance(version, str) else {}
    except Exception as error:
        if (better := _not_opened(lake, name, version)) is not None:
            raise better from error
        raise
    snapshot = Snapshot(lake, name, dataset, pinned=version is not None)
    if isinstance(version, str) and tags[version].branch != snapshot.branch:  # Lance opens it all the same
        raise _elsewhere(name, version, tags[version].branch)
    return snapshot


@dataclass(frozen=True)
class Tag:
    """What a tag names: a version of the main line (None) or of a branch."""

    branch: str | None
    version: int


def tags_of(dataset: Any, tries: int = 10) -> dict[str, Tag]:
    """Return a table's tags, its branches' and jobs' among them.

    Lance 14 fails if one that it found is gone as it is read, somebody's pin say.
    """
    try:
        there = dataset.tags.list()
    except ValueError as error:
        if tries == 0 or "_refs/tags" not in str(error):
            raise
        return tags_of(dataset, tries - 1)
    return {name: Tag(tag["branch"], int(tag["version"])) for name, tag in there.items()}


def _version_at(table: Location, name: str, moment: dt.datetime) -> int:
    """Return the version that was the newest at a moment; one without a zone is in UTC, as in SQL."""
    moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
    versions: list[Any] = lance.dataset(table.uri, storage_options=dict(table.storage_options) or None).versions()
    made = {int(each["version"]): each["timestamp"].astimezone(dt.UTC) for each in versions}
    if not any(when <= moment for when in made.values()):
        oldest, when = min(made.items())
        raise VersionNotFoundError(
            f"no version of table {name!r} is as old as {moment.isoformat(' ')}; the oldest that is kept is {oldest}, "
            f"made {when.isoformat(' ', 'milliseconds')}"
        )
    return max(version for version, when in made.items() if when <= moment)


def _not_opened(lake: Location, name: str, version: int | str | dt.datetime | None) -> LakehouseError | None:
    """Name what is not there; None where all that was asked for is, and the error says more."""
    table, _, branch = name.partition("@")
    names = layout.table_names(lake)
    if table not in names:
        there = ", ".join(names) or "no tables"
        return TableNotFoundError(f"no table {table!r} in {lake.uri}; it has {there}{closest(table, names)}")
    if not branch and (version is None or isinstance(version, dt.datetime)):
        return None
    options = dict(lake.storage_options) or None
    try:
        newest = lance.dataset(layout.table_location(lake, table).uri, storage_options=options)
    except (OSError, ValueError):  # no table of Lance's
        return None
    branches = sorted(newest.branches.list())
    if branch and branch not in branches:
        known = tags_of(newest)
        hint = f"; {branch!r} is a tag: {_call(table, branch, None)}" if branch in known else closest(branch, branches)
        return VersionNotFoundError(
            f"no branch {branch!r} of table {table!r}; it has {', '.join(branches) or 'no branches'}{hint}"
        )
    if version is None or isinstance(version, dt.datetime):
        return None
    if branch:
        newest = newest.checkout_version((branch, None))
    if isinstance(version, str):
        return _no_tag(name, version, newest, branches)
    versions = [int(each["version"]) for each in newest.versions()]
    if version in versions:
        return None
    began = f"; the branch begins at version {versions[0]}" if branch else ""
    return VersionNotFoundError(f"no version {version} of table {name!r}; the newest is {versions[-1]}{began}")


def _no_tag(name: str, version: str, newest: Any, branches: list[str]) -> VersionNotFoundError | None:
    known = tags_of(newest)
    if version in known:
        return None
    table, _, branch = name.partition("@")
    tags = sorted(tag for tag, on in known.items() if on.branch == (branch or None) and not tag.startswith(layout.PIN))
    hint = (
        f"; {version!r} is a branch: {_call(table, None, version)}" if version in branches else closest(version, tags)
    )
    return VersionNotFoundError(f"no tag {version!r} on table {name!r}; it has {', '.join(tags) or 'no tags'}{hint}")


def _elsewhere(name: str, tag: str, branch: str | None) -> VersionNotFoundError:
    table = name.partition("@")[0]
    on = f"branch {branch!r}" if branch else "the main line"
    return VersionNotFoundError(
        f"the tag {tag!r} of {table!r} is on {on}, not on {name!r}: {_call(table, tag, branch)}"
    )


def _call(table: str, tag: str | None, branch: str | None) -> str:
    """Write how a tag or branch is opened, in Python and in SQL."""
    version, at = (f", {tag!r}", f" AT (VERSION => {tag!r})") if tag else ("", "")
    line, named = (f", branch={branch!r}", f'"{table}@{branch}"') if branch else ("", table)
    return f"lake.open_table({table!r}{version}{line}), in SQL {named}{at}"
