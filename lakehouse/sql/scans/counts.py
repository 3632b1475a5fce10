"""``SELECT count(*) FROM t WHERE …``, counted by Lance: from the manifest, an index, or columns it hands to nobody."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import reads
from lakehouse.errors import LakehouseError
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.statement.slots import base_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakehouse.sql.statement.syntax import Node

__all__ = ["CountDataset", "counting", "fill_count"]

_COUNT = "count_star()"  # what DuckDB calls the column


def counting(nodes: Iterable[Node]) -> dict[int, Node]:
    """Find the queries that only count the rows of one table, by the ``id`` of the table's node."""
    selects = (node for node in nodes if node.get("type") == "SELECT_NODE")
    return {id(node["from_table"]): node for node in selects if _counts(node)}


def _counts(node: Node) -> bool:
    if any(node[clause] for clause in ("group_expressions", "group_sets", "having", "sample", "qualify", "modifiers")):
        return False
    table = node["from_table"]
    return table["type"] == "BASE_TABLE" and table["sample"] is None and all(map(_is_count, node["select_list"]))


def _is_count(item: Node) -> bool:
    plain = not any(item.get(each) for each in ("filter", "distinct", "export_state"))
    return item.get("function_name") == "count_star" and plain and not item["order_bys"].get("orders")


def fill_count(node: Node, slot: str) -> None:
    """Have a query of `counting` show the one number in a slot."""
    for item in node["select_list"]:
        alias, place = item["alias"] or _COUNT, item["query_location"]
        item.clear()
        item.update(_column(alias, place))
    node["from_table"], node["where_clause"] = base_table(slot), None


def _column(alias: str, place: Any) -> Node:
    return {
        "class": "COLUMN_REF",
        "type": "COLUMN_REF",
        "alias": alias,
        "query_location": place,
        "column_names": [_COUNT],
    }


class CountDataset(SnapshotDataset):
    """One row: for how many rows of a version a condition holds."""

    @cached_property
    def schema(self) -> pa.Schema:
        """The number."""
        return pa.schema([pa.field(_COUNT, pa.int64())])

    @cached_property
    def comparable(self) -> pa.Schema:
        """Nothing: conditions on the number are DuckDB's."""
        return pa.schema([])

    @property
    def num_rows(self) -> int:
        """One."""
        return 1

    def afresh(self) -> CountDataset:
        """Return the same, not counted yet."""
        return CountDataset(self.snapshot, {}, where=self.where)

    def notes(self) -> list[str]:
        """Say how Lance counts."""
        return [self.note(self.where.text)] if self.where else []

    def read(self, columns: Sequence[str], conditions: Iterable[str] = ()) -> pa.RecordBatchReader:  # noqa: ARG002 - accepts none
        """Count."""
        try:
            counted = reads.count_rows(self.snapshot, self.where.text if self.where else None)
        except LakehouseError as error:
            self.error = error
            raise
        return pa.table({_COUNT: pa.array([counted], pa.int64())}).select(list(columns)).to_reader()
