"""From a statement to its answer: parse, pin, plan, bind.

A locked connection takes 30 ms to make and a cursor 1.5 ms to use: one of the former a
lake, one of the latter a statement. A cursor sees what is registered on it and nothing else.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import types
from lakehouse.errors import QueryError
from lakehouse.sql import functions, late
from lakehouse.sql.carried import worth_carrying
from lakehouse.sql.execution import Execution, Question
from lakehouse.sql.limits import Limits
from lakehouse.sql.planner import answers_few
from lakehouse.sql.result import Result
from lakehouse.sql.sandbox import Sandbox
from lakehouse.sql.slots import select_value
from lakehouse.sql.syntax import NoValue, bound_values, parameters, parse, print_sql, value_of
from lakehouse.sql.tables import Tables
from lakehouse.sql.uses import looked_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import duckdb

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.planner import TableName
    from lakehouse.sql.syntax import Node

__all__ = ["Engine"]

_ASKED_CHARS = 100


class Engine:
    """Answers SQL over the tables of a lake.

    Parameters
    ----------
    resolve
        Opens a table at a version; raises `TableNotFoundError` and `VersionNotFoundError`.
    names
        Lists the lake's tables.
    limits
        What statements may use; None means the defaults.
    """

    def __init__(
        self, resolve: Callable[[TableName], Snapshot], names: Callable[[], list[str]], limits: Limits | None = None
    ) -> None:
        self._resolve = resolve
        self._names = names
        self._limits = limits or Limits()
        # Slots and carried media are named so that no statement can name them.
        self._prefix = f"lake_{secrets.token_hex(6)}"
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        tables: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
    ) -> Result:
        """Plan a statement, pin the versions it reads, and return its answer, not yet computed.

        Parameters
        ----------
        sql
            One SELECT statement of DuckDB's SQL; also FROM, VALUES, DESCRIBE, SUMMARIZE and SHOW TABLES.
        params
            Values of ``$name`` as a dictionary, or of ``?`` as a list.
        tables
            More tables, by name: Arrow, DataFrames, lists of dictionaries, results. They go before the lake's.
        strict
            Whether a medium that a function cannot read ends the statement; else its value is NULL, and counted.

        Raises
        ------
        QueryError
            The statement does not parse, does not bind, or is not allowed.
        TableNotFoundError
            It names a table that is neither in the lake nor in `tables`.
        """
        cursor = self._cursor()
        try:
            return self._query(cursor, sql, params, tables or {}, strict=strict)
        except RecursionError as error:
            cursor.close()
            raise QueryError("the statement nests too deeply; split it up with WITH") from error
        except BaseException:
            cursor.close()
            raise

    def close(self) -> None:
        """Release DuckDB and its temporary folder; the next statement opens it anew."""
        with self._lock:
            if self._sandbox is not None:
                self._sandbox.close()
                self._sandbox = None

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._sandbox is None:
                self._sandbox = Sandbox(self._limits)
            return self._sandbox.cursor()

    def _query(
        self, cursor: duckdb.DuckDBPyConnection, sql: str, params: Any, handed: Mapping[str, Any], *, strict: bool
    ) -> Result:
        statement = parse(cursor, sql)
        values = bound_values(statement, params)
        tables = Tables(self._prefix, self._resolve, self._names, handed, self._types)
        few = answers_few(statement, values)
        late.name_calls(statement, lambda item: print_sql(cursor, select_value(item)).removeprefix("SELECT "))
        tables.fill(statement, values, lambda expression: self._value(expression, values))
        columns = tables.columns(worth_carrying if few else types.is_bytes_media)
        functions.rename_own(statement, columns)
        late.compute_last(statement)
        used = looked_at(statement, [column.column for column in columns])
        carried = {column.name: column for column in columns if column.column not in used}
        calls = functions.mark(statement, carried, strict=strict)
        question = Question(
            asked=f"the query {_shortened(sql)!r}",
            text=print_sql(cursor, statement),
            params=_only(values, statement),
            tables=tables.datasets(carried),
            carried=carried,
            calls=calls,
            timeout_s=self._limits.timeout_s,
        )
        bare = replace(question, tables=tables.datasets({}), carried={})
        execution = _bound(cursor, question, bare)
        return Result(execution, self._limits, tables.versions, self._cursor)

    def _types(self, schema: pa.Schema) -> list[str]:
        """Ask DuckDB what it calls the types of columns."""
        cursor = self._cursor()
        try:
            return [str(kind) for kind in cursor.from_arrow(schema.empty_table()).types]
        finally:
            cursor.close()

    def _value(self, expression: Node, values: Mapping[str, Any]) -> Any:
        """Compute what stands in an AT clause or an argument of a search."""
        known = value_of(expression, values)
        if known is not NoValue:
            return known
        statement = select_value(expression)
        cursor = self._cursor()
        text = print_sql(cursor, statement)
        question = Question(
            "an AT clause or an argument", text, _only(values, statement), {}, timeout_s=self._limits.timeout_s
        )
        _, batches = Execution(cursor, question).batches()
        return pa.Table.from_batches(batches).column(0)[0].as_py()


def _bound(cursor: duckdb.DuckDBPyConnection, question: Question, bare: Question) -> Execution:
    """Bind with media as row ids; where they turn out to be worked on after all, bind with their bytes."""
    try:
        execution = Execution(cursor, question)
    except QueryError:
        if not question.carried:
            raise
        return Execution(cursor, bare)
    if execution.hands_media_through():
        return execution
    execution.close.detach()  # the cursor goes to the other one
    return Execution(cursor, bare)


def _only(values: Mapping[str, Any], statement: Node) -> dict[str, Any]:
    """Pick the values of the parameters that are left in a statement: DuckDB refuses others."""
    left = parameters(statement)
    return {name: value for name, value in values.items() if name in left}


def _shortened(sql: str) -> str:
    words = " ".join(sql.split())
    return words if len(words) <= _ASKED_CHARS else words[: _ASKED_CHARS - 1] + "…"
