"""A function changed: its column becomes stale, or its values are declared right."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakehouse import commit
from lakehouse.errors import SchemaError
from lakehouse.features.udf import UDF, as_udf
from lakehouse.schema.lineage import FEATURE, Feature, features_of, input_names, owner_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.snapshot import Snapshot


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

    return _redeclare(snapshot, column, udf, change)


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
        stale. None: the last `alter_udf` was such a change.

    Returns
    -------
    int
        The version that has it.

    Raises
    ------
    SchemaError
        Another type or other inputs, or nothing to accept.
    """
    if udf is not None:
        accepted = as_udf(udf)
        return _redeclare(snapshot, column, accepted, lambda feature: _made_by(feature, accepted))

    def change(feature: Feature) -> Feature:
        if feature.generation == 1:
            raise SchemaError(f"the function of {column!r} was never altered; there is nothing to accept")
        return feature.accepted()

    return _redeclare(snapshot, column, None, change)


def _made_by(feature: Feature, udf: UDF) -> Feature:
    return replace(feature, source=udf.name, code_hash=udf.code_hash, arguments=udf.arguments)


def _redeclare(snapshot: Snapshot, column: str, udf: UDF | None, change: Callable[[Feature], Feature]) -> int:
    snapshot.check_writable()

    def attempt(dataset: Any) -> int:
        feature = owner_of(features_of(dataset.schema), column)
        if feature is None or feature.kind != "udf":
            snapshot.columns([column])
            raise SchemaError(f"{column!r} is not computed by a function; drop it and add it again to change it")
        if udf is not None:
            _check_same_shape(dataset, feature, udf)
        changed = change(feature)
        if changed != feature:
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            changed = replace(changed, owner=commit.author(), declared_at=now)
            dataset.update_field_metadata({feature.stamp: {FEATURE.decode(): changed.record().decode()}})
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"declaring another function for {column!r}")


def _check_same_shape(dataset: Any, feature: Feature, udf: UDF) -> None:
    there, given = [dataset.schema.field(name).type for name in feature.columns], list(udf.outputs.values())
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
