"""The answer to a statement: computed at the first fetch, once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse._optional import require
from lakehouse.errors import InvalidArgumentError, QueryError, ResourceLimitError, no_column, translated
from lakehouse.reads import ROW_ID
from lakehouse.sql.functions import ERRORS
from lakehouse.sql.grid import Grid
from lakehouse.sql.scans.carried import carried_by, fill_in, fill_in_pieces, filled_schema
from lakehouse.values import frame, python_values

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    import duckdb
    import pandas as pd

    from lakehouse.sql.execution import Execution
    from lakehouse.sql.limits import SqlLimits

__all__ = ["Result"]

_SHOWN_ROWS = 20


class Result:
    """The answer to a statement, as `Lake.sql` returns it.

    Versions are pinned when the statement is asked; it runs at the first fetch, once. `arrow` and what builds on it
    (`df`, `fetchall`, `show`) keep the rows, so that fetching again costs nothing. `batches` hands them out once, in
    bounded memory. A result can be added to a table, or handed to another statement in ``tables=``.

    Examples
    --------
    >>> lake = lh.connect(folder)
    >>> pets = lake.create_table("pets", data=[{"kind": "cat", "width": 640}, {"kind": "dog", "width": 320}])
    >>> result = lake.sql("SELECT kind, width * 2 AS twice FROM pets WHERE width > $w ORDER BY kind", {"w": 100})
    >>> result.schema.names, result.versions == {"pets": pets.version}
    (['kind', 'twice'], True)
    >>> result.fetchall()
    [('cat', 1280), ('dog', 640)]
    """

    def __init__(
        self,
        execution: Execution,
        limits: SqlLimits,
        versions: Mapping[str, int],
        cursor: Callable[[], duckdb.DuckDBPyConnection],
    ) -> None:
        self._execution = execution
        self._carried = execution.question.carried
        self._limits = limits
        self._versions = dict(versions)
        self._cursor = cursor
        self._lock = threading.RLock()
        self._schema: pa.Schema | None = None
        self._rows: pa.Table | None = None  # as computed, row ids in the place of media
        self._table: pa.Table | None = None
        self._state = "not run"

    @property
    def schema(self) -> pa.Schema:
        """The columns of the answer; asking does not compute it."""
        with self._lock:
            if self._schema is None:
                self._schema = filled_schema(self._execution.schema(), self._carried)
            return self._schema

    @property
    def versions(self) -> dict[str, int]:
        """The version of each table of the lake that is read."""
        return dict(self._versions)

    def arrow(self) -> pa.Table:
        """Return all rows, media as bytes.

        Raises
        ------
        QueryError
            The statement fails on the data, or `batches` was called before.
        ResourceLimitError
            A limit of `SqlLimits` is reached.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT range AS n FROM range(3)").arrow()["n"].to_pylist()
        [0, 1, 2]
        """
        with self._lock:
            if self._table is None:
                self._table = self._filled_in(self._computed())
            return self._table

    def _computed(self) -> pa.Table:
        with self._lock:
            if self._rows is None:
                schema, batches = self._run("arrow")
                self._rows = pa.Table.from_batches(batches, schema)
                self._schema = filled_schema(schema, self._carried)
            return self._rows

    def _filled_in(self, rows: pa.Table) -> pa.Table:
        return fill_in(rows, self._carried, self._limits.max_media_nbytes)

    def batches(self) -> pa.RecordBatchReader:
        """Stream the rows in bounded memory.

        Raises
        ------
        QueryError
            The rows were streamed already.

        Examples
        --------
        >>> stream = lh.connect(folder).sql("SELECT range AS n FROM range(1000000)").batches()
        >>> sum(batch.num_rows for batch in stream)
        1000000
        """
        return self._stream("batches", waited_for=False)

    def _stream(self, by: str, *, waited_for: bool) -> pa.RecordBatchReader:
        with self._lock:
            if self._table is not None:
                return self._table.to_reader()
            if self._rows is not None:
                schema, batches = self._rows.schema, iter(self._rows.to_batches())
            else:
                schema, batches = self._run(by, waited_for=waited_for)
            self._schema = filled_schema(schema, self._carried)
            return pa.RecordBatchReader.from_batches(self._schema, self._filled(schema, batches))

    def _filled(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if not any(carried_by(column.type, self._carried) for column in schema):
            yield from batches
            return
        for batch in batches:
            yield from fill_in_pieces(batch, self._carried, self._limits.max_media_nbytes)

    def _run(self, by: str, *, waited_for: bool = True) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        if self._state != "not run":
            raise QueryError(
                f"the rows of this result are gone: {self._state}() handed them out, or stopped on the way; "
                "ask lake.sql(…) again, or call arrow() first, which keeps them"
            )
        self._state = by
        schema, batches = self._execution.batches(waited_for=waited_for)
        return schema, self._counted(batches)

    def _counted(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        left = self._limits.max_rows
        for batch in batches:
            if left is not None:
                left -= batch.num_rows
                if left < 0:
                    raise ResourceLimitError(
                        f"the result has more than max_rows = {self._limits.max_rows} rows; "
                        "add a LIMIT, or raise the limit"
                    )
            yield batch

    def errors(self) -> pa.Table:
        """Return which media functions could not read how many media so far; their values are NULL.

        Returns
        -------
        pyarrow.Table
            ``function, num_failed, message``, the message that of the first one.

        Examples
        --------
        >>> result = lh.connect(folder).sql("SELECT image_width(b) FROM t", tables={"t": [{"b": b"no picture"}]})
        >>> result.fetchall(), result.errors()["num_failed"].to_pylist()
        ([(None,)], [1])
        """
        calls = self._execution.question.calls
        return calls.errors() if calls is not None else pa.Table.from_pylist([], schema=ERRORS)

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        """Return one column.

        ``_rowid`` is there where it is selected, and where the answer holds media of one table:
        ``table.rows(result["_rowid"])`` opens the samples.

        Raises
        ------
        ColumnNotFoundError
        InvalidArgumentError
            It is no name, or one of several columns.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> pets = lake.create_table("pets", data=[{"id": "a", "width": 640}, {"id": "b", "width": 320}])
        >>> wide = lake.sql("SELECT _rowid, width FROM pets WHERE width > 500")
        >>> pets.rows(wide["_rowid"])[0]["id"]
        'a'
        """
        if not isinstance(column, str):
            raise InvalidArgumentError(
                f"result[{column!r}]: columns go by their names; rows come from fetchall(), arrow() and batches()"
            )
        rows = self._computed()
        carriers = [at for at, field in enumerate(rows.schema) if carried_by(field.type, self._carried)]
        if column == ROW_ID and column not in rows.column_names and carriers:
            return self._carried_ids(rows, carriers)
        if column not in rows.column_names:
            raise no_column(column, rows.column_names)
        if rows.column_names.count(column) > 1:
            raise InvalidArgumentError(f"several columns are called {column!r}; tell them apart in the SELECT with AS")
        return self._filled_in(rows.select([column])).column(0)

    def _carried_ids(self, rows: pa.Table, carriers: list[int]) -> pa.ChunkedArray:
        slots = {self._carried[rows.field(at).type.field(0).name].slot for at in carriers}
        if len(slots) > 1:
            raise QueryError("the answer holds media of several tables; select the row ids that are meant: t._rowid")
        return pc.struct_field(rows.column(carriers[0]), [0])

    def df(self) -> pd.DataFrame:
        """Return all rows as a pandas DataFrame; needs ``lance-lakehouse[pandas]``.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT 1 AS a, 'x' AS b").df().to_dict("records")
        [{'a': 1, 'b': 'x'}]
        """
        require("pandas", "SQL results as a DataFrame")
        table = self.arrow()
        for at in self._execution.hugeints:
            table = table.set_column(at, table.column_names[at], _as_numbers(table.column(at)))
        return frame(table)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python values.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT ? + 1, ?", [2, "x"]).fetchall()
        [(3, 'x')]
        """
        columns = [python_values(column) for column in self.arrow().columns]
        for at in self._execution.hugeints:
            columns[at] = [value if value is None else int(value) for value in columns[at]]
        return list(zip(*columns, strict=True))

    def show(self, max_rows: int = _SHOWN_ROWS) -> None:
        """Print the first rows as a table; media as their size. Of media, only those shown are read.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT 1 AS a").show()
        ┏━━━┓
        ┃ a ┃
        ┡━━━┩
        │ 1 │
        └───┘
        1 row
        """
        self._grid(max_rows).print()

    def explain(self) -> str:
        """Return which versions are read and how, and DuckDB's plan.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> table = lake.create_table("pets", data=[{"id": "a", "width": 640}])
        >>> _ = table.create_index("id", lh.BTree())
        >>> print(lake.sql("SELECT width FROM pets WHERE id = 'a'").explain())
        pets: version ...
        pets: Lance answers `id` = 'a' from the index id_idx
        ...
        """
        cursor = self._cursor()
        try:
            plan = self._execution.explain(cursor)
        finally:
            cursor.close()
        versions = [f"{name}: version {version}" for name, version in self._versions.items()]
        return "\n".join([*versions, *self._execution.question.read_by_lance(), plan])

    def write_parquet(self, path: str | os.PathLike[str] | BinaryIO) -> None:
        """Write all rows to a Parquet file, in bounded memory.

        Parameters
        ----------
        path
            Where, or an open file, which need not be seekable.

        Raises
        ------
        QueryError
            Parquet has no such type as one of the columns.
        StorageError
            The file cannot be written.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> lake.sql("SELECT range AS n FROM range(3)").write_parquet("numbers.parquet")
        >>> lake.create_table("numbers", data=lh.read_parquet("numbers.parquet")).count_rows()
        3
        """
        import pyarrow.parquet as pq

        _check_parquet(self.schema)
        reader = self._stream("write_parquet", waited_for=True)
        where = f"writing {getattr(path, 'name', path)}"
        with translated(where), pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows to anything that reads Arrow streams: ``table.add(result)``, ``pa.table(result)``."""
        return self.batches().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        state = f"{self._rows.num_rows:,} rows" if self._rows is not None else self._state
        columns = ", ".join(self.schema.names) if self._schema is not None or self._state == "not run" else ""
        return f"<Result {state}: {columns}>"

    def _repr_html_(self) -> str:
        return self._grid(_SHOWN_ROWS).html()

    def _grid(self, max_rows: int) -> Grid:
        """Read the media of the rows that are shown, and of no others."""
        rows = self._computed()
        return Grid(self._filled_in(rows.slice(0, max_rows)), rows.num_rows, self.errors().to_pylist())


def _check_parquet(schema: pa.Schema) -> None:
    """Name the column before anything is computed or written."""
    import pyarrow.parquet as pq

    for field in schema:
        try:
            pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([field])).close()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:  # the latter: a map of which nothing is known
            other = f"epoch_us({field.name})" if pa.types.is_interval(field.type) else f"{field.name}::VARCHAR"
            raise QueryError(
                f"column {field.name!r} is {field.type}, which Parquet does not hold; select {other}"
            ) from error


def _as_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return 128-bit integers in 64 bits where they fit, else as floats, as DuckDB's own DataFrames have them."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid:
        return column.cast(pa.float64())
