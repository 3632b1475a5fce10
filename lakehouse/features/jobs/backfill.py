"""Filling feature columns: which ones, in which order, by whom, and what it would cost."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from lakehouse import reads
from lakehouse.errors import InvalidArgumentError, LakehouseError, SchemaError, translated
from lakehouse.features.computing.asked import Asked
from lakehouse.features.computing.compute import Compute, Expression, Functions, function_of
from lakehouse.features.computing.dispatch import Dispatch, UnitSize
from lakehouse.features.computing.executors import Runner, runner_for
from lakehouse.features.computing.spread import Spread
from lakehouse.features.jobs import healing, runs
from lakehouse.features.jobs.filling import Filling
from lakehouse.features.jobs.job import Job
from lakehouse.features.jobs.options import BackfillPlan, BackfillResult, OnError, Only, Options, pending
from lakehouse.features.jobs.passes import passes
from lakehouse.features.jobs.todo import Todo
from lakehouse.features.records import ledger
from lakehouse.features.storing.checkpoints import Upkeep
from lakehouse.leases import lease, leases_of
from lakehouse.schema.lineage import Feature, dependents, owner_of
from lakehouse.snapshot import Snapshot, open_snapshot
from lakehouse.where import render

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from lakehouse.features.computing.asked import Rows
    from lakehouse.features.udfs.udf import UDF

    Given: TypeAlias = UDF | Mapping[str, UDF] | None
    Made: TypeAlias = Mapping[Feature, UDF | None]

_MEASURED_ROWS = 16  # computed to say how long all will take


def backfill_columns(
    snapshot: Snapshot, columns: str | Sequence[str] | None, udf: Given, options: Options
) -> BackfillResult:
    """Fill features, inputs before what is computed from them, and add up what was done.

    Functions that share an input are computed in one pass. An error of one of them does not end the others of its pass.

    Parameters
    ----------
    snapshot
        The newest version.
    columns
        Which, by any of their columns; None means all that something computes.
    udf
        The function of the one feature named, or functions by column; None imports what was declared.
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
    made_by = _made_by(snapshot, columns, udf, options)
    functions = {feature.token: function for feature, function in made_by.items() if function}
    total = BackfillResult(snapshot.version)
    with runner_for(functions, options.num_workers, options.executor) as runner:
        for together in passes(list(made_by), snapshot.field_ids):
            newest = healing.heal(open_snapshot(snapshot.lake, snapshot.name), together)
            total += _fill(newest, {feature: made_by[feature] for feature in together}, runner, options)
    return total


def plan(snapshot: Snapshot, columns: str | Sequence[str] | None, udf: Given, options: Options) -> BackfillPlan:
    """Say what a backfill would do, from a few rows computed now and not stored."""
    made_by = _made_by(snapshot, columns, udf, options)
    # What others wrote is made stale first, see `healing`; with a predicate nobody can tell how much of it.
    doubted = ledger.doubted(snapshot) if options.is_whole and options.only is None else {}
    num_rows, seconds, nbytes = 0, 0.0, 0
    for together in passes(list(made_by), snapshot.field_ids):
        rows = [reads.count_rows(snapshot, pending(f, options)) + doubted.get(f.token, 0) for f in together]
        rows = [min(count, options.limit or count) for count in rows]
        num_rows += sum(rows)
        if any(rows):
            each, size = _measured(snapshot, {feature: made_by[feature] for feature in together}, options)
            seconds += max(rows) * each / max(options.num_workers, 1)
            nbytes += int(max(rows) * size)
    names = [name for feature in made_by for name in feature.columns]
    stale = [f.name for f in dependents(snapshot.features, snapshot.field_ids, names) if f not in made_by]
    return BackfillPlan(num_rows, seconds, nbytes, tuple(stale))


def _fill(snapshot: Snapshot, made_by: Made, runner: Runner | None, options: Options) -> BackfillResult:
    """Fill the features of one pass; what ended one of them is raised when the others are done."""
    compute, errors = _compute_of(made_by, runner), list[LakehouseError]()
    with ExitStack() as stack:
        fillings = []
        for feature, function in made_by.items():
            if function is not None:
                stack.enter_context(closing(function))
            upkeep = None if compute.saves else _upkeep(snapshot, function)
            filling = stack.enter_context(_apart(_filling(snapshot, feature, function, options, upkeep), errors))
            fillings += [] if filling is None else [filling]
        Job(snapshot, fillings, compute, options).run()
    if errors:
        for other in errors[1:]:
            errors[0].add_note(f"and another feature of the same pass ended: {other}")
        raise errors[0]
    return sum((filling.result for filling in fillings), BackfillResult(snapshot.version))


@contextmanager
def _filling(
    snapshot: Snapshot, feature: Feature, function: UDF | None, options: Options, upkeep: Upkeep | None
) -> Iterator[Filling]:
    """Hold the right to fill a feature and keep the log of it while the block runs."""
    what = f"filling {feature.name!r} of {snapshot.name!r}"
    with (
        lease(leases_of(snapshot), feature.token, what, take_over=f"table.release({feature.name!r})") as held,
        ExitStack() as log,
    ):
        run = runs.begin(snapshot, [(feature, function)], options, [held.owner.id])
        filling = Filling(snapshot, feature, options, held, lambda: log.enter_context(run), upkeep)
        yield filling
        if filling.error is not None:
            raise filling.error


