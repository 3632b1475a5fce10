"""Columns from elsewhere, kept on disk and handed out in the order of the table's rows, in bounded memory.

The values are distributed into buckets, each a stretch of the table that fits into memory; keys alone, with the
positions of their rows, go through DuckDB, which joins and sorts beyond its memory limit on disk. So values may be of
any Arrow type and of any size, and the data in any order.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import types
from lakehouse.errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import duckdb

__all__ = ["Keys", "Matched", "Rows", "Spool", "spooled"]

Keys: TypeAlias = tuple[pa.Array, npt.NDArray[np.uint64]]  # and addresses
Rows: TypeAlias = tuple[pa.Table, npt.NDArray[np.uint64]]  # and addresses

# Together with a bucket in two forms and a file being written, some 400 MB at most.
_DUCKDB_NBYTES = 128 << 20
_BUCKET_NBYTES = 32 << 20
_CHUNK_NBYTES = 32 << 20  # of data distributed at once
_BATCH_NBYTES = 8 << 20
_PLACE_NBYTES = 32  # of a row without data, in a bucket
_ROWS = 65_536
_POSITION = "_position"
_PREFIX = "lakehouse-columns-"
_LOCK = "lock"
_YOUNG_S = 60.0  # it may not have been locked yet


@dataclass(frozen=True)
class Matched:
    """How data and rows of a table fit together.

    Parameters
    ----------
    num_rows
        Rows of the table that have data.
    num_missing
        Rows of the table that have none.
    num_unmatched
        Rows of the data whose key is not in the table.
    missing, unmatched
        Some of these keys, for messages.
    """

    num_rows: int
    num_missing: int
    num_unmatched: int
    missing: tuple[Any, ...]
    unmatched: tuple[Any, ...]


@contextmanager
def spooled(schema: pa.Schema, on: str) -> Iterator[Spool]:
    """Yield an empty spool in a temporary folder of its own, which is removed afterwards."""
    import duckdb

    _remove_abandoned()
    with TemporaryDirectory(prefix=_PREFIX) as folder, Path(folder, _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with translated("opening DuckDB"):
            connection = duckdb.connect(str(Path(folder, "keys.duckdb")))
        try:
            for setting in (f"memory_limit = '{_DUCKDB_NBYTES}B'", f"temp_directory = '{folder}'", "threads = 2"):
                connection.execute(f"SET GLOBAL {setting}")
            yield Spool(Path(folder), connection, schema, on)
        finally:
            connection.close()


def _remove_abandoned() -> None:
    """Remove the folders of processes that were killed: nobody holds their locks."""
    for folder in Path(gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is in use, or just went, or is somebody else's
            if time.time() - folder.stat().st_mtime > _YOUNG_S:
                with (folder / _LOCK).open("rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder)


class Spool:
    """The data, and where each row of it belongs.

    Parameters
    ----------
    folder
        Where it is kept.
    connection
        To a database of its own.
    schema
        The columns, the key among them.
    on
        The key.
    """

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection, schema: pa.Schema, on: str) -> None:
        self._folder = folder
        self._duckdb = connection
        self._on = on
        self._key = schema.field(on).type
        self._schema = pa.schema([field for field in schema if field.name != on])
        self._kept = pa.schema([field.with_type(_kept_type(field.type)) for field in self._schema])
        self._digest = hashlib.sha256(repr(schema.remove_metadata()).encode())
        self._nbytes_a_row: list[tuple[int, int]] = []
        self.num_rows = 0
        key = _comparable(self._key)
        empty = pa.schema([("key", key), ("position", pa.int64()), ("address", pa.uint64())]).empty_table()
        self._run("CREATE TABLE data AS SELECT key, position FROM rows", empty)
        self._run("CREATE TABLE places AS SELECT key, address FROM rows", empty)

    @property
    def digest(self) -> str:
        """What the data are: the same again for the same rows in the same batches."""
        return self._digest.hexdigest()

    def append(self, batch: pa.RecordBatch) -> None:
        """Keep some rows."""
        rows = max(1, int(batch.num_rows * _BATCH_NBYTES / max(batch.nbytes, 1)))
        for start in range(0, batch.num_rows, rows):
            self._append(batch.slice(start, rows))

    def _append(self, batch: pa.RecordBatch) -> None:
        key = _decoded(batch.column(self._on))
        self._digest.update(pa.RecordBatch.from_arrays([key], ["key"]).serialize())
        columns = [batch.column(name) for name in self._schema.names]
        codes = [column.indices if pa.types.is_dictionary(column.type) else column for column in columns]
        values = pa.RecordBatch.from_arrays(codes, schema=self._kept)
        message = values.serialize()
        self._digest.update(message)
        with (self._folder / "values").open("ab") as file:
            file.write(message)
        positions = pa.array(np.arange(self.num_rows, self.num_rows + batch.num_rows))
        self._run("INSERT INTO data SELECT * FROM rows", pa.table({"key": _comparable(key), "position": positions}))
        self.num_rows += batch.num_rows
        self._nbytes_a_row.append((self.num_rows, message.size // max(batch.num_rows, 1)))

    def twice(self) -> tuple[Any, int] | None:
        """Return a key that is in the data more than once, and how often; None if there is none."""
        sql = "SELECT key, count(*) FROM data WHERE key IS NOT NULL GROUP BY key HAVING count(*) > 1 ORDER BY 1 LIMIT 1"
        return next(((*self._keys([key]), count) for key, count in self._run(sql)), None)

    def place(self, rows: Iterable[Keys]) -> Matched:
        """Say which rows of the table the data are for.

        Parameters
        ----------
        rows
            Their keys and addresses, in batches; what was placed before is forgotten.
        """
        self._run("DELETE FROM places")
        for keys, addresses in rows:
            rows_here = pa.table({"key": _comparable(keys), "address": addresses})
            self._run("INSERT INTO places SELECT * FROM rows", rows_here)
        self._run(
            "CREATE OR REPLACE TABLE placed AS "
            "SELECT address, position FROM places LEFT JOIN data USING (key) ORDER BY address"
        )
        num_rows, num_all = self._run("SELECT count(position), count(*) FROM placed")[0]
        unmatched = "FROM data ANTI JOIN places USING (key)"
        return Matched(
            num_rows=num_rows,
            num_missing=num_all - num_rows,
            num_unmatched=self._run(f"SELECT count(*) {unmatched}")[0][0],
            missing=self._some("FROM places ANTI JOIN data USING (key)"),
            unmatched=self._some(unmatched),
        )

    def addresses(self, fragment_id: int, *, keep_missing: bool) -> npt.NDArray[np.uint64]:
        """Return the addresses of the placed rows of a fragment, ascending."""
        span = {"first": fragment_id << 32, "end": (fragment_id + 1) << 32}
        batches = self._batches(
            "SELECT address FROM placed WHERE address >= $first AND address < $end AND ($all OR position IS NOT NULL)",
            {**span, "all": keep_missing},
        )
        return np.concatenate([np.empty(0, np.uint64), *(np.asarray(batch.column(0)) for batch in batches)])

    def in_order(self, *, keep_missing: bool) -> Iterator[Rows]:
        """Yield values and addresses of the placed rows, ascending.

        Parameters
        ----------
        keep_missing
            Whether rows without data are handed out too, with NULLs.
        """
        self._run("CREATE OR REPLACE TABLE homes (position BIGINT, bucket INTEGER)")
        buckets = self._divide(keep_missing=keep_missing)
        self._distribute()
        for number in range(buckets):
            yield self._bucket(number)

    def _divide(self, *, keep_missing: bool) -> int:
        """Cut the placed rows, which DuckDB hands out in the order it was given them, into buckets; return how many."""
        ends, sizes = (np.array(column, dtype=np.int64) for column in zip(*self._nbytes_a_row or [(0, 0)], strict=True))
        number, filled = 0, 0
        homes = self._duckdb.cursor()
        for batch in self._batches(
            "SELECT address, position FROM placed WHERE $all OR position IS NOT NULL", {"all": keep_missing}
        ):
            addresses = np.asarray(batch.column("address"))
            positions = np.asarray(batch.column("position").fill_null(-1))
            batch_of = np.searchsorted(ends, positions, side="right").clip(max=len(sizes) - 1)
            after = filled + np.cumsum(_PLACE_NBYTES + np.where(positions < 0, 0, sizes[batch_of]))
            bucket = number + after // _BUCKET_NBYTES
            number, filled = int(bucket[-1]), int(after[-1] % _BUCKET_NBYTES)
            for each in np.unique(bucket):
                inside = bucket == each
                with (self._folder / f"{each}.places").open("ab") as file:
                    file.write(np.column_stack([addresses[inside].astype(np.int64), positions[inside]]).tobytes())
            found = pa.table({"position": positions, "bucket": bucket.astype(np.int32)}).filter(
                pc.field("position") >= 0
            )
            homes.register("found", found)
            homes.execute("INSERT INTO homes SELECT * FROM found")
        homes.close()
        return number + 1

    def _distribute(self) -> None:
        """Copy the values into the files of their buckets, reading them once, in order."""
        homes = self._batches("SELECT position, bucket FROM homes ORDER BY position")
        places = np.empty((0, 2), dtype=np.int64)
        end = 0
        for chunk in self._chunks():
            start, end = end, end + chunk.num_rows
            while (len(places) == 0 or places[-1, 0] < end) and (batch := next(homes, None)) is not None:
                places = np.concatenate([places, np.column_stack([np.asarray(column) for column in batch.columns])])
            cut = int(np.searchsorted(places[:, 0], end))
            here, places = places[:cut], places[cut:]
            numbered = chunk.append_column(_POSITION, pa.array(np.arange(start, end)))
            for bucket in np.unique(here[:, 1]):
                rows = numbered.take(pa.array(here[here[:, 1] == bucket, 0] - start)).combine_chunks()
                with (self._folder / f"{bucket}.values").open("ab") as file:
                    for batch in rows.to_batches():
                        file.write(batch.serialize())

    def _chunks(self) -> Iterator[pa.Table]:
        """Yield the values as they came, some batches at a time."""
        group: list[pa.RecordBatch] = []
        nbytes = 0
        for batch in _read(self._folder / "values", self._kept):
            group.append(batch)
            nbytes += batch.nbytes
            if nbytes >= _CHUNK_NBYTES:
                yield pa.Table.from_batches(group)
                group, nbytes = [], 0
        if group:
            yield pa.Table.from_batches(group)

    def _bucket(self, number: int) -> Rows:
        places, values = self._folder / f"{number}.places", self._folder / f"{number}.values"
        rows = np.frombuffer(places.read_bytes() if places.exists() else b"", dtype=np.int64).reshape(-1, 2)
        schema = self._kept.append(pa.field(_POSITION, pa.int64()))
        table = pa.Table.from_batches(_read(values, schema), schema).combine_chunks()
        places.unlink(missing_ok=True)
        values.unlink(missing_ok=True)
        at = pc.index_in(pa.array(rows[:, 1]), value_set=table[_POSITION].combine_chunks())
        table = table.select(self._schema.names).take(at)
        columns = [_told(column, field) for column, field in zip(table.columns, self._schema, strict=True)]
        return pa.Table.from_arrays(columns, schema=self._schema), rows[:, 0].astype(np.uint64)

    def _batches(self, sql: str, params: dict[str, Any] | None = None) -> Iterator[pa.RecordBatch]:
        cursor = self._duckdb.cursor()
        with translated("matching the keys of the data"):
            yield from cursor.sql(sql, params=params or {}).to_arrow_reader(_ROWS)
        cursor.close()

    def _run(self, sql: str, rows: pa.Table | None = None) -> list[tuple[Any, ...]]:
        with translated("matching the keys of the data"):
            if rows is not None:
                self._duckdb.register("rows", rows)
            return self._duckdb.execute(sql).fetchall()

    def _some(self, rows: str) -> tuple[Any, ...]:
        return self._keys([key for (key,) in self._run(f"SELECT key {rows} LIMIT 5")])

    def _keys(self, found: list[Any]) -> tuple[Any, ...]:
        """Return keys as the table has them, not as they were compared."""
        data_type = self._key.value_type if pa.types.is_dictionary(self._key) else self._key
        return tuple(pa.array(found, _comparable(self._key)).cast(data_type).to_pylist())


def _read(path: Path, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if not path.exists():
        return
    with pa.OSFile(str(path)) as file:
        while file.tell() < file.size():
            yield pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)


def _kept_type(data_type: pa.DataType) -> pa.DataType:
    """Categories are kept as codes: the words are the schema's, and a batch by itself has none."""
    return data_type.index_type if pa.types.is_dictionary(data_type) else data_type


def _told(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    values = types.category_values(field)
    if values is None:
        return column
    return pa.DictionaryArray.from_arrays(column.combine_chunks(), pa.array(values, field.type.value_type))


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _comparable(keys: Any) -> Any:
    """Return keys, or their type, in a form that DuckDB keeps whole: it cuts zoned times to microseconds."""
    if isinstance(keys, pa.Array):
        return _decoded(keys).cast(_comparable(keys.type))
    if pa.types.is_dictionary(keys):
        return _comparable(keys.value_type)
    return pa.int64() if pa.types.is_timestamp(keys) or pa.types.is_duration(keys) else keys
