"""An answer on standard output or in a file."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import pyarrow as pa
import typer

from lakehouse.cli.formats import WRITERS, First
from lakehouse.cli.output import console_on
from lakehouse.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from lakehouse.cli.formats import Format
    from lakehouse.sql import Result

__all__ = ["SHOWN_ROWS", "taking_the_place_of", "write"]

SHOWN_ROWS = 50


def write(result: Result, form: Format, *, out: Path | None = None, limit: int | None = None) -> None:
    """Print an answer, or write it to a file."""
    if form == "parquet":
        _write_parquet(result, out, limit)
        return
    if form == "table" and out is None:
        limit = limit or SHOWN_ROWS
    rows = First(result.batches(), limit)
    if out is None:
        _write_text(result, rows, form, sys.stdout)
    else:
        with taking_the_place_of(out) as path, path.open("w", encoding="utf-8", newline="") as file:
            _write_text(result, rows, form, file)
    if form != "table":
        more = [f"the first {rows.num_rows:,} rows; there are more"] if rows.are_more else []
        failed = [
            f"{e['function']}() failed on {e['num_failed']:,}: {e['message']}" for e in result.errors().to_pylist()
        ]
        for line in more + failed:
            print(f"lakehouse: {line}", file=sys.stderr)


def _write_text(result: Result, rows: First, form: Format, file: TextIO) -> None:
    if form != "table":
        WRITERS[form](rows, file)
        return
    from lakehouse.sql.grid import Grid  # needs Lance, which --help does not wait for

    table = pa.Table.from_batches(rows, rows.schema)
    grid = Grid(table, None if rows.are_more else rows.num_rows, result.errors().to_pylist())
    grid.print(console_on(file))


def _write_parquet(result: Result, out: Path | None, limit: int | None) -> None:
    if limit is not None:
        raise typer.BadParameter("--limit goes with text; for Parquet end the statement with LIMIT")
    if out is not None:
        with taking_the_place_of(out) as path:
            result.write_parquet(path)
    elif sys.stdout.isatty():
        raise typer.BadParameter("Parquet is not for a terminal; give --out FILE.parquet")
    else:
        result.write_parquet(sys.stdout.buffer)


@contextmanager
def taking_the_place_of(out: Path) -> Iterator[Path]:
    """Give a path whose file takes the place of `out` once it is whole."""
    if out.exists() and not out.is_file():  # a pipe or a device
        yield out
        return
    if not out.parent.is_dir():
        raise NotFoundError(f"there is no folder {out.parent} for {out.name}")
    part = out.with_name(f".{out.name}.part")
    try:
        yield part
    except BaseException:  # Ctrl-C too: no half of a file is left
        part.unlink(missing_ok=True)
        raise
    part.replace(out)
