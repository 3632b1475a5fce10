"""Declaring feature columns: metadata only, in milliseconds, whoever else writes."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, types
from lakehouse.errors import AlreadyExistsError, InvalidArgumentError, SchemaError, no_column, translated
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
    owner_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakehouse.snapshot import Snapshot

# Identifiers of an SQL expression, quoted or not; string literals are passed over. A function named like a column
# counts as that column: a superset of the inputs marks too much stale, never too little.
_IDENTIFIER = re.compile(r"""'(?:[^']|'')*'|"(?P<double>(?:[^"]|"")*)"|`(?P<tick>[^`]*)`|(?P<bare>[A-Za-z_]\w*)""")


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
            return Declaration((what.with_name(name),), None)
    return declaration(snapshot, name, as_udf(what))


def expression_inputs(expression: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns an SQL expression names.

    Examples
    --------
    >>> expression_inputs("upper(label) || 'width'", ["label", "width"])
    ('label',)
    """
    by_lower = {name.lower(): name for name in names}
    found = dict.fromkeys(
        by_lower[word.lower()]
        for match in _IDENTIFIER.finditer(expression)
        if (word := match["double"] or match["tick"] or match["bare"] or "").lower() in by_lower
    )
    return tuple(found)


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
        features, ids = features_of(dataset.schema), _field_ids(dataset)
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

    return commit.retrying(snapshot.location, attempt, f"dropping {', '.join(names)} of {snapshot.name!r}")


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
        feature = owner_of(features_of(dataset.schema), old)
        changes = [{"path": old, "name": new}]
        if feature is not None and feature.name == old:
            changes.append({"path": feature.stamp, "name": replace(feature, columns=(new,)).stamp})
        dataset.alter_columns(*changes)
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"renaming {old!r} of {snapshot.name!r} to {new!r}")


def alter_udf(snapshot: Snapshot, column: str, udf: UDF) -> int:
    """Declare a changed function: the values there are are stale until they are filled again.

    Raises
    ------
    SchemaError
        Another type or other inputs; that is another column.
    """
    return _redeclare(snapshot, column, udf, next_generation=True)


def accept(snapshot: Snapshot, column: str, udf: UDF) -> int:
    """Declare the values there are right for a changed function, which did not change what it computes."""
    return _redeclare(snapshot, column, udf, next_generation=False)


def _redeclare(snapshot: Snapshot, column: str, udf: UDF, *, next_generation: bool) -> int:
    snapshot.check_writable()
    snapshot.columns([column])

    def attempt(dataset: Any) -> int:
        feature = owner_of(features_of(dataset.schema), column)
        if feature is None or feature.kind != "udf":
            raise SchemaError(f"{column!r} is not computed by a function")
        _check_same_shape(dataset, feature, udf)
        made_by = {"source": udf.name, "code_hash": udf.code_hash, "arguments": udf.arguments}
        if next_generation:
            changed = feature.altered(**made_by, owner=commit.author(), declared_at=_now())
        else:
            changed = replace(feature, **made_by)
        dataset.update_field_metadata({feature.stamp: {FEATURE.decode(): changed.record().decode()}})
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"declaring another function for {column!r}")


def _check_same_shape(dataset: Any, feature: Feature, udf: UDF) -> None:
    there = [dataset.schema.field(name).type for name in feature.columns]
    if list(udf.outputs.values()) != there:
        raise SchemaError(
            f"{feature.name!r} is {', '.join(map(str, there))}, the function gives {', '.join(map(str, udf.outputs.values()))}; add a new column for it"
        )
    names = input_names(feature, _field_ids(dataset))
    if list(udf.inputs) != names:
        raise SchemaError(
            f"{feature.name!r} is computed from {', '.join(names)}, the function takes {', '.join(udf.inputs)}; add a new column for it"
        )


def _new_fields(dataset: Any, wanted: Declaration) -> list[pa.Field]:
    """The fields to add for one declaration; none if it is there already."""
    schema, ids = dataset.schema, _field_ids(dataset)
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


def _field_ids(dataset: Any) -> dict[str, int]:
    return {field.name(): field.id() for field in dataset.lance_schema.fields()}


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


__all__ = ["accept", "add_columns", "alter_udf", "drop_columns", "feature_columns", "rename_column"]
