"""What a statement says, as DuckDB's own parser reads it, and whether it may run at all.

The tree is the one of ``json_serialize_sql``: DuckDB serialises SELECT statements only, so whatever comes through
here cannot write, and what is run later is printed from the checked tree, never from the user's text. A locked DuckDB
still creates in-memory tables, loads built-in extensions and runs the text in ``query('…')``:
admission is decided here.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from lakehouse.errors import InvalidArgumentError, QueryError, closest, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    import duckdb

__all__ = [
    "SEARCHES",
    "NoValue",
    "Node",
    "bound_values",
    "column_refs",
    "parameters",
    "parse",
    "print_sql",
    "value_of",
    "walk",
]

Node: TypeAlias = dict[str, Any]

# Table functions that compute from their arguments alone. All others are refused: of DuckDB 2.0's 130 most read
# files, settings, secrets or logs, and the next release may add some.
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
SEARCHES = frozenset({"lance_fts", "lance_vector_search"})  # ours, answered by `lakehouse.sql.searches`
# Scalar functions that read the sandbox's own settings or write outside the result; matched by the last name.
_SCALARS = frozenset({"current_setting", "currval", "getenv", "nextval", "setval", "write_log"})
_INTERNAL = "__internal"  # DuckDB's own copy functions

_HIDDEN_SQL = "its argument is SQL that cannot be checked; write the statement itself"
_OUTSIDE = "SQL reads the lake's tables and what tables= hands in; read the file in Python and give tables={'name': …}"

# What does the job of a statement that is not a question; by DuckDB's statement type.
_INSTEAD = {
    "ALTER": "use lake.plan(…) and lake.apply(…), or t.add_columns({…})",
    "ATTACH": _OUTSIDE,
    "CALL": "there is nothing to call",
    "COPY": "use lake.sql(…).write_parquet(path) to write, and lh.read_parquet(…) to read",
    "CREATE": "use lake.create_table(name, data=lake.sql(…)), or WITH name AS (…) inside the statement",
    "DELETE": "use lake.open_table(name).delete(where)",
    "DETACH": _OUTSIDE,
    "DROP": "use lake.drop_table(name)",
    "EXECUTE": "give the values as the second argument: lake.sql(text, {'name': value})",
    "EXPLAIN": "use lake.sql(…).explain()",
    "EXPORT": "use lake.sql(…).write_parquet(path)",
    "INSERT": "use lake.open_table(name).add(lake.sql(…))",
    "LOAD": "no extension is loaded into the sandbox",
    "MERGE_INTO": "use lake.open_table(name).merge_insert(…)",
    "PRAGMA": "the sandbox's settings are fixed",
    "PREPARE": "give the values as the second argument: lake.sql(text, {'name': value})",
    "SET": "the sandbox's settings are fixed",
    "TRANSACTION": "every statement sees one version of each table, pinned when lake.sql is called",
    "UPDATE": "use lake.open_table(name).update(…)",
    "VACUUM": "use lake.open_table(name).compact()",
}
_PIVOT = (
    "DuckDB cannot take PIVOT apart without its values; name them: "
    "SELECT * FROM t PIVOT (count(*) FOR split IN ('train', 'val'))"
)


def parse(cursor: duckdb.DuckDBPyConnection, text: str) -> Node:
    """Parse one SELECT statement and check that it reaches for nothing outside.

    Returns
    -------
    dict
        The statement: ``node`` and ``named_param_map``.

    Raises
    ------
    QueryError
        The text does not parse, is no question, or calls what reaches outside.
    """
    if not isinstance(text, str):
        raise InvalidArgumentError(f"a statement is a string, not a {type(text).__name__}")
    with translated("reading the SQL"):
        (answer,) = cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
    tree = json.loads(answer)
    if tree["error"]:
        raise _unparsed(cursor, text, tree["error_message"])
    if len(tree["statements"]) != 1:
        raise QueryError(f"{len(tree['statements'])} statements; lake.sql answers one at a time")
    statement: Node = tree["statements"][0]
    _admit(statement)
    return statement


def print_sql(cursor: duckdb.DuckDBPyConnection, statement: Node) -> str:
    """Return the text of a statement."""
    tree = json.dumps({"error": False, "statements": [statement]})
    with translated("writing the SQL"):
        (text,) = cursor.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()[0]
    return str(text)


def walk(value: Any) -> Iterator[Node]:
    """Yield every node of a tree, in no promised order; statements may nest deeper than Python calls."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


def column_refs(tree: Any) -> Iterator[list[str]]:
    """Yield the parts of every column's name in a tree, as written."""
    return (node["column_names"] for node in walk(tree) if node.get("class") == "COLUMN_REF")


def parameters(tree: Any) -> set[str]:
    """Return the names of the parameters in a tree; ``?`` are ``1``, ``2`` and so on."""
    return {node["identifier"] for node in walk(tree) if node.get("class") == "PARAMETER"}


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


def bound_values(statement: Node, params: Mapping[str, Any] | Sequence[Any] | None) -> dict[str, Any]:
    """Give each parameter of a statement its value, by name; ``?`` are ``1``, ``2`` and so on.

    Raises
    ------
    QueryError
        A value is missing, or belongs to no parameter.
    """
    names = parameters(statement)
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
    for method in ("tolist", "as_py", "to_pylist"):
        if hasattr(value, method):
            return getattr(value, method)()
    return value


def _unparsed(cursor: duckdb.DuckDBPyConnection, text: str, message: str) -> QueryError:
    import duckdb

    try:
        kinds = [statement.type.name for statement in cursor.extract_statements(text)]
    except duckdb.Error as error:
        advice = "\nAT goes as in: pets p AT (VERSION => 3), or 'v1' for a tag; the alias stands before it"
        return QueryError(f"the SQL does not parse: {error}{advice if ' at (' in text.lower() else ''}")
    other = [kind for kind in kinds if kind != "SELECT"]
    if not kinds:
        return QueryError("the statement is empty")
    if not other or other[0] == "MULTI":
        return QueryError(f"{_PIVOT} ({message})")
    kind = other[0]
    return QueryError(f"SQL here only reads; {kind.replace('_', ' ')} is refused: {_INSTEAD.get(kind, _OUTSIDE)}")


def _admit(statement: Node) -> None:
    for node in walk(statement):
        if node.get("type") == "TABLE_FUNCTION":
            _admit_table_function(node["function"]["qualified_name"]["path"][-1])
        elif node.get("class") == "FUNCTION":
            name = node["qualified_name"]["path"][-1].lower()
            if name in _SCALARS or name.startswith(_INTERNAL):
                raise QueryError(f"{name}() is refused: it reaches into the sandbox, not into the lake")
        elif node.get("type") == "BASE_TABLE" and len(node["qualified_name"]["path"]) > 1:
            _admit_qualified(node["qualified_name"]["path"])


def _admit_table_function(name: str) -> None:
    if name.lower() in _TABLE_FUNCTIONS | SEARCHES:
        return
    if name.lower() in ("query", "query_table"):
        raise QueryError(f"{name}() is refused: {_HIDDEN_SQL}")
    raise QueryError(f"{name}() is refused as a table: {_OUTSIDE}")


def _admit_qualified(path: list[str]) -> None:
    if len(path) == 2 and path[0].lower() == "information_schema":  # answered by `lakehouse.sql.catalog`
        return
    raise QueryError(f"{'.'.join(path)} names a schema; tables of a lake have none, write {path[-1]}")
