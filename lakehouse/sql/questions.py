"""A statement over slots as DuckDB is asked it: rewritten so that little is read, or as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.sql import functions
from lakehouse.sql.execution import Question
from lakehouse.sql.rewriting.guards import guard
from lakehouse.sql.rewriting.journeys import nothing_travels, plan_journeys
from lakehouse.sql.rewriting.keys import narrow
from lakehouse.sql.rewriting.narrowing import narrowings
from lakehouse.sql.statement.cuts import heads
from lakehouse.sql.statement.parsing import tree
from lakehouse.sql.statement.syntax import parameters, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakehouse.sql.functions import Calls
    from lakehouse.sql.rewriting.journeys import Journeys
    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.scans.tables import Tables
    from lakehouse.sql.sources import Ask
    from lakehouse.sql.statement.cuts import Head
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Asked", "Plan", "only"]


@dataclass(frozen=True, eq=False)
class Keys:
    """Which keys a large table is read for, if they are few.

    Parameters
    ----------
    slot
        The table.
    column
        Its column.
    text
        The statement that computes the keys.
    params
        Values of its parameters.
    """

    slot: str
    column: str
    text: str
    params: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Plan:
    """How a statement is answered: the same each time it is asked of the same versions.

    Parameters
    ----------
    text
        The statement with slots for tables, as DuckDB is asked it.
    params
        Values of its parameters.
    tables
        What lies in the slots.
    carried
        Columns that travel as row ids, by the field name of their struct.
    null_tested
        Those of them whose NULLs are looked at.
    heads
        The rows a LIMIT asks for, by slot.
    keys
        What leaves rows of large tables out.
    calls
        Its calls of media functions, if it has any.
    """

    text: str
    params: Mapping[str, Any]
    tables: Tables
    carried: Mapping[str, Carried]
    null_tested: frozenset[str]
    heads: Mapping[str, Head]
    keys: Sequence[Keys]
    calls: Calls | None

    def question(self, words: str, timeout_s: float | None, *, progress: bool | None) -> Question:
        """Return a question that was not asked yet."""
        tables = self.tables.datasets(self.carried, self.null_tested, self.heads)
        for each in self.keys:
            tables[each.slot].narrowed_by = f"the keys it is joined to by {each.column}, if they are few"

        def before(ask: Ask) -> None:
            for each in self.keys:
                narrow(ask, tables[each.slot], each.column, each.text, each.params)

        return Question(
            asked=words,
            text=self.text,
            params=self.params,
            tables=tables,
            carried=self.carried,
            calls=self.calls,
            timeout_s=timeout_s,
            progress=progress,
            before=before if self.keys else None,
        )


@dataclass(frozen=True, eq=False)
class Asked:
    """A statement and what lies in its slots.

    Parameters
    ----------
    tree
        The statement with slots for tables, flat.
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
    """

    tree: bytes
    values: Mapping[str, Any]
    tables: Tables
    print_sql: Callable[[Node], str]
    is_scalar: Callable[[str], bool]
    strict: bool

    def best(self) -> Plan:
        """Plan to read wide columns for few rows."""
        statement = tree(self.tree)
        return self._plan(statement, plan_journeys(statement, self.values, self.tables, self.is_scalar))

    def as_written(self) -> Plan:
        """Plan to read all values of every column."""
        statement = tree(self.tree)
        return self._plan(statement, nothing_travels(walk(statement)))

    def _plan(self, statement: Node, journeys: Journeys) -> Plan:
        nodes = journeys.nodes
        guard(nodes)
        return Plan(
            heads=heads(nodes, self.values, self.tables.places, self.is_scalar),
            calls=functions.mark(nodes, journeys.carried, strict=self.strict),
            text=self.print_sql(statement),
            params=only(self.values, statement),
            tables=self.tables,
            carried=journeys.carried,
            null_tested=journeys.null_tested,
            keys=[
                Keys(each.slot, each.column, self.print_sql(each.keys), only(self.values, each.keys))
                for each in narrowings(nodes, self.tables, self.values, self.is_scalar)
            ],
        )


def only(values: Mapping[str, Any], statement: Node) -> dict[str, Any]:
    """Pick the values of the parameters that are left in a statement: DuckDB refuses others."""
    left = parameters(walk(statement)) if values else ()
    return {name: value for name, value in values.items() if name in left}
