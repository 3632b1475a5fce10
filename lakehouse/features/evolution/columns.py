"""Declaring feature columns: metadata only, in milliseconds, whoever else writes."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, failures, types
from lakehouse._lance import lance
from lakehouse.errors import AlreadyExistsError, ColumnNotFoundError, InvalidArgumentError, SchemaError, no_column
from lakehouse.features.evolution.declaring import Declaration, declarations
from lakehouse.features.storing import checkpoints
from lakehouse.schema.lineage import (
    FEATURE,
    STAMP,
    TOKEN,
    Feature,
    dependents,
    dependents_by_column,
    features_of,
    input_names,
    orphaned_stamps,
    owner_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lakehouse.features.udfs.udf import UDF
    from lakehouse.snapshot import Snapshot


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
    snapshot.check_extensible()
    if not columns:
        raise InvalidArgumentError("no columns to add; give {name: function, SQL expression or field}")
    return declare(snapshot, declarations(snapshot, columns), f"declaring {', '.join(columns)} on {snapshot.name!r}")


def declare(snapshot: Snapshot, wanted: Sequence[Declaration], asked: str) -> int:
    """Add the columns of declarations in one commit, and none that is there already.

    Parameters
    ----------
    snapshot
        Tells which table.
    wanted
        Inputs before what is computed from them.
    asked
        What is being done, for messages and the history.

    Returns
    -------
    int
        The version that has them.
    """

    def attempt(dataset: Any) -> int:
        fields: list[pa.Field] = []
        for each in wanted:
            fields += _new_fields(dataset, each, commit.top_ids(dataset) | _ids_to_be(dataset, fields))
        stale = [name for name in orphaned_stamps(dataset.schema) if name in {field.name for field in fields}]
        if stale:
            dataset.drop_columns(stale)
        if fields:
            dataset.add_columns(pa.schema(fields))
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, asked)


def _ids_to_be(dataset: Any, fields: Sequence[pa.Field]) -> dict[str, int]:
    """Return the ids that Lance will give to new columns: it counts on from the highest one, depth first."""
    counted = lance.schema.LanceSchema.from_pyarrow(pa.schema(fields)).fields()
    return {field.name(): int(dataset.max_field_id) + 1 + int(field.id()) for field in counted}


@dataclass(frozen=True)
class Dropped:
    """What was dropped.

    Parameters
    ----------
    version
        The version that no longer has it.
    columns
        All columns, those that went with others included.
    """

    version: int
    columns: tuple[str, ...]


def drop_columns(snapshot: Snapshot, names: Iterable[str], *, cascade: bool = False) -> Dropped:
    """Remove columns, a feature's stamp with its last column; metadata only.

    Parameters
    ----------
    snapshot
        The newest version.
    names
        Which.
    cascade
        Drop what is computed from them too, and what is computed from that.

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
    whole: list[Feature] = []
    dropped: list[str] = []

    def attempt(dataset: Any) -> int:
        features, ids = features_of(dataset.schema), commit.top_ids(dataset)
        there = [name for name in names if ids.get(name) == snapshot.field_ids[name]]
        renamed = {field_id: name for name, field_id in ids.items()}
        if moved := [name for name in names if name not in there and snapshot.field_ids[name] in renamed]:
            now = renamed[snapshot.field_ids[moved[0]]]
            raise ColumnNotFoundError(f"{moved[0]!r} was renamed {now!r} at this moment; nothing was dropped")
        users = dependents(features, ids, there) if cascade else []
        gone = list(dict.fromkeys([*there, *(name for user in users for name in user.columns)]))
        _check_droppable(features, ids, gone)
        whole[:] = [feature for feature in features.values() if set(feature.columns) <= set(gone)]
        dropped[:] = gone
        if gone:
            dataset.drop_columns([*gone, *(feature.stamp for feature in whole)])
        return int(dataset.version)

    version = commit.retrying(snapshot.location, attempt, f"dropping {', '.join(names)} of {snapshot.name!r}")
    for feature in whole:
        checkpoints.feature_folder(snapshot, feature).delete("")
        failures.forget(snapshot.lake, snapshot.name, feature.token)
    return Dropped(version, tuple(dropped))


def _check_droppable(features: Mapping[str, Feature], ids: Mapping[str, int], gone: Collection[str]) -> None:
    for column, users in dependents_by_column(features, ids, gone).items():
        if staying := [user for user in users if not set(features[user].columns) <= set(gone)]:
            raise SchemaError(
                f"{column!r} is an input of {', '.join(staying)}; drop those first, or with it by cascade=True"
            )
    for feature in features.values():
        left = set(feature.columns) - set(gone)
        if feature.kind != "data" and left and left != set(feature.columns):
            raise SchemaError(f"{', '.join(feature.columns)} are filled together; drop all of them or none")


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


def _new_fields(dataset: Any, wanted: Declaration, ids: Mapping[str, int]) -> list[pa.Field]:
    """Make the fields to add for one declaration; none if it is there already."""
    schema = dataset.schema
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
        since=int(dataset.version),
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
    if wanted.kind == "data" == feature.kind:
        wanted = replace(wanted, code_hash=feature.code_hash, inputs=tuple(input_names(feature, ids)))
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


__all__ = ["Dropped", "add_columns", "declare", "drop_columns", "rename_column"]
