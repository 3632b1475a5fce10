"""Values of columns that travel as row ids, where a statement works on them: ``upper(lake_fetch_text(caption))``.

Such a call is put where few rows are left (`lakehouse.sql.rewriting.late`); nobody writes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import reads, types
from lakehouse.sql.statement.dtypes import duckdb_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.statement.syntax import Node

__all__ = ["FETCHES", "as_returned", "fetch", "fetched"]

FETCHES: Mapping[str, tuple[str, pa.DataType]] = {
    "lake_fetch_text": ("VARCHAR", pa.string()),
    "lake_fetch_bytes": ("BLOB", pa.binary()),
    "lake_fetch_floats": ("FLOAT[]", pa.list_(pa.float32())),
    "lake_fetch_doubles": ("DOUBLE[]", pa.list_(pa.float64())),
}
"""What each returns, in DuckDB and in Arrow: DuckDB fixes the type of a function when it is made."""


def fetch(column: Carried, ref: Node) -> Node:
    """Return the expression that gives the values of what a name hands through."""
    field = column.snapshot.schema.field(column.column)
    if types.is_bytes_media(field):
        return _call("lake_fetch_bytes", ref)
    if not pa.types.is_fixed_size_list(field.type):
        return _call("lake_fetch_text", ref)
    is_double = pa.types.is_float64(duckdb_type(field.type.value_type))
    floats = _call("lake_fetch_doubles" if is_double else "lake_fetch_floats", ref)
    length = {"kind": "INTEGER", "text": str(field.type.list_size)}
    children = [
        _type("DOUBLE" if is_double else "FLOAT"),
        {"class": "CONSTANT", "type": "VALUE_CONSTANT", "alias": "", "query_location": 0, "literal": length},
    ]
    return {
        "class": "CAST",
        "type": "OPERATOR_CAST",
        "alias": "",
        "query_location": 0,
        "child": floats,
        "try_cast": False,
        "type_expr": _type("array", children),
    }


def fetched(source: Carried, ids: pa.Array, returned: pa.DataType) -> pa.Array:
    """Read the values of row ids, each once, as a type of `FETCHES`; NULL for NULL."""
    unique = ids.drop_null().unique().sort()
    if len(unique) == 0:
        return pa.nulls(len(ids), returned)
    rows = reads.take_row_ids(source.snapshot, np.asarray(unique), [source.column])
    return as_returned(rows[source.column].combine_chunks().take(pc.index_in(ids, value_set=unique)), returned)


def as_returned(values: pa.Array, returned: pa.DataType) -> pa.Array:
    """Cast values to a type of `FETCHES`."""
    if pa.types.is_list(returned):
        values = values.cast(pa.list_(values.type.value_type))
    return values.cast(returned)


def _call(name: str, ref: Node) -> Node:
    return {
        "class": "FUNCTION",
        "type": "FUNCTION",
        "alias": "",
        "query_location": 0,
        "function_name": name,
        "schema": "",
        "filter": None,
        "order_bys": {"type": "ORDER_MODIFIER", "orders": []},
        "distinct": False,
        "is_operator": False,
        "export_state": False,
        "catalog": "",
        "arguments": [{"name": "", "expression": ref}],
        "qualified_name": {"path": [name]},
    }


def _type(name: str, children: list[Node] | None = None) -> Node:
    return {
        "class": "TYPE",
        "type": "TYPE",
        "alias": "",
        "query_location": 0,
        "catalog": "",
        "schema": "",
        "type_name": name,
        "children": children or [],
        "qualified_name": {"path": [name]},
    }
