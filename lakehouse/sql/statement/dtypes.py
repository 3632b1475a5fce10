"""What DuckDB makes of a column's type, and what comes back.

What is not listed comes back as it is stored. Values are exact but for those marked *.

=======================================  ==========================  =============================================
stored                                   in SQL                      in the result
=======================================  ==========================  =============================================
large_string, category, dictionary       VARCHAR, or of its values   string, or of its values
binary (large, of fixed size)            BLOB                        binary; a media column as it is stored
float16, at any depth                    FLOAT                       float32
date64                                   DATE                        date32
time32                                   TIME                        time64[us]
timestamp with a zone                    TIMESTAMP WITH TIME ZONE    timestamp[us, UTC]: the same instant
timestamp[ns] with a zone                TIMESTAMPTZ_NS              timestamp[ns, UTC]; DuckDB 2.0 compares it with
                                                                     its own kind only
duration                                 INTERVAL                    month_day_nano_interval; ns become us *
decimal256 of up to 38 digits            DECIMAL                     decimal128
decimal256 of more                       VARCHAR                     string, every digit
decimal with a negative scale            DECIMAL                     decimal128 of scale 0
large_list                               a list                      list
JSON                                     VARCHAR                     string
a dictionary inside of a list or struct  as its values               of its values
=======================================  ==========================  =============================================

Of what SQL computes, a TIME WITH TIME ZONE comes back without its zone *, a UUID as text; what is `unheld` is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import types as pt

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

__all__ = ["as_seen", "duckdb_type", "unheld"]

_DUCKDB_DIGITS = 38
# DuckDB 2.0 hands over their bytes, which are others in Arrow: 2**128 - 1 as -1, 1::VARIANT as a struct.
_UNHELD = frozenset({"bignum", "bit", "uhugeint", "variant"})
_NESTED = frozenset({"array", "list", "map", "struct", "union"})


def duckdb_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type that a column is handed to DuckDB as."""
    if pt.is_dictionary(data_type):
        return pa.dictionary(data_type.index_type, _plain(data_type.value_type))
    return _plain(data_type)


def as_seen(schema: pa.Schema) -> pa.Schema:
    """Return the columns in types that DuckDB knows."""
    return pa.schema([field.with_type(duckdb_type(field.type)) for field in schema])


def unheld(kind: DuckDBPyType) -> str | None:
    """Return the type, of those in one of DuckDB's, that Arrow has none for; None where there is no such."""
    if kind.id in _UNHELD:
        return str(kind)
    for _, child in kind.children if kind.id in _NESTED else ():
        if not isinstance(child, int | list) and (found := unheld(child)):  # beside its type an array has its size
            return found
    return None


def _plain(data_type: pa.DataType) -> pa.DataType:
    """Replace what DuckDB 2.0 cannot be given, at any depth."""
    if pt.is_float16(data_type):
        return pa.float32()
    if pt.is_dictionary(data_type):
        return _plain(data_type.value_type)
    if pt.is_decimal256(data_type) and data_type.precision > _DUCKDB_DIGITS:
        return pa.string()
    if pt.is_decimal(data_type) and (pt.is_decimal256(data_type) or data_type.scale < 0):
        return pa.decimal128(
            min(_DUCKDB_DIGITS, data_type.precision - min(0, data_type.scale)), max(0, data_type.scale)
        )
    if pt.is_struct(data_type):
        return pa.struct([_plain_field(field) for field in data_type])
    if pt.is_map(data_type):
        return pa.map_(_plain_field(data_type.key_field), _plain_field(data_type.item_field))
    if pt.is_fixed_size_list(data_type):
        return pa.list_(_plain_field(data_type.value_field), data_type.list_size)
    if pt.is_large_list(data_type):
        return pa.large_list(_plain_field(data_type.value_field))
    return pa.list_(_plain_field(data_type.value_field)) if pt.is_list(data_type) else data_type


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain(field.type))
