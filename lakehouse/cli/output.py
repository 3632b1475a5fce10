"""What a command says: for people on a console, or as JSON for programs."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lakehouse.display import format_nbytes, format_value
from lakehouse.errors import listed
from lakehouse.media import handles
from lakehouse.progress import Progress, reporting_to
from lakehouse.units import format_interval
from lakehouse.values import python_values

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rich.console import RenderableType

    from lakehouse.info import TableInfo

__all__ = [
    "Change",
    "Output",
    "bytes_told",
    "console_on",
    "fields",
    "grid",
    "one_line",
    "plain",
    "rows_grid",
    "rows_of",
    "untouched",
]

_CELL_CHARS = 64  # a SHA-256 in hex: keys are there to be copied
_ARROW = re.compile(r"\n+LINE \d+:.*\n\s*\^+")
_PIPED_WIDTH = 200  # columns, where there is no terminal that has a width


@dataclass(frozen=True)
class Change:
    """What a write did to a table's bytes.

    Parameters
    ----------
    version
        The version it made.
    nbytes_written
        What it added to the table's folder.
    nbytes_untouched
        What the columns occupied before that it left alone: none of it was written again.
    """

    version: int
    nbytes_written: int
    nbytes_untouched: int

    @classmethod
    def between(cls, before: TableInfo, after: TableInfo, rewritten: Collection[str] = ()) -> Change:
        """Compare a table before and after a write that gave the columns `rewritten` other values, or none."""
        grown = max(0, after.nbytes_on_disk - before.nbytes_on_disk)
        return cls(after.version, grown, untouched(before, rewritten))

    def __str__(self) -> str:
        return f"version {self.version}: {bytes_told(self.nbytes_written, self.nbytes_untouched)}"


def bytes_told(written: int, left: int) -> str:
    """Say what a write wrote and what it left alone; every command that writes says it so."""
    return f"{format_nbytes(written)} written, {format_nbytes(left)} untouched"


def untouched(before: TableInfo, rewritten: Collection[str]) -> int:
    """Return the bytes of the columns that a write leaves alone."""
    return sum(column.nbytes or 0 for column in before.columns if column.name not in rewritten)


class Output:
    """Standard output of one command.

    Parameters
    ----------
    as_json
        Print one JSON document and nothing else.
    streams
        Print JSON lines instead: how far the work is, as it goes on, and the result as the last one.
    """

    def __init__(self, as_json: bool = False, *, streams: bool = False) -> None:
        self._as_json = as_json
        self._streams = streams
        self.console = console_on(sys.stdout)

    def show(self, result: Any, *parts: RenderableType) -> None:
        """Print `result` as JSON, or `parts` one under the other."""
        if self._as_json and self._streams:
            _print_event("result", result)
            return
        if self._as_json:
            print(json.dumps(plain(result), ensure_ascii=False, indent=2))
            return
        for part in parts:
            with self.console.capture() as drawn:
                self.console.print(part, soft_wrap=isinstance(part, str))
            print("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def following(self) -> AbstractContextManager[None]:
        """Tell how far the work in this block is: as events where the output streams, else as a bar."""
        return reporting_to(_print_progress) if self._as_json and self._streams else nullcontext()


def console_on(file: TextIO) -> Console:
    """Return what prints tables to a file as they are: a table's words are neither markup nor emoji."""
    width = None if file.isatty() else _PIPED_WIDTH
    return Console(file=file, width=width, markup=False, emoji=False, highlight=False)


def one_line(error: BaseException) -> str:
    """Say what is wrong without DuckDB's arrow, which points at a line of its own, and without a number of errno."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(_ARROW.sub("", str(error)).split())


def _print_progress(now: Progress) -> None:
    event = {
        "job": now.description,
        "unit": now.unit,
        "rows": now.num_done,
        "total": now.total,
        "rate": round(now.rate, 3),
        "failed": now.num_failed,
        "resumed": now.num_resumed,
        "eta_s": None if now.eta_s is None else round(now.eta_s, 1),
    }
    _print_event("progress", event)


def _print_event(event: str, values: Any) -> None:
    # flushed: who follows a job through a pipe would wait for a full buffer else
    print(json.dumps({"event": event, **plain(values)}, ensure_ascii=False), flush=True)


def plain(value: Any) -> Any:
    """Turn a result into what JSON has.

    Media become ``{"nbytes": …}``; numbers that JSON lacks (NaN, infinity) become null.

    Examples
    --------
    >>> plain({"id": 1, "image": b"....", "score": float("nan")})
    {'id': 1, 'image': {'nbytes': 4}, 'score': None}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"nbytes": len(value)}
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if hasattr(value, "tolist"):  # NumPy
        return plain(value.tolist())
    if isinstance(value, handles.Text):
        return value.text()
    if isinstance(value, handles.Handle):
        return {"nbytes": value.nbytes}
    if isinstance(value, pa.MonthDayNano):
        return format_interval(*value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return str(value)


def grid(
    heads: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[str] = (), title: str | None = None
) -> Grid:
    """Lay out rows under heads; columns named in `right` are set flush right."""
    table = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title, title_justify="left")
    for head in heads:
        table.add_column(Text(head), justify="right" if head in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_value(value)) for value in row))
    return table


def fields(pairs: Mapping[str, Any]) -> Grid:
    """Lay out names and values, one a line."""
    table = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(name), Text(format_value(value, 500)))
    return table


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of a table with Python's values."""
    columns = [python_values(column) for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def rows_grid(rows: Sequence[Mapping[str, Any]], names: Sequence[str], width: int) -> list[RenderableType]:
    """Lay out rows of a table in `width` characters; columns that do not fit or hold nothing are named under them."""
    empty = [name for name in names if rows and all(row[name] is None for row in rows)]
    names = [name for name in names if name not in empty] or names
    shown = [[format_value(row[name], _CELL_CHARS) for name in names] for row in rows]
    widths = [max(map(cell_len, (name, *(line[i] for line in shown)))) + 2 for i, name in enumerate(names)]
    kept = max(1, sum(sum(widths[: i + 1]) <= width for i in range(len(names))))
    numbers = [n for n in names if any(isinstance(row[n], (int, float)) for row in rows)]
    table = grid(names[:kept], [line[:kept] for line in shown], right=numbers)
    more = f"… and the columns {listed(names[kept:])}" if names[kept:] else None
    nothing = f"nothing in {listed(empty)}" if empty else None
    return [each for each in (table, more, nothing) if each is not None]
