"""The part of a WHERE that Lance can answer, in Lance's SQL, so that its indexes are used.

DuckDB pushes comparisons, but neither LIKE nor float comparisons, and IN in a form that misses the index. So what
Lance is given comes from the tree: the conjuncts that mean the same in both, by type. Every row is still judged by
DuckDB afterwards, so a conjunct that is left out costs time, not truth.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.reads import ROW_ID
from lakehouse.sql.syntax import value_of, walk
from lakehouse.where import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lakehouse.sql.syntax import Node

__all__ = ["Scope", "conjuncts", "lance_filter", "scopes"]

_COMPARISONS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_TABLES = ("BASE_TABLE", "TABLE_FUNCTION")
_MOST_VALUES = 10_000  # of an IN list; longer ones are cheaper to compare than to look up one by one


@dataclass(frozen=True, eq=False)
class Scope:
    """The WHERE over a table.

    Parameters
    ----------
    where
        Its expression.
    alone
        Whether no other table is in FROM, so that a bare name is a column of this one.
    """

    where: Node
    alone: bool


def scopes(statement: Node) -> dict[int, Scope]:
    """Find the WHERE that each table stands under, by the ``id`` of the table's node."""
    return {
        id(table): Scope(node["where_clause"], alone=table is node["from_table"])
        for node in walk(statement)
        if node.get("type") == "SELECT_NODE" and node["where_clause"] is not None
        for table in _filtered_first(node["from_table"])
    }


def _filtered_first(table: Node) -> Iterator[Node]:
    """Yield the tables that a WHERE may filter before they are joined, or sampled.

    Not the side of an outer join that may be NULL: rows dropped there early come back as NULLs; nor those of a join
    by order or position, where they change which rows meet.
    """
    if table["type"] == "JOIN" and table["ref_type"] in ("REGULAR", "CROSS"):
        if table["join_type"] in ("INNER", "LEFT", "SEMI", "ANTI"):
            yield from _filtered_first(table["left"])
        if table["join_type"] in ("INNER", "RIGHT"):
            yield from _filtered_first(table["right"])
    elif table["type"] in _TABLES and table["sample"] is None and not table["column_name_alias"]:
        yield table


def lance_filter(scope: Scope, alias: str, schema: pa.Schema, values: Mapping[str, Any]) -> str | None:
    """Return what Lance can answer of a WHERE for one table, or None.

    Parameters
    ----------
    scope
        The WHERE.
    alias
        The table's name in the statement.
    schema
        The table's columns.
    values
        Values of the statement's parameters.
    """
    columns = {field.name.casefold(): field for field in schema} | {ROW_ID: pa.field(ROW_ID, pa.uint64())}
    translation = _Translation(columns, alias.casefold(), scope.alone, values)
    parts = [translation.predicate(part) for part in conjuncts(scope.where)]
    return " AND ".join(f"({part})" for part in parts if part) or None


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the conditions that must all hold."""
    if node["type"] == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from conjuncts(child)
    else:
        yield node


@dataclass(frozen=True, eq=False)
class _Translation:
    """From DuckDB's tree to Lance's SQL, of what is true, false and NULL for the same rows in both."""

    columns: Mapping[str, pa.Field]
    alias: str
    alone: bool
    values: Mapping[str, Any]

    def predicate(self, node: Node) -> str | None:
        kind = node["type"]
        if kind in _COMPARISONS:
            return self._comparison(_COMPARISONS[kind], node["left"], node["right"])
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            parts = [self.predicate(child) for child in node["children"]]
            word = " AND " if kind == "CONJUNCTION_AND" else " OR "
            return word.join(f"({part})" for part in parts) if all(parts) else None
        if kind == "OPERATOR_NOT":
            inner = self.predicate(node["children"][0])
            return f"NOT ({inner})" if inner else None
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            column = self._column(node["children"][0])
            test = "IS NULL" if kind == "OPERATOR_IS_NULL" else "IS NOT NULL"
            return f"{quoted(column.name)} {test}" if column else None
        if kind == "COMPARE_BETWEEN":
            return self._listed(node["input"], [node["lower"], node["upper"]], "{} BETWEEN {} AND {}")
        if kind == "COMPARE_IN":
            column, *items = node["children"]
            return self._listed(column, items, "{} IN (" + ", ".join(["{}"] * len(items)) + ")")
        if kind == "FUNCTION" and node["function_name"] in ("~~", "!~~"):
            return self._like(node)
        return self._flag(node)

    def _comparison(self, sign: str, left: Node, right: Node) -> str | None:
        if left.get("class") != "COLUMN_REF":
            left, right, sign = right, left, _MIRRORED.get(sign, sign)
        return self._listed(left, [right], "{} " + sign + " {}")

    def _listed(self, column_ref: Node, items: list[Node], form: str) -> str | None:
        column = self._column(column_ref)
        if column is None or len(items) > _MOST_VALUES:
            return None
        values = [value_of(item, self.values) for item in items]
        if not all(_is_alike(value, column.type) for value in values):
            return None
        return form.format(quoted(column.name), *(_literal(value, column.type) for value in values))

    def _like(self, node: Node) -> str | None:
        column_ref, pattern = (argument["expression"] for argument in node["arguments"])
        column, value = self._column(column_ref), value_of(pattern, self.values)
        if column is None or not _is_text(column.type) or not isinstance(value, str) or "\\" in value:
            return None  # Lance takes a backslash as an escape, DuckDB as itself
        negation = "NOT " if node["function_name"] == "!~~" else ""
        return f"{quoted(column.name)} {negation}LIKE {literal(value)}"

    def _flag(self, node: Node) -> str | None:
        column = self._column(node)
        return quoted(column.name) if column is not None and pa.types.is_boolean(column.type) else None

    def _column(self, node: Node) -> pa.Field | None:
        """Find the table's column that a name means, if it is of a kind that can be compared here."""
        if node.get("class") != "COLUMN_REF":
            return None
        *table, name = (part.casefold() for part in node["column_names"])
        mine = self.alone if not table else table == [self.alias] and self.alias not in self.columns
        column = self.columns.get(name) if mine else None
        return column if column is not None and _is_comparable(column.type) else None


def _is_text(data_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(data_type):
        data_type = data_type.value_type
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))


def _is_comparable(data_type: pa.DataType) -> bool:
    tests = (_is_text, pa.types.is_integer, pa.types.is_float64, pa.types.is_boolean, pa.types.is_date32)
    return any(test(data_type) for test in tests)


def _is_alike(value: Any, data_type: pa.DataType) -> bool:
    """Whether both engines compare a value with a column without converting either in ways of their own."""
    if isinstance(value, bool):
        return bool(pa.types.is_boolean(data_type))
    if isinstance(value, str):
        return _is_text(data_type)
    if isinstance(value, int) and pa.types.is_integer(data_type):
        sign = pa.types.is_signed_integer(data_type)
        lowest = -(1 << data_type.bit_width - 1) if sign else 0
        return bool(lowest <= value < lowest + (1 << data_type.bit_width))
    if isinstance(value, int | float):
        exact = isinstance(value, float) or abs(value) <= 1 << 53
        return bool(exact and pa.types.is_float64(data_type))
    return bool(type(value) is dt.date and pa.types.is_date32(data_type))


def _literal(value: Any, data_type: pa.DataType) -> str:
    return literal(float(value)) if pa.types.is_float64(data_type) else literal(value)
