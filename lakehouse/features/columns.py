"""Declaring feature columns: metadata only, in milliseconds, whoever else writes."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, failures, storage, types
from lakehouse.errors import AlreadyExistsError, InvalidArgumentError, SchemaError, no_column, translated
from lakehouse.features import checkpoints
from lakehouse.features.expressions import expression_inputs
from lakehouse.features.revisions import accept, alter_udf
from lakehouse.features.udf import UDF, as_udf
from lakehouse.schema.lineage import (
    FEATURE,
    STAMP,
    TOKEN,
    Feature,
    dependents_by_column,
    feature_columns,
    features_of,
    input_names,
    orphaned_stamps,
    owner_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakehouse.snapshot import Snapshot


@dataclass(frozen=True)
class Declaration:
    """One feature as the user wants it, before it has a place in a table."""

    fields: tuple[pa.Field, ...]
    kind: str | None  # None: a plain column, filled by nobody
    source: str = ""
    inputs: tuple[str, ...] = ()
    code_hash: str = ""
    arguments: dict[str, Any] | None = None
    label: str | None = None


def add_columns(snapshot: Snapshot, columns: Mapping[str, UDF | str | pa.Field]) -> int:
    """Declare columns; nothing is computed and no data file is touched. The same declaration again does nothing.

    Parameters
    ----------
    snapshot
        The newest version.
    columns
        By name: a function made by `udf`, an SQL expression over the row, or an Arrow field for an empty column. A
        function of several outputs names its columns itself.

    Returns
    -------
    int
        The version that has the columns.

    Raises
    ------
    AlreadyExistsError
        A column of that name is there and was declared otherwise.
    ColumnNotFoundError
        An input is not there.
    """
    snapshot.check_writable()
    if not columns:
        raise InvalidArgumentError("no columns to add; give {name: function, SQL expression or field}")
    wanted = [declaration(snapshot, name, what) for name, what in columns.items()]

    def attempt(dataset: Any) -> int:
        fields = [field for each in wanted for field in _new_fields(dataset, each)]
        stale = [name for name in orphaned_stamps(dataset.schema) if name in {field.name for field in fields}]
        if stale:
            dataset.drop_columns(stale)
        if fields:
            dataset.add_columns(pa.schema(fields))
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"declaring {', '.join(columns)} on {snapshot.name!r}")


def declaration(snapshot: Snapshot, name: str, what: UDF | str | pa.Field) -> Declaration:
    """Check one entry of `add_columns` against the table's columns."""
    match what:
        case UDF():
            for given in what.inputs:
                if given not in snapshot.schema.names:
                    raise no_column(given, snapshot.schema.names)
            outputs = what.outputs if len(what.outputs) > 1 else {name: next(iter(what.outputs.values()))}
            fields = tuple(pa.field(column, data_type) for column, data_type in outputs.items())
            return Declaration(fields, "udf", what.name, tuple(what.inputs), what.code_hash, what.arguments, name)
        case str():
            inputs = expression_inputs(what, snapshot.schema.names)
            field = pa.field(name, expression_type(snapshot, what))
            return Declaration((field,), "sql", what, inputs, hashlib.sha256(what.encode()).hexdigest())
        case pa.Field():
            if not what.nullable:
                raise SchemaError(f"{name!r} must be nullable: rows that are there have no value for it")
            return Declaration((storage.physical_field(what.with_name(name)),), None)
    return declaration(snapshot, name, as_udf(what))


def expression_type(snapshot: Snapshot, expression: str) -> pa.DataType:
    """Ask Lance for the type of an SQL expression.

    Raises
    ------
    FilterError
        It does not parse, or names a column that is not there.
    """
    with translated(f"expression {expression!r}"):
        projected = snapshot.dataset.scanner(columns={"value": expression}).projected_schema
    return projected.field("value").type


def drop_columns(snapshot: Snapshot, names: Iterable[str]) -> int:
    """Remove columns, a feature's stamp with its last column; metadata only.

    Raises
    ------
    SchemaError
        A feature that stays is computed from one of them.
    ColumnNotFoundError
    """
    snapshot.check_writable()
    names = snapshot.columns(names)
    if snapshot.key in names:
        raise SchemaError(f"{snapshot.key!r} is the key of {snapshot.name!r} and cannot be dropped")

    def attempt(dataset: Any) -> int:
        features, ids = features_of(dataset.schema), commit.top_ids(dataset)
        for column, users in dependents_by_column(features, ids, names).items():
            staying = [user for user in users if user not in names]
            if staying:
                raise SchemaError(f"{column!r} is an input of {', '.join(staying)}; drop those first, or with it")
        gone = [name for name in names if name in ids]
        for feature in features.values():
            left = set(feature.columns) - set(names)
            if left and left != set(feature.columns):
                raise SchemaError(f"{', '.join(feature.columns)} are filled together; drop all of them or none")
            gone += [] if left else [feature.stamp]
        if gone:
            dataset.drop_columns(gone)
        return int(dataset.version)

    dropped = [f for f in snapshot.features.values() if set(f.columns) & set(names)]
    version = commit.retrying(snapshot.location, attempt, f"dropping {', '.join(names)} of {snapshot.name!r}")
    for feature in dropped:
        checkpoints.feature_folder(snapshot, feature).delete("")
        failures.forget(snapshot.lake, snapshot.name, feature.token)
    return version


