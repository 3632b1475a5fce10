"""Names in an SQL expression: which columns it reads, and what they are called by now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Identifiers, quoted or not; string literals are passed over. A name before "(" or behind "." may be a function or a
# struct's field: it counts as an input, since too many inputs mark too much stale and never too little, but it is not
# renamed.
_IDENTIFIER = re.compile(
    r"""'(?:[^']|'')*'|"(?P<double>(?:[^"]|"")*)"|`(?P<tick>[^`]*)`|(?P<dot>\.\s*)?(?P<bare>[A-Za-z_]\w*)(?P<call>\s*\()?"""
)


def expression_inputs(expression: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns an SQL expression names.

    Examples
    --------
    >>> expression_inputs("upper(label) || 'width'", ["label", "width"])
    ('label',)
    """
    by_lower = {name.lower(): name for name in names}
    found = dict.fromkeys(
        by_lower[word.lower()]
        for match in _IDENTIFIER.finditer(expression)
        if (word := match["double"] or match["tick"] or match["bare"] or "").lower() in by_lower
    )
    return tuple(found)


def renamed(expression: str, names: Mapping[str, str]) -> str:
    """Return an SQL expression with its columns called by other names.

    Parameters
    ----------
    expression
        As it was declared.
    names
        What columns were called then, and are called now.

    Examples
    --------
    >>> renamed("width * height + width(1)", {"width": "w", "height": "height"})
    '`w` * height + width(1)'
    """
    changed = {old.lower(): new for old, new in names.items() if old != new}

    def replace(match: re.Match[str]) -> str:
        word = match["double"] or match["tick"] or match["bare"] or ""
        if match["dot"] or match["call"] or word.lower() not in changed:
            return match[0]
        return quoted(changed[word.lower()])

    return _IDENTIFIER.sub(replace, expression) if changed else expression
