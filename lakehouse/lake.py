"""What users hold: a folder or a bucket of tables."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from lakehouse import adoption, creation, layout, reads
from lakehouse._lance import lance
from lakehouse.data import as_source
from lakehouse.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    LakehouseError,
    ReadOnlyError,
    TableNotFoundError,
    closest,
    translated,
)
from lakehouse.loader import saving
from lakehouse.location import Location
from lakehouse.schema import apply
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.sql import Engine, Result, SqlLimits, TableName, attach
from lakehouse.table import Table

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Iterable, Mapping

    import pyarrow as pa
    from duckdb import DuckDBPyConnection

    from lakehouse.creation import AnySchema
    from lakehouse.loader.saved import SavedSelection
    from lakehouse.schema.steps import Plan


def connect(
    uri: str | os.PathLike[str],
    *,
    storage_options: Mapping[str, str] | None = None,
    read_only: bool = False,
    sql_limits: SqlLimits | None = None,
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
    sql_limits
        What its SQL may use; None means the defaults of `SqlLimits`.

    Raises
    ------
    InvalidArgumentError
        `sql_limits` are no `SqlLimits`.
    UnsupportedTableError
        The lake was written by a newer release.

    Examples
    --------
    >>> lh.connect(folder).table_names()
    []
    """
    if sql_limits is not None and not isinstance(sql_limits, SqlLimits):
        raise InvalidArgumentError(f"sql_limits is a {type(sql_limits).__name__}; give lh.SqlLimits(timeout_s=30, …)")
    location = Location.of(uri, storage_options)
    with translated(f"opening the lake {location.uri}"):
        layout.check_format(location)
    return Lake(location, read_only=read_only, sql_limits=sql_limits)