def rename_column(snapshot: Snapshot, old: str, new: str) -> int:
    """Rename a column, a feature's stamp with it; metadata only, history and dependents stay.

    Raises
    ------
    AlreadyExistsError, ColumnNotFoundError
    """
    snapshot.check_writable()
    snapshot.columns([old])
    types.check_name(new)
    if new in snapshot.schema.names:
        raise AlreadyExistsError(f"{snapshot.name!r} has a column {new!r} already")

    def attempt(dataset: Any) -> int:
        if old not in dataset.schema.names and new in dataset.schema.names:
            return int(dataset.version)  # somebody did the same, or the answer to the last attempt was lost
        feature = owner_of(features_of(dataset.schema), old)
        changes = [{"path": old, "name": new}]
        if feature is not None and feature.name == old and feature.stamp_name is None:
            changes.append({"path": feature.stamp, "name": replace(feature, columns=(new,)).stamp})
        dataset.alter_columns(*changes)
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"renaming {old!r} of {snapshot.name!r} to {new!r}")


def _new_fields(dataset: Any, wanted: Declaration) -> list[pa.Field]:
    """Make the fields to add for one declaration; none if it is there already."""
    schema, ids = dataset.schema, commit.top_ids(dataset)
    names = [field.name for field in wanted.fields]
    there = [name for name in names if name in schema.names]
    if there:
        _check_same_declaration(schema, ids, wanted, there)
        return []
    for name in names:
        types.check_name(name)
    if wanted.kind is None:
        return list(wanted.fields)
    for name in wanted.inputs:
        if name not in ids:
            raise no_column(name, [n for n in ids if not n.endswith("__stamp")])
    token = uuid.uuid4().hex
    feature = Feature(
        columns=tuple(names),
        kind=wanted.kind,  # type: ignore[arg-type]  # narrowed by the None above; a str in Declaration for the match
        source=wanted.source,
        inputs=tuple(ids[name] for name in wanted.inputs),
        code_hash=wanted.code_hash,
        generation=1,
        owner=commit.author(),
        declared_at=_now(),
        token=token,
        arguments=wanted.arguments,
        called=wanted.inputs,
        num_columns=len(names),
        label=wanted.label if len(names) > 1 else None,
    )
    tied = [
        f.with_metadata({**(f.metadata or {}), TOKEN: feature.column_token(place)})
        for place, f in enumerate(wanted.fields)
    ]
    return [*tied, pa.field(feature.stamp, pa.int32(), metadata={STAMP: token.encode(), FEATURE: feature.record()})]


def _check_same_declaration(schema: pa.Schema, ids: Mapping[str, int], wanted: Declaration, there: list[str]) -> None:
    name = wanted.fields[0].name
    features = features_of(schema)
    feature = owner_of(features, there[0])
    if feature is None:
        if wanted.kind is None and [schema.field(f.name).type for f in wanted.fields] == [
            f.type for f in wanted.fields
        ]:
            return
        raise AlreadyExistsError(
            f"{there[0]!r} is a column of the table already, of type {schema.field(there[0]).type}; choose another name"
        )
    if wanted.kind != feature.kind or set(feature.columns) != {field.name for field in wanted.fields}:
        raise AlreadyExistsError(
            f"{there[0]!r} is a feature already, made by {feature.source}; choose another name, or drop it first"
        )
    same_types = all(schema.field(field.name).type == field.type for field in wanted.fields)
    if (wanted.code_hash, wanted.inputs) == (feature.code_hash, tuple(input_names(feature, ids))) and same_types:
        return
    raise AlreadyExistsError(
        f"{name!r} was declared by {feature.owner} with {feature.source!r} as it was then, and this one differs; "
        f"alter_udf({name!r}, …) makes the values stale, accept({name!r}, …) declares them right"
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


__all__ = ["accept", "add_columns", "alter_udf", "drop_columns", "feature_columns", "rename_column"]
