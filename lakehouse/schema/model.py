"""A table's columns as a value, as TOML and as Arrow; no way between the three loses anything.

One thing stays behind on the way to Arrow: `Column.renamed_from` and `Schema.drop` say how an older table
becomes this one, and a table that is this one has nothing left to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types as pt

from lakehouse import types
from lakehouse.errors import SchemaError, StorageError, closest, no_column
from lakehouse.schema import toml
from lakehouse.types import Type

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

__all__ = ["Column", "Schema"]


@dataclass(frozen=True, init=False)
class Column:
    """One column of a schema.

    Parameters
    ----------
    name
        Not empty, no dot, not reserved (`lakehouse.types.check_name`).
    type
        A `lakehouse.types.Type` or a type string.
    nullable
        Whether a row may leave it out.
    doc, unit
        What the values are, and in what unit (``px``, ``s``); kept in the table.
    renamed_from
        What the column was called before; read by `lakehouse.schema.evolution.plan` only.

    Raises
    ------
    SchemaError
        The name is reserved or the type is none.

    Examples
    --------
    >>> from lakehouse.schema import Column
    >>> Column("width", "int32", unit="px").type
    Type('int32')
    """

    name: str
    type: Type
    nullable: bool
    doc: str | None
    unit: str | None
    renamed_from: str | None

    def __init__(
        self,
        name: str,
        type: Type | str,  # noqa: A002  the word of the TOML file
        nullable: bool = True,
        doc: str | None = None,
        unit: str | None = None,
        renamed_from: str | None = None,
    ) -> None:
        types.check_name(name)
        if renamed_from == name:
            raise SchemaError(f"column {name!r} is renamed from itself")
        values = {
            "name": name,
            "type": type if isinstance(type, Type) else Type(type),
            "nullable": nullable,
            "doc": doc or None,
            "unit": unit or None,
            "renamed_from": renamed_from,
        }
        for attribute, value in values.items():
            object.__setattr__(self, attribute, value)

    def to_field(self) -> pa.Field:
        """Make the logical Arrow field."""
        return types.field(self.name, self.type, self.nullable, doc=self.doc, unit=self.unit)

    @classmethod
    def from_field(cls, field: pa.Field) -> Column:
        """Read a logical Arrow field.

        Raises
        ------
        SchemaError
            No type string stands for its type.
        """
        return cls(field.name, Type.from_field(field), field.nullable, types.doc(field), types.unit(field))


@dataclass(frozen=True)
class Schema:
    """What a table's columns are.

    Parameters
    ----------
    name
        What the schema is called; a table may have another name.
    key
        The column that names a row, or ``None``: not nullable; a string, integer, bytes, date or decimal.
    columns
        In the order of the table. A schema owns these and leaves a table's other columns alone.
    drop
        Columns an older table has and this one has not.

    Raises
    ------
    SchemaError
        The schema contradicts itself.

    Examples
    --------
    >>> from lakehouse.schema import Schema
    >>> schema = Schema.parse('''
    ... name = "pets"
    ... key = "id"
    ... [columns]
    ... id = { type = "string", nullable = false }
    ... image = { type = "image" }
    ... ''')
    >>> schema.names
    ('id', 'image')
    >>> Schema.from_arrow(schema.to_arrow()) == schema
    True
    """

    name: str
    key: str | None
    columns: Sequence[Column]
    drop: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "drop", tuple(self.drop))
        if not self.name:
            raise SchemaError("a schema needs a name")
        if not self.columns:
            raise SchemaError("a schema needs at least one column")
        for names, what in ((self.names, "column"), (self._gone, "drop or renamed_from")):
            twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
            if twice is not None:
                raise SchemaError(f"{what} {twice!r} is there twice")
        both = next((name for name in self._gone if name in self.names), None)
        if both is not None:
            raise SchemaError(f"{both!r} is a column and in drop or renamed_from; take it out of one of them")
        if self.key is not None:
            self._check_key(self.key)

    def _check_key(self, key: str) -> None:
        if key not in self.names:
            raise SchemaError(f"key {key!r} is not a column{closest(key, self.names)}")
        column = self.column(key)
        if column.nullable:
            raise SchemaError(f"key {key!r} may not be nullable; write nullable = false")
        if column.type.metadata or not _can_be_key(column.type.arrow_type):
            kinds = "a string, an integer, bytes, a date or a decimal"
            raise SchemaError(f"key {key!r} is {column.type}; a key is {kinds}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def _gone(self) -> tuple[str, ...]:
        renamed = (column.renamed_from for column in self.columns if column.renamed_from is not None)
        return (*self.drop, *renamed)

    def column(self, name: str) -> Column:
        """Return a column by name.

        Raises
        ------
        ColumnNotFoundError
            There is none of that name.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise no_column(name, self.names)

    def to_arrow(self) -> pa.Schema:
        """Make the logical Arrow schema, as users of the table see it."""
        fields = [column.to_field() for column in self.columns]
        if self.key is not None:
            place = self.names.index(self.key)
            metadata = {**(fields[place].metadata or {}), types.KEY: b"true"}
            fields[place] = fields[place].with_metadata(metadata)
        return pa.schema(fields, metadata={types.NAME: self.name.encode()})

    @classmethod
    def from_arrow(cls, schema: pa.Schema, name: str = "table") -> Schema:
        """Read a logical Arrow schema.

        Parameters
        ----------
        schema
            Metadata that is not ours is left out.
        name
            Used if the schema's metadata has no ``lakehouse:name``.

        Raises
        ------
        SchemaError
            A column has a type no type string stands for, or a reserved name.
        """
        stored = (schema.metadata or {}).get(types.NAME)
        columns = [Column.from_field(field) for field in schema]
        return cls(stored.decode() if stored else name, types.key_of(schema), columns)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Schema:
        """Read a schema file.

        Raises
        ------
        SchemaError
            It is not there, is no TOML or no schema; file, column, reason and nearest valid word are named.
        """
        try:
            text = Path(path).read_text("utf-8")
        except FileNotFoundError as error:
            raise SchemaError(f"no schema file {str(path)!r}") from error
        except UnicodeDecodeError as error:
            raise SchemaError(f"{path}: not a text file in UTF-8") from error
        except OSError as error:
            raise StorageError(f"schema file {str(path)!r} cannot be read: {error.strerror}") from error
        return cls.parse(text, source=str(path))

    @classmethod
    def parse(cls, text: str, source: str = "<text>") -> Schema:
        """Read a schema from TOML text.

        Parameters
        ----------
        text
            As in ``schemas/images.toml``.
        source
            What messages call the text.

        Raises
        ------
        SchemaError
            As `from_toml`.
        """
        table = toml.read(text, source)
        columns = [_column(name, raw, f"{source}, columns.{name}") for name, raw in table["columns"].items()]
        try:
            return cls(table["name"], table.get("key"), columns, table.get("changes", {}).get("drop", ()))
        except SchemaError as error:
            raise SchemaError(f"{source}: {error}") from error

    def to_toml(self) -> str:
        """Write the schema as TOML text that `parse` reads back equal."""
        table: dict[str, Any] = {"name": self.name, "columns": {c.name: _table(c) for c in self.columns}}
        if self.key is not None:
            table["key"] = self.key
        if self.drop:
            table["changes"] = {"drop": list(self.drop)}
        return toml.write(table)


def _column(name: str, raw: Mapping[str, Any], where: str) -> Column:
    rest = {key: value for key, value in raw.items() if key not in ("type", "values", "storage")}
    try:
        return Column(name, Type(raw["type"], raw.get("values", ()), raw.get("storage")), **rest)
    except SchemaError as error:
        raise SchemaError(f"{where}: {error}") from error


def _table(column: Column) -> dict[str, Any]:
    own = column.type
    said = {
        "type": own.name,
        "values": list(own.values) or None,
        "storage": None if own.has_default_storage else own.storage,
        "nullable": None if column.nullable else False,
        "unit": column.unit,
        "doc": column.doc,
        "renamed_from": column.renamed_from,
    }
    return {key: value for key, value in said.items() if value is not None}


def _can_be_key(data_type: pa.DataType) -> bool:
    checks = (pt.is_string, pt.is_large_string, pt.is_integer, pt.is_binary, pt.is_fixed_size_binary)
    return any(check(data_type) for check in (*checks, pt.is_date, pt.is_decimal))
