"""What DuckDB reads: one version of a table, some columns as row ids, some rows left out.

Lance answers of the WHERE what an index answers, and what spares the reading of wide columns; the rest DuckDB compares
faster than Lance 14 or Arrow do (TPC-H's q01: 74 ms beside 149 and 85). DuckDB looks again at every row.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import reads, types
from lakehouse.errors import LakehouseError, translated
from lakehouse.index_kinds import family_of, kind_of, user_indexes
from lakehouse.reads import ROW_ID
from lakehouse.sql.scans.selectivity import FEW, sampled
from lakehouse.sql.scans.validity import may_be_null
from lakehouse.sql.statement.dtypes import duckdb_type
from lakehouse.sql.statement.slots import ROW_ADDRESS, ROW_IDS
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    import pyarrow.compute as pc

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.scans.comparisons import Part
    from lakehouse.sql.scans.resident import Resident

__all__ = ["SnapshotDataset"]

_BATCH_NBYTES = 8 << 20  # batches of 2 to 8 MB were fastest and bounded memory
_MAX_ROWS = 65_536
_MIN_ROWS = 1_024
_FEWEST_ROWS = 256  # of a batch, where a statement stops after a few
_READAHEAD = 4  # batches; Lance's default reads ahead as far as memory goes
# Of what is read and not decoded. Lance's 2 GiB kept 411 MB beyond the result of a scan of 737 MB, this 201, as fast.
_IO_NBYTES = 64 << 20
_SMALL_ROWS = 100_000  # up to here no use of an index takes more than some milliseconds
_WIDE_NBYTES = 256  # of a column's row; from there on it pays to filter before it is read
_IDS = [pa.field(name, pa.uint64()) for name in ROW_IDS]


class SnapshotDataset:
    """One version of a table, as DuckDB reads it.

    Parameters
    ----------
    snapshot
        The version.
    carried
        Columns that travel as row ids: for each, the name of the one field of its struct.
    where
        A condition that holds for every row that is wanted.
    limit
        How many rows are wanted, counted from `offset`; None means all.
    offset
        How many rows from the table's beginning are not.
    stops_after
        After about how many rows DuckDB will stop reading; None means it will not.
    null_tested
        Carried columns whose struct must be NULL where their value is; the others' is always there.
    resident
        Where columns are held between statements; None means nowhere.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        carried: Mapping[str, str],
        *,
        where: Part | None = None,
        limit: int | None = None,
        offset: int = 0,
        stops_after: int | None = None,
        null_tested: Container[str] = (),
        resident: Resident | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.where = where
        self.accepted: dict[str, None] = {}  # what DuckDB leaves to Lance, in order
        self.narrowed_by: str | None = None
        self.error: LakehouseError | None = None  # DuckDB keeps only the text of what is raised here
        self._carried = carried
        self._limit = limit
        self._offset = offset
        self._stops_after = stops_after
        self._null_tested = null_tested
        self._resident = resident
        self._narrowing: str | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self.snapshot.name

    @cached_property
    def schema(self) -> pa.Schema:
        """``_rowid``, which costs nothing and so comes first, ``_rowaddr``, and the table's columns."""
        return pa.schema([*_IDS, *(self._seen(field) for field in self.snapshot.schema)])

    def _seen(self, field: pa.Field) -> pa.Field:
        if field.name in self._carried:
            return pa.field(field.name, pa.struct([pa.field(self._carried[field.name], pa.uint64())]))
        return pa.field(field.name, duckdb_type(field.type))

    @cached_property
    def handed(self) -> pa.Schema:
        """The same columns as DuckDB is given them, in the forms that memory is likely to have them in."""
        schema = self.schema
        for name, form in (self._resident.forms(self.snapshot) if self._resident is not None else {}).items():
            if name not in self._carried:
                schema = schema.set(schema.get_field_index(name), pa.field(name, form))
        return schema

    @cached_property
    def comparable(self) -> pa.Schema:
        """The columns that Lance can compare, as it has them; of media it has descriptors, or would read all bytes."""
        fields = (field for field in self.snapshot.schema if not types.is_bytes_media(field))
        return pa.schema([*_IDS, *(field for field in fields if field.name not in self._carried)])

    @property
    def num_rows(self) -> int:
        """The rows before any condition, by which DuckDB plans joins."""
        rows = max(0, self.snapshot.num_rows - self._offset)
        return rows if self._limit is None else min(rows, self._limit)

    @cached_property
    def indexed(self) -> dict[str, Any]:
        """Lance's descriptions of the scalar indexes, by the quoted path of their column."""
        with translated(f"reading the indexes of {self.name!r}"):
            found = [index for index in user_indexes(self.snapshot.dataset) if family_of(kind_of(index)) == "scalar"]
        return {".".join(map(quoted, index.field_names[0].split("."))): index for index in found}

    def has_index_for(self, where: str) -> bool:
        """Whether a condition names a column that has an index."""
        return any(path in where for path in self.indexed)

    def keeps_few(self, part: Part, columns: Sequence[str], test: pc.Expression) -> bool:
        """Whether a condition keeps so few rows that looking them up in an index is worth it."""
        if self.snapshot.num_rows <= _SMALL_ROWS or self._finds_few(part):
            return True
        sample = sampled(self.snapshot, columns)
        if sample is None:
            return False
        seen = pa.schema([self.schema.field(name) for name in columns])
        shaped = pa.Table.from_batches(self.shaped(sample.to_batches(), seen), seen)
        return bool(shaped.filter(test).num_rows <= FEW * shaped.num_rows)

    def _finds_few(self, part: Part) -> bool:
        """Whether a condition asks a B-tree for single values; a bitmap is built where there are few different ones."""
        kinds = {kind_of(index) for path, index in self.indexed.items() if path in part.text}
        return part.few and kinds == {"BTREE"}

    def narrow(self, where: str) -> None:
        """Leave out more rows, before the table is read."""
        self._narrowing = f"({self._narrowing}) AND ({where})" if self._narrowing else where

    def read(self, columns: Sequence[str], conditions: Iterable[str] = ()) -> pa.RecordBatchReader:
        """Read columns of at least the rows for which conditions of Lance's SQL hold; `handed` where there are none."""
        try:
            with translated(f"reading {self.name!r}"):
                return self._read(list(columns), list(conditions))
        except LakehouseError as error:
            self.error = error
            raise

    def _read(self, columns: list[str], conditions: list[str]) -> pa.RecordBatchReader:
        seen = self.schema if conditions else self.handed
        needed = [name for name in columns if name not in self._carried]
        if len(needed) < len(columns) and ROW_ID not in needed:
            needed.append(ROW_ID)  # what carried columns are made of
        fields = [self.snapshot.schema.field(name) for name in needed if name not in ROW_IDS]
        is_wide = any(_width(field) >= _WIDE_NBYTES for field in fields)
        batches = self._batches(needed, fields, self._where(conditions, is_wide=is_wide))
        schema = pa.schema([seen.field(name) for name in columns])
        if batches.schema.equals(schema):
            return batches
        return pa.RecordBatchReader.from_batches(schema, self.shaped(batches, schema))

    def _where(self, conditions: list[str], *, is_wide: bool) -> str | None:
        """Join the conditions that Lance is given: an index answers them, or a wide column is spared."""
        if self.where and (is_wide or self._finds_few(self.where)):
            conditions.append(self.where.text)
        if self._narrowing and (is_wide or self.has_index_for(self._narrowing)):
            conditions.append(self._narrowing)
        return " AND ".join(f"({condition})" for condition in dict.fromkeys(conditions)) or None

    def _batches(self, columns: list[str], fields: list[pa.Field], where: str | None) -> pa.RecordBatchReader:
        if any(types.is_bytes_media(field) for field in fields):
            names = [field.name for field in fields]
            return reads.scan(self.snapshot, names, where, with_row_id=True, with_row_address=ROW_ADDRESS in columns)
        width = 8 + sum(map(_width, fields))
        rows, readahead = max(_MIN_ROWS, min(_MAX_ROWS, _BATCH_NBYTES // width)), _READAHEAD
        if self._stops_after is not None:
            rows, readahead = max(_FEWEST_ROWS, min(rows, self._stops_after)), 1
        elif where is None and (held := self._held(columns)) is not None:
            return self._named(held).to_reader(max_chunksize=rows)
        return self.snapshot.dataset.scanner(
            columns=columns,
            filter=where,
            limit=self._limit,
            offset=self._offset or None,
            batch_size=rows,
            batch_readahead=readahead,
            io_buffer_size=_IO_NBYTES,
        ).to_reader()

    def _held(self, columns: list[str]) -> pa.Table | None:
        """Return columns of all rows from memory, if they are, or may be, held there."""
        if self._resident is None or self._limit is not None or self._offset or ROW_ADDRESS in columns:
            return None
        return self._resident.table(self.snapshot, columns)

    def _named(self, held: pa.Table) -> pa.Table:
        """Declare columns that are in DuckDB's form already as those handed over: Python need not touch them."""
        seen = [self.handed.field(field.name) for field in held.schema]
        fields = [one if one.type == other.type else other for one, other in zip(seen, held.schema, strict=True)]
        return pa.Table.from_arrays(held.columns, schema=pa.schema(fields))

    def shaped(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Make the columns DuckDB sees of those stored."""
        makers = [self._maker(field) for field in schema]
        for batch in batches:
            yield pa.RecordBatch.from_arrays([make(batch) for make in makers], schema=schema)

    def _maker(self, field: pa.Field) -> Callable[[pa.RecordBatch], pa.Array]:
        if field.name not in self._carried:
            return lambda batch: _as_type(batch.column(field.name), field.type)
        absent = self._ids_of_nulls(field.name) if field.name in self._null_tested else None

        def struct(batch: pa.RecordBatch) -> pa.Array:
            ids = batch.column(ROW_ID)
            mask = None if absent is None else pa.array(np.isin(np.asarray(ids), absent, assume_unique=True))
            return pa.StructArray.from_arrays([ids], fields=list(field.type), mask=mask)

        return struct

    def _ids_of_nulls(self, column: str) -> reads.RowIds:
        if not may_be_null(self.snapshot, column):
            return np.empty(0, dtype=np.uint64)
        rows = reads.rows_per_batch(self.snapshot, [column])
        scanner = self.snapshot.dataset.scanner(
            columns=[], filter=f"{quoted(column)} IS NULL", with_row_id=True, batch_size=rows, batch_readahead=1
        )
        return np.asarray(scanner.to_table()[ROW_ID], dtype=np.uint64)

    def stored_columns(self) -> list[str]:
        """Return the columns that do not travel as row ids."""
        return [name for name in self.schema.names if name not in self._carried]

    def notes(self) -> list[str]:
        """Say what Lance does of the work."""
        notes = [self.note(condition) for condition in self.accepted]
        if self.where is not None and self.where.text not in self.accepted:
            notes.append(self._note_of_where(self.where))
        return [*notes, f"narrowed by {self.narrowed_by}"] if self.narrowed_by else notes

    def _note_of_where(self, where: Part) -> str:
        if self._finds_few(where):
            return self.note(where.text)
        why = "too many rows for the index" if self.has_index_for(where.text) else "no index"
        return f"{where.text}: {why}, every row is compared"

    def note(self, condition: str) -> str:
        """Say how Lance answers a condition."""
        with translated(f"planning to read {self.name!r}"):
            scanner = self.snapshot.dataset.scanner(columns=[], with_row_id=True, filter=condition)
            plan = scanner.explain_plan()
        used = [index.name for index in self.indexed.values() if f"@{index.name}(" in plan]
        if used:
            return f"Lance answers {condition} from the index {', '.join(used)}"
        return f"{condition}: no index, every row is compared"


def _as_type(values: pa.Array, data_type: pa.DataType) -> pa.Array:
    return values if values.type == data_type else values.cast(data_type)  # Arrow 26 copies decimals all the same


def _width(field: pa.Field) -> int:
    """Count a row's bytes, guessing where the type does not say."""
    data_type = field.type
    if pa.types.is_fixed_size_list(data_type):
        return int(data_type.list_size) * _width(data_type.value_field)
    if pa.types.is_nested(data_type):
        return 8 + sum(_width(data_type.field(place)) for place in range(data_type.num_fields))
    if types.is_media(field) or pa.types.is_large_string(data_type) or pa.types.is_large_binary(data_type):
        return 1_024
    try:
        return max(1, int(data_type.bit_width) // 8)
    except ValueError:
        return 64
