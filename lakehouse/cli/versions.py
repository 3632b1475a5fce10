"""Verbs about versions: history, tag."""

from __future__ import annotations

from typing import Annotated

import typer

from lakehouse.cli.arguments import AsJson, TableTarget, open_table, verb
from lakehouse.cli.output import Output, grid

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "history lake/pets -n 5")(history)
    verb(app, "tag lake/pets@3 v1")(tag)


def history(
    target: TableTarget,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many versions.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show what happened to a table, newest first."""
    rows = open_table(target).history(limit=n).to_pylist()
    names = ["version", "timestamp", "operation", "rows", "tags", "author", "message"]
    lines = [
        (
            r["version"],
            r["timestamp"],
            r["operation"],
            f"{r['num_rows']:,}",
            ", ".join(r["tags"]),
            r["author"],
            r["message"],
        )
        for r in rows
    ]
    Output(as_json).show(rows, grid(names, lines, right=("version", "rows")))


def tag(
    target: TableTarget,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The tag to set; none: list them.", show_default=False)
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the tag.")] = False,
    as_json: AsJson = False,
) -> None:
    """List, set or remove the names of versions."""
    table = open_table(target)
    if name is not None and delete:
        table.untag(name)
    elif name is not None:
        table.tag(name)
    elif delete:
        raise typer.BadParameter("--delete needs the NAME of a tag")
    tags = table.tags()
    lines = [(key, version) for key, version in tags.items()]
    told = grid(["tag", "version"], lines, right=("version",)) if tags else f"no tags on {table.name}"
    Output(as_json).show(tags, told)
