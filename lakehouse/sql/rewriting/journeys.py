"""Which columns travel through a statement as row ids, and the statement rewritten so that more of them can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import types
from lakehouse.sql import functions
from lakehouse.sql.rewriting.late import Late
from lakehouse.sql.rewriting.origins import Origins
from lakehouse.sql.rewriting.uses import Uses, looked_at
from lakehouse.sql.scans.carried import worth_carrying
from lakehouse.sql.statement.cuts import cuts, samples
from lakehouse.sql.statement.slots import named_columns
from lakehouse.sql.statement.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lakehouse.sql.rewriting.origins import Names
    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.scans.tables import Tables
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Journeys", "nothing_travels", "plan_journeys"]


@dataclass(frozen=True, eq=False)
class Journeys:
    """What travels as row ids.

    Parameters
    ----------
    carried
        The columns, by the field name of their struct.
    null_tested
        The field names of those whose NULLs the statement looks at.
    nodes
        The statement's nodes as they are now.
    """

    carried: Mapping[str, Carried]
    null_tested: frozenset[str]
    nodes: list[Node]


def nothing_travels(nodes: list[Node]) -> Journeys:
    """Return that all columns stay."""
    return Journeys({}, frozenset(), nodes)


def plan_journeys(
    statement: Node, values: Mapping[str, Any], tables: Tables, is_scalar: Callable[[str], bool]
) -> Journeys:
    """Decide what travels as row ids: media everywhere, texts and vectors where few rows are left.

    Parameters
    ----------
    statement
        The statement, with slots for tables; it is changed.
    values
        Values of its parameters.
    tables
        What lies in the slots.
    is_scalar
        Whether a function gives each row a value.
    """
    nodes = walk(statement)
    few_rows, named = cuts(nodes, values), named_columns(nodes)
    wide = tables.columns(lambda field: (named is None or field.name.casefold() in named) and worth_carrying(field))
    functions.rename_own(nodes, wide)
    sampled = samples(nodes, tables.num_rows)
    few = _slots_in([*few_rows, *sampled])
    wide = [column for column in wide if column.slot in few or types.is_bytes_media(column.field)]
    if not wide:
        return nothing_travels(nodes)
    uses = looked_at(statement, nodes, {column.column for column in wide})
    late = Late(statement, Origins.of(nodes, _names(tables, wide)), uses.values, is_scalar)
    for table in sampled:
        late.sample(table)
    for node in reversed(few_rows):  # those inside of others first: what leaves them is fetched already
        if node["type"] == "SELECT_NODE":
            late.split(node)
    if not late.changed:
        return _journeys(wide, uses, nodes)
    return _sealed(statement, wide, late.sealed, uses.nulls)


def _journeys(wide: Iterable[Carried], uses: Uses, nodes: list[Node]) -> Journeys:
    """Carry what is not worked on."""
    carried = {column.name: column for column in wide if column.column not in uses.values}
    return Journeys(carried, frozenset(column.name for column in wide if column.column in uses.nulls), nodes)


def _sealed(statement: Node, wide: Iterable[Carried], sealed: Mapping[str, Node], nulls: frozenset[str]) -> Journeys:
    """Carry what is not worked on: anywhere, or inside of the seal of its table."""
    trees: dict[int, tuple[Node, list[Carried]]] = {}
    for column in wide:
        tree = sealed.get(column.slot, statement)
        trees.setdefault(id(tree), (tree, []))[1].append(column)
    carried: dict[str, Carried] = {}
    null_tested: frozenset[str] = frozenset()
    for tree, columns in trees.values():
        nodes = walk(tree)
        uses = looked_at(tree, nodes, {column.column for column in columns})
        inside = _journeys(columns, Uses(uses.values, uses.nulls | nulls), nodes)
        carried |= inside.carried
        null_tested |= inside.null_tested
    return Journeys(carried, null_tested, walk(statement))


def _names(tables: Tables, wide: Iterable[Carried]) -> dict[str, Names]:
    by_place = {(column.slot, column.column): column for column in wide}
    return {
        slot: [(name.casefold(), by_place.get((slot, name))) for name in schema.names]
        for slot, schema in tables.schemas().items()
    }


def _slots_in(trees: Iterable[Node]) -> set[str]:
    nodes = (node for tree in trees for node in walk(tree) if node.get("type") == "BASE_TABLE")
    return {node["qualified_name"]["path"][-1] for node in nodes}
