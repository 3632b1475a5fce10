"""What the verbs have in common: how a target, a function or a parameter is typed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

import lakehouse as lh
from lakehouse.cli.target import Target, parse_target
from lakehouse.errors import InvalidArgumentError, NotFoundError
from lakehouse.layout import TABLE_SUFFIX
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.features.udfs.udf import UDF
    from lakehouse.lake import Lake
    from lakehouse.table import Table

__all__ = [
    "STOPPED",
    "AsEvents",
    "AsJson",
    "ColumnsOption",
    "LakeTarget",
    "TableTarget",
    "WhereOption",
    "WrittenTable",
    "as_names",
    "is_table",
    "key_value",
    "lake_and_name",
    "load_udf",
    "open_lake",
    "open_newest",
    "open_table",
    "target_of",
    "typed_value",
    "verb",
]

STOPPED = 130  # exit code after Ctrl-C, as shells have it: 128 + SIGINT

LakeTarget = Annotated[str, typer.Argument(metavar="LAKE", help="A folder or a URL.", show_default=False)]
TableTarget = Annotated[
    str,
    typer.Argument(metavar="LAKE/TABLE[@VERSION]", help="A table, at a version or tag.", show_default=False),
]
WrittenTable = Annotated[str, typer.Argument(metavar="LAKE/TABLE", help="A table.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
AsEvents = Annotated[bool, typer.Option("--json", help="Print JSON lines: progress, and the result as the last.")]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", "-c", metavar="A,B", help="These columns only.", show_default=False)
]
WhereOption = Annotated[
    str | None, typer.Option("--where", metavar="SQL", help="Only rows this is true of.", show_default=False)
]


def verb(app: typer.Typer, example: str, name: str | None = None) -> Callable[[Any], Any]:
    """Register a command with an example under its help."""
    return app.command(name, epilog=f"Example: lakehouse {example}")


def target_of(text: str, is_table: bool | Callable[[str], bool]) -> Target:
    """Read a target; what is wrong with it is wrong usage."""
    try:
        return parse_target(text, is_table)
    except InvalidArgumentError as error:
        raise typer.BadParameter(str(error)) from error


def open_lake(text: str) -> Lake:
    """Open ``LAKE``, which must be there.

    Raises
    ------
    NotFoundError
        There is no such folder.
    """
    location = Location.of(target_of(text, is_table=False).lake)
    if not location.exists():
        lake, _, table = location.uri.rpartition("/")
        if Location.of(location.uri + TABLE_SUFFIX).exists():
            raise NotFoundError(
                f"{location.uri} is a table; the lake that it is in is {lake}, there it goes by {table!r}"
            )
        raise NotFoundError(f"there is no lake at {location.uri}; lakehouse init {text} makes one")
    return lh.connect(location.uri)


def open_table(text: str) -> Table:
    """Open ``LAKE/TABLE[@VERSION]``."""
    target = target_of(text, is_table=True)
    return lh.connect(target.lake).open_table(str(target.table), version=target.version)


def open_newest(text: str) -> Table:
    """Open ``LAKE/TABLE`` to write to it."""
    lake, name = lake_and_name(text)
    return lake.open_table(name)


def lake_and_name(text: str) -> tuple[Lake, str]:
    """Open the lake of ``LAKE/TABLE``, where the newest version is meant."""
    target = target_of(text, is_table=True)
    if target.version is not None:
        raise typer.BadParameter(f"{text!r}: this is about the newest version; leave @{target.version} out")
    return lh.connect(target.lake), str(target.table)


def is_table(path: str) -> bool:
    """Tell whether a table is meant: its folder is there, or there is no lake of that name either."""
    return Location.of(path).exists() or not Location.of(path.removesuffix(TABLE_SUFFIX)).exists()


def key_value(table: Table, text: str) -> Any:
    """Read a key as the table's key column has it."""
    key = table.snapshot().key
    if key is not None and pa.types.is_integer(table.schema.field(key).type) and text.lstrip("-").isdigit():
        return int(text)
    return text


def as_names(text: str | None) -> list[str] | None:
    """Read ``a,b``."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def typed_value(text: str) -> Any:
    """Read a value as JSON has it, else as the text it is: ``512``, ``true``, ``[0.1, 0.2]``, ``train``."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def load_udf(text: str) -> UDF:
    """Import ``module:function``; modules of the current folder are found."""
    from lakehouse.features.udfs.udf import import_udf

    module, _, name = text.partition(":")
    if not module or not name:
        raise typer.BadParameter(f"{text!r} names no function; write MODULE:FUNCTION, as in my_features:phash")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return import_udf(text)
