"""What users hold: one table of a lake. Every method is a few lines that call the room where the work is done."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from lakehouse import (
    advice,
    display,
    indexes,
    info,
    ingest,
    layout,
    maintenance,
    reads,
    rows,
    samples,
    search,
    splits,
    versions,
)
from lakehouse._optional import require
from lakehouse.errors import ReadOnlyError, translated
from lakehouse.features.evolution import columns, history, imported, revisions, rollback
from lakehouse.features.jobs import backfill, preview, runs
from lakehouse.features.records import ledger
from lakehouse.ingest import FRAGMENT_NBYTES, FRAGMENT_ROWS
from lakehouse.loader import Loader, LoaderOptions, saving
from lakehouse.loader.datasets import BatchSampler, TableDataset
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa

    from lakehouse.features.evolution.columns import Dropped
    from lakehouse.features.evolution.imported import ImportResult, OnMissing
    from lakehouse.features.evolution.rollback import RollbackResult
    from lakehouse.features.udfs.udf import UDF
    from lakehouse.index_kinds import DistanceType, IndexOptions
    from lakehouse.loader.forms.clips import Clip
    from lakehouse.loader.forms.packing import Packing
    from lakehouse.loader.forms.sizes import Pad, Resize
    from lakehouse.loader.iterable import TableIterable
    from lakehouse.loader.saved import SavedSelection
    from lakehouse.location import Location
    from lakehouse.maintenance import CompactResult
    from lakehouse.where import Where


class Table:
    """One table of a lake; made by `Lake.open_table` and `Lake.create_table`.

    A handle without a version reads the newest one at each call, and each call sees one version. A pinned handle
    never moves and refuses writes. Handles pickle without credentials.

    Wherever there is a `where`, it is a predicate of Lance's SQL, or one with parameters:
    ``("width > $w", {"w": 512})``. `columns` are names, None meaning all. Arrow results hold media as bytes.

    Examples
    --------
    >>> pets = lh.connect(folder).create_table("pets", data=[{"id": "a", "width": 3}, {"id": "b", "width": 4}])
    >>> pets.to_arrow(where="width > 3").to_pylist()
    [{'id': 'b', 'width': 4}]
    """

    def __init__(
        self,
        lake: Location,
        name: str,
        version: int | str | dt.datetime | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        self._lake = lake
        self._name = name
        # A clean-up must not move a handle to an older version, so a time is looked up once.
        self._pin = open_snapshot(lake, name, version).version if isinstance(version, dt.datetime) else version
        self._read_only = read_only
        self._opened = open_snapshot(lake, name, version)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it is; credentials go into new processes only."""
        return _reopen, (self._lake.to_pickle(), self._name, self._pin, self._read_only)

    def __repr__(self) -> str:
        return display.table_text(info.outline(self.snapshot()))

    def _repr_html_(self) -> str:
        return display.notebook_html(self.snapshot())

    def __len__(self) -> int:
        return self.snapshot().num_rows

    @property
    def name(self) -> str:
        """The table's name; of a branch ``pets@exp``, as in SQL.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"id": "a"}]).name
        'pets'
        """
        return self._name

    @property
    def uri(self) -> str:
        """The folder that `lance.dataset` opens.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a"}])
        >>> import lance
        >>> lance.dataset(table.uri).count_rows()
        1
        """
        return self._opened.uri

    @property
    def version(self) -> int:
        """The version this handle reads now.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a"}])
        >>> before = table.version
        >>> table.add([{"id": "b"}], progress=False).version - before
        1
        """
        return self.snapshot().version

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow fields; media are bytes, stamps are left out.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", schema="images").schema.field("image").type
        DataType(large_binary)
        """
        return self.snapshot().schema

    def snapshot(self) -> Snapshot:
        """Return the version this handle reads now, as the modules below take it.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a"}])
        >>> table.snapshot().version == table.version
        True
        """
        now = self._opened
        with translated(f"opening table {self._name!r}"):
            moved = self._pin is None and now.dataset.latest_version != now.version
        if moved:
            self._opened = open_snapshot(self._lake, self._name, session=now.dataset.session())
        return self._opened

    def _writable(self) -> Snapshot:
        if self._pin is not None:
            raise ReadOnlyError(
                f"this handle of {self._name!r} is pinned to {self._pin!r}; open the table without a version to write"
            )
        if self._opened.branch is not None:
            raise ReadOnlyError(
                f"{self._name!r} is a branch, which this release only reads; write to the main line, or to the branch "
                f"with pylance, which opens it as lance.dataset({self.uri!r})"
            )
        return self._named()

    def _named(self) -> Snapshot:
        """Return the snapshot to tag: a pinned handle may, a read-only lake may not."""
        if self._read_only:
            raise ReadOnlyError(
                f"the lake was opened with read_only=True; connect again without it to write to {self._name!r}"
            )
        layout.check_store(self._lake)
        return self.snapshot()

    def info(self) -> info.TableInfo:
        """Return what is known of the table without reading its values: columns, bytes, fragments, indexes.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"id": "a"}]).info().num_rows
        1
        """
        now = self.snapshot()
        return info.inspect(now, ledger.features(now, remember=not self._read_only))

    # Rows

    def add(
        self,
        data: Any,
        on_bad_rows: ingest.OnBadRows = "raise",
        on_duplicate_key: ingest.OnDuplicateKey = "raise",
        *,
        progress: bool | None = None,
    ) -> ingest.WriteResult:
        """Add rows: one version or none. The same call after a kill goes on where it was.

        Parameters
        ----------
        data
            Arrow, a DataFrame, a list or generator of dictionaries or batches, a SQL result, or files by
            `read_images`, `read_videos`, `read_texts`, `read_parquet`.
        on_bad_rows
            ``"raise"`` at the first row or file that cannot be stored, ``"skip"`` and count such, or ``"record"``
            them in `errors`.
        on_duplicate_key
            ``"raise"``, or ``"skip"`` rows whose key is in the table or came before.
        progress
            None: a bar on a terminal, a log line a minute elsewhere; False for none.

        Raises
        ------
        BadRowsError, DuplicateKeyError, SchemaError, ConflictError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", schema="images")
        >>> table.add([{"id": "a", "width": 3}, {"id": "b"}], progress=False).num_rows
        2
        """
        return ingest.add(
            self._writable(), data, on_bad_rows=on_bad_rows, on_duplicate_key=on_duplicate_key, progress=progress
        )

    def merge_insert(self, on: str) -> rows.MergeInsert:
        """Begin an upsert on the table's key, in LanceDB's words.

        Raises
        ------
        SchemaError
            `on` is not the key.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", schema="images")
        >>> upsert = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        >>> upsert.execute([{"id": "a", "width": 3}]).num_rows
        1
        """
        return rows.merge_insert(self._writable(), on)

    def update(
        self,
        where: Where | None = None,
        values: Mapping[str, Any] | None = None,
        values_sql: Mapping[str, str] | None = None,
    ) -> ingest.WriteResult:
        """Change columns of the rows that match; features computed from them become stale at once.

        Parameters
        ----------
        where
            Which rows; None means all.
        values
            New values by column.
        values_sql
            New values by column as expressions over the row.

        Raises
        ------
        SchemaError, ColumnNotFoundError, FilterError, ConflictError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a", "x": 1}, {"id": "b", "x": 2}])
        >>> table.update("id = 'a'", values_sql={"x": "x + 10"}).num_rows
        1
        """
        return rows.update(self._writable(), where, values, values_sql)

    def delete(self, where: Where) -> ingest.WriteResult:
        """Delete the rows that match; older versions keep them.

        Raises
        ------
        FilterError, ConflictError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a", "x": 1}, {"id": "b", "x": 2}])
        >>> table.delete(("x > $x", {"x": 1})).num_rows
        1
        """
        return rows.delete(self._writable(), where)

    def take(
        self,
        offsets: Sequence[int],
        columns: Iterable[str] | None = None,
        *,
        max_media_nbytes: int = reads.MAX_MEDIA_NBYTES,
    ) -> pa.Table:
        """Read rows by their position in the table, order and repeats kept.

        Raises
        ------
        RowNotFoundError, ColumnNotFoundError, ResourceLimitError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a"}, {"id": "b"}])
        >>> table.take([1, 0, 1])["id"].to_pylist()
        ['b', 'a', 'b']
        """
        return reads.take(self.snapshot(), offsets, columns, max_media_nbytes=max_media_nbytes)

    def take_row_ids(
        self,
        row_ids: Sequence[int],
        columns: Iterable[str] | None = None,
        *,
        max_media_nbytes: int = reads.MAX_MEDIA_NBYTES,
    ) -> pa.Table:
        """Read rows by row id, order and repeats kept; a row keeps its id when it is updated or compacted.

        Raises
        ------
        RowNotFoundError, ColumnNotFoundError, ResourceLimitError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": "a"}, {"id": "b"}])
        >>> table.take_row_ids([1])["id"].to_pylist()
        ['b']
        """
        return reads.take_row_ids(self.snapshot(), row_ids, columns, max_media_nbytes=max_media_nbytes)

    def get(
        self,
        keys: Sequence[Any],
        columns: Iterable[str] | None = None,
        *,
        max_media_nbytes: int = reads.MAX_MEDIA_NBYTES,
    ) -> pa.Table:
        """Read rows by the schema's key, order and repeats kept.

        Raises
        ------
        RowNotFoundError
            Keys that are not there, named.
        SchemaError
            The table has no key.
        ResourceLimitError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", schema="images")
        >>> _ = table.add([{"id": "a", "width": 3}, {"id": "b", "width": 4}], progress=False)
        >>> table.get(["b", "a"], ["width"])["width"].to_pylist()
        [4, 3]
        """
        return reads.get(self.snapshot(), keys, columns, max_media_nbytes=max_media_nbytes)

    def __getitem__(self, key: Any) -> samples.Row:
        """Return one row by its key: a mapping whose media are lazy handles."""
        now = self.snapshot()
        return samples.rows(now, reads.row_ids_of_keys(now, [key]))[0]

    def rows(self, row_ids_or_keys: Sequence[Any]) -> list[samples.Row]:
        """Return rows as mappings whose media are lazy handles.

        Parameters
        ----------
        row_ids_or_keys
            Row ids (whole numbers, such as a search's ``_rowid``) or keys of another type.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", schema="images")
        >>> _ = table.add([{"id": "a", "width": 3}], progress=False)
        >>> [row["width"] for row in table.rows(["a"])]
        [3]
        """
        now = self.snapshot()
        given = row_ids_or_keys
        wanted = given.to_pylist() if hasattr(given, "to_pylist") else list(given)
        by_id = all(isinstance(value, int | np.integer) for value in wanted)
        return samples.rows(now, wanted if by_id else reads.row_ids_of_keys(now, wanted))

    def head(self, n: int = 5, columns: Iterable[str] | None = None) -> pa.Table:
        """Read the first `n` rows.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"id": "a"}, {"id": "b"}]).head(1).to_pylist()
        [{'id': 'a'}]
        """
        return reads.head(self.snapshot(), n, columns)

    def sample(self, n: int, seed: int | None = None, columns: Iterable[str] | None = None) -> pa.Table:
        """Read `n` rows drawn without repeats, in table order; the same for the same seed and version.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"id": "a"}, {"id": "b"}]).sample(2, seed=0).num_rows
        2
        """
        return reads.sample(self.snapshot(), n, seed, columns)

    def count_rows(self, where: Where | None = None) -> int:
        """Count the rows that match.

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}]).count_rows("x > 1")
        1
        """
        return reads.count_rows(self.snapshot(), where)

    def to_arrow(
        self,
        columns: Iterable[str] | None = None,
        where: Where | None = None,
        *,
        max_media_nbytes: int = reads.MAX_MEDIA_NBYTES,
    ) -> pa.Table:
        """Read columns of the rows that match as one Arrow table.

        Raises
        ------
        ResourceLimitError
            The media among them are larger than `max_media_nbytes`.
        ColumnNotFoundError, FilterError

        Examples
        --------
        >>> lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}]).to_arrow(["x"]).to_pydict()
        {'x': [1, 2]}
        """
        return reads.to_table(self.snapshot(), columns, where, max_media_nbytes=max_media_nbytes)

    def to_batches(
        self, columns: Iterable[str] | None = None, where: Where | None = None, batch_size: int | None = None
    ) -> pa.RecordBatchReader:
        """Stream columns of the rows that match.

        Parameters
        ----------
        columns
            Names; None means all.
        where
            Which rows.
        batch_size
            Rows a batch; None means 8,192, fewer where media are among the columns.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}, {"x": 3}])
        >>> [batch.num_rows for batch in table.to_batches(batch_size=2)]
        [2, 1]
        """
        return reads.scan(self.snapshot(), columns, where, batch_size=batch_size)

    # Feature columns

    def add_columns(self, new: Mapping[str, UDF | str | pa.Field]) -> int:
        """Declare columns: metadata only, whoever else writes. The same declaration again does nothing.

        Parameters
        ----------
        new
            By name: a function made by `udf`, an SQL expression over the row, or an Arrow field for an empty
            column. A function of several outputs names its columns itself. Either may read columns of the same call.

        Returns
        -------
        int
            The version that has them.

        Raises
        ------
        AlreadyExistsError, ColumnNotFoundError, FilterError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> table.features()["state"].to_pylist()
        ['declared']
        """
        return columns.add_columns(self._writable(), new)

    @overload
    def backfill(
        self,
        columns: str | Sequence[str] | None = None,
        udf: UDF | Mapping[str, UDF] | None = None,
        where: Where | None = None,
        only: backfill.Only | None = None,
        num_workers: int = 0,
        executor: Any = "local",
        on_error: backfill.OnError = "record",
        max_error_rate: float | None = None,
        limit: int | None = None,
        dry_run: Literal[False] = False,
        *,
        progress: bool | None = None,
    ) -> backfill.BackfillResult: ...

    @overload
    def backfill(
        self,
        columns: str | Sequence[str] | None = None,
        udf: UDF | Mapping[str, UDF] | None = None,
        where: Where | None = None,
        only: backfill.Only | None = None,
        num_workers: int = 0,
        executor: Any = "local",
        on_error: backfill.OnError = "record",
        max_error_rate: float | None = None,
        limit: int | None = None,
        *,
        dry_run: Literal[True],
        progress: bool | None = None,
    ) -> backfill.BackfillPlan: ...

    def backfill(
        self,
        columns: str | Sequence[str] | None = None,
        udf: UDF | Mapping[str, UDF] | None = None,
        where: Where | None = None,
        only: backfill.Only | None = None,
        num_workers: int = 0,
        executor: Any = "local",
        on_error: backfill.OnError = "record",
        max_error_rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        *,
        progress: bool | None = None,
    ) -> backfill.BackfillResult | backfill.BackfillPlan:
        """Fill feature columns where they are missing or stale; after a kill it goes on from what was kept.

        Functions that read a column in common are computed in one pass: it is read, and its media decoded, once.
        A kill loses a batch at most where the function has a `batch_size`, and of very fast functions without one what
        was computed since the last commit.

        Parameters
        ----------
        columns
            Which features, by any of their columns; None means all that something computes.
        udf
            The function, where it cannot be imported by the name it was declared with; for several features a mapping
            ``{column: function}``.
        where
            Only rows that match.
        only
            None: missing and stale rows. ``"missing"``, ``"stale"``, ``"failed"`` or ``"all"``.
        num_workers
            Processes that compute, 0 for this one. With another executor: how many units it is handed at once, 0 to
            keep all its workers busy. SQL expressions are computed here in any case, by Lance's own threads.
        executor
            ``"local"`` for processes of this machine, started without the script or notebook they serve; a row they
            die of fails alone. ``"ray"``: tasks on the cluster that Ray is connected to, or one of this machine. Or a
            ``concurrent.futures.Executor``, whose processes must not be forked.
        on_error
            ``"record"`` a failed row in `errors` and go on, ``"raise"`` at the first, or store ``"null"``.
        max_error_rate
            Share of failed rows, 0 to 1, above which the job stops.
        limit
            At most this many rows: a pilot.
        dry_run
            Only say what would be done.
        progress
            None: a bar on a terminal, a log line a minute elsewhere; False for none.

        Raises
        ------
        BackfillError
            The job stopped; what it computed is kept and found again.
        SchemaError
            The function is not the one that was declared.
        ConflictError
            Somebody else is filling the column.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> table.backfill("area", progress=False).num_filled
        1
        >>> table.to_arrow(["area"]).to_pydict()
        {'area': [6]}
        """
        options = backfill.Options(where, only, on_error, max_error_rate, limit, progress, num_workers, executor)
        if dry_run:
            return backfill.plan(self._writable(), columns, udf, options)
        return backfill.backfill_columns(self._writable(), columns, udf, options)

    def preview(self, udf: UDF, n: int = 5) -> preview.Preview:
        """Run a function on `n` rows spread over the table; nothing is stored.

        Examples
        --------
        >>> @lh.udf(pa.int64())
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> lh.connect(folder).create_table("pets", data=[{"x": 4}]).preview(double).values.to_pydict()
        {'double': [8]}
        """
        return preview.preview(self.snapshot(), udf, n)

    def features(self) -> pa.Table:
        """Return the state of every computed column.

        Returns
        -------
        pyarrow.Table
            ``column, state, coverage, num_failed, who, when, version, code_hash, inputs``. States are ``declared``,
            ``running``, ``partial``, ``fresh``, ``stale(code)``, ``stale(inputs)``; coverage is a share, 0 to 1.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> _ = table.backfill(progress=False)
        >>> _ = table.update(values={"w": 5})
        >>> table.features().select(["column", "state", "inputs"]).to_pylist()
        [{'column': 'area', 'state': 'stale(inputs)', 'inputs': ['w', 'h']}]
        """
        return ledger.features(self.snapshot(), remember=not self._read_only)

    def errors(self, columns: str | Sequence[str] | None = None) -> pa.Table:
        """Return the rows and files that could not be stored or computed.

        Parameters
        ----------
        columns
            Only failures in these columns; None means all, files that were not stored included.

        Returns
        -------
        pyarrow.Table
            ``row_id, key, column, error, message, attempt, run``.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", schema="images")
        >>> _ = table.add([{"id": "a", "split": "training"}], on_bad_rows="record", progress=False)
        >>> table.errors().select(["key", "column"]).to_pylist()
        [{'key': 'row 0', 'column': 'split'}]
        """
        return ledger.errors(self.snapshot(), [columns] if isinstance(columns, str) else columns)

    def alter_udf(self, column: str, udf: UDF) -> int:
        """Declare a changed function: the values there are stale until they are filled again.

        Raises
        ------
        SchemaError
            Another type or other inputs; that is another column.

        Examples
        --------
        >>> @lh.udf(pa.int64(), version="1")
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 4}])
        >>> _ = table.add_columns({"y": double})
        >>> _ = table.backfill("y", udf=double, progress=False)
        >>> @lh.udf(pa.int64(), version="2")
        ... def double(x: int) -> int:
        ...     return x + x
        >>> _ = table.alter_udf("y", double)
        >>> table.features()["state"].to_pylist()
        ['stale(code)']
        """
        return revisions.alter_udf(self._writable(), column, udf)

    def accept(self, column: str, udf: UDF | None = None) -> int:
        """Declare the values there are right for a function whose code changed but not what it computes.

        Parameters
        ----------
        column
            Any column of the feature.
        udf
            The changed function, which takes the place of the declared one; None: the last `alter_udf` was such a
            change.

        Raises
        ------
        SchemaError
            Another type or other inputs, or nothing to accept.

        Examples
        --------
        >>> @lh.udf(pa.int64(), version="1")
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 4}])
        >>> _ = table.add_columns({"y": double})
        >>> _ = table.backfill("y", udf=double, progress=False)
        >>> @lh.udf(pa.int64(), version="2")
        ... def double(x: int) -> int:
        ...     return x + x
        >>> _ = table.accept("y", double)
        >>> table.features()["state"].to_pylist()
        ['fresh']
        """
        return revisions.accept(self._writable(), column, udf)

    def drop_columns(self, names: Iterable[str], *, cascade: bool = False) -> Dropped:
        """Remove columns; metadata only, older versions keep them.

        Parameters
        ----------
        names
            Which.
        cascade
            Drop what is computed from them too, and what is computed from that.

        Returns
        -------
        Dropped
            ``version`` and ``columns``, all that went.

        Raises
        ------
        SchemaError
            A feature that stays is computed from one of them.
        ColumnNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1, "note": "old"}])
        >>> table.drop_columns(["note"]).columns
        ('note',)
        >>> table.schema.names
        ['x']
        """
        return columns.drop_columns(self._writable(), names, cascade=cascade)

    def rename_column(self, old: str, new: str) -> int:
        """Rename a column; metadata only, features computed from it stay true.

        Raises
        ------
        AlreadyExistsError, ColumnNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"note": "hello"}])
        >>> _ = table.rename_column("note", "remark")
        >>> table.schema.names
        ['remark']
        """
        return columns.rename_column(self._writable(), old, new)

    def column_history(self, column: str) -> pa.Table:
        """Return what happened to a column, newest last; renames do not end it, and runs outlive clean-up.

        Returns
        -------
        pyarrow.Table
            ``version, when, who, what, generation, code_hash, source, num_rows, num_failed, nbytes, run, message``;
            NULL where it is not known.

        Raises
        ------
        ColumnNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> _ = table.backfill("area", progress=False)
        >>> table.column_history("area")["what"].to_pylist()
        ['declared', 'filled']
        """
        return history.column_history(self.snapshot(), column, remember=not self._read_only)

    def rollback_column(self, column: str, version: int, *, progress: bool | None = None) -> RollbackResult:
        """Put a feature's columns back as they were at a version; everyone else's newer writes stay.

        Data files are named again, not copied, where rows are where they were. Rows whose inputs changed since are
        stale, rows that were not there are to do, and features computed from the column become stale.

        Raises
        ------
        VersionNotFoundError
            The version was cleaned up, or never was.
        SchemaError
            The column is no feature, did not exist then, or was of another type.
        ConflictError
            It is being filled, or something computed from it is.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> _ = table.add_columns({"y": "x + 1"})
        >>> version = table.backfill("y", progress=False).version
        >>> _ = table.update(values={"x": 5})
        >>> _ = table.backfill("y", progress=False)
        >>> _ = table.rollback_column("y", version=version)
        >>> table.to_arrow(["y"])["y"].to_pylist(), table.features()["state"].to_pylist()
        ([2], ['stale(inputs)'])
        """
        return rollback.rollback_column(self._writable(), column, version, progress)

    def runs(self, column: str | None = None) -> pa.Table:
        """Return who filled which feature when, with what and from what, oldest first; runs that were killed too.

        Parameters
        ----------
        column
            Only the feature that fills this column; None means all, dropped ones too.

        Returns
        -------
        pyarrow.Table
            A row for each feature a run filled: ``run, columns, state, who, host, started_at, ended_at, function,
            code_hash, declared_version, generation, arguments, inputs, all_inputs, inputs_digest, packages, git_commit,
            options, num_rows, num_filled, num_failed, num_skipped, num_computed, num_resumed, nbytes_written,
            from_version, versions, files, error``; `state` is ``running``, ``done``, ``failed`` or ``stopped``.

        Raises
        ------
        SchemaError
            Nothing computes the column.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> _ = table.backfill("area", progress=False)
        >>> table.runs("area").select(["state", "inputs", "num_filled"]).to_pylist()
        [{'state': 'done', 'inputs': ['w', 'h'], 'num_filled': 1}]
        """
        now = self.snapshot()
        token = None if column is None else backfill.resolve(now, column)[0].token
        return runs.read(now.lake, now.name, token)

    def add_columns_from(
        self,
        data: Any,
        on: str | None = None,
        on_missing: OnMissing = "null",
        *,
        progress: bool | None = None,
    ) -> ImportResult:
        """Add columns with values from elsewhere, or fill them again; others write meanwhile as ever.

        The columns that come together share a stamp, like the outputs of one function, so nobody sees half of a row;
        they are dropped and renamed one by one. The same call after a kill goes on. Memory stays bounded however large
        the data are and whatever their order; they are kept in the system's temporary folder meanwhile.

        Parameters
        ----------
        data
            Arrow, a DataFrame, dictionaries, an SQL result, `lh.read_parquet(…)`, or a path or glob of Parquet files.
        on
            The column by whose values rows are found, in the data each at most once; None means the table's key.
        on_missing
            What rows without data get: ``"null"``, or ``"keep"`` what they have; ``"raise"`` changes nothing then.

        Raises
        ------
        DuplicateKeyError, RowNotFoundError, AlreadyExistsError, BadRowsError, SchemaError, ConflictError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"id": 1}, {"id": 2}])
        >>> table.add_columns_from(pa.table({"id": [2], "name": ["Rex"]}), on="id", progress=False).num_missing
        1
        >>> table.to_arrow().to_pydict()
        {'id': [1, 2], 'name': [None, 'Rex']}
        """
        return imported.add_columns_from(self._writable(), data, on, on_missing, progress=progress)

    def release(self, column: str) -> str | None:
        """Take over from whoever is filling a feature: that job stops before its next commit, what it computed is kept.

        For a job that hangs, or whose machine is out of reach; one that has ended holds nothing.

        Returns
        -------
        str or None
            Who held it; ``None`` if nobody did.

        Raises
        ------
        ColumnNotFoundError, SchemaError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
        >>> _ = table.add_columns({"area": "w * h"})
        >>> table.release("area") is None
        True
        """
        return maintenance.release(self._writable(), column)

    # Search

    def create_index(self, column: str, kind: IndexOptions | None = None) -> int:
        """Build an index on a column and return the version that has it.

        Parameters
        ----------
        column
            Its name.
        kind
            `IvfPq`, `IvfFlat`, `BTree`, `Bitmap`, `LabelList` or `FTS`; None chooses by the column's type.

        Raises
        ------
        InvalidArgumentError, ColumnNotFoundError, ConflictError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}])
        >>> _ = table.create_index("x", lh.BTree())
        >>> table.indexes()["column"].to_pylist()
        ['x']
        """
        return indexes.create_index(self._writable(), column, kind)

    def drop_index(self, name: str) -> int:
        """Remove an index, named by itself or by its column, and return the version that lacks it.

        Raises
        ------
        IndexNotFoundError, ColumnNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}])
        >>> _ = table.create_index("x")
        >>> _ = table.drop_index("x")
        >>> table.indexes().num_rows
        0
        """
        return indexes.drop_index(self._writable(), name)

    def indexes(self) -> pa.Table:
        """Return the indexes: what each covers, and how many rows it does not cover yet.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}])
        >>> _ = table.create_index("x")
        >>> table.indexes()["num_rows_indexed"].to_pylist()
        [2]
        """
        return indexes.indexes(self.snapshot())

    def advise(self) -> pa.Table:
        """Say what would make the table faster to ask: what was found, the figures, the calls that change it.

        Looked for are strings of few different values stored as text (in SQL, GROUP BY takes three times as long as
        by a category), a key without an index, rows that an index does not cover, and many small fragments. A few
        ranges of the strings are read, and all of a column only if those hold few values. A table below 10,000 rows
        has nothing that is slow.

        Returns
        -------
        pyarrow.Table
            ``column`` (NULL for the table as a whole), ``finding``, ``evidence``, ``fix``.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=pa.table({"kind": ["cat", "dog"] * 10_000}))
        >>> table.advise()["evidence"].to_pylist()
        ['2 different values; 140 kB as text in memory']
        """
        return advice.advise(self.snapshot())

    def optimize_indices(self) -> int:
        """Fold rows that came after an index was built into it, and return the version whose indexes cover them.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}, {"x": 2}])
        >>> _ = table.create_index("x")
        >>> _ = table.add([{"x": 3}], progress=False)
        >>> _ = table.optimize_indices()
        >>> table.indexes()["num_rows_not_indexed"].to_pylist()
        [0]
        """
        return indexes.optimize_indices(self._writable())

    def search(
        self,
        query: Any,
        column: str | None = None,
        k: int = 10,
        where: Where | None = None,
        columns: Iterable[str] | None = None,
        query_type: search.QueryType | None = None,
        *,
        distance_type: DistanceType | None = None,
        nprobes: int | None = None,
        refine_factor: int | None = None,
    ) -> pa.Table:
        """Find the `k` rows nearest to a vector, or best matching a text; exact where there is no index.

        Parameters
        ----------
        query
            A vector, a 2-D batch of them, or a text.
        column
            The column to search; None where only one fits.
        k
            How many rows a query.
        where
            Only among rows that match; it filters before the search.
        columns
            What to read of the hits; None leaves media and vectors out.
        query_type
            ``"vector"`` or ``"fts"``; None goes by the query.
        distance_type
            ``"l2"``, ``"cosine"``, ``"dot"`` or ``"hamming"``; None means that of the index, else ``"l2"``.
        nprobes, refine_factor
            Partitions of the index to look into, and candidates a hit whose true vectors are looked at.

        Returns
        -------
        pyarrow.Table
            Best first, with ``_rowid`` and ``_distance`` or ``_score``; a batch adds ``query_index``.

        Raises
        ------
        InvalidArgumentError, ColumnNotFoundError, FilterError

        Examples
        --------
        >>> schema = pa.schema([("id", pa.string()), ("v", pa.list_(pa.float32(), 2))])
        >>> rows = [{"id": "a", "v": [0, 0]}, {"id": "b", "v": [3, 4]}]
        >>> table = lh.connect(folder).create_table("pets", schema=schema, data=rows)
        >>> table.search([3, 3], k=1)["id"].to_pylist()
        ['b']
        """
        return search.search(
            self.snapshot(),
            query,
            column,
            k,
            where,
            columns,
            query_type,
            distance_type=distance_type,
            nprobes=nprobes,
            refine_factor=refine_factor,
        )

    # Training

    def loader(
        self,
        *,
        columns: Iterable[str] | None = None,
        where: Where | None = None,
        batch_size: int = 64,
        shuffle: Any = True,
        shuffle_memory: int | str | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        num_workers: int = 0,
        decode: Mapping[str, Resize | Pad | Clip | None] | None = None,
        packing: Packing | None = None,
        transform: Callable[[Mapping[str, Any]], Any] | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: Any = True,
        on_bad_rows: Any = "raise",
        on_missing: Any = "raise",
        weights: str | None = None,
        balance: str | None = None,
        prefetch_batches: int = 4,
        pin_memory: bool = False,
        progress: bool | None = False,
    ) -> Loader:
        """Stream batches for training in an order that is arithmetic; see ``help(lh.LoaderOptions)`` for each argument.

        Raises
        ------
        InvalidArgumentError, ColumnNotFoundError, FilterError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
        >>> batches = list(table.loader(batch_size=4, seed=1))
        >>> sorted(int(x) for batch in batches for x in batch["x"])
        [0, 1, 2, 3, 4, 5, 6, 7]
        """
        options = LoaderOptions(
            columns=columns,
            where=where,
            batch_size=batch_size,
            shuffle=shuffle,
            shuffle_memory=shuffle_memory,
            seed=seed,
            rank=rank,
            world_size=world_size,
            num_workers=num_workers,
            decode=decode or {},
            packing=packing,
            transform=transform,
            collate_fn=collate_fn,
            drop_last=drop_last,
            on_bad_rows=on_bad_rows,
            on_missing=on_missing,
            weights=weights,
            balance=balance,
            prefetch_batches=prefetch_batches,
            pin_memory=pin_memory,
            progress=progress,
        )
        return Loader(self._streamed(options), options, pin=not self._read_only)

    def torch_dataset(
        self,
        *,
        columns: Iterable[str] | None = None,
        where: Where | None = None,
        decode: Mapping[str, Resize | Pad | Clip | None] | None = None,
        transform: Callable[[Mapping[str, Any]], Any] | None = None,
        on_bad_rows: Any = "raise",
        on_missing: Any = "raise",
    ) -> TableDataset:
        """Return a map-style dataset for torch's own ``DataLoader``, read in batches; needs no torch itself.

        Raises
        ------
        InvalidArgumentError, ColumnNotFoundError, FilterError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
        >>> dataset = table.torch_dataset(columns=["x"], where="x > 3")
        >>> len(dataset)
        4
        """
        options = LoaderOptions(
            columns=columns,
            where=where,
            decode=decode or {},
            transform=transform,
            on_bad_rows=on_bad_rows,
            on_missing=on_missing,
        )
        return TableDataset(self._streamed(options), options, pin=not self._read_only)

    def batch_sampler(
        self,
        dataset: TableDataset,
        *,
        batch_size: int = 64,
        shuffle: Any = True,
        shuffle_memory: int | str | None = None,
        seed: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        drop_last: Any = True,
    ) -> BatchSampler:
        """Return the order of `loader` for a `torch_dataset`, as a batch sampler for torch's ``DataLoader``.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
        >>> dataset = table.torch_dataset(columns=["x"])
        >>> [len(batch) for batch in table.batch_sampler(dataset, batch_size=4)]
        [4, 4]
        """
        options = LoaderOptions(
            batch_size=batch_size,
            shuffle=shuffle,
            shuffle_memory=shuffle_memory,
            seed=seed,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
        )
        return BatchSampler(dataset, options)

    def torch_iterable(self, **options: Any) -> TableIterable:
        """Return an iterable dataset of whole batches, for ``DataLoader(dataset, batch_size=None)``.

        Takes what `loader` takes but ``num_workers`` and ``pin_memory``, which are the DataLoader's.

        Raises
        ------
        MissingDependencyError
            PyTorch is not installed.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
        >>> [len(batch["x"]) for batch in table.torch_iterable(columns=("x",), batch_size=4)]
        [4, 4]
        """
        require("torch", "t.torch_iterable()")
        from lakehouse.loader.iterable import TableIterable

        asked = LoaderOptions.of(**options)
        return TableIterable(self._streamed(asked), asked, pin=not self._read_only)

    def _streamed(self, options: LoaderOptions) -> Snapshot:
        return self._writable() if options.on_missing == "fill" else self.snapshot()

    def save_selection(
        self,
        name: str,
        *,
        where: Where | None = None,
        columns: Iterable[str] | None = None,
        shuffle: Any = True,
        seed: int = 0,
        on_missing: Any = "raise",
    ) -> SavedSelection:
        """Keep under a name what a loader with these arguments reads: version, rows, columns as they were made, order.

        The version is tagged, so clean-up spares it. `lake.open_selection` opens it again, wherever the lake is.

        Raises
        ------
        AlreadyExistsError
            The name is taken.
        ConflictError
            Somebody else is saving under this name at this moment.
        DataError
            Features are missing or stale in some rows, see `LoaderOptions`.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": i} for i in range(8)])
        >>> table.save_selection("train-a", where="x > 3").num_rows
        4
        """
        options = LoaderOptions(columns=columns, where=where, shuffle=shuffle, seed=seed, on_missing=on_missing)
        return saving.save(self._writable() if on_missing == "fill" else self._named(), name, options)

    def split_leaks(self, split: str, content: str = "image", *, progress: bool | None = None) -> pa.Table:
        """Find contents that stand in more than one split, by the sha256 of their bytes.

        Parameters
        ----------
        split
            The column with the splits; rows where it is NULL are in none.
        content
            The column to compare: media, words, bytes or whole numbers. NULL equals nothing.
        progress
            ``None`` shows a bar on a terminal and one log line a minute elsewhere, ``False`` nothing.

        Returns
        -------
        pyarrow.Table
            ``sha256, row_ids, splits``: one row a content; ``splits[i]`` is the split of ``row_ids[i]``.

        Raises
        ------
        ColumnNotFoundError
        SchemaError
            A content of another type.

        Examples
        --------
        >>> rows = [{"text": "a", "split": "train"}, {"text": "b", "split": "val"}, {"text": "a", "split": "val"}]
        >>> table = lh.connect(folder).create_table("pets", data=rows)
        >>> table.split_leaks("split", "text", progress=False).drop_columns("sha256").to_pylist()
        [{'row_ids': [0, 2], 'splits': ['train', 'val']}]
        """
        return splits.split_leaks(self.snapshot(), split, content, progress=progress)

    # Versions

    def history(self, limit: int | None = None) -> pa.Table:
        """Return what happened to the table, newest first.

        Returns
        -------
        pyarrow.Table
            ``version, timestamp, operation, author, message, num_rows, tags``.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> table.history()["message"].to_pylist()[0]
        "adding rows to 'pets'"
        """
        return versions.history(self.snapshot(), limit)

    def tag(self, name: str) -> None:
        """Name the version this handle reads now; a tagged version is never cleaned up.

        Raises
        ------
        AlreadyExistsError
            The name is on another version.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> table.tag("v1")
        >>> _ = table.delete("true")
        >>> len(table.checkout("v1")), len(table)
        (1, 0)
        """
        versions.tag(self._named(), name)

    def untag(self, name: str) -> None:
        """Remove a tag.

        Raises
        ------
        VersionNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> table.tag("v1")
        >>> table.untag("v1")
        >>> table.tags()
        {}
        """
        versions.untag(self._named(), name)

    def tags(self) -> dict[str, int]:
        """Return the tags and their versions.

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> table.tag("v1")
        >>> table.tags() == {"v1": table.version}
        True
        """
        return versions.tags(self.snapshot())

    def compact(
        self,
        *,
        target_rows_per_fragment: int = FRAGMENT_ROWS,
        max_nbytes_per_fragment: int = FRAGMENT_NBYTES,
        progress: bool | None = None,
    ) -> CompactResult:
        """Put small neighbouring fragments together and take out deleted rows, beside whatever others do.

        Fragments that somebody fills are left alone. Row ids, indexes and values stay; the files that were copied are
        kept for older versions.

        Parameters
        ----------
        target_rows_per_fragment
            Rows a fragment should have; those with fewer are put together.
        max_nbytes_per_fragment
            Bytes a fragment should have at most, media included. A fragment of half that size is left as it is, unless
            most of its rows are deleted.
        progress
            ``None`` shows a bar on a terminal and one log line a minute elsewhere, ``False`` nothing.

        Raises
        ------
        InvalidArgumentError, ReadOnlyError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> _ = table.add([{"x": 2}], progress=False)
        >>> print(table.compact(progress=False))
        2 fragments became 1: 2 rows moved
        """
        return maintenance.compact(
            self._writable(),
            target_rows_per_fragment=target_rows_per_fragment,
            max_nbytes_per_fragment=max_nbytes_per_fragment,
            progress=progress,
        )

    def checkout(self, version: int | str | dt.datetime) -> Table:
        """Return a handle pinned to a version, a tag or a time; this one stays as it is.

        Raises
        ------
        VersionNotFoundError

        Examples
        --------
        >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
        >>> then = table.checkout(table.version)
        >>> _ = table.delete("true")
        >>> len(then)
        1
        """
        return Table(self._lake, self._name, version, read_only=self._read_only)


def _reopen(lake: Location, name: str, pin: int | str | None, read_only: bool) -> Table:
    return Table(lake, name, pin, read_only=read_only)
