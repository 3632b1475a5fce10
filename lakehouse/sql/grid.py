"""A few rows of a result, for a terminal and for a notebook."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from html import escape
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakehouse import types
from lakehouse.errors import LakehouseError
from lakehouse.units import format_interval, format_nbytes
from lakehouse.values import python_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

__all__ = ["Grid"]

_MAX_CHARS = 64  # a SHA-256 in hex: keys are there to be copied
_PICTURE_PX = 96
_PICTURE_NBYTES = 8_000
_MAX_PICTURES = 40  # 320 kB in a notebook's file
_PICTURES_S = 3.0  # large PNGs take a third of a second each
_MAX_NBYTES = 1_000_000  # of HTML; wide tables stop there
_BADGE = "background:#8882;border-radius:6px;padding:1px 6px;white-space:nowrap"


@dataclass(frozen=True, eq=False)
class Grid:
    """The first rows of an answer.

    Parameters
    ----------
    table
        The rows that are shown, media among them.
    num_rows
        How many there are; None if there are more, nobody knows how many.
    errors
        Media functions that failed: ``function, num_failed, message``.
    """

    table: pa.Table
    num_rows: int | None
    errors: Sequence[Mapping[str, Any]] = ()

    @property
    def caption(self) -> str:
        """How many rows there are, and what could not be computed in them."""
        shown = self.table.num_rows
        if self.num_rows is None:
            rows = f"the first {shown:,} row{'' if shown == 1 else 's'}; there are more"
        elif self.num_rows == shown:
            rows = f"{shown:,} row{'' if shown == 1 else 's'}"
        else:
            rows = f"{self.num_rows:,} rows, the first {shown:,} shown"
        failed = [f"{each['function']}() failed on {each['num_failed']:,}: {each['message']}" for each in self.errors]
        return "; ".join([rows, *failed])

    def print(self, console: Console | None = None) -> None:
        """Print to a terminal; columns that do not fit into its width are named."""
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        console = console or Console()
        cells = [[_text(value, field) for value in column] for column, field in self._columns()]
        names = [_one_line(name) for name in self.table.column_names]
        widths = [max(map(cell_len, (name, *column))) for name, column in zip(names, cells, strict=True)]
        numbers = [_is_number(field) for field in self.table.schema]
        least = [max(map(cell_len, column), default=0) * number for column, number in zip(cells, numbers, strict=True)]
        most = _fit(widths, least, console.width)
        kept = len(most)
        grid = Table()
        for name, number, width in zip(names, numbers, most, strict=False):
            justify: Literal["left", "right"] = "right" if number else "left"
            grid.add_column(Text(name), justify=justify, overflow="ellipsis", no_wrap=True, max_width=width)
        for row in zip(*cells[:kept], strict=True):
            grid.add_row(*(Text(cell) for cell in row))  # Text: data must not be read as markup
        console.print(grid)
        console.print(Text(self.caption + _left_out(names[kept:])), soft_wrap=True)

    def html(self) -> str:
        """Return an HTML table of bounded size: pictures as thumbnails, other media as their size."""
        pictures = _Pictures(_MAX_PICTURES)
        cells = [[pictures.cell(value, field) for value in column] for column, field in self._columns()]
        kept, room = 0, _MAX_NBYTES
        for column in cells:
            room -= sum(map(len, column))
            kept += room >= 0
        head = "".join(f"<th>{escape(name)}</th>" for name in self.table.column_names[:kept])
        rows = "".join(
            f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in zip(*cells[:kept], strict=True)
        )
        hidden = (
            f"; not shown for want of room: {', '.join(self.table.column_names[kept:])}" if kept < len(cells) else ""
        )
        caption = escape(self.caption + hidden)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{caption}</p>"

    def _columns(self) -> list[tuple[pa.ChunkedArray, pa.Field]]:
        return list(zip(self.table.columns, self.table.schema, strict=True))


def _left_out(names: Sequence[str]) -> str:
    return f"; not shown for want of room: {', '.join(names)}" if names else ""


def _fit(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return how wide the columns are that there is room for: narrow ones before fewer, none below its least."""
    for narrow in (_MAX_CHARS, 40, 24, 16):
        most = [max(min(width, narrow), low) for width, low in zip(widths, least, strict=True)]
        taken = list(accumulate((width + 3 for width in most), initial=1))
        if taken[-1] <= room:
            break
    return most[: max(1, sum(each <= room for each in taken[1:]))]


class _Pictures:
    """Cells of HTML, of which so many may be pictures, as long as making them takes no more than a moment."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._until = time.monotonic() + _PICTURES_S

    def cell(self, scalar: Any, field: pa.Field) -> str:
        text = escape(_text(scalar, field))
        if not scalar.is_valid or not _is_bytes(field.type):
            return text
        kind = types.media_kind(field)
        if kind not in (None, "image") or self._left == 0 or time.monotonic() > self._until:
            return f'<span style="{_BADGE}">{text}</span>'
        return self._picture(scalar.as_py(), text, declared=kind == "image")

    def _picture(self, data: bytes, text: str, *, declared: bool) -> str:
        from lakehouse.media.thumbnails import thumbnail

        try:
            small = thumbnail(data, _PICTURE_PX, max_nbytes=_PICTURE_NBYTES)
        except LakehouseError as error:  # a broken picture, or bytes that are none
            why = f' title="{escape(str(error))}"' if declared else ""
            return f'<span style="{_BADGE}"{why}>{text}</span>'
        self._left -= 1
        return f'<img src="data:image/webp;base64,{base64.b64encode(small).decode()}" title="{text}" alt="{text}">'


def _is_number(field: pa.Field) -> bool:
    kind = field.type
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _text(scalar: Any, field: pa.Field) -> str:
    """One line that moves no cursor; bytes as their size, without a copy."""
    if not scalar.is_valid:
        return "NULL"
    if hasattr(scalar, "as_buffer"):  # binary and text; the size is known before anything is copied
        if _is_bytes(field.type):
            return f"{types.media_kind(field) or 'bytes'} {format_nbytes(scalar.as_buffer().size)}"
        return _one_line(scalar.as_buffer()[: 4 * _MAX_CHARS].to_pybytes().decode(errors="ignore"))
    found = python_value(scalar)
    return _one_line(format_interval(*found) if isinstance(found, pa.MonthDayNano) else str(found))


def _one_line(text: str) -> str:
    text = "".join(c if c.isprintable() else " " for c in text[: 2 * _MAX_CHARS])
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
