"""A plan's steps carried out: each one a commit of metadata, retried against whoever else writes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial, singledispatch
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import commit, storage
from lakehouse.errors import ConflictError, InvalidArgumentError
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
    ConflictError
        The table is not what it was when the plan was made, so that it would be another plan now.
    SchemaError
        What the plan leads to cannot be reached any more: a feature was declared on a column to be dropped, say.
    """
    snapshot.check_writable()
    if planned.table != snapshot.name:
        raise InvalidArgumentError(f"the plan is for {planned.table!r}, not for {snapshot.name!r}")
    if planned.is_destructive and not allow_destructive:
        raise InvalidArgumentError(
            f"the plan destroys values; read it, then apply it with allow_destructive=True\n{planned}"
        )
    version = snapshot.version
    for number, step in enumerate(planned.steps):
        rest = planned.steps[number:]
        asked = f"{step.verb} column {step.column!r} of {snapshot.name!r}"
        version = commit.retrying(snapshot.location, partial(_carry_out, snapshot, planned, rest), asked)
    return version


@singledispatch
def _change(step: steps.Step, dataset: Any) -> None:
    raise NotImplementedError(type(step).__name__)


def _carry_out(snapshot: Snapshot, planned: steps.Plan, rest: tuple[steps.Step, ...], dataset: Any) -> int:
    """Carry out the first of the steps that are left, if they are what this version would plan."""
    now = plan(replace(snapshot, dataset=dataset), planned.wanted, {}).steps
    if _essence(now) != _essence(rest):
        if _essence(now) == _essence(rest[1:]):
            return int(dataset.version)  # the answer to the last attempt was lost, or somebody did the same
        raise ConflictError(
            f"the table {snapshot.name!r} changed since the plan was made: {len(now)} steps lead to the schema now, "
            f"{len(rest)} of the plan are left; plan again"
        )
    _change(rest[0], dataset)
    return int(dataset.version)


def _essence(of: tuple[steps.Step, ...]) -> list[steps.Step]:
    """Leave out of steps what they cost, which changes with every commit."""
    plain = (replace(step, nbytes_read=0, nbytes_written=0) for step in of)
    return [replace(step, nbytes=None) if isinstance(step, steps.DropColumn) else step for step in plain]


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
    changes = dict(step.metadata)
    field = step.applied_to(pa.schema([storage.logical_field(dataset.schema.field(step.column))])).field(0)
    # Bytes that are media from now on: what is written from now on must not be compressed a second time.
    said = storage.physical_field(field).metadata or {}
    changes |= {key.decode(): value.decode() for key, value in said.items() if key.startswith(b"lance-encoding:")}
    dataset.update_field_metadata({step.column: changes})


@_change.register
def _(step: steps.DropColumn, dataset: Any) -> None:
    dataset.drop_columns([step.column])
