"""A function changed: its column becomes stale, or its values are declared right."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse import commit, storage
from lakehouse._lance import lance
from lakehouse.errors import ColumnNotFoundError, SchemaError
from lakehouse.features.records import audit
from lakehouse.features.udfs.udf import UDF, as_udf
from lakehouse.schema.lineage import FEATURE, Feature, features_of, input_names, owner_of, with_token
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.types import Type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENT = "lakehouse:event"
"""A property of commits that change what a column is: what happened, in a word or two."""


def alter_udf(snapshot: Snapshot, column: str, udf: UDF) -> int:
    """Declare a changed function: the values there are stale until they are filled again; the same one changes nothing.

    Returns
    -------
    int
        The version that has it.

    Raises
    ------
    SchemaError
        Another type or other inputs; that is another column.
    """
    udf = as_udf(udf)

    def change(feature: Feature) -> Feature:
        if udf.code_hash == feature.code_hash:
            return _made_by(feature, udf)
        return _made_by(feature.altered(), udf)

    return _redeclare(snapshot, column, udf, change, {EVENT: "altered"})


def accept(snapshot: Snapshot, column: str, udf: UDF | None = None) -> int:
    """Declare values right that an older function made.

    Parameters
    ----------
    snapshot
        The newest version.
    column
        Which.
    udf
        A function that changed, but not in what it computes: it takes the place of the declared one and nothing becomes
        stale. None: the last `alter_udf` was such a change; or the values are unverified, because somebody wrote
        without this library, and are right all the same.

    Returns
    -------
    int
        The version that has it.

    Raises
    ------
    SchemaError
        Another type or other inputs, or nothing to accept.
    """
    feature = _owner(snapshot, column)
    given = as_udf(udf) if udf is not None else None
    doubted = feature.token in audit.unverified(snapshot, audit.known(snapshot))

    def change(now: Feature) -> Feature:
        if given is not None:
            return _made_by(now, given)
        if now.oldest == now.oldest_before and not doubted:
            raise SchemaError(f"the function of {column!r} was never altered; there is nothing to accept")
        return now.accepted()

    event = {EVENT: "accepted", commit.ACCEPTED: feature.token, commit.ACCEPTED_AT: str(snapshot.version)}
    return _redeclare(snapshot, column, given, change, event)


def _made_by(feature: Feature, udf: UDF) -> Feature:
    return replace(feature, source=udf.name, code_hash=udf.code_hash, arguments=udf.arguments)


def redeclare(
    snapshot: Snapshot,
    token: str,
    change: Callable[[Any, Feature], Feature],
    asked: str,
    event: Mapping[str, str],
) -> Feature:
    """Write another record for a feature; metadata only.

    Parameters
    ----------
    snapshot
        Tells which table.
    token
        Of the feature.
    change
        Takes the dataset and the feature as they are and returns what it is to be; the same changes nothing. It is
        called again after a conflict.
    asked
        What is being done, for messages and the history.
    event
        Properties of the commit.

    Returns
    -------
    Feature
        As it is now.

    Raises
    ------
    ColumnNotFoundError
        It was dropped meanwhile.
    """
    changed: list[Feature] = []

    def build(dataset: Any) -> Any:
        feature = with_token(features_of(dataset.schema), token)
        if feature is None:
            raise ColumnNotFoundError(f"{asked}: the column was dropped meanwhile")
        changed[:] = [change(dataset, feature)]
        if changed[0] == feature and commit.ACCEPTED not in event:
            return None
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        changed[:] = [replace(changed[0], owner=commit.author(), declared_at=now)]
        record: dict[str, str | None] = {FEATURE.decode(): changed[0].record().decode()}
        return lance.LanceOperation.UpdateConfig(
            field_metadata_updates={commit.top_ids(dataset)[feature.stamp]: lance.LanceOperation.UpdateMap(record)}
        )

    commit.commit_operation(snapshot.location, build, event, asked)
    return changed[0]


def _redeclare(
    snapshot: Snapshot, column: str, udf: UDF | None, change: Callable[[Feature], Feature], event: Mapping[str, str]
) -> int:
    snapshot.check_writable()
    feature = _owner(snapshot, column)
    if udf is not None and feature.kind != "udf":
        raise SchemaError(f"{column!r} is not computed by a function; drop it and add it again to change it")

    def checked(dataset: Any, now: Feature) -> Feature:
        if udf is not None:
            _check_same_shape(dataset, now, udf)
        return change(now)

    redeclare(snapshot, feature.token, checked, f"declaring another function for {column!r}", event)
    return open_snapshot(snapshot.lake, snapshot.name).version


def _owner(snapshot: Snapshot, column: str) -> Feature:
    feature = owner_of(snapshot.features, column)
    if feature is None:
        snapshot.columns([column])
        raise SchemaError(f"{column!r} is not computed by a function; drop it and add it again to change it")
    return feature


def _check_same_shape(dataset: Any, feature: Feature, udf: UDF) -> None:
    there = [Type.from_field(storage.logical_field(dataset.schema.field(name))) for name in feature.columns]
    given = [Type.from_field(field) for field in udf.fields]
    if given != there:
        raise SchemaError(
            f"{feature.name!r} is {', '.join(map(str, there))}, the function gives {', '.join(map(str, given))}; "
            "add a new column for it"
        )
    names = input_names(feature, commit.top_ids(dataset))
    if list(udf.inputs) != names:
        raise SchemaError(
            f"{feature.name!r} is computed from {', '.join(names)}, the function takes {', '.join(udf.inputs)}; "
            "add a new column for it"
        )
