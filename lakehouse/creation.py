"""How a table comes to be: stable row ids, a format with blob columns, an identity of its own."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyarrow as pa

from lakehouse import commit, storage, types
from lakehouse._lance import lance
from lakehouse.errors import SchemaError, translated
from lakehouse.schema import families
from lakehouse.schema.model import Schema

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from lakehouse.location import Location

AnySchema: TypeAlias = "str | os.PathLike[str] | Schema | pa.Schema"

_FILE_FORMAT: Literal["2.2"] = "2.2"  # the oldest with blob v2 columns


def columns_of(schema: AnySchema) -> pa.Schema:
    """Return the columns that a schema names, as Arrow fields; an Arrow schema is taken as it is.

    Raises
    ------
    SchemaError
        No such file or family, or a reserved name.
    """
    if isinstance(schema, pa.Schema):
        for name in schema.names:
            types.check_name(name)
        return schema
    return (schema if isinstance(schema, Schema) else families.load(schema)).to_arrow()


def model_of(schema: AnySchema, table: str) -> Schema:
    """Return a schema as the model that plans are made from."""
    if isinstance(schema, Schema):
        return schema
    return Schema.from_arrow(schema, table) if isinstance(schema, pa.Schema) else families.load(schema)


def create(location: Location, columns: pa.Schema, rows: pa.RecordBatchReader | None = None) -> None:
    """Make a table in one commit.

    Parameters
    ----------
    location
        Its folder, which must not be a table yet.
    columns
        Its logical schema.
    rows
        Logical batches to begin with; None makes it empty.
    """
    metadata = {**(columns.metadata or {}), b"lakehouse:id": uuid.uuid4().hex.encode()}
    schema = storage.physical_schema(columns.with_metadata(metadata))

    def physical() -> Iterator[pa.RecordBatch]:
        for batch in rows or ():
            yield storage.to_physical(batch, schema)

    try:
        with translated(f"creating {location.uri}"):
            lance.write_dataset(
                pa.RecordBatchReader.from_batches(schema, physical()),
                location.uri,
                schema=schema,
                mode="create",
                storage_options=dict(location.storage_options) or None,
                data_storage_version=_FILE_FORMAT,
                enable_stable_row_ids=True,
                enable_v2_manifest_paths=True,
                auto_cleanup_options=None,  # clean-up is a decision of the team, never a side effect of a write
                transaction_properties=commit.signed("creating the table"),
            )
    except SchemaError as error:
        strange = [field for field in columns if not _is_storable(field)]
        if not strange:
            raise
        name, kind = strange[0].name, strange[0].type
        advice = f"in SQL, select epoch_us({name})" if pa.types.is_interval(kind) else "convert it first"
        raise SchemaError(f"column {name!r} is {kind}, which Lance does not store; {advice}") from error


def _is_storable(field: pa.Field) -> bool:
    try:
        lance.schema.LanceSchema.from_pyarrow(pa.schema([field]))
    except ValueError:
        return False
    return True
