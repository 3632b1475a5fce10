"""Filling feature columns: which ones, in which order, by whom, and what it would cost."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from lakehouse import reads
from lakehouse.errors import InvalidArgumentError, SchemaError
from lakehouse.features import checkpoints, ledger
from lakehouse.features.compute import compute_for, function_of
from lakehouse.features.job import Job
from lakehouse.features.options import BackfillPlan, BackfillResult, OnError, Only, Options, pending
from lakehouse.features.spread import compute_where
from lakehouse.features.todo import Todo
from lakehouse.leases import lease
from lakehouse.schema.lineage import Feature, dependents, owner_of
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakehouse.features.udf import UDF
    from lakehouse.snapshot import Snapshot

_MEASURED_ROWS = 16  # computed to say how long all will take


def backfill_columns(
    snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None, options: Options
) -> BackfillResult:
    """Fill features, inputs before what is computed from them, and add up what was done.

    Parameters
    ----------
    snapshot
        The newest version.
    columns
        Which, by any of their columns; None means all.
    udf
        The function of the one feature named; None imports what was declared.
    options
        Which rows, and what to do about failures.

    Raises
    ------
    BackfillError
        Stopped by ``on_error="raise"`` or `max_error_rate`; what was computed is kept and found again.
    ConflictError
        Somebody else is filling one of them.
    SchemaError
        A function is not the one that was declared; nothing was filled.
    """
    snapshot.check_writable()
    total = BackfillResult(snapshot.version)
    for feature in _wanted(snapshot, columns, udf, options):
        total += _fill(open_snapshot(snapshot.lake, snapshot.name), feature, udf, options)
    return total


def plan(snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None, options: Options) -> BackfillPlan:
    """Say what a backfill would do, from a few rows computed now and not stored."""
    wanted = _wanted(snapshot, columns, udf, options)
    num_rows, seconds, nbytes = 0, 0.0, 0
    for feature in wanted:
        rows = reads.count_rows(snapshot, pending(feature, options))
        rows = min(rows, options.limit or rows)
        num_rows += rows
        if rows:
            each, size = _measured(snapshot, feature, udf, options)
            seconds += rows * each / max(options.num_workers, 1)
            nbytes += int(rows * size)
    names = [name for feature in wanted for name in feature.columns]
    stale = [f.name for f in dependents(snapshot.features, snapshot.field_ids, names) if f not in wanted]
    return BackfillPlan(num_rows, seconds, nbytes, tuple(stale))


def _fill(snapshot: Snapshot, feature: Feature, udf: UDF | None, options: Options) -> BackfillResult:
    what = f"filling {feature.name!r} of {snapshot.name!r}"
    with (
        lease(ledger.leases_of(snapshot), feature.token, what),
        compute_where(feature, udf, options.num_workers, options.executor) as compute,
    ):
        return Job(snapshot, feature, compute, options).run()


def _measured(snapshot: Snapshot, feature: Feature, udf: UDF | None, options: Options) -> tuple[float, float]:
    """Seconds and bytes a row, of the first rows to fill."""
    few = replace(options, limit=min(options.limit or _MEASURED_ROWS, _MEASURED_ROWS))
    schema = checkpoints.part_schema(feature, snapshot.physical)
    with compute_for(feature, udf) as compute:
        todo = Todo(snapshot, feature, few)
        start, num_rows, nbytes = time.perf_counter(), 0, 0
        for fragment, count in todo.fragments(few.limit):
            for part in compute.run(snapshot, fragment, *todo.rows(fragment, count), schema):
                num_rows += part.num_rows
                nbytes += part.select(list(feature.columns)).nbytes
        return (time.perf_counter() - start) / max(num_rows, 1), nbytes / max(num_rows, 1)


def _wanted(
    snapshot: Snapshot, columns: str | Sequence[str] | None, udf: UDF | None, options: Options
) -> list[Feature]:
    """Choose the features, and find out before anything is done whether all of them can be filled."""
    wanted = resolve(snapshot, columns)
    if udf is not None and len(wanted) != 1:
        raise InvalidArgumentError(f"udf= belongs to one feature, {len(wanted)} are to be filled; name one")
    for feature in wanted:
        function_of(feature, udf)
        if options.only == "missing" and reads.count_rows(snapshot, ledger.older(feature)):
            raise SchemaError(
                f'{feature.name!r} has values of an older function, so only="missing" would leave two generations in '
                f"one column; leave only= out to fill all, or accept({feature.name!r}) the old values first"
            )
    return wanted


def resolve(snapshot: Snapshot, columns: str | Sequence[str] | None) -> list[Feature]:
    """Return the features to fill, inputs before what is computed from them.

    Raises
    ------
    SchemaError
        A column that nothing computes.
    """
    if columns is None:
        wanted = list(snapshot.features.values())
    else:
        wanted = []
        for name in [columns] if isinstance(columns, str) else columns:
            feature = owner_of(snapshot.features, name)
            if feature is None:
                snapshot.columns([name])
                raise SchemaError(
                    f"{name!r} is not computed by anything; features are {', '.join(snapshot.features) or 'none'}; "
                    "declare one with add_columns({name: function or SQL expression})"
                )
            wanted.append(feature)
    return _inputs_first(list(dict.fromkeys(wanted)), snapshot.field_ids)


def _inputs_first(features: list[Feature], field_ids: dict[str, int]) -> list[Feature]:
    ordered: list[Feature] = []
    waiting = list(features)
    while waiting:
        ids = {field_ids[name] for feature in waiting for name in feature.columns}
        ready = [feature for feature in waiting if not ids & set(feature.inputs)]
        if not ready:
            raise SchemaError(f"{', '.join(f.name for f in waiting)} are computed from one another; drop one of them")
        ordered += ready
        waiting = [feature for feature in waiting if feature not in ready]
    return ordered


__all__ = [
    "BackfillPlan",
    "BackfillResult",
    "OnError",
    "Only",
    "Options",
    "backfill_columns",
    "plan",
    "resolve",
]
