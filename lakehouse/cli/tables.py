"""Verbs about lakes, tables and rows: init, ls, info, head, get, add."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import lakehouse as lh
from lakehouse import display
from lakehouse.cli.answers import taking_the_place_of
from lakehouse.cli.arguments import (
    AsJson,
    ColumnsOption,
    LakeTarget,
    TableTarget,
    WrittenTable,
    as_names,
    is_table,
    key_value,
    open_lake,
    open_newest,
    open_table,
    target_of,
    verb,
)
from lakehouse.cli.output import Output, bytes_told, fields, grid, rows_grid
from lakehouse.display import count, format_nbytes, format_value
from lakehouse.errors import InvalidArgumentError
from lakehouse.layout import mark_format, side
from lakehouse.location import Location
from lakehouse.media.handles import Handle, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.info import ColumnInfo, TableInfo

__all__ = ["kind_of", "register"]


Kind = Literal["images", "videos", "texts", "parquet"]
OnBadRows = Literal["raise", "skip", "record"]
OnDuplicateKey = Literal["raise", "skip"]

_READERS = {"images": "read_images", "videos": "read_videos", "texts": "read_texts", "parquet": "read_parquet"}
_KIND_OF_MEDIA: dict[str, Kind] = {"image": "images", "video": "videos", "text": "texts"}


def register(app: typer.Typer) -> None:
    """Add the verbs of this module."""
    verb(app, "init lake/pets --schema images")(init)
    verb(app, "ls lake")(ls)
    verb(app, "info lake/pets@3")(info)
    verb(app, "head lake/pets -n 3 --columns id,width")(head)
    verb(app, "get lake/pets 3f2a9c --save cat.jpg")(get)
    verb(app, "add lake/pets photos/ --on-bad-rows record")(add)


def init(
    target: Annotated[str, typer.Argument(metavar="LAKE[/TABLE]", help="A lake, or a new table with --schema.")],
    schema: Annotated[
        str | None,
        typer.Option(
            "--schema", metavar="NAME|FILE", help="images, videos, documents, or a TOML file.", show_default=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a lake, and with --schema a table in it."""
    found = target_of(target, is_table=schema is not None)
    lake = lh.connect(found.lake)
    out = Output(as_json)
    if found.table is None:
        mark_format(Location.of(lake.uri))  # the first file makes the folder, on a bucket too
        told = [f"the lake {lake.uri} is there"]
        outer, _, name = lake.uri.rpartition("/")
        if Location.of(lake.uri).is_local and side(Location.of(outer or "/")).exists():
            told.append(f"{outer} is a lake too: --schema makes a table {name!r} in it")
        out.show({"lake": lake.uri, "tables": lake.table_names()}, *told)
        return
    table = lake.create_table(found.table, schema=schema)
    facts = table.info()
    out.show(
        asdict(facts),
        f"made the table {facts.name} of {count(len(facts.columns), 'column')} in {lake.uri}; no rows yet",
        _columns(facts),
    )


def ls(lake: LakeTarget, as_json: AsJson = False) -> None:
    """List the tables of a lake."""
    opened = open_lake(lake)
    facts = [opened.open_table(name).info() for name in opened.table_names()]
    names = ["table", "rows", "columns", "features", "version", "bytes", "on disk"]
    rows = [
        (
            f.name,
            f"{f.num_rows:,}",
            len(f.columns),
            sum(bool(c.feature) for c in f.columns),
            f.version,
            format_nbytes(f.nbytes),
            format_nbytes(f.nbytes_on_disk),
        )
        for f in facts
    ]
    empty = f"no tables in {opened.uri}; lakehouse init {lake}/NAME --schema images makes one"
    Output(as_json).show([asdict(f) for f in facts], grid(names, rows, right=names[1:]) if rows else empty)


def info(
    target: Annotated[str, typer.Argument(metavar="LAKE[/TABLE[@VERSION]]", help="A lake or a table.")],
    as_json: AsJson = False,
) -> None:
    """Show rows, columns, bytes, fragments, versions and indexes."""
    found = target_of(target, is_table)
    if found.table is None:
        ls(found.lake, as_json)
        return
    table = open_table(target)
    facts = table.info()
    summary = {
        "table": facts.uri,
        "rows": f"{facts.num_rows:,}",
        "key": facts.key or "none",
        "version": f"{facts.version} ({count(facts.num_versions, 'version')} kept)",
        "fragments": f"{facts.num_fragments:,}",
        "bytes": f"{format_nbytes(facts.nbytes)} in this version, {format_nbytes(facts.nbytes_on_disk)} on disk",
        "indexes": ", ".join(facts.indexes) or "none",
    }
    Output(as_json).show(asdict(facts), fields(summary), "", _columns(facts))


def head(
    target: TableTarget,
    n: Annotated[int, typer.Option("-n", metavar="N", min=1, help="How many rows.")] = 5,
    columns: ColumnsOption = None,
    as_json: AsJson = False,
) -> None:
    """Show the first rows; of media, the size."""
    table = open_table(target)
    snapshot = table.snapshot()
    names = snapshot.columns(as_names(columns))
    rows = [{name: row[name] for name in names} for row in display.first_rows(snapshot, n)]
    out = Output(as_json)
    out.show(rows, *rows_grid(rows, names, out.console.width))