class Lake:
    """A folder or a bucket of Lance tables; made by `connect`.

    It is a plain LanceDB directory: `lancedb.connect(uri)` opens its tables, and a lake reads LanceDB's. What the
    lake adds lies in ``_lakehouse/`` and in the metadata of columns.

    Examples
    --------
    >>> lake = lh.connect(folder)
    >>> _ = lake.create_table("pets", schema="images")
    >>> lake.table_names()
    ['pets']
    """

    def __init__(self, location: Location, *, read_only: bool = False, sql_limits: SqlLimits | None = None) -> None:
        self._location = location
        self._read_only = read_only
        self._sql_limits = sql_limits

    def __repr__(self) -> str:
        return f"<Lake {self.uri}: {', '.join(self.table_names()) or 'no tables'}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it is; credentials go into new processes only."""
        return _reopen, (self._location.to_pickle(), self._read_only, self._sql_limits)

    @property
    def uri(self) -> str:
        """The folder.

        Examples
        --------
        >>> lh.connect(folder).uri == str(folder)
        True
        """
        return self._location.uri

    def table_names(self) -> list[str]:
        """Return the names of the tables, sorted.

        Examples
        --------
        >>> lh.connect(folder).table_names()
        []
        """
        with translated(f"listing {self.uri}"):
            return layout.table_names(self._location)

    def create_table(
        self, name: str, schema: AnySchema | None = None, *, data: Any = None, exist_ok: bool = False
    ) -> Table:
        """Make a table, empty or with data.

        Parameters
        ----------
        name
            Letters, digits, ``_``, ``-`` and ``.``.
        schema
            A TOML file, the name of a shipped family (``images``, ``videos``, ``documents``), a `Schema` or an Arrow
            schema; None takes the columns of the data.
        data
            Rows to begin with, anything `Table.add` takes; if they cannot be added there is no table. After Ctrl-C or
            a kill the empty table stays: open it and `add` the same files to go on.
        exist_ok
            Open the table if it is there and has the columns of `schema`.

        Raises
        ------
        AlreadyExistsError
            The table is there.
        SchemaError, BadRowsError

        Examples
        --------
        >>> lh.connect(folder).create_table("docs", schema="documents").schema.names[:3]
        ['id', 'text', 'title']
        """
        self._check_writable()
        location = layout.table_location(self._location, name)
        if name in self.table_names():
            return self._existing(name, schema, data, exist_ok=exist_ok)
        if schema is None and data is None:
            raise InvalidArgumentError(
                f"what columns should {name!r} have? give schema= a TOML file, a family or an Arrow schema, or data="
            )
        columns = creation.columns_of(schema) if schema is not None else None
        source = as_source(data, columns) if data is not None else None
        creation.create(location, columns if columns is not None else creation.columns_of(source.schema))  # type: ignore[union-attr]  # one of the two is there
        layout.mark_format(self._location)
        table = self.open_table(name)
        created = table.version
        if source is not None:
            try:
                table.add(source)
            except LakehouseError:
                if table.version == created:  # else somebody has written to it meanwhile
                    layout.drop(self._location, name)
                raise
        return table

    def _existing(self, name: str, schema: AnySchema | None, data: Any, *, exist_ok: bool) -> Table:
        if not exist_ok:
            raise AlreadyExistsError(
                f"the lake {self.uri} has a table {name!r}; open_table({name!r}) opens it, exist_ok=True does either"
            )
        if data is not None:
            raise AlreadyExistsError(
                f"the lake {self.uri} has a table {name!r}, to which data= is not added silently; open it and add()"
            )
        table = self.open_table(name)
        wanted: list[str] = creation.columns_of(schema).names if schema is not None else []
        if missing := [column for column in wanted if column not in table.schema.names]:
            raise AlreadyExistsError(
                f"the table {name!r} lacks {', '.join(missing)} of that schema; lake.plan(schema, table={name!r}) "
                "shows how to get there"
            )
        return table

    def open_table(self, name: str, version: int | str | dt.datetime | None = None, branch: str | None = None) -> Table:
        """Open a table: the newest version at each call, or pinned to a version, a tag or a time.

        Parameters
        ----------
        name
            The table.
        version
            A number, a tag or a time; None means the newest, now and later.
        branch
            A branch, made with pylance's `create_branch`; None is the main line. It is read, not written.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"x": 1}])
        >>> len(lake.open_table("pets", version=1)), len(lake.open_table("pets"))
        (0, 1)
        """
        return Table(self._location, layout.on_branch(name, branch), version, read_only=self._read_only)

    def adopt(self, name: str, *, progress: bool | None = None) -> Table:
        """Make a table of LanceDB's one that can have features: it is copied once, the original is kept aside.

        Raises
        ------
        ConflictError
            Somebody wrote to it meanwhile.

        Examples
        --------
        >>> import lance
        >>> _ = lance.write_dataset(pa.table({"x": [1, 2]}), folder / "made.lance")
        >>> table = lh.connect(folder).adopt("made", progress=False)
        >>> _ = table.add_columns({"y": "x + 1"})
        >>> table.backfill(progress=False).num_filled
        2
        """
        self._check_writable()
        adoption.adopt(self._location, name, creation.create, progress)
        layout.mark_format(self._location)
        return self.open_table(name)

    def drop_table(self, name: str) -> None:
        """Remove a table with all its versions, and what the lake keeps beside it.

        Raises
        ------
        TableNotFoundError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"x": 1}])
        >>> lake.drop_table("pets")
        >>> lake.table_names()
        []
        """
        self._check_writable()
        names = self.table_names()
        if name not in names:
            there = ", ".join(names) or "no tables"
            raise TableNotFoundError(f"no table {name!r} in {self.uri}; it has {there}{closest(name, names)}")
        with translated(f"dropping table {name!r}"):
            layout.drop(self._location, name)

    def plan(self, schema: AnySchema, table: str) -> Plan:
        """Plan the steps from a table as it is to a schema; nothing is changed.

        Parameters
        ----------
        schema
            A TOML file, a family, a `Schema` or an Arrow schema; it owns only the columns it names.
        table
            The table.

        Raises
        ------
        SchemaError
            A change that cannot be made.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"id": "a"}])
        >>> plan = lake.plan(pa.schema([("id", pa.string()), ("width", pa.int32())]), table="pets")
        >>> [(step.verb, step.column) for step in plan]
        [('add', 'width')]
        """
        now = self.open_table(table).snapshot()
        return apply.plan(now, creation.model_of(schema, table), reads.column_nbytes(now))

    def apply(self, plan: Plan, *, allow_destructive: bool = False) -> int:
        """Carry out a plan and return the table's version then.

        Parameters
        ----------
        plan
            Made by `plan`.
        allow_destructive
            Whether steps that take values away are wanted.

        Raises
        ------
        InvalidArgumentError
            The plan is destructive and that was not allowed.
        ConflictError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> table = lake.create_table("pets", data=[{"id": "a"}])
        >>> wanted = pa.schema([("id", pa.string()), ("width", pa.int32())])
        >>> _ = lake.apply(lake.plan(wanted, table="pets"))
        >>> table.schema.names
        ['id', 'width']
        """
        self._check_writable()
        return apply.apply(self.open_table(plan.table).snapshot(), plan, allow_destructive=allow_destructive)

    def sql(
        self,
        query: str,
        params: Mapping[str, Any] | list[Any] | tuple[Any, ...] | None = None,
        *,
        tables: Mapping[str, Any] | None = None,
        strict: bool = False,
        progress: bool | None = None,
    ) -> Result:
        """Ask DuckDB about the tables; it reads nothing else, and writes nothing.

        Parameters
        ----------
        query
            A SELECT. Versions are pinned now; it runs at the first fetch, once.
        params
            By name (``$w``) or by position (``?``).
        tables
            Arrow tables, DataFrames and readers to join with, by name.
        strict
            Whether a medium that a function cannot read, or that has not what is asked, is an error; else its value is
            NULL, and `Result.errors` counts it.
        progress
            None: a bar on a terminal, a log line a minute elsewhere, once the answer takes more than two seconds;
            False for none.

        Raises
        ------
        QueryError
            SQL that does not parse or bind, or that is not a SELECT.
        TableNotFoundError, VersionNotFoundError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"kind": "cat"}, {"kind": "dog"}, {"kind": "cat"}])
        >>> lake.sql("SELECT kind, count(*) FROM pets WHERE kind = $k GROUP BY 1", {"k": "cat"}).fetchall()
        [('cat', 2)]
        """
        return self._engine.query(query, params, tables, strict=strict, progress=progress)

    def duckdb(self, tables: Iterable[str] | None = None) -> DuckDBPyConnection:
        """Return a DuckDB connection with the tables as views, for notebooks and BI tools.

        DuckDB runs the statements, so it can do here whatever it can: read files, make tables of its own in memory.
        The lake it can only read. Each view stays at the version that is the newest now, and has ``_rowid`` as its
        last column. `sql` has more: the newest versions at each call, AT, branches, search functions and ``tables=``.

        A medium is a reference, ``{'pets.image': 17}``: eight bytes a row through sorts, joins and LIMIT. The media
        functions of `sql` take it, DuckDB's own do not: ``media_bytes(image)`` gives the bytes, ``media_nbytes`` and
        ``media_sha256`` stand for ``octet_length`` and ``sha256``. DuckDB computes a select list before it
        sorts, so of the first few rows write ``SELECT media_bytes(image) FROM (FROM pets ORDER BY width LIMIT 5)``.
        A medium that a function cannot read is NULL, and a warning is logged.

        Parameters
        ----------
        tables
            Which; branches as ``pets@exp``. None means all tables, main line.

        Raises
        ------
        TableNotFoundError, VersionNotFoundError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"kind": "cat", "width": 640}, {"kind": "dog", "width": 320}])
        >>> with lake.duckdb() as con:
        ...     con.sql("SELECT kind FROM pets WHERE width > 500").fetchall()
        [('cat',)]
        """
        names = self.table_names() if tables is None else tables
        return attach(names, lambda name: open_snapshot(self._location, name), self._sql_limits)

    def open_selection(self, name: str) -> SavedSelection:
        """Open what `Table.save_selection` kept.

        Raises
        ------
        NotFoundError
            There is none of this name.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"x": i} for i in range(8)]).save_selection("train-a", where="x > 3")
        >>> [len(batch["x"]) for batch in lake.open_selection("train-a").loader(batch_size=2)]
        [2, 2]
        """
        return saving.open_saved(self._location, name, read_only=self._read_only)

    def selections(self) -> pa.Table:
        """Return the saved selections, by name.

        Returns
        -------
        pyarrow.Table
            ``name, table, version, num_rows, where, columns, saved_by, saved_at``.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"x": i} for i in range(8)]).save_selection("train-a", where="x > 3")
        >>> lake.selections().select(["name", "table", "num_rows"]).to_pylist()
        [{'name': 'train-a', 'table': 'pets', 'num_rows': 4}]
        """
        return saving.saved(self._location)

    def drop_selection(self, name: str) -> None:
        """Forget a saved selection; a clean-up may take its version then.

        Raises
        ------
        NotFoundError
            There is none of this name.
        ReadOnlyError

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"x": 1}]).save_selection("train-a")
        >>> lake.drop_selection("train-a")
        >>> lake.selections().num_rows
        0
        """
        self._check_writable()
        saving.drop(self._location, name)

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._snapshot_of, self.table_names, self._sql_limits)

    def _snapshot_of(self, table: TableName) -> Snapshot:
        name = layout.on_branch(table.name, table.branch)
        return open_snapshot(self._location, name, table.version, session=self._session)

    @cached_property
    def _session(self) -> Any:
        """What Lance knows of files that never change, footers and pages of indexes, for all statements."""
        return lance.Session()  # type: ignore[attr-defined]  # pylance 14 leaves it out of __all__

    def _check_writable(self) -> None:
        if self._read_only:
            raise ReadOnlyError(
                f"the lake {self.uri} was opened with read_only=True; connect again without it to write"
            )
        layout.check_store(self._location)


def _reopen(location: Location, read_only: bool, sql_limits: SqlLimits | None) -> Lake:
    return connect(location.uri, storage_options=location.storage_options, read_only=read_only, sql_limits=sql_limits)
