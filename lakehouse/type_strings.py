"""Text ↔ Arrow types: the grammar of type strings.

::

    type = plain | "binary[" nbytes "]"
         | ("duration" | "time32" | "time64") "[" unit "]" | "timestamp[" unit ["," zone] "]"
         | ("decimal128" | "decimal256") "(" precision "," scale ")"
         | ("list" | "large_list") "<" item ">" | "list<" type ">[" length "]"
         | "vector<" ("float32" | "float16" | "uint8") ">[" length "]"
         | "struct<" name ":" item {"," name ":" item} ">" | "map<" type "," item ">"
         | "dictionary<" type "," type ">"
    item = type ["not null"]
    name = word | JSON string
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
from pyarrow import types as pt

from lakehouse.errors import SchemaError, closest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = ["parse_arrow", "print_arrow"]

_PLAIN: dict[str, pa.DataType] = {
    "string": pa.string(),
    "large_string": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "bool": pa.bool_(),
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "null": pa.null(),
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
_PLAIN_NAMES = {data_type: name for name, data_type in _PLAIN.items()}
# pyarrow prints the unit of a date and the width of binary; these take theirs in brackets.
_WITH_UNIT: dict[str, tuple[str, ...]] = {
    "timestamp": ("s", "ms", "us", "ns"),
    "duration": ("s", "ms", "us", "ns"),
    "time32": ("s", "ms"),
    "time64": ("us", "ns"),
}
_DECIMALS: dict[str, Callable[[int, int], pa.DataType]] = {
    "decimal128": pa.decimal128,
    "decimal256": pa.decimal256,
}
_NESTED = ("list", "large_list", "struct", "map", "dictionary", "vector")
_VECTOR_ITEMS = ("float32", "float16", "uint8")  # what Lance's vector indexes take
# What Lance 14.0.2 stores in a dictionary (each was tried with values).
_DICTIONARY_VALUES = (
    *(pt.is_string, pt.is_large_string, pt.is_binary, pt.is_large_binary),
    *(pt.is_integer, pt.is_float32, pt.is_float64),
)
_WORDS = (*_PLAIN, *_WITH_UNIT, *_DECIMALS, *_NESTED)
# What other systems call them, where the spelling is too far off to be guessed.
_ELSEWHERE = {
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "integer": "int32",
    "long": "int64",
    "bigint": "int64",
    "varchar": "string",
    "str": "string",
    "utf8": "string",
    "bytes": "binary",
    "date": "date32",
    "datetime": "timestamp[us, UTC]",
    "timestamptz": "timestamp[us, UTC]",
    "decimal": "decimal128(10, 2)",
    "array": "list<float32>",
    "embedding": "vector<float32>[384]",
    "enum": "category",
    "picture": "image",
    "movie": "video",
}
_WORD = re.compile(r"\s*([A-Za-z_]\w*)")
_QUOTED = re.compile(r'\s*("(?:[^"\\]|\\.)*")')
_BRACKETS = re.compile(r"\s*\[([^\[\]<>]*)\]")
_PARENTHESES = re.compile(r"\s*\(([^()]*)\)")
_NOT_NULL = re.compile(r"\s+not\s+null\b")
_ZONE = re.compile(r"[A-Za-z][\w+/-]*|[+-]\d\d:\d\d")


@lru_cache(maxsize=1024)
def parse_arrow(text: str, kinds: Collection[str] = ()) -> pa.DataType:
    """Read a type string.

    Parameters
    ----------
    text
        The type string.
    kinds
        Words of the caller's own, which do not nest; for messages only.

    Raises
    ------
    SchemaError
        It is none; the message names the nearest one.
    """
    try:
        return _Parser(text, tuple(kinds)).whole()
    except RecursionError as error:
        raise SchemaError(f"cannot read type {text[:60]!r}…: it nests too deep") from error


class _Parser:
    """One pass over one type string; `at` is how far it has come."""

    def __init__(self, text: str, kinds: tuple[str, ...]) -> None:
        self.text = text
        self.kinds = kinds
        self.at = 0

    def whole(self) -> pa.DataType:
        data_type = self.read()
        if self.text[self.at :].strip():
            self.fail("the end")
        return data_type

    def fail(self, expected: str) -> NoReturn:
        raise SchemaError(f"cannot read type {self.text!r}: expected {expected} at position {self.at + 1}")

    def match(self, pattern: re.Pattern[str]) -> str | None:
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[1] if pattern.groups else found[0]

    def expect(self, mark: str) -> None:
        if self.match(re.compile(rf"\s*{re.escape(mark)}")) is None:
            self.fail(repr(mark))

    def read(self) -> pa.DataType:
        word = self.match(_WORD)
        if word is None:
            self.fail("a type")
        if word in _WITH_UNIT:
            return self.read_with_unit(word)
        if word in _DECIMALS:
            return self.read_decimal(word)
        if word in _NESTED:
            self.expect("<")
            return getattr(self, f"read_{word}")()
        if word == "binary":
            nbytes = self.match(_BRACKETS)
            return pa.binary(-1 if nbytes is None else self.count(nbytes, "a width, as in binary[16],"))
        if word in _PLAIN:
            return _PLAIN[word]
        return self.unknown(word)

    def unknown(self, word: str) -> NoReturn:
        if word in self.kinds:
            raise SchemaError(f"{word!r} is the type of a whole column; it does not go inside {self.text!r}")
        words = [*_WORDS, *self.kinds]
        known = _ELSEWHERE.get(word.lower())
        hint = f"; did you mean {known!r}?" if known else closest(word.lower(), words)
        raise SchemaError(f"unknown type {word!r}{hint or '; types are ' + ', '.join(words)}")

    def read_with_unit(self, word: str) -> pa.DataType:
        inside = self.match(_BRACKETS)
        unit, _, zone = (part.strip() for part in (inside or "").partition(","))
        units = _WITH_UNIT[word]
        if unit not in units:
            example = f"{word}[{units[-2]}]"
            raise SchemaError(f"{word} needs a unit of {', '.join(units)}, as in {example!r}, not {self.text!r}")
        if "," not in (inside or ""):
            return getattr(pa, word)(unit)
        if word != "timestamp" or not _ZONE.fullmatch(zone):
            self.fail("a time zone such as UTC, of a timestamp only")
        return pa.timestamp(unit, _known_zone(zone))

    def read_decimal(self, word: str) -> pa.DataType:
        inside = self.match(_PARENTHESES)
        parts = re.fullmatch(r"\s*(\d+)\s*,\s*(-?\d+)\s*", inside or "")
        if parts is None:
            self.fail(f"precision and scale, as in {word}(10, 2),")
        try:
            return _DECIMALS[word](int(parts[1]), int(parts[2]))
        except (ValueError, OverflowError) as error:
            raise SchemaError(f"cannot read type {self.text!r}: {error}") from error

    def count(self, text: str | None, what: str) -> int:
        # Arrow counts in int32.
        if text is None or not re.fullmatch(r"\s*[1-9]\d{0,8}\s*", text):
            self.fail(what)
        return int(text)

    def item(self, name: str) -> pa.Field:
        data_type = self.read()
        return pa.field(name, data_type, nullable=self.match(_NOT_NULL) is None)

    def quoted(self) -> str:
        text = self.match(_QUOTED) or self.fail("a field name")
        try:
            return str(json.loads(text))
        except ValueError as error:
            raise SchemaError(f"cannot read type {self.text!r}: {text} is no JSON string") from error

    def read_list(self) -> pa.DataType:
        item = self.item("item")
        self.expect(">")
        length = self.match(_BRACKETS)
        if length is None:
            return pa.list_(item)
        if not item.nullable:  # Lance 14 forgets it and then refuses the nulls
            raise SchemaError(f"cannot read type {self.text!r}: items of a list of fixed length are nullable")
        if not _has_fixed_width(item.type):  # Lance 14 refuses some and panics in others
            raise SchemaError(
                f"a list of fixed length holds items of fixed width; use {'list<' + print_arrow(item.type) + '>'!r}"
            )
        return pa.list_(item, self.count(length, "a length, as in list<int64>[4],"))

    def read_large_list(self) -> pa.DataType:
        item = self.item("item")
        self.expect(">")
        return pa.large_list(item)

    def read_vector(self) -> pa.DataType:
        word = self.match(_WORD)
        if word not in _VECTOR_ITEMS:
            other = f"list<{word}>[n]" if word in _PLAIN else "vector<float32>[n]"
            raise SchemaError(f"a vector is of {', '.join(_VECTOR_ITEMS)}, not of {word!r}; use {other!r}")
        self.expect(">")
        return pa.list_(_PLAIN[word], self.count(self.match(_BRACKETS), "a length, as in vector<float32>[384],"))

    def read_struct(self) -> pa.DataType:
        fields: list[pa.Field] = []
        while True:
            name = self.match(_WORD) or self.quoted()
            if name in {field.name for field in fields}:
                raise SchemaError(f"cannot read type {self.text!r}: field {name!r} is there twice")
            self.expect(":")
            fields.append(self.item(name))
            if self.match(re.compile(r"\s*,")) is None:
                self.expect(">")
                return pa.struct(fields)

    def read_map(self) -> pa.DataType:
        key = self.read()
        self.expect(",")
        value = self.item("value")
        self.expect(">")
        return pa.map_(key, value)

    def read_dictionary(self) -> pa.DataType:
        index = self.read()
        if not pt.is_integer(index):
            self.fail("an integer type of the codes, as in dictionary<int32, string>,")
        self.expect(",")
        value = self.read()
        if not any(holds(value) for holds in _DICTIONARY_VALUES):
            self.fail("strings, bytes or numbers, as in dictionary<int32, string>,")
        self.expect(">")
        return pa.dictionary(index, value)


def _has_fixed_width(data_type: pa.DataType) -> bool:
    if pt.is_fixed_size_list(data_type):
        return _has_fixed_width(data_type.value_type)
    return bool(pt.is_primitive(data_type) or pt.is_fixed_size_binary(data_type) or pt.is_decimal(data_type))


def _known_zone(zone: str) -> str:
    # A wrong zone is accepted by Arrow and fails much later, when a value is shown.
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

    if zone == "UTC" or zone[0] in "+-":
        return zone
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SchemaError(f"unknown time zone {zone!r}{closest(zone, available_timezones())}") from error
    return zone


def print_arrow(data_type: pa.DataType) -> str:
    """Write an Arrow type as a type string.

    What Lance 14 does not keep is left out: order of a dictionary, NOT NULL items of a list of fixed length.

    Raises
    ------
    SchemaError
        No type string stands for it.
    """
    name = _PLAIN_NAMES.get(data_type) or _print_parametric(data_type) or _print_nested(data_type)
    if name is None:
        raise SchemaError(f"Arrow type {data_type} cannot be stored; types are {', '.join(_WORDS)}")
    return name


def _print_parametric(data_type: pa.DataType) -> str | None:
    if pt.is_timestamp(data_type) and data_type.tz:
        return f"timestamp[{data_type.unit}, {data_type.tz}]"
    for word, holds in (
        ("timestamp", pt.is_timestamp),
        ("duration", pt.is_duration),
        ("time32", pt.is_time32),
        ("time64", pt.is_time64),
    ):
        if holds(data_type):
            return f"{word}[{data_type.unit}]"
    if pt.is_decimal128(data_type) or pt.is_decimal256(data_type):
        return f"decimal{data_type.bit_width}({data_type.precision}, {data_type.scale})"
    if pt.is_fixed_size_binary(data_type):
        return f"binary[{data_type.byte_width}]"
    return None


def _print_nested(data_type: pa.DataType) -> str | None:
    if pt.is_fixed_size_list(data_type):
        item = print_arrow(data_type.value_type)
        return f"{'vector' if item in _VECTOR_ITEMS else 'list'}<{item}>[{data_type.list_size}]"
    if pt.is_list(data_type):
        return f"list<{_print_item(data_type.value_field)}>"
    if pt.is_large_list(data_type):
        return f"large_list<{_print_item(data_type.value_field)}>"
    if pt.is_struct(data_type) and data_type.num_fields:
        fields = ", ".join(f"{_print_name(field.name)}: {_print_item(field)}" for field in data_type)
        return f"struct<{fields}>"
    if pt.is_map(data_type) and not data_type.keys_sorted:
        return f"map<{print_arrow(data_type.key_type)}, {_print_item(data_type.item_field)}>"
    if pt.is_dictionary(data_type):
        return f"dictionary<{print_arrow(data_type.index_type)}, {print_arrow(data_type.value_type)}>"
    return None


def _print_item(field: pa.Field) -> str:
    return print_arrow(field.type) + ("" if field.nullable else " not null")


def _print_name(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else json.dumps(name, ensure_ascii=False)
