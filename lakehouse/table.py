"""What users hold: one table of a lake. Every method is a few lines that call the room where the work is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse import display, failures, info, ingest, reads, rows, samples, versions
from lakehouse.errors import ReadOnlyError, translated
from lakehouse.features import backfill, columns, ledger, preview
from lakehouse.location import Location
from lakehouse.schema.lineage import feature_columns
from lakehouse.snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pyarrow as pa

    from lakehouse.features.udf import UDF
    from lakehouse.where import Where


class Table:
    """One table of a lake; made by `Lake.open_table` and `Lake.create_table`.

    A handle without a version reads the newest one at each call, and each call sees one version. A pinned handle never
    moves and refuses writes. Handles pickle without credentials.

    Examples
    --------
    >>> lake = connect(folder)
    >>> pets = lake.create_table("pets", data=[{"id": "a", "width": 3}, {"id": "b", "width": 4}])
    >>> pets
    <Table pets: 2 rows, 2 columns, version 2, ...>
    """

    def __init__(self, lake: Location, name: str, version: int | str | None = None, *, read_only: bool = False) -> None:
        self._lake = lake
        self._name = name
        self._pin = version
        self._read_only = read_only
        self._opened = open_snapshot(lake, name, version)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as where it is; credentials stay behind, workers take theirs from the environment."""
        return _reopen, (self._lake.uri, self._name, self._pin, self._read_only)

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    @property
    def uri(self) -> str:
        """The folder that `lance.dataset` opens."""
        return self._opened.uri

    @property
    def version(self) -> int:
        """The version this handle reads now."""
        return self.snapshot().version

    @property
    def schema(self) -> pa.Schema:
        """The columns as Arrow fields; media are bytes, stamps are left out."""
        return self.snapshot().schema

    def snapshot(self) -> Snapshot:
        """Return the version this handle reads now, as the modules below take it."""
        now = self._opened
        with translated(f"opening table {self._name!r}"):
            moved = self._pin is None and now.dataset.latest_version != now.version
        if moved:
            self._opened = open_snapshot(self._lake, self._name, session=now.dataset.session())
        return self._opened

    def _writable(self) -> Snapshot:
        if self._pin is not None:
            raise ReadOnlyError(f"this handle of {self._name!r} is pinned to {self._pin!r}; open the table without a version to write")
        if self._read_only:
            raise ReadOnlyError(f"the lake was opened with read_only=True; connect again without it to write to {self._name!r}")
        return self.snapshot()

    def __len__(self) -> int:
        return self.snapshot().num_rows

    def __repr__(self) -> str:
        return display.table_text(info.outline(self.snapshot()))

    def _repr_html_(self) -> str:
        return display.notebook_html(self.snapshot())

    def info(self) -> info.TableInfo:
        """Return what is known of the table without reading its values."""
        now = self.snapshot()
        return info.inspect(now, ledger.features(now))

    # Rows

    def add(self, data: Any, *, on_bad_rows: ingest.OnBadRows = "raise", on_duplicate_key: ingest.OnDuplicateKey = "raise", progress: bool | None = None) -> ingest.WriteResult:
        """Add rows: one version or none."""
        now = self._writable()
        return ingest.add(now, data, on_bad_rows=on_bad_rows, on_duplicate_key=on_duplicate_key, features=feature_columns(now.features), progress=progress)

    def merge_insert(self, on: str) -> rows.MergeInsert:
        """Begin an upsert on the key."""
        return rows.merge_insert(self._writable(), on)

    def update(self, where: Where | None = None, values: Mapping[str, Any] | None = None, values_sql: Mapping[str, str] | None = None) -> ingest.WriteResult:
        """Change columns of the rows that match."""
        return rows.update(self._writable(), where, values, values_sql)

    def delete(self, where: Where) -> ingest.WriteResult:
        """Delete the rows that match."""
        return rows.delete(self._writable(), where)

    def take(self, offsets: Sequence[int], columns: Iterable[str] | None = None, *, max_media_nbytes: int = reads.MAX_MEDIA_NBYTES) -> pa.Table:
        """Read rows by position."""
        return reads.take(self.snapshot(), offsets, columns, max_media_nbytes=max_media_nbytes)

    def take_row_ids(self, row_ids: Sequence[int], columns: Iterable[str] | None = None, *, max_media_nbytes: int = reads.MAX_MEDIA_NBYTES) -> pa.Table:
        """Read rows by row id."""
        return reads.take_row_ids(self.snapshot(), row_ids, columns, max_media_nbytes=max_media_nbytes)

    def get(self, keys: Sequence[Any], columns: Iterable[str] | None = None, *, max_media_nbytes: int = reads.MAX_MEDIA_NBYTES) -> pa.Table:
        """Read rows by key."""
        return reads.get(self.snapshot(), keys, columns, max_media_nbytes=max_media_nbytes)

    def __getitem__(self, key: Any) -> samples.Row:
        """Return one row by its key."""
        now = self.snapshot()
        return samples.rows(now, reads.row_ids_of_keys(now, [key]))[0]

    def rows(self, row_ids_or_keys: Sequence[Any]) -> list[samples.Row]:
        """Return rows by row id or key, media as lazy handles."""
        now = self.snapshot()
        wanted = row_ids_or_keys.to_pylist() if hasattr(row_ids_or_keys, "to_pylist") else list(row_ids_or_keys)
        by_id = all(isinstance(value, int | np.integer) for value in wanted)
        return samples.rows(now, wanted if by_id else reads.row_ids_of_keys(now, wanted))

    def head(self, n: int = 5, columns: Iterable[str] | None = None) -> pa.Table:
        """Read the first rows."""
        return reads.head(self.snapshot(), n, columns)

    def sample(self, n: int, seed: int | None = None, columns: Iterable[str] | None = None) -> pa.Table:
        """Read rows drawn at random without repeats."""
        return reads.sample(self.snapshot(), n, seed, columns)

    def count_rows(self, where: Where | None = None) -> int:
        """Count the rows that match."""
        return reads.count_rows(self.snapshot(), where)

    def to_arrow(self, columns: Iterable[str] | None = None, where: Where | None = None, *, max_media_nbytes: int = reads.MAX_MEDIA_NBYTES) -> pa.Table:
        """Read columns of the rows that match."""
        return reads.to_table(self.snapshot(), columns, where, max_media_nbytes=max_media_nbytes)

    def to_batches(self, columns: Iterable[str] | None = None, where: Where | None = None, batch_size: int | None = None) -> pa.RecordBatchReader:
        """Stream columns of the rows that match."""
        return reads.scan(self.snapshot(), columns, where, batch_size=batch_size)

    # Features

    def add_columns(self, new: Mapping[str, UDF | str | pa.Field]) -> int:
        """Declare columns; metadata only."""
        return columns.add_columns(self._writable(), new)

    def backfill(
        self,
        columns: str | Sequence[str] | None = None,
        udf: UDF | None = None,
        where: Where | None = None,
        only: backfill.Only | None = None,
        num_workers: int = 0,
        executor: Any = "local",
        on_error: backfill.OnError = "record",
        max_error_rate: float | None = None,
        limit: int | None = None,
        dry_run: bool = False,
        progress: bool | None = None,
    ) -> Any:
        """Fill feature columns."""
        backfill.check_available(num_workers, executor)
        options = backfill.Options(where, only, on_error, max_error_rate, limit, progress)
        run = backfill.plan if dry_run else backfill.backfill_columns
        return run(self._writable(), columns, udf, options)

    def preview(self, udf: UDF, n: int = 5) -> preview.Preview:
        """Run a function on a sample; nothing is stored."""
        return preview.preview(self.snapshot(), udf, n)

    def features(self) -> pa.Table:
        """Return the state of every computed column."""
        return ledger.features(self.snapshot())

    def errors(self, columns: str | Sequence[str] | None = None) -> pa.Table:
        """Return the rows that could not be stored or computed."""
        wanted = [columns] if isinstance(columns, str) else columns
        return failures.read(self._lake, self._name, wanted)

    def alter_udf(self, column: str, udf: UDF) -> int:
        """Declare a changed function; the column is stale until it is filled again."""
        return columns.alter_udf(self._writable(), column, udf)

    def accept(self, column: str, udf: UDF) -> int:
        """Declare the values there are right for a changed function."""
        return columns.accept(self._writable(), column, udf)

    def drop_columns(self, names: Iterable[str]) -> int:
        """Remove columns; metadata only."""
        return columns.drop_columns(self._writable(), names)

    def rename_column(self, old: str, new: str) -> int:
        """Rename a column; metadata only."""
        return columns.rename_column(self._writable(), old, new)

    # Versions

    def history(self, limit: int | None = None) -> pa.Table:
        """Return what happened to the table, newest first."""
        return versions.history(self.snapshot(), limit)

    def tag(self, name: str) -> None:
        """Name the version this handle reads now."""
        versions.tag(self.snapshot(), name)

    def untag(self, name: str) -> None:
        """Remove a tag."""
        versions.untag(self._writable(), name)

    def tags(self) -> dict[str, int]:
        """Return the tags and their versions."""
        return versions.tags(self.snapshot())

    def checkout(self, version: int | str) -> Table:
        """Return a handle pinned to a version or a tag."""
        return Table(self._lake, self._name, version, read_only=self._read_only)


def _reopen(uri: str, name: str, pin: int | str | None, read_only: bool) -> Table:
    return Table(Location.of(uri), name, pin, read_only=read_only)
