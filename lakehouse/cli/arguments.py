"""What the verbs have in common: how a target, a function or a parameter is typed."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from typer.core import TyperCommand

import lakehouse as lh
from lakehouse.cli.target import Target, parse_target
from lakehouse.errors import InvalidArgumentError, LakehouseError, NotFoundError, VersionNotFoundError
from lakehouse.layout import TABLE_SUFFIX
from lakehouse.location import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    "as_options",
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

_ARGUMENT = re.compile(r"""\b([a-z_]+)=(?:"([a-z]+)"|True\b)""")
STOPPED = 130  # exit code after Ctrl-C, as shells have it: 128 + SIGINT

LakeTarget = Annotated[str, typer.Argument(metavar="LAKE", help="A folder or a URL.", show_default=False)]
TableTarget = Annotated[
    str,
    typer.Argument(
        metavar="LAKE/TABLE[@VERSION]", help="A table, at a version, a tag or a branch.", show_default=False
    ),
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
    return app.command(name, cls=_Verb, epilog=f"Example: lakehouse {example}")


class _Verb(TyperCommand):
    """A command whose mistakes are told in its own words: ``--on-bad-rows skip``, not ``on_bad_rows="skip"``."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LakehouseError as error:
            options = {p.name: p.opts[0] for p in self.params if p.name and p.opts[0].startswith("--")}
            error.args = (as_options(str(error), options),)
            raise


def as_options(text: str, options: Mapping[str, str]) -> str:
    """Write Python's arguments as the options that they are here.

    Examples
    --------
    >>> as_options('pass on_bad_rows="skip" or cascade=True', {"on_bad_rows": "--on-bad-rows", "cascade": "--cascade"})
    'pass --on-bad-rows skip or --cascade'
    """

    def option(found: re.Match[str]) -> str:
        name, word = found.groups()
        return f"{options[name]} {word or ''}".rstrip() if name in options else found[0]

    return _ARGUMENT.sub(option, text)


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
    stem = location.uri.removesuffix(TABLE_SUFFIX)
    if stem != location.uri or not location.exists():
        lake, _, table = stem.rpartition("/")
        if Location.of(stem + TABLE_SUFFIX).exists():
            raise NotFoundError(f"{stem} is a table; the lake that it is in is {lake}, there it goes by {table!r}")
    if not location.exists():
        raise NotFoundError(f"there is no lake at {location.uri}; lakehouse init {text} makes one")
    return lh.connect(location.uri)


def open_table(text: str) -> Table:
    """Open ``LAKE/TABLE[@VERSION]``; what is no tag may be a branch, as in SQL."""
    target = target_of(text, is_table=True)
    lake, name = lh.connect(target.lake), str(target.table)
    try:
        return lake.open_table(name, version=target.version)
    except VersionNotFoundError as no_tag:
        if not isinstance(target.version, str):
            raise
        try:
            return lake.open_table(name, branch=target.version)
        except VersionNotFoundError as no_branch:
            raise VersionNotFoundError(f"{no_tag}; {no_branch}") from None


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
