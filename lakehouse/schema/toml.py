"""TOML text ↔ plain dicts with no unknown key and no value of a wrong type."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import tomli_w

from lakehouse.errors import SchemaError, closest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["read", "write"]

_STRING = "a string in quotes"
_FLAG = "true or false"
_STRINGS = "a list of strings, as in ['train', 'val']"
_TABLE = "a table"
_SCHEMA = {"name": _STRING, "key": _STRING, "columns": _TABLE, "changes": _TABLE}
_COLUMN = {
    "type": _STRING,
    "values": _STRINGS,
    "storage": _STRING,
    "nullable": _FLAG,
    "unit": _STRING,
    "doc": _STRING,
    "renamed_from": _STRING,
}
_CHANGES = {"drop": _STRINGS}


def read(text: str, source: str) -> dict[str, Any]:
    """Read and check a schema file.

    Parameters
    ----------
    text
        TOML.
    source
        What messages call it.

    Returns
    -------
    dict
        ``name``, ``columns`` (each a dict with a ``type``), and ``key`` and ``changes`` if they are there.

    Raises
    ------
    SchemaError
        Broken TOML (with its line), a key that is missing or unknown, a value of a wrong type.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SchemaError(f"{source}: {error}") from error
    _check(table, _SCHEMA, source, required=("name", "columns"))
    for name, column in table["columns"].items():
        where = f"{source}, columns.{name}"
        if not isinstance(column, dict):
            raise SchemaError(f"{where}: a column is a table, as in {{ type = 'int32' }}, not {column!r}")
        _check(column, _COLUMN, where, required=("type",))
    _check(table.get("changes", {}), _CHANGES, f"{source}, changes")
    return table


def _check(table: Mapping[str, Any], keys: Mapping[str, str], where: str, required: tuple[str, ...] = ()) -> None:
    for key, value in table.items():
        if key not in keys:
            raise SchemaError(f"{where}: unknown key {key!r}{closest(key, keys) or '; keys are ' + ', '.join(keys)}")
        if not _is(value, keys[key]):
            raise SchemaError(f"{where}: {key} must be {keys[key]}, not {value!r}")
    for key in required:
        if key not in table:
            raise SchemaError(f"{where}: {key} is missing")


def _is(value: object, kind: str) -> bool:
    if kind == _STRINGS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, {_STRING: str, _FLAG: bool, _TABLE: dict}[kind])


def write(table: Mapping[str, Any]) -> str:
    """Write what `read` reads back equal, a column a line."""
    lines = [f"{key} = {_value(table[key])}" for key in ("name", "key") if key in table]
    lines += ["", "[columns]"]
    for name, column in table["columns"].items():
        inside = ", ".join(f"{key} = {_value(column[key])}" for key in _COLUMN if key in column)
        lines.append(f"{_key(name)} = {{ {inside} }}")
    if table.get("changes"):
        lines += ["", "[changes]", *(f"{key} = {_value(value)}" for key, value in table["changes"].items())]
    return "\n".join(lines) + "\n"


def _value(value: bool | str | list[str]) -> str:
    # tomli_w breaks a list over lines, which is legal in an inline table and hard to read.
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").removesuffix("\n")


def _key(name: str) -> str:
    return tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
