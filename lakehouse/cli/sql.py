"""The verb sql: one statement, a script from standard input, or a shell."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated, Any, get_args

import typer

from lakehouse.cli.answers import SHOWN_ROWS, write
from lakehouse.cli.arguments import AsJson, LakeTarget, open_lake, typed_value, verb
from lakehouse.cli.formats import SUFFIXES, Format
from lakehouse.cli.output import Output
from lakehouse.display import format_nbytes
from lakehouse.errors import InvalidArgumentError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verb of this module."""
    verb(app, "sql lake 'SELECT split, count(*) FROM pets WHERE width > $w GROUP BY 1' --param w=512")(sql)


def sql(
    lake: LakeTarget,
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[SQL]",
            help="DuckDB's SQL; tables by name. None: a shell on a terminal, else a script from standard input.",
            show_default=False,
        ),
    ] = None,
    params: Annotated[
        list[str] | None,
        typer.Option(
            "--param", metavar="NAME=VALUE", help="A value for $NAME; 1=VALUE for the first ?.", show_default=False
        ),
    ] = None,
    form: Annotated[
        Format | None,
        typer.Option(
            "--format",
            metavar="|".join(get_args(Format)),
            help="How rows are written. Default: by the ending of FILE, else table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the result here.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            min=1,
            help=f"At most so many rows. Default: {SHOWN_ROWS} of a table on standard output, else all.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask with SQL; nothing is written to the lake. Media are shown as their sizes, Parquet holds their bytes."""
    chosen = _format(form, out, as_json=as_json)
    opened = open_lake(lake)
    if query is not None and not query.startswith("."):
        write(opened.sql(query, _parameters(params or [])), chosen, out=out, limit=limit)
        if out is not None:
            nbytes = out.stat().st_size
            said = {"file": str(out), "nbytes_written": nbytes}
            Output(as_json).show(said, f"wrote {format_nbytes(nbytes)} to {out}")
        return
    if params or out:
        raise typer.BadParameter("--param and --out go with one statement of SQL; write it after the lake")
    from lakehouse.cli.shell import Session, run_script, run_shell

    session = Session(opened, chosen, limit)
    if query is not None:
        session.answer(query)
    elif sys.stdin.isatty():
        run_shell(session)
    else:
        run_script(session, _script())


def _script() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"the script on standard input is not UTF-8: {error}") from error


def _format(form: Format | None, out: Path | None, *, as_json: bool) -> Format:
    if out is None:
        if as_json and form not in (None, "json"):
            raise typer.BadParameter(f"--json and --format {form}; give one of them")
        return form or ("json" if as_json else "table")
    if form is None and out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(f"{out} ends in none of {', '.join(SUFFIXES)}; name the format with --format")
    return form or SUFFIXES[out.suffix.lower()]


def _parameters(texts: list[str]) -> dict[str, Any] | None:
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise typer.BadParameter(f"{name!r} gives no value; write --param NAME=VALUE")
    return {name: typed_value(value) for name, _, value in pairs} or None
