"""The answer to a statement: computed at the first fetch, once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse._optional import require
from lakehouse.errors import QueryError, ResourceLimitError, translated
from lakehouse.sql.carried import carried_by, fill_in, fill_in_pieces, filled_schema
from lakehouse.sql.functions import ERRORS
from lakehouse.sql.grid import Grid

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

    import duckdb
    import pandas as pd

    from lakehouse.sql.execution import Execution
    from lakehouse.sql.limits import Limits

__all__ = ["Result"]


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
        limits: Limits,
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
            A limit of `Limits` is reached.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT range AS n FROM range(3)").arrow()["n"].to_pylist()
        [0, 1, 2]
        """
        with self._lock:
            if self._table is None:
                schema, batches = self._run("arrow")
                table = pa.Table.from_batches(batches, schema)
                self._table = fill_in(table, self._carried, self._limits.max_media_nbytes)
                self._schema = self._table.schema
            return self._table

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
        with self._lock:
            if self._table is not None:
                return self._table.to_reader()
            schema, batches = self._run("batches")
            self._schema = filled_schema(schema, self._carried)
            return pa.RecordBatchReader.from_batches(self._schema, self._filled(schema, batches))

    def _filled(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        if not any(carried_by(column.type, self._carried) for column in schema):
            yield from batches
            return
        for batch in batches:
            yield from fill_in_pieces(batch, self._carried, self._limits.max_media_nbytes)

    def _run(self, by: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        if self._state != "not run":
            raise QueryError(
                f"the rows of this result are gone: {self._state}() handed them out, or stopped on the way; "
                "ask lake.sql(…) again, or call arrow() first, which keeps them"
            )
        self._state = by
        schema, batches = self._execution.batches()
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

    def df(self) -> pd.DataFrame:
        """Return all rows as a pandas DataFrame; needs ``lance-lakehouse[pandas]``.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT 1 AS a, 'x' AS b").df().to_dict("records")
        [{'a': 1, 'b': 'x'}]
        """
        require("pandas", "SQL results as a DataFrame")
        frame: pd.DataFrame = self.arrow().to_pandas()
        return frame

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all rows as tuples of Python values.

        Examples
        --------
        >>> lh.connect(folder).sql("SELECT ? + 1, ?", [2, "x"]).fetchall()
        [(3, 'x')]
        """
        columns = [column.to_pylist() for column in self.arrow().columns]
        return list(zip(*columns, strict=True))

    def show(self, max_rows: int = 20) -> None:
        """Print the first rows as a table; media as their size.

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
        Grid(self.arrow(), max_rows, self.errors().to_pylist()).print()

    def explain(self) -> str:
        """Return which versions are read and how, and DuckDB's plan.

        Examples
        --------
        >>> lake = lh.connect(folder)
        >>> _ = lake.create_table("pets", data=[{"id": "a", "width": 640}])
        >>> print(lake.sql("SELECT width FROM pets WHERE id = 'a'").explain())
        pets: version ...
        pets: Lance answers (`id` = 'a')
        ...
        """
        cursor = self._cursor()
        try:
            plan = self._execution.explain(cursor)
        finally:
            cursor.close()
        versions = [f"{name}: version {version}" for name, version in self._versions.items()]
        return "\n".join([*versions, *self._execution.question.read_by_lance(), plan])

    def write_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write all rows to a Parquet file, in bounded memory.

        Raises
        ------
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

        reader = self.batches()
        with translated(f"writing {path}"), pq.ParquetWriter(path, reader.schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_batch(batch)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Hand the rows to anything that reads Arrow streams: ``table.add(result)``, ``pa.table(result)``."""
        return self.batches().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        state = f"{self._table.num_rows:,} rows" if self._table is not None else self._state
        columns = ", ".join(self.schema.names) if self._schema is not None or self._state == "not run" else ""
        return f"<Result {state}: {columns}>"

    def _repr_html_(self) -> str:
        return Grid(self.arrow(), 20, self.errors().to_pylist()).html()
