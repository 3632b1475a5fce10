"""Which columns travel through a statement as row ids, and the statement rewritten so that more of them can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse import types
from lakehouse.sql import functions
from lakehouse.sql.rewriting.late import Late
from lakehouse.sql.rewriting.origins import Origins
from lakehouse.sql.rewriting.uses import looked_at
from lakehouse.sql.scans.carried import worth_carrying
from lakehouse.sql.statement.cuts import samples
from lakehouse.sql.statement.slots import named_columns
from lakehouse.sql.statement.syntax import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lakehouse.sql.rewriting.origins import Names
    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.scans.tables import Tables
    from lakehouse.sql.statement.syntax import Node

__all__ = ["STAYS", "Journeys", "plan_journeys"]


@dataclass(frozen=True, eq=False)
class Journeys:
    """What travels as row ids.

    Parameters
    ----------
    carried
        The columns, by the field name of their struct.
    null_tested
        The field names of those whose NULLs the statement looks at.
    """

    carried: Mapping[str, Carried]
    null_tested: frozenset[str]


STAYS = Journeys({}, frozenset())
"""Nothing travels."""


def plan_journeys(statement: Node, cuts: list[Node], tables: Tables, is_scalar: Callable[[str], bool]) -> Journeys:
    """Decide what travels as row ids: media everywhere, texts and vectors where few rows are left.

    Parameters
    ----------
    statement
        The statement, with slots for tables; it is changed.
    cuts
        Its queries that keep few rows by a LIMIT.
    tables
        What lies in the slots.
    is_scalar
        Whether a function gives each row a value.
    """
    wide = tables.columns(worth_carrying)
    functions.rename_own(statement, wide)
    sampled = samples(statement, tables.num_rows)
    few, named = _slots_in([*cuts, *sampled]), named_columns(statement)
    wide = [column for column in wide if named is None or column.column.casefold() in named]
    wide = [column for column in wide if column.slot in few or types.is_bytes_media(column.field)]
    if not wide:
        return STAYS
    uses = looked_at(statement, {column.column for column in wide})
    late = Late(statement, Origins.of(statement, _names(tables, wide)), uses.values, is_scalar)
    for table in sampled:
        late.sample(table)
    for node in reversed(cuts):  # those inside of others first: what leaves them is fetched already
        if node["type"] == "SELECT_NODE":
            late.split(node)
    return _carried(statement, wide, late.sealed, uses.nulls)


def _carried(statement: Node, wide: Iterable[Carried], sealed: Mapping[str, Node], nulls: frozenset[str]) -> Journeys:
    """Carry what is not worked on: anywhere, or inside of the seal of its table."""
    trees: dict[int, tuple[Node, list[Carried]]] = {}
    for column in wide:
        tree = sealed.get(column.slot, statement)
        trees.setdefault(id(tree), (tree, []))[1].append(column)
    carried: dict[str, Carried] = {}
    null_tested: set[str] = set()
    for tree, columns in trees.values():
        uses = looked_at(tree, {column.column for column in columns})
        carried |= {column.name: column for column in columns if column.column not in uses.values}
        null_tested |= {column.name for column in columns if column.column in uses.nulls | nulls}
    return Journeys(carried, frozenset(null_tested))


def _names(tables: Tables, wide: Iterable[Carried]) -> dict[str, Names]:
    by_place = {(column.slot, column.column): column for column in wide}
    return {
        slot: [(name.casefold(), by_place.get((slot, name))) for name in schema.names]
        for slot, schema in tables.schemas().items()
    }


def _slots_in(trees: Iterable[Node]) -> set[str]:
    nodes = (node for tree in trees for node in walk(tree) if node.get("type") == "BASE_TABLE")
    return {node["qualified_name"]["path"][-1] for node in nodes}
