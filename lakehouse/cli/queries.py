"""Verbs that look for rows: search, index."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import typer

import lakehouse as lh
from lakehouse.cli.arguments import (
    AsJson,
    ColumnsOption,
    TableTarget,
    WhereOption,
    WrittenTable,
    as_names,
    key_value,
    open_table,
    typed_value,
    verb,
)
from lakehouse.cli.output import Change, Output, grid, rows_grid, rows_of
from lakehouse.display import format_nbytes
from lakehouse.errors import NotFoundError

__all__ = ["register"]

IndexKind = Literal["ivf-pq", "ivf-flat", "btree", "bitmap", "label-list", "fts"]
_INDEXES: dict[IndexKind, str] = {
    "ivf-pq": "IvfPq",
    "ivf-flat": "IvfFlat",
    "btree": "BTree",
    "bitmap": "Bitmap",
    "label-list": "LabelList",
    "fts": "FTS",
}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "search lake/pets embedding --like 3f2a9c -k 5")(search)
    verb(app, "index lake/pets embedding --kind ivf-pq")(index)


def search(
    target: TableTarget,
    column: Annotated[str, typer.Argument(metavar="COLUMN", help="A column of vectors or of text.")],
    like: Annotated[
        str | None, typer.Option("--like", metavar="KEY", help="Near to this row.", show_default=False)
    ] = None,
    vector: Annotated[
        str | None, typer.Option("--vector", metavar="JSON", help="Near to this vector.", show_default=False)
    ] = None,
    text: Annotated[
        str | None, typer.Option("--text", metavar="WORDS", help="Best for these words.", show_default=False)
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="K", min=1, help="How many.")] = 10,
    where: WhereOption = None,
    columns: ColumnsOption = None,
    as_json: AsJson = False,
) -> None:
    """Find the rows nearest to a row or a vector, or best for some words."""
    if [like, vector, text].count(None) != 2:
        raise typer.BadParameter("give one of --like KEY, --vector JSON and --text WORDS")
    table = open_table(target)
    query = text if text is not None else typed_value(vector) if vector is not None else None
    if like is not None:
        query = table.get([key_value(table, like)], columns=[column])[column][0].as_py()
        if query is None:
            raise NotFoundError(f"the row {like!r} has nothing in {column}; fill it, or take another row")
    hits = table.search(query, column=column, k=k, where=where, columns=as_names(columns))
    rows = rows_of(hits)
    first = (table.snapshot().key, "_distance", "_score")  # wide tables are cut on the right
    names = sorted(hits.schema.names, key=lambda name: name not in first)
    out = Output(as_json)
    out.show(rows, *rows_grid(rows, names, out.console.width))


def index(
    target: WrittenTable,
    column: Annotated[
        str | None, typer.Argument(metavar="[COLUMN]", help="Build one here; none: list them.", show_default=False)
    ] = None,
    kind: Annotated[
        IndexKind | None,
        typer.Option(
            "--kind",
            metavar="ivf-pq|ivf-flat|btree|bitmap|label-list|fts",
            help="Default: what fits the column.",
            show_default=False,
        ),
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Remove the column's index.")] = False,
    as_json: AsJson = False,
) -> None:
    """List, build or drop search indexes."""
    if column is None and (drop or kind):
        raise typer.BadParameter("name the column whose index is meant")
    table = open_table(target)
    out = Output(as_json)
    if column is None:
        rows = table.indexes().to_pylist()
        lines = [[*(row | {"nbytes": format_nbytes(row["nbytes"])}).values()] for row in rows]
        out.show(rows, grid(list(rows[0]), lines) if rows else f"no indexes on {table.name}")
        return
    before = table.info()
    if drop:
        table.drop_index(column)
    else:
        table.create_index(column, *([getattr(lh, _INDEXES[kind])()] if kind else []))
    change = Change.between(before, table.info())
    verb_done = "dropped" if drop else "built"
    out.show({"column": column, **asdict(change)}, f"{verb_done} the index on {column}; {change}")
