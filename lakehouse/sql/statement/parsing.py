"""From text to a checked tree and back, in DuckDB's own parser and printer.

What is run is printed from the tree that was checked, never taken from the user's text.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from lakehouse.errors import InvalidArgumentError, QueryError, translated
from lakehouse.sql.statement.admission import admit, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    import duckdb

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Parser"]

_KEPT = 256  # texts each way
_MAX_CHARS = 100_000  # longer ones are made anew; a tree is some 20 times as long as its text


class Parser:
    """Parses and prints; the latest answers are kept, since DuckDB takes 1 ms each way and programs repeat themselves.

    Trees are kept as JSON, so that each caller gets one of its own to change.
    """

    def __init__(self) -> None:
        self._trees = _Recent()
        self._texts = _Recent()

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
        statement: Node = json.loads(self._trees.get(text, lambda: _checked(cursor, text)))
        return statement

    def print_sql(self, cursor: duckdb.DuckDBPyConnection, statement: Node) -> str:
        """Return the text of a statement."""
        tree = json.dumps({"error": False, "statements": [statement]})
        return self._texts.get(tree, lambda: _printed(cursor, tree))


def _checked(cursor: duckdb.DuckDBPyConnection, text: str) -> str:
    with translated("reading the SQL"):
        (answer,) = cursor.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0]
    tree = json.loads(answer)
    if tree["error"]:
        raise refusal(cursor, text, tree["error_message"])
    if len(tree["statements"]) != 1:
        count = f"{len(tree['statements'])} statements; lake.sql answers one at a time"
        raise QueryError(count if tree["statements"] else "the statement is empty")
    admit(tree["statements"][0])
    return json.dumps(tree["statements"][0])


def _printed(cursor: duckdb.DuckDBPyConnection, tree: str) -> str:
    with translated("writing the SQL"):
        (text,) = cursor.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()[0]
    return str(text)


class _Recent:
    """What was made of the latest texts; many threads ask."""

    def __init__(self) -> None:
        self._made: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, text: str, make: Callable[[], str]) -> str:
        with self._lock:
            if text in self._made:
                self._made.move_to_end(text)
                return self._made[text]
        made = make()
        if len(text) <= _MAX_CHARS:
            with self._lock:
                self._made[text] = made
                while len(self._made) > _KEPT:
                    self._made.popitem(last=False)
        return made
