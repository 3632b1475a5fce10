"""The pieces pages are made of: escaped text, and lists that stop where the room ends."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from lakehouse.display.text import format_value

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["escaped", "filled", "shortened", "size"]

_MAX_WORD = 28


def escaped(value: Any, max_chars: int = 300) -> str:
    """Write a value as harmless HTML."""
    return escape(format_value(value, max_chars))


def shortened(text: str) -> str:
    """Cut what would make a cell wide: of a path the end tells most, of a hash the beginning.

    Examples
    --------
    >>> shortened("/data/2024/photos/of/animals/cat.jpg"), shortened("9f86d081884c7d659a2feaa0c55ad015a3bf4f1b")
    ('…/photos/of/animals/cat.jpg', '9f86d081884c…')
    """
    if len(text) <= _MAX_WORD or any(c.isspace() for c in text):
        return text
    if "/" not in text:
        return text[:12] + "…"
    tail = text[-(_MAX_WORD - 1) :]
    return "…" + tail[max(0, tail.find("/")) :]


def size(html: str) -> int:
    """Return the bytes of a piece."""
    return len(html.encode())


def filled(before: str, items: Iterable[str], after: str, room: int, num_items: int) -> str:
    """Join as many items as fit into `room` bytes; nothing without any, and a word about those left out."""
    room -= size(before) + size(after) + size(f"<p>{num_items:,} more</p>")
    kept: list[str] = []
    for item in items:
        room -= size(item)
        if room < 0:
            break
        kept.append(item)
    if not kept:
        return ""
    missing = num_items - len(kept)
    return f"{before}{''.join(kept)}{after}" + (f"<p>{missing:,} more</p>" if missing else "")
