"""A statement over slots as DuckDB is asked it: rewritten so that little is read, or as it was written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse.sql import functions
from lakehouse.sql.execution import Question
from lakehouse.sql.rewriting.guards import guard
from lakehouse.sql.rewriting.journeys import STAYS, plan_journeys
from lakehouse.sql.rewriting.keys import narrow
from lakehouse.sql.rewriting.narrowing import narrowings
from lakehouse.sql.statement.cuts import cuts, heads
from lakehouse.sql.statement.syntax import parameters
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import duckdb

    from lakehouse.sql.rewriting.journeys import Journeys
    from lakehouse.sql.scans.tables import Tables
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Asked", "only"]


@dataclass(frozen=True, eq=False)
class Asked:
    """A statement and what lies in its slots.

    Parameters
    ----------
    words
        The statement in the user's words, shortened.
    tree
        The statement with slots for tables, as JSON.
    values
        Values of its parameters.
    tables
        What lies in the slots.
    print_sql
        Gives the text of a tree.
    is_scalar
        Whether a function gives each row a value, the same each time.
    strict
        Whether a medium that cannot be read ends the statement.
    timeout_s
        Seconds it may compute.
    progress
        Whether a bar is shown.
    """

    words: str
    tree: str
    values: Mapping[str, Any]
    tables: Tables
    print_sql: Callable[[Node], str]
    is_scalar: Callable[[str], bool]
    strict: bool
    timeout_s: float | None
    progress: bool | None

    def best(self) -> Question:
        """Ask so that wide columns are read for few rows."""
        statement: Node = json.loads(self.tree)
        few = cuts(statement, self.values)
        return self._question(statement, plan_journeys(statement, few, self.tables, self.is_scalar))

    def as_written(self) -> Question:
        """Ask for all values of every column."""
        return self._question(json.loads(self.tree), STAYS)

    def _question(self, statement: Node, journeys: Journeys) -> Question:
        guard(statement)
        shown = heads(statement, self.values, self.tables.places, self.is_scalar)
        calls = functions.mark(statement, journeys.carried, strict=self.strict)
        question = Question(
            asked=self.words,
            text=self.print_sql(statement),
            params=only(self.values, statement),
            tables=self.tables.datasets(journeys.carried, journeys.null_tested, shown),
            carried=journeys.carried,
            calls=calls,
            timeout_s=self.timeout_s,
            progress=self.progress,
        )
        return self._narrowed(question, statement)

    def _narrowed(self, question: Question, statement: Node) -> Question:
        """Have large tables read for the keys of small ones, just before the statement runs."""
        steps = []
        for each in narrowings(statement, self.tables, self.values, partial(_is_indexed, question), self.is_scalar):
            table = question.tables[each.slot]
            table.narrowed_by = f"the keys it is joined to by {each.column}, if they are few"
            text, values = self.print_sql(each.keys), only(self.values, each.keys)
            steps.append(partial(narrow, table=table, column=each.column, keys=text, params=values))

        def before(cursor: duckdb.DuckDBPyConnection) -> None:
            for step in steps:
                step(cursor)

        return replace(question, before=before) if steps else question


def _is_indexed(question: Question, slot: str, column: str) -> bool:
    return quoted(column) in question.tables[slot].indexed


def only(values: Mapping[str, Any], statement: Node) -> dict[str, Any]:
    """Pick the values of the parameters that are left in a statement: DuckDB refuses others."""
    left = parameters(statement)
    return {name: value for name, value in values.items() if name in left}
