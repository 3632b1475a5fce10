"""A plan's steps carried out: each one a commit of metadata, retried against whoever else writes."""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, storage
from lakehouse.errors import InvalidArgumentError
from lakehouse.schema import evolution, steps
from lakehouse.schema.lineage import dependents_by_column, feature_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.schema.model import Schema
    from lakehouse.snapshot import Snapshot


def plan(snapshot: Snapshot, wanted: Schema, nbytes: Mapping[str, int]) -> steps.Plan:
    """Plan the steps from a table as it is to a schema.

    Parameters
    ----------
    snapshot
        The newest version.
    wanted
        The schema to reach.
    nbytes
        The stored bytes of each column, to say what a drop gives up.
    """
    features = snapshot.features
    users = dependents_by_column(features, snapshot.field_ids, snapshot.schema.names)
    return evolution.plan(
        snapshot.schema,
        wanted,
        table=snapshot.name,
        features=feature_columns(features),
        dependents=users,
        nbytes=nbytes,
        manifest_nbytes=commit.manifest_nbytes(snapshot.dataset),
    )


def apply(snapshot: Snapshot, planned: steps.Plan, *, allow_destructive: bool = False) -> int:
    """Carry out a plan, one commit a step.

    Returns
    -------
    int
        The version after the last step.

    Raises
    ------
    InvalidArgumentError
        A step destroys values and that was not allowed, or the plan is for another table.
    """
    snapshot.check_writable()
    if planned.table != snapshot.name:
        raise InvalidArgumentError(f"the plan is for {planned.table!r}, not for {snapshot.name!r}")
    if planned.is_destructive and not allow_destructive:
        raise InvalidArgumentError(
            f"the plan destroys values; read it, then apply it with allow_destructive=True\n{planned}"
        )
    version = snapshot.version
    for step in planned:
        asked = f"{step.verb} column {step.column!r} of {snapshot.name!r}"
        version = commit.retrying(snapshot.location, lambda dataset, step=step: _carry_out(step, dataset), asked)  # type: ignore[misc]  # the default binds the loop variable
    return version


@singledispatch
def _change(step: steps.Step, dataset: Any) -> None:
    raise NotImplementedError(type(step).__name__)


def _carry_out(step: steps.Step, dataset: Any) -> int:
    _change(step, dataset)
    return int(dataset.version)


@_change.register
def _(step: steps.RenameColumn, dataset: Any) -> None:
    dataset.alter_columns({"path": step.column, "name": step.to})


@_change.register
def _(step: steps.AddColumn, dataset: Any) -> None:
    dataset.add_columns(pa.schema([storage.physical_field(step.field)]))


@_change.register
def _(step: steps.AllowNull, dataset: Any) -> None:
    dataset.alter_columns({"path": step.column, "nullable": True})


@_change.register
def _(step: steps.SetMetadata, dataset: Any) -> None:
    dataset.update_field_metadata({step.column: dict(step.metadata)})


@_change.register
def _(step: steps.DropColumn, dataset: Any) -> None:
    dataset.drop_columns([step.column])
