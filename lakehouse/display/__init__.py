"""How a table looks: one line of text, a notebook cell, a page.

Notebook cells and reports are made of the same pieces. What a table holds is escaped, pictures go in as small
thumbnails, and every page is bounded in bytes, so that a notebook stays small however large its tables are.
Pages need neither scripts nor the network.
"""

from lakehouse.display.notebook import first_rows, notebook_html, spread_rows
from lakehouse.display.page import Figure, TableView, report_html, table_html
from lakehouse.display.text import count, format_nbytes, format_value, table_text

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
