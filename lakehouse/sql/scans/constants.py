"""What a constant in a statement is worth, with the type DuckDB gives it."""

from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse.sql.statement.syntax import NoValue, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.sql.statement.syntax import Node

__all__ = ["constant"]


def constant(node: Node, values: Mapping[str, Any]) -> Any:
    """Return the value of a constant, a parameter or a plain cast of one; `NoValue` for what must be computed.

    Parameters
    ----------
    node
        An expression.
    values
        Values of the statement's parameters.
    """
    if node.get("class") == "CAST":
        return _cast(str(node["type_expr"].get("type_name")).upper(), constant(node["child"], values))
    written = node.get("literal", {})
    if node.get("class") == "CONSTANT" and written.get("kind") == "NULL_LITERAL":
        return None
    if node.get("class") == "CONSTANT" and written.get("kind") == "NUMERIC" and "e" not in written["text"].lower():
        return Decimal(written["text"])  # DuckDB reads 0.1 as a decimal, 1e-1 as a float
    return value_of(node, values)


_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"\d\d:\d\d:\d\d(\.\d{1,6})?"
_ZONE = r"(Z|[+-]\d\d(:\d\d)?)"


def _moment(text: str) -> dt.datetime:
    """Read a moment; what has no zone is in UTC, as everywhere in this SQL."""
    moment = dt.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


_READERS: Mapping[str, tuple[str, Any]] = {
    "DATE": (_DATE, dt.date.fromisoformat),
    "TIME": (_TIME, dt.time.fromisoformat),
    "TIMESTAMP": (f"{_DATE}( {_TIME})?", dt.datetime.fromisoformat),
    "TIMESTAMPTZ": (f"{_DATE}( {_TIME}{_ZONE}?)?", _moment),
}


def _cast(type_name: str, value: Any) -> Any:
    """Return what a cast of a constant gives, of those whose meaning is plain."""
    if type_name in _READERS and isinstance(value, str):
        pattern, read = _READERS[type_name]
        try:
            return read(value) if re.fullmatch(pattern, value) else NoValue
        except ValueError:
            return NoValue  # the 30th of February: DuckDB's to refuse
    if type_name in ("DOUBLE", "FLOAT") and isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return NoValue
        return number if type_name == "DOUBLE" else float(np.float32(number))
    return NoValue
