"""What SQL may say here: questions about the lake's tables; whatever else is refused with the call that does it.

The tree is the one of ``json_serialize_sql``, which writes down SELECT statements only. A locked DuckDB still creates
tables in memory, loads built-in extensions, runs the text in ``query('…')`` and serialises a WITH that inserts:
admission is decided here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from lakehouse._messages import clean
from lakehouse.errors import QueryError
from lakehouse.sql.statement.syntax import SEARCHES, walk

if TYPE_CHECKING:
    import duckdb

    from lakehouse.sql.statement.syntax import Node

__all__ = ["admit", "refusal", "without_settings"]

# Nodes with modifiers that only read. The others insert, update or delete inside of a WITH.
_QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
# Table functions that compute from their arguments alone. All others are refused: of DuckDB 2.0's 130 most read
# files, settings, secrets or logs, and the next release may add some.
_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
# Scalar functions that read the sandbox's own settings, plan SQL that nobody checked, or write outside the result;
# matched by the last name.
_SCALARS = frozenset({"current_setting", "currval", "getenv", "json_serialize_plan", "nextval", "setval", "write_log"})
_INTERNAL = ("__internal", "lake_fetch_")  # DuckDB's own copy functions, and ours of `lakehouse.sql.fetching`

_HIDDEN_SQL = "its argument is SQL that cannot be checked; write the statement itself"
_OUTSIDE = "SQL reads the lake's tables and what tables= hands in; read the file in Python and give tables={'name': …}"
_FIXED = "the sandbox's settings are fixed; limits are given when the lake is opened"
_PINNED = "every statement sees one version of each table, pinned when lake.sql is called"
_VALUES = "give the values as the second argument: lake.sql(text, {'name': value})"
_WITH = "write WITH name AS (…) inside the statement, or keep the text in a Python function"

# What does the job of a statement that is no question, by the words it begins with, OR REPLACE, TEMP and such left out.
_INSTEAD = {
    "ALTER": "use lake.plan(…) and lake.apply(…), or t.add_columns({…}), t.rename_column(…), t.drop_columns([…])",
    "ANALYZE": "there is nothing to gather; lake.sql(…).explain() shows how a statement is answered",
    "ATTACH": _OUTSIDE,
    "BEGIN": _PINNED,
    "CALL": "there is nothing to call",
    "CHECKPOINT": "every write is a version at once; t.tag(name) keeps one",
    "COMMENT": "give columns a description in the schema: lake.plan(…) and lake.apply(…)",
    "COMMIT": _PINNED,
    "COPY": "use lake.sql(…).write_parquet(path) to write, and lh.read_parquet(…) to read",
    "CREATE": "use lake.create_table(name, data=lake.sql(…))",
    "CREATE FUNCTION": _WITH,
    "CREATE INDEX": "use lake.open_table(name).create_index(column, lh.BTree())",
    "CREATE MACRO": _WITH,
    "CREATE SCHEMA": "a lake has one; lh.connect(…) opens another lake",
    "CREATE SECRET": "give credentials to lh.connect(…), outside of SQL",
    "CREATE SEQUENCE": "use row_number() OVER () or range(n) inside the statement",
    "CREATE TYPE": "name the type in the table's schema: lake.create_table(name, schema=…)",
    "CREATE VIEW": _WITH,
    "DEALLOCATE": _VALUES,
    "DELETE": "use lake.open_table(name).delete(where)",
    "DETACH": _OUTSIDE,
    "DROP": "use lake.drop_table(name), t.drop_columns([…]) or t.drop_index(name)",
    "EXECUTE": _VALUES,
    "EXPLAIN": "use lake.sql(…).explain(), or .explain in lakehouse sql",
    "EXPORT": "use lake.sql(…).write_parquet(path), a table at a time",
    "IMPORT": "use lake.create_table(name, data=lh.read_parquet(…))",
    "INSERT": "use lake.open_table(name).add(lake.sql(…))",
    "INSTALL": "no extension is loaded into the sandbox",
    "LOAD": "no extension is loaded into the sandbox",
    "MERGE": "use lake.open_table(name).merge_insert(on), or t.add_columns_from(lake.sql(…), on=…) for new columns",
    "PRAGMA": _FIXED,
    "PREPARE": _VALUES,
    "RESET": _FIXED,
    "ROLLBACK": _PINNED,
    "SET": _FIXED,
    "START": _PINNED,
    "TRUNCATE": "use lake.open_table(name).delete('true')",
    "UPDATE": "use lake.open_table(name).update(where=…, values=…), or values_sql={column: expression}",
    "UPDATE EXTENSIONS": "no extension is loaded into the sandbox",
    "USE": "a lake has one schema; lh.connect(…) opens another lake",
    "VACUUM": "use lake.open_table(name).compact()",
}
_KINDS = {kind for words in _INSTEAD if (kind := words.partition(" ")[2])}
_PIVOT = (
    "DuckDB cannot take a PIVOT apart that does not name its values; write them down, as in "
    "PIVOT t ON split IN ('train', 'val') USING count(*); lake.sql(\"SELECT DISTINCT split FROM t\") finds them"
)


def admit(statement: Node) -> None:
    """Check that a statement only reads, and reaches for nothing outside.

    Raises
    ------
    QueryError
        It does not.
    """
    for node in walk(statement):
        kind = node.get("type")
        if kind == "TABLE_FUNCTION":
            _admit_table_function(node["function"]["qualified_name"]["path"][-1])
        elif node.get("class") == "FUNCTION":
            name = node["qualified_name"]["path"][-1].lower()
            if name in _SCALARS or name.startswith(_INTERNAL):
                raise QueryError(f"{name}() is refused: it reaches into the sandbox, not into the lake")
        elif "modifiers" in node and kind not in _QUERIES:
            verb = str(kind).partition("_")[0]
            raise QueryError(f"SQL here only reads; {verb} is refused, in WITH too: {_INSTEAD.get(verb, _OUTSIDE)}")


def _admit_table_function(name: str) -> None:
    if name.lower() in _TABLE_FUNCTIONS | SEARCHES:
        return
    if name.lower() in ("query", "query_table"):
        raise QueryError(f"{name}() is refused: {_HIDDEN_SQL}")
    if name.lower() == "lance_hybrid_search":
        raise QueryError(f"{name}() is not built yet; join lance_vector_search and lance_fts on _rowid")
    raise QueryError(f"{name}() is refused as a table: {_OUTSIDE}")


def refusal(cursor: duckdb.DuckDBPyConnection, text: str, message: str) -> QueryError:
    """Say why a text that DuckDB does not serialise is refused.

    Parameters
    ----------
    cursor
        Any; nothing is run.
    text
        The text.
    message
        What DuckDB says.
    """
    import duckdb

    words = _first_words(text)
    try:
        kinds = [statement.type.name for statement in cursor.extract_statements(text)]
    except ValueError:  # a statement whose type duckdb's Python package does not know
        kinds = words[:1]
    except duckdb.Error as error:
        said = clean(without_settings(str(error)))
        return QueryError(f"the SQL does not parse: {said}{_advice(text.lower(), said)}")
    other = [kind for kind in kinds if kind != "SELECT"]
    if not other or other[0] == "MULTI":
        return QueryError(f"{_PIVOT} ({message})")
    kind = other[0].partition("_")[0]
    named = words if words and kinds[0] == other[0] and words[0] in _INSTEAD else [kind]
    instead = _INSTEAD.get(" ".join(named)) or _INSTEAD.get(named[0], _OUTSIDE)
    return QueryError(f"SQL here only reads; {' '.join(named)} is refused: {instead}")


_SETTINGS = re.compile(r"""(?:,? or|\.?\sUse) "?SET [a-z_]+.*?(?:\.(?=\s|$)|$)""")


