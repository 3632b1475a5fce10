"""What users hold: a folder or a bucket of tables."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import layout, reads, storage, types
from lakehouse._lance import lance
from lakehouse.data import as_source
from lakehouse.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    ReadOnlyError,
    TableNotFoundError,
    closest,
    translated,
)
from lakehouse.location import Location
from lakehouse.schema import apply, families
from lakehouse.schema.model import Schema
from lakehouse.table import Table

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from lakehouse.schema.steps import Plan

logger = logging.getLogger("lakehouse")

_FORMAT_VERSION = "2.2"  # the oldest Lance file format with blob v2 columns


def connect(
    uri: str | os.PathLike[str], *, storage_options: Mapping[str, str] | None = None, read_only: bool = False
) -> Lake:
    """Open a lake; an empty or missing folder is one without tables.

    Parameters
    ----------
    uri
        A folder, or ``s3://``, ``gs://``, ``az://`` …
    storage_options
        Credentials and endpoints, as Lance takes them.
    read_only
        Refuse all writes.

    Raises
    ------
    UnsupportedTableError
        The lake was written by a newer release.

    Examples
    --------
    >>> connect(folder).table_names()
    []
    """
    location = Location.of(uri, storage_options)
    with translated(f"opening the lake {location.uri}"):
        layout.check_format(location)
    return Lake(location, read_only=read_only)


class Lake:
    """A folder or a bucket of Lance tables; made by `connect`."""

    def __init__(self, location: Location, *, read_only: bool = False) -> None:
        self._location = location
        self._read_only = read_only

    def __repr__(self) -> str:
        return f"<Lake {self.uri}: {', '.join(self.table_names()) or 'no tables'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it is; credentials stay behind."""
        return _reopen, (self.uri, self._read_only)

    @property
    def uri(self) -> str:
        """The folder."""
        return self._location.uri

    def table_names(self) -> list[str]:
        """Return the names of the tables, sorted."""
        with translated(f"listing {self.uri}"):
            return layout.table_names(self._location)

    def create_table(self, name: str, schema: str | os.PathLike[str] | Schema | pa.Schema | None = None, *, data: Any = None, exist_ok: bool = False) -> Table:
        """Make a table, empty or with data."""
        self._check_writable()
        location = layout.table_location(self._location, name)
        if name in self.table_names():
            return self._existing(name, schema, data, exist_ok=exist_ok)
        if schema is None and data is None:
            raise InvalidArgumentError(f"what columns should {name!r} have? give schema= a TOML file, a family name or an Arrow schema, or give data=")
        source = as_source(data, None) if data is not None else None
        logical = _arrow(schema) if schema is not None else source.schema  # type: ignore[union-attr]  # one of the two is there
        _write_empty(location, logical)
        layout.mark_format(self._location)
        table = self.open_table(name)
        if source is not None:
            try:
                table.add(source if schema is None else data)
            except BaseException:
                location.delete("")
                raise
        return table

    def _existing(self, name: str, schema: Any, data: Any, *, exist_ok: bool) -> Table:
        if not exist_ok:
            raise AlreadyExistsError(f"the lake {self.uri} has a table {name!r}; open_table({name!r}) opens it, exist_ok=True does either")
        if data is not None:
            raise AlreadyExistsError(f"the lake {self.uri} has a table {name!r}, to which data= is not added silently; open it and add()")
        table = self.open_table(name)
        if schema is not None:
            missing = [n for n in _arrow(schema).names if n not in table.schema.names]
            if missing:
                raise AlreadyExistsError(f"the table {name!r} lacks {', '.join(missing)} of that schema; lake.plan(schema, table={name!r}) shows how to get there")
        return table

    def open_table(self, name: str, version: int | str | None = None) -> Table:
        """Open a table: the newest version at each call, or one pinned version or tag."""
        return Table(self._location, name, version, read_only=self._read_only)

    def drop_table(self, name: str) -> None:
        """Remove a table with all its versions, and what the lake keeps beside it."""
        self._check_writable()
        names = self.table_names()
        if name not in names:
            raise TableNotFoundError(f"no table {name!r} in {self.uri}; it has {', '.join(names) or 'no tables'}{closest(name, names)}")
        with translated(f"dropping table {name!r}"):
            layout.table_location(self._location, name).delete("")
            for room in ("ingest", "failures", "checkpoints", "leases"):
                layout.side(self._location).delete(f"{room}/{name}")

    def plan(self, schema: str | os.PathLike[str] | Schema | pa.Schema, table: str) -> Plan:
        """Plan the steps from a table as it is to a schema; nothing is changed."""
        now = self.open_table(table).snapshot()
        wanted = schema if isinstance(schema, Schema) else _model(schema, table)
        return apply.plan(now, wanted, reads.column_nbytes(now))

    def apply(self, plan: Plan, *, allow_destructive: bool = False) -> int:
        """Carry out a plan and return the table's version then."""
        self._check_writable()
        return apply.apply(self.open_table(plan.table).snapshot(), plan, allow_destructive=allow_destructive)

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(f"the lake {self.uri} was opened with read_only=True; connect again without it to write")


def _model(schema: str | os.PathLike[str] | pa.Schema, table: str) -> Schema:
    return Schema.from_arrow(schema, table) if isinstance(schema, pa.Schema) else families.load(schema)


def _arrow(schema: str | os.PathLike[str] | Schema | pa.Schema) -> pa.Schema:
    """The logical columns to make a table with; an Arrow schema is taken as it is, any type Lance can store."""
    if isinstance(schema, pa.Schema):
        for name in schema.names:
            types.check_name(name)
        return schema
    return (schema if isinstance(schema, Schema) else families.load(schema)).to_arrow()


def _write_empty(location: Location, logical: pa.Schema) -> None:
    metadata = {**(logical.metadata or {}), b"lakehouse:id": uuid.uuid4().hex.encode()}
    schema = storage.physical_schema(logical.with_metadata(metadata))
    with translated(f"creating {location.uri}"):
        lance.write_dataset(
            schema.empty_table(),
            location.uri,
            schema=schema,
            mode="create",
            storage_options=dict(location.storage_options) or None,
            data_storage_version=_FORMAT_VERSION,
            enable_stable_row_ids=True,
            enable_v2_manifest_paths=True,
            auto_cleanup_options=None,
        )


def _reopen(uri: str, read_only: bool) -> Lake:
    return connect(uri, read_only=read_only)
