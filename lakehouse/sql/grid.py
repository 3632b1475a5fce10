"""A few rows of a result, for a terminal and for a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

__all__ = ["Grid"]

_MAX_CHARS = 60


@dataclass(frozen=True, eq=False)
class Grid:
    """The first rows of a table as text.

    Parameters
    ----------
    table
        The rows.
    max_rows
        How many are shown.
    errors
        Media functions that failed: ``function, num_failed, message``.
    """

    table: pa.Table
    max_rows: int
    errors: Sequence[Mapping[str, Any]] = ()

    def rows(self) -> list[list[str]]:
        """Return the cells, row by row."""
        shown = self.table.slice(0, self.max_rows)
        columns = [[_cell(value) for value in column] for column in shown.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    @property
    def caption(self) -> str:
        """How many rows there are, and what could not be computed in them."""
        num_rows = self.table.num_rows
        rows = f"{num_rows:,} row{'' if num_rows == 1 else 's'}"
        shown = rows if num_rows <= self.max_rows else f"{rows}, the first {self.max_rows} shown"
        failed = [f"{each['function']}() failed on {each['num_failed']:,}: {each['message']}" for each in self.errors]
        return "; ".join([shown, *failed])

    def print(self) -> None:
        """Print to the terminal."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        grid = Table(caption=self.caption, caption_justify="left")
        for field in self.table.schema:
            grid.add_column(Text(field.name), justify="right" if _is_number(field) else "left")
        for row in self.rows():
            grid.add_row(*(Text(cell) for cell in row))  # Text: data must not be read as markup
        Console().print(grid)

    def html(self) -> str:
        """Return an HTML table."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.table.column_names)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in self.rows())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table><p>{escape(self.caption)}</p>"


def _is_number(field: pa.Field) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(field.type) or kinds.is_floating(field.type) or kinds.is_decimal(field.type))


def _cell(scalar: Any) -> str:
    """One line that moves no cursor; media as their size, without a copy."""
    if not scalar.is_valid:
        return "NULL"
    if hasattr(scalar, "as_buffer"):  # binary and text; the size is known before anything is copied
        if "binary" in str(scalar.type):
            return f"{scalar.as_buffer().size:,} bytes"
        text = scalar.as_buffer()[: 4 * _MAX_CHARS].to_pybytes().decode(errors="ignore")
    else:
        text = str(scalar.as_py())
    text = "".join(c if c.isprintable() else " " for c in text[: 2 * _MAX_CHARS])
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
