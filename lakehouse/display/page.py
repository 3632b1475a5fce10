"""Tables as HTML: what a notebook shows and what a report is made of."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lakehouse.display.markup import escaped, filled, shortened, size
from lakehouse.display.rows import gallery, grid
from lakehouse.display.text import format_nbytes, summary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakehouse.info import ColumnInfo, Outline

__all__ = ["Figure", "TableView", "report_html", "table_html"]


_EMPTY = ' class="empty"'


@dataclass(frozen=True)
class TableView:
    """What is drawn of one table.

    Parameters
    ----------
    info
        Its columns and figures.
    rows
        Some of its rows; media are lazy handles, of which only thumbnails are read.
    failures
        Rows that could not be stored or computed: mappings with ``key``, ``column`` and ``message``.
    events
        What happened to its columns: mappings with ``version``, ``column``, ``what``, ``source`` and ``who``.
    """

    info: Outline
    rows: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()
    events: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Figure:
    """One number of a report and the words under it."""

    value: str
    label: str


def table_html(view: TableView, max_nbytes: int = 256_000) -> str:
    """Draw a table for a notebook: a few rows with thumbnails, its columns folded away under them.

    Parameters
    ----------
    view
        What to draw.
    max_nbytes
        Upper bound of the result; what does not fit is left out, and said to be.
    """
    head = f'<style>{_style("table")}</style><section class="lakehouse">{_title(view.info)}'
    room = max_nbytes - size(head) - size("</section>")
    columns = _folded("columns", _columns(view, room // 2))
    failures = _folded("what failed", _failures(view, room // 4))
    rows = grid(view.info, view.rows, room - size(columns) - size(failures))
    return f"{head}{rows}{columns}{failures}</section>"


def report_html(
    title: str,
    views: Sequence[TableView],
    *,
    subtitle: str = "",
    figures: Sequence[Figure] = (),
    max_nbytes: int = 4_000_000,
) -> str:
    """Draw a page about some tables that needs no other file.

    Parameters
    ----------
    title
        What stands on top.
    views
        The tables, in the order they are shown.
    subtitle
        What stands under the title.
    figures
        Numbers shown before the tables.
    max_nbytes
        Upper bound of the page, shared evenly by the tables.
    """
    now = dt.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    tiles = "".join(f"<li><b>{escaped(f.value)}</b><span>{escaped(f.label)}</span></li>" for f in figures)
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_style('page')}{_style('table')}</style></head><body><main>"
        f"<header><h1>{escaped(title)}</h1><p>{escaped(subtitle)}</p></header>"
        f'<ul class="figures">{tiles}</ul>'
    )
    foot = f"</main><footer>made by lakehouse, {now}</footer></body></html>"
    room = (max_nbytes - size(head) - size(foot)) // max(1, len(views))
    return head + "".join(_section(view, room) for view in views) + foot


def _section(view: TableView, room: int) -> str:
    head = f'<section class="lakehouse">{_title(view.info)}'
    room -= size(head) + size("</section>")
    columns = _columns(view, room // 2)
    events = _events(view, room // 8)
    failures = _failures(view, room // 8)
    room -= size(columns) + size(events) + size(failures)
    drawn = gallery(view.info, view.rows, room) or grid(view.info, view.rows, room)
    return f"{head}{drawn}{columns}{events}{failures}</section>"


def _title(info: Outline) -> str:
    parts = [summary(info), f"version {info.version}"]
    nbytes = [column.nbytes for column in info.columns if column.nbytes is not None]
    if nbytes:
        parts.append(format_nbytes(sum(nbytes)))
    return f"<h2>{escaped(info.name)}</h2><p>{' · '.join(parts)}</p>"


def _columns(view: TableView, room: int) -> str:
    columns = view.info.columns
    measured = any(c.nbytes is not None for c in columns)
    widest = max((c.nbytes or 0 for c in columns), default=0) or 1
    heads = "<th>column</th><th>type</th><th>state</th><th>meaning</th>"
    heads += '<th class="number">bytes</th><th></th>' if measured else ""
    before = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>'
    rows = (
        f"<td><b>{escaped(c.name)}</b></td><td><code>{escaped(c.type)}</code></td><td>{_state(c)}</td>"
        f"<td>{escaped(c.doc)}</td>{_bytes(c.nbytes, widest) if measured else ''}"
        for c in columns
    )
    items = (f"<tr{_EMPTY if _is_empty(c, view) else ''}>{row}</tr>" for c, row in zip(columns, rows, strict=True))
    return filled(before, items, "</tbody></table></div>", room, len(columns))


def _is_empty(column: ColumnInfo, view: TableView) -> bool:
    """No bytes alone says little: Lance stores a value that all rows share in none."""
    return column.nbytes == 0 and all(row[column.name] is None for row in view.rows)


def _bytes(nbytes: int | None, widest: int) -> str:
    width_px = max(1, round(90 * nbytes / widest)) if nbytes else 0
    bar = f'<span class="bar" style="width:{width_px}px"></span>'
    return f'<td class="number">{format_nbytes(nbytes or 0)}</td><td>{bar}</td>'


def _state(column: ColumnInfo) -> str:
    if not column.state:
        return "feature" if column.feature else ""
    covered = f"{column.coverage:.0%} filled" if column.coverage is not None else ""
    failed = f", {column.num_failed:,} failed" if column.num_failed else ""
    kind = column.state.partition("(")[0]
    return f'<span class="state {escaped(kind)}">{escaped(column.state)}</span> <small>{covered}{failed}</small>'


def _events(view: TableView, room: int) -> str:
    items = (
        f'<tr><td class="number">{escaped(e["version"])}</td><td><b>{escaped(e["column"])}</b></td>'
        f"<td>{escaped(e['what'])}</td><td>{escaped(e['source'])}</td><td>{escaped(e['who'])}</td></tr>"
        for e in view.events
    )
    before = (
        '<div class="wide"><table><thead><tr><th class="number">version</th><th>column</th><th>what happened</th>'
        "<th>function</th><th>who</th></tr></thead><tbody>"
    )
    return filled(before, items, "</tbody></table></div>", room, len(view.events))


def _failures(view: TableView, room: int) -> str:
    if not view.failures:
        return ""
    items = (
        f"<tr><td><b>{escaped(shortened(f['key'] or ''))}</b></td><td>{escaped(f['column'] or 'the whole row')}</td>"
        f"<td>{escaped(f['message'])}</td></tr>"
        for f in view.failures
    )
    before = (
        '<div class="wide"><table class="failures"><thead><tr><th>could not be used</th><th>column</th>'
        "<th>why</th></tr></thead><tbody>"
    )
    return filled(before, items, "</tbody></table></div>", room, len(view.failures))


def _folded(label: str, html: str) -> str:
    return f"<details><summary>{label}</summary>{html}</details>" if html else ""


@cache
def _style(name: str) -> str:
    text = (files("lakehouse.display") / f"{name}.css").read_text(encoding="utf-8")
    return " ".join(text.split())