def get(
    target: TableTarget,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The row's key.")],
    columns: ColumnsOption = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Write the row's medium here.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one row, found by its key, and save its picture, video or text."""
    table = open_table(target)
    names = table.snapshot().columns(as_names(columns))
    row = table[key_value(table, key)]
    result: dict[str, Any] = {name: row[name] for name in names}
    told: list[Any] = [fields({name: format_value(value, 500) for name, value in result.items()})]
    if save is not None:
        column = _medium(result)
        with taking_the_place_of(save) as path:
            nbytes = path.write_bytes(result[column].read())
        result["saved"] = {"column": column, "file": str(save), "nbytes": nbytes}
        told.append(f"wrote {column}, {format_nbytes(nbytes)}, to {save}")
    Output(as_json).show(result, *told)


def _medium(row: Mapping[str, Any]) -> str:
    """Pick what --save writes: the only medium of the row, text after the others."""
    media = {name: isinstance(value, Text) for name, value in row.items() if isinstance(value, Handle)}
    wanted = [name for name, is_text in media.items() if not is_text] or list(media)
    if len(wanted) != 1:
        held = ", ".join(wanted) or "none"
        raise InvalidArgumentError(f"the row's media: {held}; name the one to save with --columns")
    return wanted[0]


def _columns(facts: TableInfo) -> Any:
    heads = ["column", "type", "bytes", "state", "meaning"]
    lines = [(c.name, c.type, format_nbytes(c.nbytes or 0), _state(c), c.doc) for c in facts.columns]
    return grid(heads, lines, right=("bytes",))


def _state(column: ColumnInfo) -> str:
    if not column.state or column.coverage is None:
        return ""
    failed = f", {column.num_failed:,} failed" if column.num_failed else ""
    return f"{column.state}, {column.coverage:.0%}{failed}"


def add(
    target: WrittenTable,
    sources: Annotated[
        list[str], typer.Argument(metavar="SOURCE", help="Folders, files, globs or URLs.", show_default=False)
    ],
    kind: Annotated[
        Kind | None,
        typer.Option(
            "--as", metavar="images|videos|texts|parquet", help="Default: what the table holds.", show_default=False
        ),
    ] = None,
    on_bad_rows: Annotated[
        OnBadRows,
        typer.Option("--on-bad-rows", metavar="raise|skip|record", help="What to do with files that are broken."),
    ] = "raise",
    on_duplicate_key: Annotated[
        OnDuplicateKey,
        typer.Option("--on-duplicate-key", metavar="raise|skip", help="What to do with keys the table has."),
    ] = "raise",
    label_from_folder: Annotated[
        bool, typer.Option("--label-from-folder", help="Fill label with the name of the folder a file is in.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Add files as rows: one version or none; after a kill the same call goes on."""
    table = open_newest(target)
    before = table.info()
    source = _source(sources, kind, before, label_from_folder)
    result = table.add(source, on_bad_rows=on_bad_rows, on_duplicate_key=on_duplicate_key)
    added = f"added {count(result.num_rows, 'row')} as version {result.version}"
    told = [f"{added}: {bytes_told(result.nbytes_written, before.nbytes)}"]
    if result.num_failed:
        told.append(f"left out {count(result.num_failed, 'row')}; those recorded: lakehouse feature errors {target}")
    Output(as_json).show({**asdict(result), "nbytes_untouched": before.nbytes}, *told)


def _source(sources: list[str], kind: Kind | None, facts: TableInfo, label_from_folder: bool) -> Any:
    media = [column.media for column in facts.columns if column.media]
    kinds = {kind or kind_of(source, media) for source in sources}
    if len(kinds) > 1:
        raise InvalidArgumentError(
            f"sources of several kinds ({', '.join(sorted(kinds))}); add them one after the other"
        )
    found = kinds.pop()
    read = getattr(lh, _READERS[found])
    wanted = sources[0] if len(sources) == 1 else sources
    if not label_from_folder:
        return read(wanted)
    if found == "parquet":
        raise InvalidArgumentError("Parquet files have their own columns; leave --label-from-folder out")
    return read(wanted, label_from="folder")


def kind_of(source: str, media: list[str]) -> Kind:
    """Tell what files are read as, from their name and the media of the table they go into.

    Raises
    ------
    InvalidArgumentError
        Neither says it.

    Examples
    --------
    >>> kind_of("photos/", ["image"]), kind_of("rows/*.parquet", ["image"])
    ('images', 'parquet')
    """
    if source.endswith((".parquet", ".pq")):
        return "parquet"
    kinds = {_KIND_OF_MEDIA[name] for name in media if name in _KIND_OF_MEDIA}
    if len(kinds) > 1:
        kinds -= {"texts"}  # a caption beside a picture does not make a table of texts
    if len(kinds) != 1:
        held = ", ".join(sorted(kinds)) or "no media"
        raise InvalidArgumentError(f"the table holds {held}; say what {source!r} is with --as")
    return kinds.pop()
