"""Verbs that declare and look after feature columns; `lakehouse.cli.filling` has those that fill them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lakehouse.cli.arguments import (
    AsJson,
    TableTarget,
    WrittenTable,
    load_udf,
    open_newest,
    open_table,
    verb,
)
from lakehouse.cli.filling import add_from, backfill
from lakehouse.cli.output import Change, Output, bytes_told, grid, rows_grid, rows_of, untouched
from lakehouse.display import count, format_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.table import Table

__all__ = ["register"]

_Udf = Annotated[str, typer.Argument(metavar="MODULE:FUNCTION", help="A UDF; the current folder is searched.")]
_Column = Annotated[str, typer.Argument(metavar="COLUMN", help="A feature column.")]
_Optional = Annotated[str | None, typer.Argument(metavar="[COLUMN]", help="Of this column only.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    feature = typer.Typer(no_args_is_help=True, help="Columns that are computed: declare, fill, look after.")
    verb(feature, "feature ls lake/pets", "ls")(list_features)
    verb(feature, "feature add lake/pets phash my_features:phash")(add)
    verb(feature, "feature preview lake/pets my_features:phash -n 3")(preview)
    verb(feature, "feature backfill lake/pets phash --where \"split = 'train'\"")(backfill)
    verb(feature, "feature add-from lake/pets scores.parquet --on id")(add_from)
    verb(feature, "feature errors lake/pets phash")(errors)
    verb(feature, "feature history lake/pets phash")(history)
    verb(feature, "feature runs lake/pets phash")(runs)
    verb(feature, "feature rollback lake/pets phash 12")(rollback)
    verb(feature, "feature alter lake/pets phash my_features:phash_v2")(alter)
    verb(feature, "feature accept lake/pets phash")(accept)
    verb(feature, "feature drop lake/pets phash")(drop)
    verb(feature, "feature release lake/pets phash")(release)
    verb(feature, "feature rename lake/pets phash image_hash")(rename)
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
    made = {name: sql if udf is None else load_udf(udf)}
    hint = f"fill it with: lakehouse feature backfill {target} {name}"
    _write(target, name, lambda table: table.add_columns(made), f"declared {name}", hint, as_json=as_json)


def preview(
    target: TableTarget,
    udf: _Udf,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many rows.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Run a function on a few rows and store nothing."""
    table = open_table(target)
    result = table.preview(load_udf(udf), n=n)
    rows = rows_of(result.values)
    out = Output(as_json)
    told = [f"{result.seconds_per_row:.2g} s per row; nothing was stored"]
    told += [f"failed: {format_value(error.message, 500)}" for error in result.errors]
    record = {"values": rows, "seconds_per_row": result.seconds_per_row, "errors": [asdict(e) for e in result.errors]}
    out.show(record, *rows_grid(rows, result.values.schema.names, out.console.width), *told)


def errors(target: TableTarget, column: _Optional = None, as_json: AsJson = False) -> None:
    """List the files that could not be stored and the rows that could not be computed."""
    table = open_table(target)
    rows = (table.errors(column) if column else table.errors()).to_pylist()
    names = ["key", "column", "error", "message"]
    told = grid(names, [[row[name] for name in names] for row in rows]) if rows else f"no errors on {table.name}"
    Output(as_json).show(rows, told)


def history(target: TableTarget, column: _Column, as_json: AsJson = False) -> None:
    """Show what happened to a column, newest last; `feature rollback` goes back to one of these versions."""
    rows = open_table(target).column_history(column).to_pylist()
    names = ["version", "when", "who", "what", "source", "num_rows", "num_failed", "nbytes", "message"]
    lines = [[row[name] for name in names] for row in rows]
    Output(as_json).show(rows, grid(names, lines, right=("version", "num_rows", "num_failed", "nbytes")))


def runs(target: TableTarget, column: _Optional = None, as_json: AsJson = False) -> None:
    """List the runs that filled columns, oldest first: who ran what, how it ended, what it computed."""
    table = open_table(target)
    rows = table.runs(column).to_pylist()
    names = [
        "columns",
        "state",
        "who",
        "started_at",
        "ended_at",
        "function",
        "num_computed",
        "num_resumed",
        "num_failed",
    ]
    lines = [[row[name] for name in names] for row in rows]
    told = grid(names, lines, right=names[-3:]) if rows else f"no runs on {table.name}"
    Output(as_json).show(rows, told)


def rollback(
    target: WrittenTable,
    column: _Column,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="A version of the table, see `feature history`.")],
    as_json: AsJson = False,
) -> None:
    """Give a feature back the values it had; what others wrote to other columns and rows stays."""
    table = open_newest(target)
    before = table.info()
    result = table.rollback_column(column, version=version)
    left = untouched(before, [column])
    done = f"{column} is as it was in version {version}: {count(result.num_true, 'row')} true"
    to_do = f"{result.num_stale:,} stale, {result.num_missing:,} without a value"
    told = [f"{done}, {to_do}", f"version {result.version}: {bytes_told(result.nbytes_written, left)}"]
    if result.num_stale or result.num_missing or result.became_stale:
        told.append(f"fill what is left with: lakehouse feature backfill {target}")
    Output(as_json).show({"column": column, **asdict(result), "nbytes_untouched": left}, *told)


def alter(target: WrittenTable, column: _Column, udf: _Udf, as_json: AsJson = False) -> None:
    """Declare a changed function: the values there are stale until they are filled again."""
    hint = f"fill it again with: lakehouse feature backfill {target} {column}"
    made = load_udf(udf)
    _write(target, column, lambda table: table.alter_udf(column, made), f"altered {column}", hint, as_json=as_json)


def accept(
    target: WrittenTable,
    column: _Column,
    udf: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODULE:FUNCTION]",
            help="The changed function; none: the last `feature alter` changed no value.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Declare the values there are right: the function's code changed but not what it computes."""
    made = load_udf(udf) if udf else None
    _write(target, column, lambda table: table.accept(column, made), f"accepted {column}", as_json=as_json)


def drop(
    target: WrittenTable,
    columns: Annotated[list[str], typer.Argument(metavar="COLUMN...", help="Columns to remove.")],
    cascade: Annotated[bool, typer.Option("--cascade", help="And all features computed from them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove columns; only metadata is written, older versions keep them."""
    table = open_newest(target)
    before = table.info()
    gone = table.drop_columns(columns, cascade=cascade).columns
    change = Change.between(before, table.info(), rewritten=gone)
    Output(as_json).show({"columns": gone, **asdict(change)}, f"dropped {', '.join(gone)}; {change}")


def release(target: WrittenTable, column: _Column, as_json: AsJson = False) -> None:
    """Take a column from a job that hangs or is out of reach; a job that ended holds nothing."""
    holder = open_newest(target).release(column)
    told = f"taken from {holder}; it can be filled" if holder else f"nobody is filling {column}; it can be filled"
    Output(as_json).show({"column": column, "holder": holder}, told)


def rename(
    target: WrittenTable,
    old: Annotated[str, typer.Argument(metavar="OLD", help="A column.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="Its new name.")],
    as_json: AsJson = False,
) -> None:
    """Rename a column; its history and what is computed from it stay true."""
    _write(target, new, lambda table: table.rename_column(old, new), f"renamed {old} to {new}", as_json=as_json)


def _write(target: str, column: str, write: Callable[[Table], object], done: str, *hints: str, as_json: bool) -> None:
    """Change a table's metadata, and say what that took."""
    table = open_newest(target)
    before = table.info()
    write(table)
    change = Change.between(before, table.info())
    Output(as_json).show({"column": column, **asdict(change)}, f"{done}; {change}", *hints)
