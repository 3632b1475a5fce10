"""Values as short, harmless text."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.media.handles import Handle, Text
from lakehouse.units import count, format_nbytes

if TYPE_CHECKING:
    from lakehouse.info import Outline

__all__ = ["MAX_CHARS", "count", "format_nbytes", "format_value", "summary", "table_text"]

MAX_CHARS = 120
_MAX_NUMBERS = 4


def format_value(value: Any, max_chars: int = MAX_CHARS) -> str:
    r"""Write a value of a table in one line.

    Control characters become escapes: a caption must not move the cursor of the terminal it is printed on.

    Parameters
    ----------
    value
        What a row or an Arrow scalar holds; media as bytes or handles, of which only the size is asked.
    max_chars
        Longer text is cut and ends in ``…``.

    Examples
    --------
    >>> format_value([0.5] * 384), format_value(b"\xff" * 2048), format_value("a\x1b[2Jb")
    ('[0.5, 0.5, 0.5, 0.5, … 384 values]', '2.05 kB', 'a\\x1b[2Jb')
    """
    return _cut(_printable(_text(value)), max_chars)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return format_nbytes(len(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, Mapping):
        return json.dumps(value, default=str, ensure_ascii=False)
    if hasattr(value, "tolist"):  # NumPy
        return _text(value.tolist())
    if isinstance(value, (list, tuple)):
        return _sequence(value)
    if isinstance(value, Text):
        return value.text()
    if isinstance(value, Handle):
        return format_nbytes(value.nbytes)
    return str(value)


def _sequence(values: list[Any] | tuple[Any, ...]) -> str:
    shown = ", ".join(_text(value) for value in values[:_MAX_NUMBERS])
    if len(values) <= _MAX_NUMBERS:
        return f"[{shown}]"
    return f"[{shown}, … {len(values):,} values]"


def _printable(text: str) -> str:
    text = " ".join(text[: 4 * MAX_CHARS].split()) if any(c in text for c in "\n\r\t") else text[: 4 * MAX_CHARS]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1].rstrip() + "…"


def summary(info: Outline) -> str:
    """Say how many rows, columns and features a table has."""
    features = sum(bool(column.feature) for column in info.columns)
    columns = count(len(info.columns), "column") + (f" ({count(features, 'feature')})" if features else "")
    return f"{count(info.num_rows, 'row')}, {columns}"


def table_text(info: Outline) -> str:
    """Describe a table in one line, as in ``<Table pets: 1,204 rows, 12 columns, version 7, /lake/pets.lance>``."""
    return f"<Table {info.name}: {summary(info)}, version {info.version}, {info.uri}>"
