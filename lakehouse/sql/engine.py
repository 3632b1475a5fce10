"""From a statement to its answer: parse, pin, plan, bind.

A locked connection takes 30 ms to make and a cursor 1.5 ms to use: one of the former a
lake, one of the latter a statement. A cursor sees what is registered on it and nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import QueryError
from lakehouse.sql.execution import Execution, Question
from lakehouse.sql.limits import SqlLimits
from lakehouse.sql.questions import Asked, only
from lakehouse.sql.result import Result
from lakehouse.sql.rewriting import late
from lakehouse.sql.sandbox import Sandbox, machine_nbytes
from lakehouse.sql.scans.resident import Resident
from lakehouse.sql.scans.tables import Tables
from lakehouse.sql.statement.cuts import cuts
from lakehouse.sql.statement.parsing import Parser
from lakehouse.sql.statement.slots import select_value
from lakehouse.sql.statement.syntax import NoValue, bound_values, value_of
from lakehouse.sql.watch import pressed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import duckdb

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.statement.planner import TableName
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Engine"]

_ASKED_CHARS = 100
_SCALARS = (
    "SELECT lower(function_name) FROM duckdb_functions() WHERE function_type NOT LIKE 'table%' GROUP BY 1 "
    "HAVING bool_and(function_type = 'scalar' AND stability = 'CONSISTENT')"
)


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
        self, resolve: Callable[[TableName], Snapshot], names: Callable[[], list[str]], limits: SqlLimits | None = None
    ) -> None:
        self._resolve = resolve
        self._names = names
        self._limits = limits or SqlLimits()
        # Slots and carried media are named so that no statement can name them.
        self._prefix = f"lake_{secrets.token_hex(6)}"
        self._parser = Parser()
        self._resident = _resident(self._limits)
        self._lock = threading.Lock()
        self._sandbox: Sandbox | None = None
        self._scalars: frozenset[str] | None = None

    def query(
        self,
        sql: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        tables: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
        progress: bool | None = None,
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
        progress
            None: a bar on a terminal, a log line a minute elsewhere, once it takes more than two seconds; False for
            none.

        Raises
        ------
        QueryError
            The statement does not parse, does not bind, or is not allowed.
        TableNotFoundError
            It names a table that is neither in the lake nor in `tables`.
        """
        cursor = self._cursor()
        try:
            return self._query(cursor, sql, params, tables or {}, strict=strict, progress=progress)
        except RecursionError as error:
            cursor.close()
            raise QueryError("the statement nests too deeply; split it up with WITH") from error
        except BaseException as error:
            cursor.close()
            if pressed(error):
                raise KeyboardInterrupt from error
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
        self,
        cursor: duckdb.DuckDBPyConnection,
        sql: str,
        params: Any,
        handed: Mapping[str, Any],
        *,
        strict: bool,
        progress: bool | None,
    ) -> Result:
        statement = self._parser.parse(cursor, sql)
        values = bound_values(statement, params)
        tables = Tables(self._prefix, self._resolve, self._names, handed, self._types, self._resident)
        late.name_items(statement, cuts(statement, values), partial(self._item, cursor))
        tables.fill(statement, values, lambda expression: self._value(expression, values))
        asked = Asked(
            words=f"the query {_shortened(sql)!r}",
            tree=json.dumps(statement),
            values=values,
            tables=tables,
            print_sql=partial(self._parser.print_sql, cursor),
            is_scalar=self._is_scalar,
            strict=strict,
            timeout_s=self._limits.timeout_s,
            progress=progress,
        )
        return Result(_bound(cursor, asked), self._limits, tables.versions, self._cursor)

    def _item(self, cursor: duckdb.DuckDBPyConnection, expression: Node) -> str:
        return self._parser.print_sql(cursor, select_value(expression)).removeprefix("SELECT ")

    def _is_scalar(self, function: str) -> bool:
        """Whether a function gives each row a value, the same each time; DuckDB is asked once."""
        if self._scalars is None:
            cursor = self._cursor()
            try:
                rows = cursor.execute(_SCALARS).fetchall()
            finally:
                cursor.close()
            self._scalars = frozenset(name for (name,) in rows)
        return function.lower() in self._scalars

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
        text = self._parser.print_sql(cursor, statement)
        question = Question(
            "an AT clause or an argument",
            text,
            only(values, statement),
            {},
            timeout_s=self._limits.timeout_s,
            progress=False,
        )
        _, batches = Execution(cursor, question).batches()
        return pa.Table.from_batches(batches).column(0)[0].as_py()


def _resident(limits: SqlLimits) -> Resident | None:
    nbytes = machine_nbytes() // 8 if limits.resident_nbytes is None else limits.resident_nbytes
    return Resident(nbytes, limits.threads or os.cpu_count() or 1) if nbytes else None


def _bound(cursor: duckdb.DuckDBPyConnection, asked: Asked) -> Execution:
    """Bind what reads least; where media turn out to be worked on after all, or it does not bind, what was written."""
    try:
        execution = Execution(cursor, asked.best())
    except QueryError:
        return Execution(cursor, asked.as_written())
    if execution.hands_media_through():
        return execution
    execution.close.detach()  # the cursor goes to the other one
    return Execution(cursor, asked.as_written())


def _shortened(sql: str) -> str:
    words = " ".join(sql.split())
    return words if len(words) <= _ASKED_CHARS else words[: _ASKED_CHARS - 1] + "…"
