"""Verbs about feature columns: feature ls, add, preview, backfill, errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from lakehouse.cli.arguments import (
    AsJson,
    TableTarget,
    WhereOption,
    WrittenTable,
    load_udf,
    open_newest,
    open_table,
    verb,
)
from lakehouse.cli.output import Change, Output, fields, grid, rows_grid
from lakehouse.display import count, format_nbytes

__all__ = ["register"]


Only = Literal["missing", "stale", "failed", "all"]
OnError = Literal["record", "raise", "null"]
_Udf = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A UDF; the current folder is searched.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    feature = typer.Typer(no_args_is_help=True, help="Columns that are computed: declare, fill, look after.")
    verb(feature, "feature ls lake/pets", "ls")(list_features)
    verb(feature, "feature add lake/pets phash my_features:phash")(add)
    verb(feature, "feature preview lake/pets my_features:phash -n 3")(preview)
    verb(feature, "feature backfill lake/pets phash --where \"split = 'train'\"")(backfill)
    verb(feature, "feature errors lake/pets phash")(errors)
    app.add_typer(feature, name="feature")


def list_features(target: TableTarget, as_json: AsJson = False) -> None:
    """List feature columns: how far they are and who made them from what."""
    table = open_table(target)
    rows = table.features().to_pylist()
    names = ["column", "state", "filled", "failed", "version", "inputs", "who", "when"]
    lines = [
        (
            r["column"],
            r["state"],
            f"{r['coverage']:.0%}",
            r["num_failed"],
            r["version"],
            ", ".join(r["inputs"]),
            r["who"],
            r["when"],
        )
        for r in rows
    ]
    told = grid(names, lines, right=("filled", "failed", "version")) if rows else f"no features on {table.name}"
    Output(as_json).show(rows, told)


def add(
    target: WrittenTable,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new column.")],
    udf: Annotated[
        str | None, typer.Argument(metavar="[MODULE:FUNCTION]", help="What computes it.", show_default=False)
    ] = None,
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="EXPR", help="Or an expression.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Declare a feature column; only metadata is written, `feature backfill` fills it."""
    if (udf is None) == (sql is None):
        raise typer.BadParameter("give one of MODULE:FUNCTION and --sql EXPR")
    table = open_newest(target)
    before = table.info()
    table.add_columns({name: sql if udf is None else load_udf(udf)})
    change = Change.between(before, table.info())
    hint = f"fill it with: lakehouse feature backfill {target} {name}"
    Output(as_json).show({"column": name, **asdict(change)}, f"declared {name}; {change}", hint)


def preview(
    target: TableTarget,
    udf: _Udf,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many rows.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Run a function on a few rows and store nothing."""
    table = open_table(target)
    result = table.preview(load_udf(udf), n=n)
    rows = result.values.to_pylist()
    out = Output(as_json)
    told = [f"{result.seconds_per_row:.2g} s per row; nothing was stored"]
    told += [f"failed: {error.error}: {error.message}" for error in result.errors]
    record = {"values": rows, "seconds_per_row": result.seconds_per_row, "errors": [asdict(e) for e in result.errors]}
    out.show(record, *rows_grid(rows, result.values.schema.names, out.console.width), *told)


def backfill(
    target: WrittenTable,
    columns: Annotated[
        list[str] | None, typer.Argument(metavar="[COLUMN]...", help="Default: all features.", show_default=False)
    ] = None,
    udf: Annotated[
        str | None,
        typer.Option("--udf", metavar="MODULE:FUNCTION", help="Default: the declared one.", show_default=False),
    ] = None,
    where: WhereOption = None,
    only: Annotated[
        Only | None,
        typer.Option(
            "--only", metavar="missing|stale|failed|all", help="Default: missing and stale rows.", show_default=False
        ),
    ] = None,
    num_workers: Annotated[int, typer.Option("--num-workers", metavar="N", min=0, help="Processes; 0: this one.")] = 0,
    on_error: Annotated[
        OnError, typer.Option("--on-error", metavar="record|raise|null", help="What a row does that fails.")
    ] = "record",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many rows.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fill feature columns where they are missing or stale; what a killed run computed is kept."""
    table = open_newest(target)
    before = table.info().nbytes
    options: dict[str, Any] = {
        "udf": load_udf(udf) if udf else None,
        "where": where,
        "only": only,
        "num_workers": num_workers,
        "on_error": on_error,
        "limit": limit,
    }
    if dry_run:
        plan = asdict(table.backfill(columns or None, **options, dry_run=True))
        Output(as_json).show(plan, fields(plan))
        return
    result = table.backfill(columns or None, **options)
    filled = f"filled {result.num_filled:,} of {count(result.num_rows, 'row')} as version {result.version}"
    told = [
        f"{filled}: {result.num_computed:,} computed, {result.num_resumed:,} kept from a run that was killed",
        f"{format_nbytes(result.nbytes_written)} written, {format_nbytes(before)} untouched",
    ]
    if result.num_rows == 0:
        told = [f"nothing to fill, version {result.version} has it all"]
    if result.num_failed:
        told.append(f"{count(result.num_failed, 'row')} failed; lakehouse feature errors {target} says why")
    Output(as_json).show({**asdict(result), "nbytes_untouched": before}, *told)


def errors(
    target: TableTarget,
    column: Annotated[
        str | None, typer.Argument(metavar="[COLUMN]", help="Of this column only.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the files that could not be stored and the rows that could not be computed."""
    table = open_table(target)
    rows = (table.errors(column) if column else table.errors()).to_pylist()
    names = ["key", "column", "error", "message"]
    told = grid(names, [[row[name] for name in names] for row in rows]) if rows else f"no errors on {table.name}"
    Output(as_json).show(rows, told)