def without_settings(message: str) -> str:
    """Drop DuckDB's advice to change a setting, which SQL over a lake refuses."""
    return _SETTINGS.sub("", message)


def _advice(text: str, message: str) -> str:
    if 'near "@"' in message:
        return '\nA branch stands in double quotes, as in FROM "pets@exp"'
    if " at (" not in text:
        return ""
    if any(name in text for name in SEARCHES):
        return (
            "\nA search function takes no AT: lake.open_table(name, version=3).search(…) searches a version, and "
            "tables={'hits': …} hands what it finds to a statement"
        )
    return "\nAT goes as in: pets p AT (VERSION => 3), or 'v1' for a tag; the alias stands before it"


def _first_words(text: str) -> list[str]:
    """Return the first keyword, and what it is about where that makes a difference: CREATE, VIEW."""
    import duckdb

    tokens = duckdb.tokenize(text)
    ends = [start for start, _ in tokens[1:]] + [len(text)]
    words = [
        word.upper()
        for (start, kind), end in zip(tokens, ends, strict=True)
        if kind == duckdb.token_type.keyword
        for word in text[start:end].split(maxsplit=1)[:1]  # none where only what DuckDB takes for spaces is left
    ]
    first = words[:1]
    return first + [word for word in words[1:5] if word in _KINDS and f"{first[0]} {word}" in _INSTEAD][:1]
