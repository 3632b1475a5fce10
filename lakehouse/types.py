"""Column types as words, ``vector<float32>[384]`` or ``image``, and the Arrow fields they stand for.

A `Type` is the word and what belongs to it (a category's values, where a medium's bytes lie). On an Arrow
field the plain types need nothing more; media and categories are told apart by the metadata keys below,
which this module owns.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse.errors import SchemaError, closest
from lakehouse.type_strings import parse_arrow, print_arrow

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "BYTES_MEDIA",
    "DOC",
    "KEY",
    "MEDIA",
    "NAME",
    "STORAGE",
    "TYPE",
    "UNIT",
    "VALUES",
    "Type",
    "category_values",
    "check_name",
    "doc",
    "field",
    "is_blob",
    "is_bytes_media",
    "is_media",
    "is_uncompressed",
    "key_of",
    "meaning",
    "media_kind",
    "unit",
]

# Field metadata, except NAME, which is the schema's own. Bytes, as pyarrow gives them back.
TYPE = b"lakehouse:type"
DOC = b"lakehouse:doc"
UNIT = b"lakehouse:unit"
VALUES = b"lakehouse:values"
STORAGE = b"lakehouse:storage"
KEY = b"lakehouse:key"
NAME = b"lakehouse:name"

# Videos and files of any kind are large and read in parts, so they are Lance blobs (v2, which itself keeps up
# to 64 KB inline); pictures and sound clips are mostly small and read whole.
_DEFAULT_STORAGE = {"image": "inline", "audio": "inline", "video": "blob", "blob": "blob"}
BYTES_MEDIA = frozenset(_DEFAULT_STORAGE)
MEDIA = BYTES_MEDIA | {"text"}
_KINDS = MEDIA | {"category"}
_STORAGES = ("inline", "blob")
_UNCOMPRESSED = "uncompressed"
_CATEGORY = pa.dictionary(pa.int32(), pa.string())


@dataclass(frozen=True)
class Type:
    """What a column holds: a type string and what belongs to it.

    Parameters
    ----------
    name
        ``string``, ``int8`` … ``uint64``, ``float16|32|64``, ``bool``, ``binary``, ``date32``,
        ``timestamp[us, UTC]``, ``duration[us]``, ``decimal128(10, 2)``, ``list<…>``, ``struct<a: …>``,
        ``map<…, …>``, ``vector<float32>[384]``, ``category``, ``image``, ``video``, ``audio``, ``text``,
        ``blob``. Kept in one spelling, whatever the spacing.
    values
        The words of a ``category`` in order; a stored code is a position in them.
    storage
        Where the bytes of ``image``, ``video``, ``audio`` and ``blob`` lie: ``inline`` in the column's own
        pages, or ``blob`` (Lance blob v2). ``None`` is the default of the kind: inline for image and audio,
        blob for the others. ``text`` is compressed by default; ``uncompressed`` it takes 1.7 times the disk, and
        a shuffled loader reads texts of 1.9 KB at a fifth of the CPU, texts below 250 bytes no faster.

    Raises
    ------
    SchemaError
        The string is no type, or `values` or `storage` do not go with it.

    Examples
    --------
    >>> from lakehouse.types import Type
    >>> Type("vector< float32 >[ 384 ]")
    Type('vector<float32>[384]')
    >>> Type("category", values=("train", "val")).arrow_type
    DictionaryType(dictionary<values=string, indices=int32, ordered=0>)
    >>> Type("video").storage
    'blob'
    >>> Type("text", storage="uncompressed")
    Type('text', storage='uncompressed')
    """

    name: str
    values: tuple[str, ...] = ()
    storage: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SchemaError(f"a type is written as a string such as 'int32', not {self.name!r}")
        name = self.name.strip()
        if name not in _KINDS:
            name = print_arrow(parse_arrow(name, kinds=_KINDS))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "values", _checked_values(name, self.values))
        object.__setattr__(self, "storage", _checked_storage(name, self.storage))

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        values = f", values={self.values!r}" if self.values else ""
        storage = "" if self.has_default_storage else f", storage={self.storage!r}"
        return f"Type({self.name!r}{values}{storage})"

    @property
    def has_default_storage(self) -> bool:
        """Whether `storage` is what the kind has anyway."""
        return self.storage == _DEFAULT_STORAGE.get(self.name)

    @property
    def arrow_type(self) -> pa.DataType:
        """The logical Arrow type, as a user of the table sees it."""
        if self.name in BYTES_MEDIA:
            return pa.large_binary()
        if self.name == "text":
            return pa.large_string()
        if self.name == "category":
            return _CATEGORY
        return parse_arrow(self.name)

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """The field metadata that tells this type from its Arrow type."""
        metadata = {TYPE: self.name.encode()} if self.name in _KINDS else {}
        if self.values:
            metadata[VALUES] = json.dumps(self.values, ensure_ascii=False).encode()
        if self.storage:
            metadata[STORAGE] = self.storage.encode()
        return metadata

    @classmethod
    def from_field(cls, field: pa.Field) -> Type:
        """Read the type of a logical Arrow field.

        Raises
        ------
        SchemaError
            No type string stands for it, or its metadata contradicts its Arrow type.
        """
        kind = _get(field, TYPE)
        if kind is not None and kind not in _KINDS:
            what = f"{TYPE.decode()} {kind!r}"
            raise SchemaError(f"column {field.name!r} has {what}, of a newer version; upgrade lance-lakehouse")
        try:
            if kind is None:
                return cls(print_arrow(field.type))
            found = cls(kind, tuple(category_values(field) or ()), _get(field, STORAGE))
        except SchemaError as error:
            raise SchemaError(f"column {field.name!r}: {error}") from error
        if found.arrow_type != field.type:
            needs = f"{kind} needs {found.arrow_type}"
            raise SchemaError(f"column {field.name!r} is marked {kind} and holds {field.type}; {needs}")
        return found


def _checked_values(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise SchemaError(f"values must be a list of strings, not {values!r}")
    values = tuple(values)
    if name != "category":
        if values:
            raise SchemaError(f"values belong to a category, not to {name}")
        return ()
    if not values:
        raise SchemaError("a category needs its values, as in values = ['train', 'val', 'test']")
    seen = set()
    for value in values:
        if not isinstance(value, str):
            raise SchemaError(f"the values of a category are strings, not {value!r}")
        if value in seen:
            raise SchemaError(f"value {value!r} is in the category twice")
        seen.add(value)
    return values


def _checked_storage(name: str, storage: str | None) -> str | None:
    if storage is None:
        return _DEFAULT_STORAGE.get(name)
    if (name, storage) == ("text", _UNCOMPRESSED):
        return storage
    if name not in BYTES_MEDIA:
        own = f"{name}, whose only one is {_UNCOMPRESSED!r}" if name == "text" else name
        raise SchemaError(f"storage belongs to {', '.join(_DEFAULT_STORAGE)}, not to {own}")
    if storage not in _STORAGES:
        raise SchemaError(f"storage is 'inline' or 'blob', not {storage!r}{closest(str(storage), _STORAGES)}")
    return storage


# Lance, LanceDB and this library add these to results (`_rowid`, `_rowaddr`, `_row_created_at_version` …).
_RESERVED = frozenset({"_distance", "_score", "_relevance_score"})


def check_name(name: str) -> None:
    """Refuse a column name that a table cannot have.

    Raises
    ------
    SchemaError
        It is empty, holds a dot, or is reserved: ``*__stamp``, ``_row*``, ``_distance``, ``_score``,
        ``_relevance_score``.
    """
    if not name:
        raise SchemaError("a column needs a name")
    if "." in name:  # Lance 14 refuses it: a dot leads into a struct
        better = name.replace(".", "_")
        raise SchemaError(f"column name {name!r} holds a dot, which leads into a struct; use {better!r}")
    if name.endswith("__stamp"):
        raise SchemaError(f"column name {name!r} is reserved: *__stamp columns tell which rows are filled")
    if name.startswith("_row") or name in _RESERVED:
        raise SchemaError(f"column name {name!r} is reserved for results; use {name.lstrip('_')!r}")


def field(
    name: str,
    data_type: str | Type,
    nullable: bool = True,
    *,
    doc: str | None = None,
    unit: str | None = None,
    values: Iterable[str] | None = None,
    storage: str | None = None,
) -> pa.Field:
    """Make an Arrow field from a type string.

    Raises
    ------
    SchemaError
        The name is reserved or the type is none.

    Examples
    --------
    >>> from lakehouse.types import field, meaning
    >>> meaning(field("image", "image", nullable=False))
    'image, inline'
    """
    check_name(name)
    if isinstance(data_type, str):
        data_type = Type(data_type, values or (), storage)  # type: ignore[arg-type]  # any iterable becomes a tuple
    elif values is not None or storage is not None:
        raise SchemaError(f"column {name!r}: values and storage are part of the Type already")
    metadata = data_type.metadata
    if doc:
        metadata[DOC] = doc.encode()
    if unit:
        metadata[UNIT] = unit.encode()
    return pa.field(name, data_type.arrow_type, nullable, metadata or None)


def _get(field: pa.Field, key: bytes) -> str | None:
    metadata: Mapping[bytes, bytes] | None = field.metadata
    value = metadata.get(key) if metadata else None
    return None if value is None else value.decode()


def media_kind(field: pa.Field) -> str | None:
    """Return ``image``, ``video``, ``audio``, ``text`` or ``blob``, or ``None`` if it is no medium."""
    kind = _get(field, TYPE)
    return kind if kind in MEDIA else None


def is_media(field: pa.Field) -> bool:
    """Tell whether a column holds media, text included."""
    return media_kind(field) is not None


def is_bytes_media(field: pa.Field) -> bool:
    """Tell whether a column holds media as bytes: image, video, audio or blob."""
    return media_kind(field) in BYTES_MEDIA


def is_blob(field: pa.Field) -> bool:
    """Tell whether a column's bytes are stored as Lance blobs (v2), not in the column's own pages."""
    kind = media_kind(field)
    return kind in BYTES_MEDIA and (_get(field, STORAGE) or _DEFAULT_STORAGE[kind]) == "blob"


def is_uncompressed(field: pa.Field) -> bool:
    """Tell whether a column is text that is to be stored as it is."""
    return media_kind(field) == "text" and _get(field, STORAGE) == _UNCOMPRESSED


def category_values(field: pa.Field) -> list[str] | None:
    """Return the values of a category in the order of their codes, or ``None`` for any other column."""
    if _get(field, TYPE) != "category":
        return None
    text = _get(field, VALUES)
    try:
        values = json.loads(text) if text else []
    except ValueError as error:
        raise SchemaError(f"column {field.name!r}: {VALUES.decode()} is no JSON list: {text!r}") from error
    return list(values)


def doc(field: pa.Field) -> str | None:
    """Return what a column is documented as."""
    return _get(field, DOC)


def unit(field: pa.Field) -> str | None:
    """Return the unit of a column's numbers."""
    return _get(field, UNIT)


def key_of(schema: pa.Schema) -> str | None:
    """Return the name of the key column, or ``None``."""
    return next((field.name for field in schema if _get(field, KEY) == "true"), None)


def meaning(field: pa.Field) -> str:
    """Say in a few words what a column holds; never raises for a type of another make.

    Examples
    --------
    >>> from lakehouse.types import field, meaning
    >>> meaning(field("embedding", "vector<float32>[384]")), meaning(field("width", "int32", unit="px"))
    ('float32[384]', 'int32 (px)')
    """
    kind = _get(field, TYPE)
    if kind == "category":
        text = f"category of {len(category_values(field) or [])}"
    elif kind in BYTES_MEDIA:
        text = f"{kind}, {'blob' if is_blob(field) else 'inline'}"
    elif kind in MEDIA:
        text = f"{kind}, {_UNCOMPRESSED}" if is_uncompressed(field) else str(kind)
    else:
        try:
            text = print_arrow(field.type)
        except SchemaError:
            text = str(field.type)
        if text.startswith("vector<"):
            text = text.removeprefix("vector<").replace(">", "", 1)
    return f"{text} ({unit(field)})" if unit(field) else text
