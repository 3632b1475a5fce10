"""What is to be added, checked against the table's columns and one another: pure but for one question to Lance."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import storage
from lakehouse._lance import lance
from lakehouse.errors import SchemaError, no_column, translated
from lakehouse.features.udfs.expressions import expression_inputs
from lakehouse.features.udfs.udf import UDF, as_udf
from lakehouse.where import whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lakehouse.snapshot import Snapshot

__all__ = ["Declaration", "declarations"]


@dataclass(frozen=True)
class Declaration:
    """One feature as the user wants it, before it has a place in a table."""

    fields: tuple[pa.Field, ...]
    kind: str | None  # None: a plain column, filled by nobody
    source: str = ""
    inputs: tuple[str, ...] = ()
    code_hash: str = ""
    arguments: dict[str, Any] | None = None
    label: str | None = None


def declarations(snapshot: Snapshot, columns: Mapping[str, UDF | str | pa.Field]) -> list[Declaration]:
    """Check what is to be added against the table's columns and one another; inputs come first.

    Raises
    ------
    SchemaError
        Two of them are computed from one another, or give the same column.
    """
    waiting = {name: what if isinstance(what, str | pa.Field) else as_udf(what) for name, what in columns.items()}
    outputs = {name: _output_names(name, what) for name, what in waiting.items()}
    schema, ordered = snapshot.schema, list[Declaration]()
    while waiting:
        to_come = {output for name in waiting for output in outputs[name] if output not in schema.names}
        ready = [name for name, what in waiting.items() if not to_come.intersection(_reads(what, to_come))]
        if not ready:
            raise SchemaError(f"{', '.join(waiting)} are computed from one another; leave one of them out")
        for name in ready:
            ordered.append(_declaration(snapshot, schema, name, waiting.pop(name)))
        new = [storage.logical_field(f) for each in ordered for f in each.fields if f.name not in snapshot.schema.names]
        if twice := [name for name, count in Counter(field.name for field in new).items() if count > 1]:
            raise SchemaError(f"the column {twice[0]!r} is given twice in one call; name each once")
        schema = pa.schema([*snapshot.schema, *new])
    return ordered


def _output_names(name: str, what: UDF | str | pa.Field) -> tuple[str, ...]:
    return tuple(field.name for field in what.fields) if isinstance(what, UDF) and len(what.fields) > 1 else (name,)


def _reads(what: UDF | str | pa.Field, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(what, UDF):
        return what.inputs
    return expression_inputs(what, names) if isinstance(what, str) else ()


def _declaration(snapshot: Snapshot, schema: pa.Schema, name: str, what: UDF | str | pa.Field) -> Declaration:
    """Check one entry of `add_columns` against the columns of `schema`, the table's and those to be added before."""
    match what:
        case UDF():
            for given in what.inputs:
                if given not in schema.names:
                    raise no_column(given, schema.names)
            fields = what.fields if len(what.fields) > 1 else (what.fields[0].with_name(name),)
            fields = tuple(map(storage.physical_field, fields))
            return Declaration(fields, "udf", what.name, tuple(what.inputs), what.code_hash, what.arguments, name)
        case str():
            inputs = expression_inputs(what, schema.names)
            field = pa.field(name, _expression_type(snapshot, schema, what, inputs))
            return Declaration((field,), "sql", what, inputs, hashlib.sha256(what.encode()).hexdigest())
    if not what.nullable:
        raise SchemaError(f"{name!r} must be nullable: rows that are there have no value for it")
    return Declaration((storage.physical_field(what.with_name(name)),), None)


def _expression_type(snapshot: Snapshot, schema: pa.Schema, expression: str, inputs: Sequence[str]) -> pa.DataType:
    """Ask Lance for the type of an SQL expression over columns that are there, or are about to be.

    Raises
    ------
    FilterError
        It does not parse, or names a column that is not there.
    """
    with translated(f"expression {expression!r}"):
        dataset = snapshot.dataset
        if not set(inputs) <= set(snapshot.schema.names):
            physical = pa.schema([storage.physical_field(field) for field in schema])
            dataset = lance.write_dataset(
                physical.empty_table(),
                f"memory://{uuid.uuid4().hex}",
                data_storage_version=dataset.data_storage_version,
            )
        projected = dataset.scanner(columns={"value": whole(expression, schema.names)}).projected_schema
    return projected.field("value").type
