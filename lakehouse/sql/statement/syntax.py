"""The tree of a statement, as DuckDB's own parser writes it: walking it, its columns, its parameters, its values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from lakehouse.errors import InvalidArgumentError, QueryError, closest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "SEARCHES",
    "NoValue",
    "Node",
    "bound_values",
    "column_refs",
    "parameters",
    "value_of",
    "walk",
]

Node: TypeAlias = dict[str, Any]

SEARCHES = frozenset({"lance_fts", "lance_vector_search"})  # ours, answered by `lakehouse.sql.scans.searches`


def walk(value: Any) -> list[Node]:
    """List every node of a tree, those around others first; statements may nest deeper than Python calls.

    To walk is what planning takes longest for: what asks for nodes of a kind takes this list.
    """
    found: list[Node] = []
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            found.append(value)
            value = value.values()
        # What else JSON has, has no children.
        waiting += [child for child in value if child and (type(child) is dict or type(child) is list)]
    return found


def column_refs(nodes: Iterable[Node]) -> Iterator[list[str]]:
    """Yield the parts of every column's name among nodes, as written."""
    return (node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF")


def parameters(nodes: Iterable[Node]) -> set[str]:
    """Return the names of the parameters among nodes; ``?`` are ``1``, ``2`` and so on."""
    return {node["identifier"] for node in nodes if node.get("class") == "PARAMETER"}


class NoValue:
    """What an expression gives whose value is not known before it runs."""


def value_of(node: Node, values: Mapping[str, Any]) -> Any:
    """Return the value of a constant, a parameter or a date, or `NoValue` for what must be computed."""
    if node.get("class") == "PARAMETER":
        return values.get(node["identifier"], NoValue)
    if node.get("class") == "CAST" and str(node["type_expr"].get("type_name")).lower() == "date":
        return _date(value_of(node["child"], values))
    if node.get("class") != "CONSTANT" or "literal" not in node:
        return NoValue
    kind, text = node["literal"]["kind"], node["literal"].get("text")
    readers: dict[str, Any] = {"INTEGER": int, "NUMERIC": float, "STRING": str, "BOOLEAN": "true".__eq__}
    return readers[kind](text) if kind in readers else NoValue


def _date(text: Any) -> Any:
    try:
        return dt.date.fromisoformat(text)
    except (TypeError, ValueError):
        return NoValue


def bound_values(nodes: Iterable[Node], params: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """Give each parameter among a statement's nodes its value, by name; ``?`` are ``1``, ``2`` and so on.

    Raises
    ------
    QueryError
        A value is missing, or belongs to no parameter.
    """
    names = parameters(nodes)
    if params is None:
        params = {}
    if isinstance(params, Sequence) and not isinstance(params, str | bytes):
        params = {str(number): value for number, value in enumerate(params, start=1)}
    if not isinstance(params, Mapping):
        raise InvalidArgumentError(f"params are a dictionary or a list, not a {type(params).__name__}")
    values = {str(name): value for name, value in params.items()}
    for name in sorted(names - values.keys()):
        given = ", ".join(values) or "none"
        raise QueryError(f"no value for ${name}; given: {given}{closest(name, values)}")
    for name in sorted(values.keys() - names):
        there = ", ".join(f"${n}" for n in sorted(names)) or "no parameters"
        raise QueryError(f"a value for ${name} is given, but the statement has {there}{closest(name, names)}")
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    """NumPy's and Arrow's scalars and arrays as Python's: DuckDB 2.0 refuses the first, or guesses their type."""
    if isinstance(value, memoryview):  # whose list would be one of numbers
        return value.tobytes()
    for method in ("tolist", "as_py", "to_pylist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value
