"""From a statement to its answer: parse, pin, plan, bind.

A locked connection takes 30 ms to make: one a lake, and of it a cursor a statement. A statement that is asked again,
of tables that did not change, is planned once: parsing, planning and binding cost up to 25 ms of CPU, to look whether
the tables are still the same 0.2 to 1.
"""

from __future__ import annotations

import datetime as dt
import os
import secrets
import threading
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import QueryError
from lakehouse.sql.execution import Execution, Question
from lakehouse.sql.limits import SqlLimits
from lakehouse.sql.questions import Asked, Plan, only
from lakehouse.sql.recent import Recent
from lakehouse.sql.result import Result
from lakehouse.sql.rewriting import late
from lakehouse.sql.sandbox import Sandbox, machine_nbytes
from lakehouse.sql.scans.resident import Resident
from lakehouse.sql.scans.tables import Tables
from lakehouse.sql.statement.cuts import cuts
from lakehouse.sql.statement.dtypes import as_seen
from lakehouse.sql.statement.parsing import Parser, flat
from lakehouse.sql.statement.slots import select_value
from lakehouse.sql.statement.syntax import NoValue, bound_values, column_refs, value_of, walk
from lakehouse.sql.watch import pressed
from lakehouse.values import python_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import duckdb

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.statement.planner import TableName
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Engine"]

_ASKED_CHARS = 100
_KEPT_SNAPSHOTS = 32
_KEPT_PLANS = 64
_KEYED_CHARS = 20_000  # of a statement and its values
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
        self._parser = Parser(self._prefix)
        self._snapshots: Recent[str, Snapshot] = Recent(_KEPT_SNAPSHOTS)
        self._plans: Recent[tuple[str, ...], _Kept] = Recent(_KEPT_PLANS)
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
            return self._query(cursor, sql, params, {} if tables is None else tables, strict=strict, progress=progress)
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
        self._plans.drop(lambda _: True)
        self._snapshots.drop(lambda _: True)

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
        def question(plan: Plan) -> Question:
            return plan.question(f"the query {_shortened(sql)!r}", self._limits.timeout_s, progress=progress)

        key = _key(sql, params) if isinstance(handed, dict) and not handed else None
        kept = None if key is None else self._plans.find(key)
        if kept is not None and kept.plan.tables.are_newest():
            execution = Execution(cursor, question(kept.plan), kept.kinds)
            return Result(execution, self._limits, kept.plan.tables.versions, self._cursor)
        statement = self._parser.parse(cursor, sql)
        nodes = walk(statement)
        values = bound_values(nodes, params)
        tables = Tables(self._prefix, self._opened, self._names, handed, self._described, self._resident)
        late.name_items(nodes, cuts(nodes, values), partial(self._item, cursor))
        tables.fill(statement, values, lambda expression: self._value(expression, values))
        asked = Asked(
            tree=flat(statement),
            values=values,
            tables=tables,
            print_sql=partial(self._parser.print_sql, cursor),
            is_scalar=self._is_scalar,
            strict=strict,
        )
        plan, execution = _bound(cursor, asked, question)
        if key is not None and tables.are_kept() and plan.calls is None:
            self._plans.keep(key, _Kept(plan, execution.kinds))
        return Result(execution, self._limits, tables.versions, self._cursor)

    def _opened(self, name: TableName) -> Snapshot:
        """Open a table; its newest version is one object, with all that was found out about it, until there is a newer.

        Files that it holds open are let go with it, so that no plan keeps an older one.
        """
        snapshot = self._resolve(name)
        if snapshot.pinned:
            return snapshot
        kept = self._snapshots.find(snapshot.name)
        if kept is not None and kept.identity == snapshot.identity:
            return kept
        self._plans.drop(lambda each: each.plan.tables.has(snapshot.name))
        return self._snapshots.keep(snapshot.name, snapshot)

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

    def _described(self, schema: pa.Schema) -> list[tuple[str, str]]:
        """Ask DuckDB what it calls columns and their types."""
        cursor = self._cursor()
        try:
            relation = cursor.from_arrow(as_seen(schema).empty_table())
            return [(name, str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
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
        try:
            _, batches = Execution(cursor, question).batches()
        except QueryError as error:
            if (unknown := _not_known(expression)) is None:
                raise
            raise unknown from error
        return python_value(pa.Table.from_batches(batches).column(0)[0])


def _not_known(expression: Node) -> QueryError | None:
    """Say so where an expression could not be computed because it reads tables."""
    nodes = list(walk(expression))
    names = [f"the column {'.'.join(name)}" for name in column_refs(nodes)]
    is_query = any(node.get("class") == "SUBQUERY" for node in nodes)
    if not names and not is_query:
        return None
    return QueryError(
        "an AT clause, or an argument of a search, is a value that is known before the statement runs, not "
        f"{'a query' if is_query else names[0]}; write text in '…', and fetch a value of a table first: "
        "q = lake.sql('SELECT …').fetchall()[0][0], handed in as $q"
    )


def _resident(limits: SqlLimits) -> Resident | None:
    nbytes = machine_nbytes() // 8 if limits.resident_nbytes is None else limits.resident_nbytes
    return Resident(nbytes, limits.threads or os.cpu_count() or 1) if nbytes else None


@dataclass(frozen=True, eq=False)
class _Kept:
    """A plan, and DuckDB's names of the types of its result."""

    plan: Plan
    kinds: Sequence[str]


_EXACT = (int, str, float, bool, bytes, dt.date, dt.datetime, Decimal, type(None))


def _key(sql: str, params: Any) -> tuple[str, ...] | None:
    """Return what tells a statement with its values from all others; None where its plan is not kept.

    A value's ``repr`` tells more of it than its hash does: 1, 1.0 and True are three, as 0.0 and -0.0 are two.
    """
    if not isinstance(sql, str) or not isinstance(params, dict | list | tuple | None):
        return None
    values = params.items() if isinstance(params, dict) else enumerate(params or (), start=1)
    found = [sql]
    for name, value in values:
        if type(value) not in _EXACT:
            return None
        found += [str(name), repr(value), str(value)]  # a moment's str has its offset, whatever its zone is
    return tuple(found) if sum(map(len, found)) <= _KEYED_CHARS else None


def _bound(
    cursor: duckdb.DuckDBPyConnection, asked: Asked, question: Callable[[Plan], Question]
) -> tuple[Plan, Execution]:
    """Bind what reads least; where media turn out to be worked on after all, or it does not bind, what was written."""
    try:
        plan = asked.best()
        execution = Execution(cursor, question(plan))
    except QueryError:
        plan = asked.as_written()
        return plan, Execution(cursor, question(plan))
    if execution.hands_media_through():
        return plan, execution
    execution.close.detach()  # the cursor goes to the other one
    plan = asked.as_written()
    return plan, Execution(cursor, question(plan))


def _shortened(sql: str) -> str:
    words = " ".join(sql.split())
    return words if len(words) <= _ASKED_CHARS else words[: _ASKED_CHARS - 1] + "…"
