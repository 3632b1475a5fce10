"""Verbs that fill feature columns: feature backfill, add-from."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import lakehouse as lh
from lakehouse.cli.arguments import (
    STOPPED,
    AsEvents,
    ColumnsOption,
    WhereOption,
    WrittenTable,
    as_names,
    load_udf,
    open_newest,
)
from lakehouse.cli.output import Output, bytes_told, fields, untouched
from lakehouse.display import count, format_nbytes, format_value

if TYPE_CHECKING:
    from lakehouse.features.jobs.options import BackfillResult
    from lakehouse.table import Table

__all__ = ["add_from", "backfill"]

Only = Literal["missing", "stale", "failed", "all"]
OnError = Literal["record", "raise", "null"]
OnMissing = Literal["null", "raise", "keep"]
ExecutorName = Literal["local", "ray"]


def backfill(
    target: WrittenTable,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[COLUMN]...", help="Default: all features.", show_default=False)
    ] = None,
    columns: ColumnsOption = None,
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
    num_workers: Annotated[
        int, typer.Option("--num-workers", "--workers", metavar="N", min=0, help="Processes; 0: this one.")
    ] = 0,
    executor: Annotated[
        ExecutorName, typer.Option("--executor", metavar="local|ray", help="Processes of this machine, or Ray's.")
    ] = "local",
    on_error: Annotated[
        OnError, typer.Option("--on-error", metavar="record|raise|null", help="What a row does that fails.")
    ] = "record",
    max_error_rate: Annotated[
        float | None,
        typer.Option(
            "--max-error-rate", metavar="SHARE", min=0, max=1, help="Stop above it, 0 to 1.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many rows.", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take.")] = False,
    as_json: AsEvents = False,
) -> None:
    """Fill feature columns where they are missing or stale; what a stopped run computed is kept."""
    table = open_newest(target)
    wanted = [*(names or []), *(as_names(columns) or [])] or None
    options: dict[str, Any] = {
        "udf": load_udf(udf) if udf else None,
        "where": where,
        "only": only,
        "num_workers": num_workers,
        "executor": executor,
        "on_error": on_error,
        "max_error_rate": max_error_rate,
        "limit": limit,
    }
    out = Output(as_json, streams=True)
    if dry_run:
        plan = asdict(table.backfill(wanted, **options, dry_run=True))
        out.show(plan, fields({**plan, "nbytes": format_nbytes(plan["nbytes"])}))
        return
    before = table.info()
    try:
        with out.following():
            result = table.backfill(wanted, **options)
    except KeyboardInterrupt as error:
        print(f"lakehouse: stopped; {_committed(table, before.version, wanted)}", file=sys.stderr)
        raise typer.Exit(STOPPED) from error
    left = untouched(before, wanted or [column.name for column in before.columns if column.feature])
    out.show({**asdict(result), "nbytes_untouched": left}, *_told(result, left, target))


def _told(result: BackfillResult, left: int, target: str) -> list[str]:
    if result.num_rows == 0:
        return [f"nothing to fill, version {result.version} has it all"]
    done = f"filled {result.num_filled:,} of {count(result.num_rows, 'row')} as version {result.version}"
    resumed = f", {result.num_resumed:,} resumed from a run that was stopped" if result.num_resumed else ""
    told = [
        f"{done}: {result.num_computed:,} computed{resumed}",
        bytes_told(result.nbytes_written, left),
    ]
    if result.num_failed:
        told.append(f"{count(result.num_failed, 'row')} failed; lakehouse feature errors {target} says why")
    return told


def _committed(table: Table, before: int, wanted: list[str] | None) -> str:
    """Say what a stopped run left, and how to go on."""
    filled = [
        f"{row['column']} is {row['coverage']:.0%} filled"
        for row in table.features().to_pylist()
        if wanted is None or row["column"] in wanted
    ]
    version = f"as version {table.version}" if table.version > before else "nothing was committed yet"
    return f"{', '.join(filled)}, {version}; what else was computed is kept: the same command goes on from there"


def add_from(
    target: WrittenTable,
    source: Annotated[list[str], typer.Argument(metavar="SOURCE", help="Parquet files, globs or URLs.")],
    on: Annotated[
        str | None,
        typer.Option("--on", metavar="COLUMN", help="Says which row is meant; default: the key.", show_default=False),
    ] = None,
    on_missing: Annotated[
        OnMissing, typer.Option("--on-missing", metavar="null|raise|keep", help="What a row without data gets.")
    ] = "null",
    as_json: AsEvents = False,
) -> None:
    """Add columns whose values were made elsewhere, or fill them again, whoever else writes."""
    table = open_newest(target)
    before = table.info()
    out = Output(as_json, streams=True)
    with out.following():
        result = table.add_columns_from(lh.read_parquet(source), on=on, on_missing=on_missing)
    left = untouched(before, result.columns)
    filled = f"filled {', '.join(result.columns)} of {count(result.num_rows, 'row')} as version {result.version}"
    told = [
        f"{filled}; {count(result.num_missing, 'row')} had no data",
        bytes_told(result.nbytes_written, left),
    ]
    if result.num_unmatched:
        some = ", ".join(map(format_value, result.unmatched))
        told.append(f"left out {count(result.num_unmatched, 'row')} of the data whose key is not in the table: {some}")
    out.show({**asdict(result), "nbytes_untouched": left}, *told)
