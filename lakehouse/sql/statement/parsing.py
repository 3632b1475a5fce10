"""From text to a checked tree and back, in DuckDB's own parser and printer.

What is run is printed from the tree that was checked, never taken from the user's text.
"""

from __future__ import annotations

import json
import marshal
from typing import TYPE_CHECKING

from lakehouse.errors import InvalidArgumentError, QueryError, translated
from lakehouse.sql.recent import Recent
from lakehouse.sql.statement.admission import admit, refusal

if TYPE_CHECKING:
    import duckdb

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Parser", "flat", "tree"]

_KEPT = 256  # texts each way


class Parser:
    """Parses and prints; the latest answers are kept, since DuckDB takes 1 ms each way and programs repeat themselves.

    Trees are kept flat, so that each caller gets one of its own to change.

    Parameters
    ----------
    reserved
        What the names of slots begin with; no statement may have it anywhere.
    """

    def __init__(self, reserved: str) -> None:
        self._reserved = reserved
        self._trees: Recent[str, bytes] = Recent(_KEPT)
        self._texts: Recent[bytes, str] = Recent(_KEPT)

    def parse(self, cursor: duckdb.DuckDBPyConnection, text: str) -> Node:
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
        return tree(self._trees.get(text, lambda: _checked(cursor, text, self._reserved)))

    def print_sql(self, cursor: duckdb.DuckDBPyConnection, statement: Node) -> str:
        """Return the text of a statement."""
        return self._texts.get(flat(statement), lambda: _printed(cursor, statement))


def flat(statement: Node) -> bytes:
    """Return a tree in bytes, the same for equal trees: version 2 tells nothing of which parts are one object.

    To make bytes and read them is the fastest way to copy a tree, three times as fast as JSON.
    """
    try:
        return marshal.dumps(statement, 2)
    except ValueError as error:
        raise RecursionError from error


def tree(flattened: bytes) -> Node:
    """Return a tree of its own from what `flat` made."""
    statement: Node = marshal.loads(flattened)  # noqa: S302 - nobody else's bytes
    return statement


def _checked(cursor: duckdb.DuckDBPyConnection, text: str, reserved: str) -> bytes:
    if "\0" in text:  # DuckDB 2.0 serialises a text up to its first one: 'a\0b' would be 'a'
        raise QueryError("the statement holds a zero byte; hand the value that has it in as a parameter, or use chr(0)")
    with translated("reading the SQL"):
        (answer,) = cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
    parsed = json.loads(answer)
    if parsed["error"]:
        raise refusal(cursor, text, parsed["error_message"])
    if len(parsed["statements"]) != 1:
        count = f"{len(parsed['statements'])} statements; lake.sql answers one at a time"
        raise QueryError(count if parsed["statements"] else "the statement is empty")
    if reserved in answer:
        raise QueryError(f"{reserved}… is what lake.sql itself puts in the place of tables; name the tables instead")
    admit(parsed["statements"][0])
    return flat(parsed["statements"][0])


def _printed(cursor: duckdb.DuckDBPyConnection, statement: Node) -> str:
    answer = json.dumps({"error": False, "statements": [statement]})
    with translated("writing the SQL"):
        (text,) = cursor.execute("SELECT json_deserialize_sql(?::JSON)", [answer]).fetchall()[0]
    return str(text)
