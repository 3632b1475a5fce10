"""The part of a WHERE that Lance can answer, in Lance's SQL, so that its indexes are used.

DuckDB itself offers a table the comparisons with constants of its columns' own types (`lakehouse.sql.scans.handover`).
Read from the statement's tree are those it does not offer, LIKE and NaN among them, and what must be known before
DuckDB plans: what filters before a search, what a count counts. Conditions that mean the same in both engines go to
Lance; every row is still judged by DuckDB afterwards, unless the whole WHERE is `Part.exact` and only a number is asked
for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import types
from lakehouse.sql.scans.comparisons import (
    NEGATED,
    NEVER,
    Part,
    all_of,
    any_of,
    compared,
    is_comparable,
    is_null,
    listed,
    value_type,
)
from lakehouse.sql.scans.constants import constant
from lakehouse.sql.statement.slots import ROW_IDS
from lakehouse.sql.statement.syntax import NoValue, value_of
from lakehouse.where import literal, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lakehouse.sql.statement.syntax import Node

__all__ = ["Scope", "conjuncts", "lance_part", "scopes"]

_SIGNS = {
    "COMPARE_EQUAL": "=",
    "COMPARE_NOTEQUAL": "<>",
    "COMPARE_LESSTHAN": "<",
    "COMPARE_GREATERTHAN": ">",
    "COMPARE_LESSTHANOREQUALTO": "<=",
    "COMPARE_GREATERTHANOREQUALTO": ">=",
}
_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_PREFIX = ("prefix", "starts_with", "^@")
_TABLES = ("BASE_TABLE", "TABLE_FUNCTION")


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


def scopes(nodes: Iterable[Node]) -> dict[int, Scope]:
    """Find the WHERE that each table stands under, by the ``id`` of the table's node."""
    return {
        id(table): Scope(node["where_clause"], alone=table is node["from_table"])
        for node in nodes
        # a sample is drawn before WHERE filters
        if node.get("type") == "SELECT_NODE" and node["where_clause"] is not None and node["sample"] is None
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


def lance_part(scope: Scope, alias: str, schema: pa.Schema, values: Mapping[str, Any]) -> Part | None:
    """Return a condition that holds for every row of a table for which its WHERE does, or None.

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
    ids = [pa.field(name, pa.uint64()) for name in ROW_IDS]
    folded = Counter(name.casefold() for name in schema.names)  # names that differ in case only are not certain
    # Of NULLs in inline media Lance 14 learns by reading all bytes, DuckDB by none (`lakehouse.sql.scans.validity`).
    known = [field for field in schema if folded[field.name.casefold()] < 2 and not types.is_bytes_media(field)]
    columns = {field.name.casefold(): field for field in [*ids, *known]}
    return _Translation(columns, alias.casefold(), scope.alone, values).part(scope.where, holds=True)


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the conditions that must all hold."""
    if node["type"] == "CONJUNCTION_AND":
        for child in node["children"]:
            yield from conjuncts(child)
    else:
        yield node


@dataclass(frozen=True, eq=False)
class _Translation:
    """From DuckDB's tree to Lance's SQL.

    Each node is asked when it holds, or when it is false, which NOT exchanges: of three values the third, NULL, is
    neither, and so no NOT is ever written around something that says too much.
    """

    columns: Mapping[str, pa.Field]
    alias: str
    alone: bool
    values: Mapping[str, Any]

    def part(self, node: Node, *, holds: bool) -> Part | None:
        kind = node["type"]
        if kind in ("CONJUNCTION_AND", "CONJUNCTION_OR"):
            parts = (self.part(child, holds=holds) for child in node["children"])
            return all_of(parts) if (kind == "CONJUNCTION_AND") == holds else any_of(parts)
        if kind == "OPERATOR_NOT":
            return self.part(node["children"][0], holds=not holds)
        if kind in _SIGNS:
            return self._comparison(_SIGNS[kind], node["left"], node["right"], holds=holds)
        if kind in ("COMPARE_DISTINCT_FROM", "COMPARE_NOT_DISTINCT_FROM"):
            return self._distinct(node, differs=(kind == "COMPARE_DISTINCT_FROM") == holds)
        if kind in ("OPERATOR_IS_NULL", "OPERATOR_IS_NOT_NULL"):
            column = self._column(node["children"][0])
            return is_null(column[0], holds=(kind == "OPERATOR_IS_NULL") == holds) if column else None
        if kind == "COMPARE_BETWEEN":
            ends = ((">=", node["lower"]), ("<=", node["upper"]))
            parts = (self._comparison(sign, node["input"], end, holds=holds) for sign, end in ends)
            return all_of(parts) if holds else any_of(parts)
        if kind == "COMPARE_IN":
            return self._in(node["children"], holds=holds)
        if kind == "FUNCTION":
            return self._pattern(node, holds=holds)
        return self._flag(node, holds=holds)

    def _comparison(self, sign: str, left: Node, right: Node, *, holds: bool) -> Part | None:
        column = self._column(left)
        if column is None:
            column, right, sign = self._column(right), left, _MIRRORED.get(sign, sign)
        value = constant(right, self.values)
        if column is None or value is NoValue:
            return None
        return NEVER if value is None else compared(*column, sign if holds else NEGATED[sign], value)

    def _distinct(self, node: Node, *, differs: bool) -> Part | None:
        """Read IS [NOT] DISTINCT FROM, which is never NULL, and IS [NOT] TRUE, which is written with it."""
        left = node["left"]
        column, value = (
            self._column(left["child"] if left.get("class") == "CAST" else left),
            constant(node["right"], self.values),
        )
        if column is None or value is NoValue:
            return None
        if left.get("class") == "CAST" and not (pa.types.is_boolean(column[1]) and isinstance(value, bool)):
            return None
        if value is None:
            return is_null(column[0], holds=not differs)
        part = compared(*column, "<>" if differs else "=", value)
        return any_of([part, is_null(column[0], holds=True)]) if differs else part

    def _in(self, children: list[Node], *, holds: bool) -> Part | None:
        column, values = self._column(children[0]), [constant(child, self.values) for child in children[1:]]
        if column is None or NoValue in values:
            return None
        if holds:
            return listed(*column, [value for value in values if value is not None])
        if None in values:
            return NEVER  # NOT IN (1, NULL) is false or NULL
        return all_of(compared(*column, "<>", value) for value in values) if len(values) <= _MOST_DENIED else None

    def _pattern(self, node: Node, *, holds: bool) -> Part | None:
        name = node["function_name"].lower()
        if name not in ("~~", "!~~", *_PREFIX) or len(node["arguments"]) != 2:
            return None
        first, second = (argument["expression"] for argument in node["arguments"])
        column, pattern = self._column(first), constant(second, self.values)
        if column is None or not _is_text(column[1]) or not isinstance(pattern, str):
            return None
        negation = "" if (name != "!~~") == holds else "NOT "
        if name in _PREFIX:
            few = bool(pattern) and not negation
            return Part(f"{negation}starts_with({column[0]}, {literal(pattern)})", exact=True, few=few)
        # Lance takes a backslash as an escape, DuckDB as itself.
        if "\\" in pattern:
            return None
        few = pattern[:1] not in ("", "%", "_") and not negation
        return Part(f"{column[0]} {negation}LIKE {literal(pattern)}", exact=True, few=few)

    def _flag(self, node: Node, *, holds: bool) -> Part | None:
        value = constant(node, self.values)
        if value is None or isinstance(value, bool):
            return Part("true", exact=True) if value is holds else NEVER
        column = self._column(node)
        return compared(*column, "=", holds) if column and pa.types.is_boolean(column[1]) else None

    def _column(self, node: Node) -> tuple[str, pa.DataType] | None:
        """Find the column, or the field of a struct, that a name means, quoted for Lance, if it can be compared."""
        parts = _path(node)
        if len(parts) > 1 and parts[0] == self.alias:
            # DuckDB takes `h.w` as the table's column where there is one, else as a field of a column `h`.
            named = node.get("class") == "COLUMN_REF" and parts[1] in self.columns
            if self.alias in self.columns and not named:
                return None
            parts = parts[1:]
        elif not self.alone:
            return None
        field = self.columns.get(parts[0]) if parts else None
        path = [field.name] if field is not None else []
        for name in parts[1:]:
            children = [child for child in _children(field) if child.name.casefold() == name]
            if len(children) != 1:
                return None
            field = children[0]
            path.append(field.name)
        if field is None or not is_comparable(field.type):
            return None
        return ".".join(map(quoted, path)), field.type


_MOST_DENIED = 1_000  # of a NOT IN list: each becomes a comparison


def _path(node: Node) -> list[str]:
    """Return the names that lead to a column or into its structs, folded; none for anything else."""
    if node.get("class") == "COLUMN_REF":
        return [part.casefold() for part in node["column_names"]]
    if node["type"] in ("ARRAY_EXTRACT", "STRUCT_EXTRACT"):
        inner, key = node["children"]
        before, name = _path(inner), value_of(key, {})
        return [*before, name.casefold()] if before and isinstance(name, str) else []
    return []


def _children(field: pa.Field | None) -> list[pa.Field]:
    if field is None or not pa.types.is_struct(field.type):
        return []
    return [field.type.field(place) for place in range(field.type.num_fields)]


def _is_text(data_type: pa.DataType) -> bool:
    data_type = value_type(data_type)
    return bool(pa.types.is_string(data_type) or pa.types.is_large_string(data_type))
