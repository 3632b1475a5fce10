"""Changing rows: update, delete, upsert. Whoever writes an input resets the stamps of what depends on it, at once.

The stamps to reset are found from the schema of the very attempt that commits, so that a feature declared a moment
ago is not missed; Lance's own retry would reuse the list of the first attempt, so it is switched off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakehouse import commit, storage, types
from lakehouse.conform import conform, matching, not_a_value
from lakehouse.data import as_source
from lakehouse.errors import BadRowsError, DuplicateKeyError, InvalidArgumentError, SchemaError, no_column
from lakehouse.ingest import WriteResult
from lakehouse.schema.lineage import TODO, dependents, feature_columns, features_of, owner_of
from lakehouse.where import Where, literal, render, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lakehouse.snapshot import Snapshot


def update(
    snapshot: Snapshot,
    where: Where | None = None,
    values: Mapping[str, Any] | None = None,
    values_sql: Mapping[str, str] | None = None,
) -> WriteResult:
    """Change columns of the rows that match.

    Parameters
    ----------
    snapshot
        The newest version.
    where
        Which rows; None means all.
    values
        New values by column.
    values_sql
        New values by column as expressions over the row.

    Raises
    ------
    SchemaError
        A feature, a value that is not of the category, or the same column twice.
    ColumnNotFoundError, FilterError, ConflictError
    """
    snapshot.check_writable()
    values, values_sql = dict(values or {}), dict(values_sql or {})
    if both := values.keys() & values_sql.keys():
        raise InvalidArgumentError(f"column {min(both)!r} is in values and in values_sql; give it once")
    if not values and not values_sql:
        raise InvalidArgumentError("nothing to update; give values={column: value} or values_sql={column: expression}")
    _check_updatable(snapshot, [*values, *values_sql])
    changes = {name: _literal(snapshot.schema.field(name), value) for name, value in values.items()}
    changes |= {name: whole(expression, snapshot.schema.names) for name, expression in values_sql.items()}
    predicate = render(where, snapshot.schema.names)

    def attempt(dataset: Any) -> int:
        resets = _resets(dataset, changes)
        return int(dataset.update({**changes, **resets}, where=predicate, conflict_retries=0)["num_rows_updated"])

    return _write(snapshot, attempt, f"updating {', '.join(changes)} of {snapshot.name!r}")


def delete(snapshot: Snapshot, where: Where) -> WriteResult:
    """Delete the rows that match.

    Raises
    ------
    FilterError, ConflictError
    """
    snapshot.check_writable()
    predicate = render(where, snapshot.schema.names)
    if predicate is None:
        raise InvalidArgumentError('delete needs a predicate; to delete every row say delete("true")')

    def attempt(dataset: Any) -> int:
        return int(dataset.delete(predicate, conflict_retries=0)["num_deleted_rows"])

    return _write(snapshot, attempt, f"deleting rows of {snapshot.name!r} where {predicate[1:-1]}")


@dataclass(frozen=True)
class MergeInsert:
    """An upsert in the making; see `Table.merge_insert`."""

    snapshot: Snapshot
    on: str
    update: bool = False
    insert: bool = False

    def when_matched_update_all(self) -> MergeInsert:
        """Update the columns given of rows whose key is in the table."""
        return replace(self, update=True)

    def when_not_matched_insert_all(self) -> MergeInsert:
        """Insert rows whose key is not in the table."""
        return replace(self, insert=True)

    def execute(self, data: Any) -> WriteResult:
        """Carry it out as one version.

        Raises
        ------
        DuplicateKeyError
            A key is twice in the data.
        BadRowsError
            A value that does not fit its column.
        SchemaError, ConflictError
        """
        if not (self.update or self.insert):
            raise InvalidArgumentError(
                "this upsert does nothing; add when_matched_update_all() or when_not_matched_insert_all()"
            )
        table = _conformed(self.snapshot, data)
        keys = table[self.on]
        if table.num_rows == 0:
            return WriteResult(self.snapshot.version, 0, 0, 0)
        if len(keys.unique()) != len(keys):
            twice = next(v["values"] for v in keys.value_counts().to_pylist() if v["counts"] > 1)
            raise DuplicateKeyError(f"the key {twice!r} is twice in the data; which row should win?")
        changed = [name for name in table.schema.names if name != self.on]

        def attempt(dataset: Any) -> int:
            builder = dataset.merge_insert(self.on)
            if self.update:
                builder = builder.when_matched_update_all()
            if self.insert:
                builder = builder.when_not_matched_insert_all()
            # Through a scalar index concurrent upserts insert the same key twice.
            done = builder.use_index(False).conflict_retries(0).execute(_physical(dataset, table, changed))
            return int(done["num_inserted_rows"] + done["num_updated_rows"])

        return _write(self.snapshot, attempt, f"merging {table.num_rows} rows into {self.snapshot.name!r}")


def merge_insert(snapshot: Snapshot, on: str) -> MergeInsert:
    """Begin an upsert on the table's key.

    Raises
    ------
    SchemaError
        `on` is not the key: on any other column, concurrent upserts insert rows twice.
    """
    snapshot.check_writable()
    if on not in snapshot.schema.names:
        raise no_column(on, snapshot.schema.names)
    if on != snapshot.key:
        key = (
            f"its key is {snapshot.key!r}"
            if snapshot.key
            else "it has no key; give the schema one when the table is made"
        )
        raise SchemaError(f"cannot upsert {snapshot.name!r} on {on!r}: {key}")
    return MergeInsert(snapshot, on)


def _conformed(snapshot: Snapshot, data: Any) -> pa.Table:
    source = as_source(data, snapshot.schema)
    schema = matching(source.schema, snapshot.schema, feature_columns(snapshot.features))
    batches = []
    for chunk in source.chunks():
        batch, bad = conform(chunk.batch, schema, lambda position: f"row {position}")
        if bad or chunk.failures:
            first = [*chunk.failures, *bad][0]
            raise BadRowsError(f"{first.source}: {first.message}; nothing was changed")
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=schema)


def _physical(dataset: Any, table: pa.Table, changed: list[str]) -> pa.Table:
    """Give the data the form Lance takes it in, with the stamps of dependents reset."""
    schema = storage.select(dataset.schema, table.schema.names)
    resets = _resets(dataset, changed)
    batches = []
    for batch in table.to_batches():
        columns = storage.to_physical(batch, schema).columns
        zeros = [pa.array([TODO] * batch.num_rows, pa.int32()) for _ in resets]
        batches.append(pa.RecordBatch.from_arrays([*columns, *zeros], names=[*schema.names, *resets]))
    stamps = [dataset.schema.field(name) for name in resets]
    return pa.Table.from_batches([b.cast(pa.schema([*schema, *stamps])) for b in batches])


def _resets(dataset: Any, changed: Any) -> dict[str, str]:
    """Return the stamps to set to "to do" when columns change, from the schema as it is in this attempt."""
    ids = commit.top_ids(dataset)
    for name in changed:
        if name not in ids:
            raise no_column(name, [n for n in ids if not n.endswith("__stamp")])
    return {feature.stamp: str(TODO) for feature in dependents(features_of(dataset.schema), ids, list(changed))}


def _check_updatable(snapshot: Snapshot, names: list[str]) -> None:
    for name in names:
        if name not in snapshot.schema.names:
            raise no_column(name, snapshot.schema.names)
        if name == snapshot.key:
            raise SchemaError(f"{name!r} is the key, which names a row for good; delete the rows and add them anew")
        feature = owner_of(snapshot.features, name)
        if feature is not None and feature.kind == "data":
            raise SchemaError(
                f"{name!r} came from {feature.source}; change single values with "
                f'add_columns_from(data with {snapshot.key or "a key"} and {name}, on_missing="keep")'
            )
        if feature is not None:
            raise SchemaError(
                f"{name!r} is a feature, computed from {feature.source}; change its function or its inputs and backfill"
            )


def _literal(field: pa.Field, value: Any) -> str:
    values = types.category_values(field)
    if values is not None and value is not None and value not in values:
        raise SchemaError(not_a_value(str(value), field, values))
    if value is None and not field.nullable:
        raise SchemaError(f"{field.name!r} must not be NULL")
    if pa.types.is_integer(field.type) and isinstance(value, float | Decimal | np.floating) and value % 1:
        raise SchemaError(f"{field.name!r} is {field.type}, {value!r} would be cut to fit")  # Lance casts it
    if isinstance(value, list | tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    return literal(value)


def _write(snapshot: Snapshot, operation: Callable[[Any], int], asked: str) -> WriteResult:
    """Run an operation that Lance builds and commits; it counts the rows it touched."""

    def attempt(dataset: Any) -> WriteResult:
        before = commit.files_of(dataset)
        num_rows = operation(dataset)
        return WriteResult(int(dataset.version), num_rows, 0, commit.new_nbytes(before, dataset))

    return commit.retrying(snapshot.location, attempt, asked)
