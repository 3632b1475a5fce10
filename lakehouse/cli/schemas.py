"""Verbs about schemas as code: schema plan, schema apply."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakehouse.cli.arguments import AsJson, WrittenTable, lake_and_name, verb
from lakehouse.cli.output import Change, Output
from lakehouse.display import count

if TYPE_CHECKING:
    from lakehouse.schema.evolution import Plan

__all__ = ["register"]

DRIFT = 3  # exit code of a plan that has steps

_File = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A TOML file or a shipped schema.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    schema = typer.Typer(no_args_is_help=True, help="Compare a table with its schema file, and change it.")
    verb(schema, "schema plan lake/pets schemas/images.toml")(plan)
    verb(schema, "schema apply lake/pets schemas/images.toml")(apply)
    app.add_typer(schema, name="schema")


def plan(target: WrittenTable, file: _File, as_json: AsJson = False) -> None:
    """Show what would change, in bytes; exit code 3 if something would."""
    lake, name = lake_and_name(target)
    planned = lake.plan(file, table=name)
    Output(as_json).show(_record(planned), str(planned))
    if not planned.is_empty:
        raise typer.Exit(DRIFT)


def apply(
    target: WrittenTable,
    file: _File,
    allow_destructive: Annotated[
        bool, typer.Option("--allow-destructive", help="Carry out steps that take values away.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Carry the plan out."""
    lake, name = lake_and_name(target)
    planned = lake.plan(file, table=name)
    before = lake.open_table(name).info()
    lake.apply(planned, allow_destructive=allow_destructive)
    change = Change.between(before, lake.open_table(name).info())
    done = f"applied {count(len(planned), 'step')}; {change}"
    Output(as_json).show({**_record(planned), **asdict(change)}, str(planned), done)


def _record(planned: Plan) -> dict[str, Any]:
    steps = [
        {
            "verb": step.verb,
            "column": step.column,
            "effect": step.effect,
            "description": step.description,
            "nbytes_read": step.nbytes_read,
            "nbytes_written": step.nbytes_written,
        }
        for step in planned
    ]
    return {"table": planned.table, "steps": steps, "features": planned.features, "unmanaged": planned.unmanaged}
