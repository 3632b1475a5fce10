"""Rows of a table as HTML: a gallery of pictures, or a grid of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakehouse.display.markup import escaped, filled, shortened
from lakehouse.display.text import count, format_value
from lakehouse.display.thumbnail import thumbnail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakehouse.info import ColumnInfo, Outline

__all__ = ["gallery", "grid"]

_GALLERY = 36
_GRID_COLUMNS = 10
_GRID_ROWS = 8
_FACTS = 3
_SHOWN_PX = 96  # thumbnails hold twice that, for dense displays
_PICTURES = ("image", "video")


def gallery(info: Outline, rows: Sequence[Mapping[str, Any]], room: int) -> str:
    """Draw pictures with their names and a few facts; nothing for a table without pictures."""
    columns = [c for c in info.columns if c.media in _PICTURES]
    rows = rows[:_GALLERY] if columns else ()
    facts = sorted((c for c in info.columns if _is_fact(c, info)), key=lambda c: not c.feature)
    items = (_figure(row, columns[0], facts, info) for row in rows)
    return filled('<div class="gallery">', items, "</div>", room, len(rows))


def _is_fact(column: ColumnInfo, info: Outline) -> bool:
    return column.name not in (info.key, "source_uri") and column.media in (None, "text")


def _figure(row: Mapping[str, Any], column: ColumnInfo, facts: Sequence[ColumnInfo], info: Outline) -> str:
    known = [c.name for c in facts if row[c.name] is not None and not isinstance(row[c.name], list)]
    lines = "".join(f"<span>{escaped(f'{name} {_brief(row[name])}')}</span>" for name in known[:_FACTS])
    name = f"<b>{escaped(_name(row, info))}</b>"
    return f"<figure>{_picture(row[column.name], column)}<figcaption>{name}{lines}</figcaption></figure>"


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else format_value(value, 20)


def _name(row: Mapping[str, Any], info: Outline) -> str:
    """Name a row as a person would: by folder and file if it has them, a key being a hash most of the time."""
    source = row.get("source_uri")
    if isinstance(source, str) and source:
        return "/".join(source.rstrip("/").rsplit("/", 2)[-2:])
    return format_value(row[info.key], 16) if info.key else ""


def grid(info: Outline, rows: Sequence[Mapping[str, Any]], room: int) -> str:
    """Draw rows as lines of cells, columns that say nothing here left out."""
    rows = rows[:_GRID_ROWS]
    columns = _most_telling(info, rows)
    heads = "".join(f"<th>{escaped(c.name)}<i>{escaped(c.type)}</i></th>" for c in columns)
    hidden = len(info.columns) - len(columns)
    note = f"<p>{count(hidden, 'more column')} in the list below</p>" if hidden else ""
    items = (f"<tr>{''.join(_cell(row[c.name], c) for c in columns)}</tr>" for row in rows)
    before = f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>'
    return filled(before, items, f"</tbody></table></div>{note}", room, len(rows))


def _most_telling(info: Outline, rows: Sequence[Mapping[str, Any]]) -> list[ColumnInfo]:
    """Key, pictures and features first: where a table is wide, they say most."""
    said = [c for c in info.columns if any(row[c.name] is not None for row in rows)]
    kept = sorted(said, key=lambda c: (c.name != info.key, c.media not in _PICTURES, not c.feature))[:_GRID_COLUMNS]
    return [c for c in info.columns if c in kept] or list(info.columns[:_GRID_COLUMNS])


def _cell(value: Any, column: ColumnInfo) -> str:
    if value is not None and column.media in _PICTURES:
        return f"<td>{_picture(value, column)}</td>"
    text = shortened(format_value(value))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f'<td class="number">{escaped(text)}</td>'
    return f"<td>{escaped(text)}</td>" if " " in text else f'<td class="word">{escaped(text)}</td>'


def _picture(value: Any, column: ColumnInfo) -> str:
    if value is None:
        return '<span class="none">no picture</span>'
    small = thumbnail(value, str(column.media))
    if not small.data:
        return f'<span class="none" title="{escaped(small.reason)}">no picture</span>'
    scale = min(1.0, _SHOWN_PX / max(small.width_px, small.height_px))
    width, height = max(1, round(small.width_px * scale)), max(1, round(small.height_px * scale))
    image = f'<img src="{small.uri}" width="{width}" height="{height}" alt="">'
    return f'<span class="video">{image}</span>' if column.media == "video" else image
