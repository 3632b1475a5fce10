"""How a table looks: one line of text, a notebook cell, a page.

Notebook cells and reports are made of the same pieces. What a table holds is escaped, pictures go in as small
thumbnails, and every page is bounded in bytes, so that a notebook stays small however large its tables are.
Pages need neither scripts nor the network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lakehouse.display.text import count, format_nbytes, format_value, table_text

if TYPE_CHECKING:
    from lakehouse.display.notebook import first_rows, notebook_html, spread_rows
    from lakehouse.display.page import Figure, TableView, report_html, table_html

# Text is all that most commands of the command line print; the rest waits for who draws, Lance and Pillow with it.
_HOMES = {
    "Figure": "lakehouse.display.page",
    "TableView": "lakehouse.display.page",
    "first_rows": "lakehouse.display.notebook",
    "notebook_html": "lakehouse.display.notebook",
    "report_html": "lakehouse.display.page",
    "spread_rows": "lakehouse.display.notebook",
    "table_html": "lakehouse.display.page",
}

__all__ = [
    "Figure",
    "TableView",
    "count",
    "first_rows",
    "format_nbytes",
    "format_value",
    "notebook_html",
    "report_html",
    "spread_rows",
    "table_html",
    "table_text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lakehouse.display' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