@contextmanager
def _apart(filling: AbstractContextManager[Filling], errors: list[LakehouseError]) -> Iterator[Filling | None]:
    """Put what ends one feature aside; None if it did not even begin."""
    has_begun = False
    try:
        with filling as begun:
            has_begun = True
            yield begun
    except LakehouseError as error:
        errors.insert(0, error)  # the last one to begin is the first to end
        if not has_begun:
            yield None


def _compute_of(made_by: Made, runner: Runner | None) -> Compute:
    functions = {feature.token: function for feature, function in made_by.items() if function is not None}
    if not functions:
        (expression,) = made_by  # one by itself, see `passes`
        return Expression(expression)
    if runner is None:
        return Functions(functions)
    batch_size = max(function.batch_size or 1 for function in functions.values())
    return Spread(Dispatch(runner, UnitSize(batch_size, runner.num_workers)))


def _upkeep(snapshot: Snapshot, function: UDF | None) -> Upkeep:
    """Keep every batch of a size that the user chose, nothing of what Lance computes, else what is worth it."""
    is_local = snapshot.lake.is_local
    if function is None:
        return Upkeep(is_local=is_local, free_s=-math.inf)
    return Upkeep(is_local=is_local) if function.batch_size is None else Upkeep(is_local=is_local, free_s=math.inf)


def _measured(snapshot: Snapshot, made_by: Made, options: Options) -> tuple[float, float]:
    """Seconds and bytes a row, of the first rows to fill."""
    few = replace(options, limit=min(options.limit or _MEASURED_ROWS, _MEASURED_ROWS))
    compute = _compute_of(made_by, None)
    fragments: dict[int, Any] = {}
    wanted: dict[int, dict[str, Rows]] = {}
    for feature in made_by:
        todo = Todo(snapshot, feature, few)
        for fragment, count in todo.fragments(few.limit):
            fragments[fragment.fragment_id] = fragment
            wanted.setdefault(fragment.fragment_id, {})[feature.token] = todo.rows(fragment, count)
    columns = {feature.token: list(feature.columns) for feature in made_by}
    start, num_rows, nbytes = time.perf_counter(), 0, 0
    with ExitStack() as stack:
        for function in filter(None, made_by.values()):
            stack.enter_context(closing(function))
        for number, rows in wanted.items():
            asked = Asked.of(rows)
            num_rows += asked.num_rows
            for token, part in compute.run(snapshot, fragments[number], asked):
                if isinstance(part, LakehouseError):
                    raise part
                nbytes += part.select(columns[token]).nbytes
        return (time.perf_counter() - start) / max(num_rows, 1), nbytes / max(num_rows, 1)


def _made_by(
    snapshot: Snapshot, columns: str | Sequence[str] | None, udf: Given, options: Options
) -> dict[Feature, UDF | None]:
    """Choose the features and what makes them, and find out before anything is done whether all can be filled."""
    if predicate := render(options.where, snapshot.schema.names):
        with translated(f"choosing rows of {snapshot.name!r} where {options.where!r}"):
            snapshot.dataset.scanner(columns=[], filter=predicate, with_row_id=True).explain_plan()  # Lance reads it
    wanted = resolve(snapshot, columns)
    given = _by_feature(snapshot, wanted, udf)
    made_by = {feature: function_of(feature, given.get(feature)) for feature in wanted}
    for feature in wanted:
        if options.only == "missing" and reads.count_rows(snapshot, ledger.older(feature)):
            raise SchemaError(
                f'{feature.name!r} has values of an older function, so only="missing" would leave two generations in '
                f"one column; leave only= out to fill all, or accept({feature.name!r}) the old values first"
            )
    return made_by


def _by_feature(snapshot: Snapshot, wanted: Sequence[Feature], udf: Given) -> dict[Feature, UDF]:
    if udf is None:
        return {}
    if not isinstance(udf, Mapping):
        if len(wanted) != 1:
            raise InvalidArgumentError(
                f"udf= is one function, {len(wanted)} features are to be filled; name one, or give {{column: function}}"
            )
        return {wanted[0]: udf}
    given = {}
    for name, function in udf.items():
        (feature,) = resolve(snapshot, name)
        if feature not in wanted:
            raise InvalidArgumentError(f"udf= has a function for {name!r}, which is not among the columns to fill")
        given[feature] = function
    return given


def resolve(snapshot: Snapshot, columns: str | Sequence[str] | None) -> list[Feature]:
    """Return the features to fill, inputs before what is computed from them; for None all that something computes.

    Raises
    ------
    SchemaError
        A column that nothing computes.
    """
    if columns is None:
        wanted = [feature for feature in snapshot.features.values() if feature.kind != "data"]
    else:
        wanted = [_named(snapshot, name) for name in ([columns] if isinstance(columns, str) else columns)]
    return [feature for together in passes(list(dict.fromkeys(wanted)), snapshot.field_ids) for feature in together]


def _named(snapshot: Snapshot, name: str) -> Feature:
    feature = owner_of(snapshot.features, name)
    if feature is None:
        snapshot.columns([name])
        raise SchemaError(
            f"{name!r} is not computed by anything; features are {', '.join(snapshot.features) or 'none'}; "
            "declare one with add_columns({name: function or SQL expression})"
        )
    if feature.kind == "data":
        raise SchemaError(f"{name!r} came from {feature.source}; add_columns_from(…) fills it")
    return feature


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
