"""A logical column and how it lies in Lance.

What users see is plain Arrow: media are ``large_binary``, categories are dictionaries. What Lance stores differs in
three ways, all decided here: large media are blob v2 columns, inline media switch compression off (they are
compressed already; zstd on 54 KB blobs made a lookup 3,000 times slower, lance#3983), and text where it is asked for;
and the key is declared as unenforced primary key so that concurrent upserts see each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import types
from lakehouse._lance import lance
from lakehouse.schema.lineage import STAMP, TOKEN

if TYPE_CHECKING:
    from collections.abc import Sequence

_COMPRESSION = b"lance-encoding:compression"
_PRIMARY_KEY = b"lance-schema:unenforced-primary-key"
_INTERNAL = (b"lance-", TOKEN)


def physical_field(field: pa.Field) -> pa.Field:
    """Return the field as Lance is given it."""
    metadata = dict(field.metadata or {})
    if types.is_blob(field):
        return lance.blob_field(field.name, nullable=field.nullable).with_metadata(metadata)
    if types.is_bytes_media(field) or types.is_uncompressed(field):
        metadata[_COMPRESSION] = b"none"
    if (field.metadata or {}).get(types.KEY) == b"true":
        metadata[_PRIMARY_KEY] = b"true"
    return field.with_metadata(metadata or None)


def physical_schema(logical: pa.Schema) -> pa.Schema:
    """Return the schema a table is created with."""
    return pa.schema([physical_field(field) for field in logical], metadata=logical.metadata)


def logical_field(field: pa.Field) -> pa.Field:
    """Return the field as users see it."""
    metadata = {k: v for k, v in (field.metadata or {}).items() if not k.startswith(_INTERNAL)}
    if is_blob_type(field.type) or (field.metadata or {}).get(b"lance-encoding:blob") == b"true":
        kind = metadata.get(types.TYPE, b"blob")
        metadata |= {types.TYPE: kind, types.STORAGE: b"blob"}
        return pa.field(field.name, pa.large_binary(), field.nullable, metadata)
    return field.with_metadata(metadata or None)


def logical_schema(physical: pa.Schema) -> pa.Schema:
    """Return the schema users see: stamps left out, media as bytes."""
    return pa.schema([logical_field(f) for f in physical if not is_stamp(f)], metadata=physical.metadata)


def is_blob_type(data_type: pa.DataType) -> bool:
    """Whether a column is a Lance blob v2."""
    return getattr(data_type, "extension_name", "") == "lance.blob.v2"


def is_uncompressed(field: pa.Field) -> bool:
    """Whether Lance was told to store values as they are."""
    return (field.metadata or {}).get(_COMPRESSION) == b"none"


def is_primary_key(field: pa.Field) -> bool:
    """Whether Lance was told that this column names a row."""
    return (field.metadata or {}).get(_PRIMARY_KEY) == b"true"


def is_stamp(field: pa.Field) -> bool:
    """Whether a field is one of ours that users do not see."""
    return STAMP in (field.metadata or {})


def to_physical(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give a batch of logical columns the layout of `schema`, the physical fields of the same names."""
    arrays = [_to_physical_array(batch.column(field.name), field) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _to_physical_array(array: pa.Array, field: pa.Field) -> pa.Array:
    if not is_blob_type(field.type):
        return from_start(array)
    storage = field.type.storage_type
    nulls = [pa.nulls(len(array), storage.field(i).type) for i in range(1, storage.num_fields)]
    mask = array.is_null() if array.null_count else None
    struct = pa.StructArray.from_arrays([array.cast(pa.large_binary()), *nulls], fields=list(storage), mask=mask)
    return pa.ExtensionArray.from_storage(field.type, struct)


def from_start(array: pa.Array) -> pa.Array:
    """Copy a slice of a nested column: Lance 14 panics over structs in it that do not begin at 0."""
    if array.offset == 0 or not pa.types.is_nested(array.type):
        return array
    return pa.concat_arrays([array, array.slice(0, 0)])


def select(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return the fields of `names`, in that order."""
    return pa.schema([schema.field(name) for name in names], metadata=schema.metadata)
