"""Tables as HTML: what a notebook shows and what a report is made of."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from lakehouse.display.text import count, format_nbytes, format_value, summary
from lakehouse.display.thumbnail import thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakehouse.info import ColumnInfo, Outline

__all__ = ["Figure", "TableView", "report_html", "table_html"]

_GRID_COLUMNS = 10
_GRID_ROWS = 8
_GALLERY = 30
_SHOWN_PX = 96  # thumbnails hold twice that, for dense displays
_PICTURES = ("image", "video")


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
    """

    info: Outline
    rows: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Mapping[str, Any]] = ()


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
    room = max_nbytes - _size(head) - _size("</section>")
    columns = _folded("columns", _columns(view, room // 2))
    failures = _folded("what failed", _failures(view, room // 4))
    grid = _grid(view, room - _size(columns) - _size(failures))
    return f"{head}{grid}{columns}{failures}</section>"


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
    title, subtitle
        What stands on top.
    views
        The tables, in the order they are shown.
    figures
        Numbers shown before the tables.
    max_nbytes
        Upper bound of the page, shared evenly by the tables.
    """
    now = dt.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    tiles = "".join(f"<li><b>{_text(f.value)}</b><span>{_text(f.label)}</span></li>" for f in figures)
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_style('page')}{_style('table')}</style></head><body><main>"
        f"<header><h1>{_text(title)}</h1><p>{_text(subtitle)}</p></header>"
        f'<ul class="figures">{tiles}</ul>'
    )
    foot = f"</main><footer>made by lakehouse, {now}</footer></body></html>"
    room = (max_nbytes - _size(head) - _size(foot)) // max(1, len(views))
    return head + "".join(_section(view, room) for view in views) + foot


def _section(view: TableView, room: int) -> str:
    head = f'<section class="lakehouse">{_title(view.info)}'
    room -= _size(head) + _size("</section>")
    columns = _columns(view, room // 2)
    failures = _failures(view, room // 4)
    room -= _size(columns) + _size(failures)
    gallery = _gallery(view, room)
    grid = "" if gallery else _grid(view, room)
    return f"{head}{gallery}{grid}{columns}{failures}</section>"


def _title(info: Outline) -> str:
    parts = [summary(info), f"version {info.version}"]
    nbytes = [column.nbytes for column in info.columns if column.nbytes is not None]
    if nbytes:
        parts.append(format_nbytes(sum(nbytes)))
    return f"<h2>{_text(info.name)}</h2><p>{' · '.join(parts)}</p>"


def _gallery(view: TableView, room: int) -> str:
    columns = [c for c in view.info.columns if c.media in _PICTURES]
    rows = view.rows[:_GALLERY] if columns else ()
    items = (_figure(row, columns[0], view.info) for row in rows)
    return _filled('<div class="gallery">', items, "</div>", room, len(rows))


def _figure(row: Mapping[str, Any], column: ColumnInfo, info: Outline) -> str:
    facts = [c.name for c in info.columns if c.name not in (info.key, "source_uri") and c.media in (None, "text")]
    shown = [f"{name} {format_value(row[name], 20)}" for name in facts if row[name] is not None][:3]
    lines = "".join(f"<span>{_text(line)}</span>" for line in shown)
    return (
        f"<figure>{_picture(row[column.name], column)}<figcaption><b>{_text(_name(row, info))}</b>{lines}"
        "</figcaption></figure>"
    )


def _name(row: Mapping[str, Any], info: Outline) -> str:
    """Name a row as a person would: by its file if it has one, a key being a hash most of the time."""
    source = row.get("source_uri")
    if isinstance(source, str) and source:
        return source.rstrip("/").rpartition("/")[2]
    return format_value(row[info.key], 16) if info.key else ""


def _grid(view: TableView, room: int) -> str:
    columns = _most_telling(view.info)
    rows = view.rows[:_GRID_ROWS]
    heads = "".join(f"<th>{_text(c.name)}<i>{_text(c.type)}</i></th>" for c in columns)
    hidden = len(view.info.columns) - len(columns)
    note = f"<p>{count(hidden, 'more column')} in the list below</p>" if hidden else ""
    items = (f"<tr>{''.join(_cell(row[c.name], c) for c in columns)}</tr>" for row in rows)
    before = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>'
    return _filled(before, items, f"</tbody></table></div>{note}", room, len(rows))


def _most_telling(info: Outline) -> list[ColumnInfo]:
    """Key and media first: where a table is wide, they say most."""
    ranked = sorted(info.columns, key=lambda c: (c.name != info.key, c.media not in _PICTURES, not c.feature))
    kept = ranked[:_GRID_COLUMNS]
    return [c for c in info.columns if c in kept]


def _cell(value: Any, column: ColumnInfo) -> str:
    if value is not None and column.media in _PICTURES:
        return f"<td>{_picture(value, column)}</td>"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'<td class="number">{_text(format_value(value))}</td>'
    return f"<td>{_text(format_value(value))}</td>"


def _picture(value: Any, column: ColumnInfo) -> str:
    small = thumbnail(value, str(column.media))
    if not small.data:
        return f'<span class="none" title="{_text(small.reason)}">no picture</span>'
    scale = min(1.0, _SHOWN_PX / max(small.width_px, small.height_px))
    width, height = max(1, round(small.width_px * scale)), max(1, round(small.height_px * scale))
    image = f'<img src="{small.uri}" width="{width}" height="{height}" alt="">'
    return f'<span class="video">{image}</span>' if column.media == "video" else image


def _columns(view: TableView, room: int) -> str:
    columns = view.info.columns
    measured = any(c.nbytes is not None for c in columns)
    widest = max((c.nbytes or 0 for c in columns), default=0) or 1
    heads = "<th>column</th><th>type</th><th>meaning</th><th>state</th>"
    heads += '<th class="number">bytes</th><th></th>' if measured else ""
    before = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>'
    items = (
        f"<tr><td><b>{_text(c.name)}</b></td><td><code>{_text(c.type)}</code></td><td>{_text(c.doc)}</td>"
        f"<td>{_state(c)}</td>{_bytes(c.nbytes, widest) if measured else ''}</tr>"
        for c in columns
    )
    return _filled(before, items, "</tbody></table></div>", room, len(columns))


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
    return f'<span class="state {_text(kind)}">{_text(column.state)}</span> <small>{covered}{failed}</small>'


def _failures(view: TableView, room: int) -> str:
    if not view.failures:
        return ""
    items = (
        f"<tr><td><b>{_text(format_value(f['key']))}</b></td><td>{_text(format_value(f['column']))}</td>"
        f"<td>{_text(format_value(f['message'], 300))}</td></tr>"
        for f in view.failures
    )
    before = (
        '<div class="wide"><table class="failures"><thead><tr><th>could not be used</th><th>column</th>'
        "<th>why</th></tr></thead><tbody>"
    )
    return _filled(before, items, "</tbody></table></div>", room, len(view.failures))


def _folded(label: str, html: str) -> str:
    return f"<details><summary>{label}</summary>{html}</details>" if html else ""


def _filled(before: str, items: Iterable[str], after: str, room: int, num_items: int) -> str:
    """Join as many items as fit; nothing without any, and a word about those left out."""
    reserve = _size(f"<p>{num_items:,} more</p>")
    room -= _size(before) + _size(after) + reserve
    kept: list[str] = []
    for item in items:
        room -= _size(item)
        if room < 0:
            break
        kept.append(item)
    if not kept:
        return ""
    missing = num_items - len(kept)
    return f"{before}{''.join(kept)}{after}" + (f"<p>{missing:,} more</p>" if missing else "")


def _text(value: str) -> str:
    return escape(format_value(value, 300))


def _size(html: str) -> int:
    return len(html.encode())


@cache
def _style(name: str) -> str:
    text = (files("lakehouse.display") / f"{name}.css").read_text(encoding="utf-8")
    return " ".join(text.split())
