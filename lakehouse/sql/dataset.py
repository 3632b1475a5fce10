"""What DuckDB is handed: one version of a table as a `pyarrow.dataset.Dataset`.

DuckDB 2.0 calls ``scanner(columns, filter)`` once a scan, trusts the filter to have been applied, and reads the
result through ``to_reader()``. Pushed filters fail inside Lance on dictionaries, structs, float16, uint64 and
``_rowid``, so Arrow applies every filter here; Lance gets the part of the WHERE that
it answers alike (`lakehouse.sql.predicates`), for its indexes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from lakehouse import reads, types
from lakehouse.errors import LakehouseError, translated
from lakehouse.reads import ROW_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakehouse.snapshot import Snapshot

__all__ = ["SnapshotDataset", "as_seen", "duckdb_type"]

_BATCH_NBYTES = 8 << 20  # batches of 2 to 8 MB were fastest and bounded memory
_MAX_ROWS = 65_536
_MIN_ROWS = 1_024
_READAHEAD = 4  # batches; Lance's default reads ahead as far as memory goes


class SnapshotDataset(pads.Dataset):  # type: ignore[misc]  # pyarrow is untyped
    """One version of a table, as DuckDB reads it.

    Parameters
    ----------
    snapshot
        The version.
    carried
        Columns that travel as row ids: for each, the name of the one field of its struct.
    where
        A predicate of Lance's SQL that holds for every row that is wanted.
    limit
        How many rows from the table's beginning are wanted; None means all.
    """

    def __init__(
        self, snapshot: Snapshot, carried: Mapping[str, str], *, where: str | None = None, limit: int | None = None
    ) -> None:
        self.snapshot = snapshot
        self._carried = carried
        self.where = where
        self._limit = limit
        self.error: LakehouseError | None = None  # DuckDB keeps only the text of what is raised here

    @property
    def name(self) -> str:
        """The table's name."""
        return self.snapshot.name

    @property
    def schema(self) -> pa.Schema:
        """``_rowid``, which costs nothing and so comes first, and the table's columns."""
        fields = [pa.field(ROW_ID, pa.uint64()), *(self._seen(field) for field in self.snapshot.schema)]
        return pa.schema(fields)

    def _seen(self, field: pa.Field) -> pa.Field:
        if field.name in self._carried:
            return pa.field(field.name, pa.struct([pa.field(self._carried[field.name], pa.uint64())]))
        return pa.field(field.name, duckdb_type(field.type))

    def scanner(self, columns: Iterable[str] | None = None, filter: pc.Expression | None = None) -> Any:  # noqa: A002 - DuckDB's word
        """Read columns of the rows that a pushed expression keeps."""
        try:
            with translated(f"reading {self.snapshot.name!r}"):
                return self._scanner(list(self.schema.names if columns is None else columns), filter)
        except LakehouseError as error:
            self.error = error
            raise

    def _scanner(self, columns: list[str], pushed: pc.Expression | None) -> Any:
        needed = list(dict.fromkeys([*columns, *_mentioned(pushed, self.schema.names)]))
        stored = [name for name in needed if name != ROW_ID and name not in self._carried]
        fields = [self.snapshot.schema.field(name) for name in stored]
        if any(types.is_bytes_media(field) for field in fields):
            reader = reads.scan(self.snapshot, stored, self.where, with_row_id=True)
        else:
            scanner = self._lance_scanner(needed, fields)
            if pushed is None and len(stored) == len([n for n in needed if n != ROW_ID]) and _as_stored(fields):
                return scanner
            reader = scanner.to_reader()
        if not _as_stored(fields):
            reader = reader.cast(as_seen(reader.schema))
        shown = {name: self.expression(name) for name in columns}
        return pads.Scanner.from_batches(reader, columns=shown, filter=pushed)

    def _lance_scanner(self, needed: list[str], fields: list[pa.Field]) -> Any:
        width = 8 + sum(_width(field.type) for field in fields)
        columns = [name for name in needed if name not in self._carried]
        if len(columns) < len(needed) and ROW_ID not in columns:
            columns.append(ROW_ID)  # what carried columns are made of
        return self.snapshot.dataset.scanner(
            columns=columns,
            filter=self.where,
            limit=self._limit,
            batch_size=max(_MIN_ROWS, min(_MAX_ROWS, _BATCH_NBYTES // width)),
            batch_readahead=_READAHEAD,
        )

    def expression(self, name: str) -> pc.Expression:
        """Return how a column that DuckDB sees is made of stored ones."""
        if name in self._carried:
            return pc.make_struct(pc.field(ROW_ID), field_names=[self._carried[name]])
        return pc.field(name)

    def stored_columns(self) -> list[str]:
        """Return the columns that do not travel as row ids."""
        return [name for name in self.schema.names if name not in self._carried]

    def index_used(self) -> bool:
        """Whether Lance answers its part of the WHERE from an index."""
        if self.where is None:
            return False
        with translated(f"planning to read {self.name!r}"):
            plan = self.snapshot.dataset.scanner(columns=[], with_row_id=True, filter=self.where).explain_plan()
        return "ScalarIndexQuery" in plan


def duckdb_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type a column is given to DuckDB as: 2.0 knows no float16."""
    if pa.types.is_float16(data_type):
        return pa.float32()
    if pa.types.is_fixed_size_list(data_type):
        return pa.list_(_value_field(data_type), data_type.list_size)
    if pa.types.is_list(data_type):
        return pa.list_(_value_field(data_type))
    return data_type


def _value_field(data_type: pa.DataType) -> pa.Field:
    return data_type.value_field.with_type(duckdb_type(data_type.value_type))


def as_seen(schema: pa.Schema) -> pa.Schema:
    """Return the columns in types that DuckDB knows."""
    return pa.schema([field.with_type(duckdb_type(field.type)) for field in schema])


def _as_stored(fields: Iterable[pa.Field]) -> bool:
    return all(duckdb_type(field.type) == field.type for field in fields)


def _mentioned(pushed: pc.Expression | None, names: list[str]) -> list[str]:
    """Name the columns an expression may use: pyarrow shows its text only, so a few too many."""
    text = "" if pushed is None else str(pushed)
    words = set(re.findall(r"\w+", text))
    return [name for name in names if (name in words if re.fullmatch(r"\w+", name) else name in text)]


def _width(data_type: pa.DataType) -> int:
    """Count a row's bytes, guessing where the type does not say."""
    if pa.types.is_fixed_size_list(data_type):
        return int(data_type.list_size) * _width(data_type.value_type)
    if pa.types.is_nested(data_type):
        return 8 + sum(_width(data_type.field(i).type) for i in range(data_type.num_fields))
    if pa.types.is_large_string(data_type) or pa.types.is_large_binary(data_type):
        return 1_024
    try:
        return max(1, int(data_type.bit_width) // 8)
    except ValueError:
        return 64
