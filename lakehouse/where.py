"""Predicates: Lance's SQL with parameters, rendered so that no value can become syntax."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from lakehouse.errors import FilterError, closest

Where: TypeAlias = "str | tuple[str, Mapping[str, Any]]"

# A quoted run is passed over whole; what is left can be a parameter, a bracket, or text that Lance would not read.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'|(?P<word>"(?:[^"]|"")*")|`[^`]*`|\$(?P<name>\w+)|(?P<stop>;|--|/\*)|(?P<bracket>[()])"""
)


def render(where: Where | None, columns: Iterable[str] = ()) -> str | None:
    """Return the predicate as text with its parameters filled in.

    Parameters
    ----------
    where
        Text, or text and a mapping: ``("id = $id", {"id": "k1"})``.
    columns
        Names of the table's columns, none of which may stand in ``"…"``.

    Raises
    ------
    FilterError
        A parameter is missing, unused or of a type that has no literal; or the text holds ``;``, a comment or a name
        in the wrong quotes.

    Examples
    --------
    >>> render(("id = $id AND x < $x", {"id": "it's", "x": 3}))
    "(id = 'it''s' AND x < 3)"
    """
    if where is None:
        return None
    match (where, {}) if isinstance(where, str) else where:
        case (str() as text, Mapping() as values):
            pass
        case _:
            raise FilterError(f"no predicate: {where!r:.80}; give SQL, or a pair of SQL and {{'name': value}}")
    if not text.strip():
        raise FilterError("the predicate is empty; leave `where` out to mean all rows")
    used: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return match[0]
        if name not in values:
            raise FilterError(
                f"no value for ${name} in {text!r:.100}; given: {', '.join(values) or 'none'}{closest(name, values)}"
            )
        used.add(name)
        return literal(values[name])

    rendered = _TOKEN.sub(replace, text)
    if unused := [name for name in values if name not in used]:
        raise FilterError(f"${unused[0]} is given but not used in {text!r:.100}")
    return whole(rendered, columns)


def whole(expression: str, columns: Iterable[str] = ()) -> str:
    """Put an SQL expression into parentheses, which must hold all of it.

    Lance's parser reads one expression and drops the rest without a word: ``delete("x > 5 x < 9")`` would delete all
    above 5. To it ``"split"`` is a word as ``'split'`` is; elsewhere in SQL, `Lake.sql` included, that is the column.

    Raises
    ------
    FilterError
        It closes a bracket that it did not open, or holds ``;``, a comment or a name of `columns` in ``"…"``.

    Examples
    --------
    >>> whole("x + 1")
    '(x + 1)'
    """
    depth, names = 0, {name.casefold() for name in columns}
    for match in _TOKEN.finditer(expression):
        name = (match["word"] or "")[1:-1]
        if name.casefold() in names:
            raise FilterError(
                f"{match[0]} in {expression!r:.100} is a word to Lance; write `{name}` for the column, "
                f"'{name}' for the word"
            )
        if match["stop"]:
            raise FilterError(f"{match['stop']!r} in {expression!r:.100}; it must be one expression without comments")
        depth += {"(": 1, ")": -1}.get(match["bracket"], 0)
        if depth < 0:
            raise FilterError(f"')' without '(' in {expression!r:.100}")
    return f"({expression})"


def literal(value: Any) -> str:
    """Return a value as a literal of Lance's SQL.

    Raises
    ------
    FilterError
        The value's type has none.
    """
    if isinstance(value, np.generic):
        value = value.item()
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case Decimal() if value.is_finite():
            # A bare 1.50 is read as a float, which Lance does not compare with a decimal.
            return f"CAST('{value:f}' AS DECIMAL(38, {max(0, -int(value.as_tuple().exponent))}))"
        case float():
            return repr(value) if math.isfinite(value) else f"CAST('{value}' AS DOUBLE)"
        case str():
            return "'" + value.replace("'", "''") + "'"
        case bytes():
            return f"X'{value.hex()}'"
        case dt.datetime():
            return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
        case dt.date():
            return f"DATE '{value.isoformat()}'"
        case Mapping():
            pass
        case Iterable():
            items = [literal(item) for item in value]
            if items:
                return f"({', '.join(items)})"
            raise FilterError("an empty list matches nothing and has no literal; leave the query out")
    raise FilterError(f"a value of type {type(value).__name__} cannot stand in a predicate")


def quoted(name: str) -> str:
    """Return a column's name as Lance's SQL quotes it."""
    return "`" + name.replace("`", "``") + "`"


def any_of(column: str, values: Iterable[Any]) -> str:
    """Return the predicate that a column holds one of the values."""
    return f"{quoted(column)} IN {literal(list(values))}"
