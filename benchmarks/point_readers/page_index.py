"""The few structures of a Parquet file that lead from a row number to its page.

pyarrow 26 writes page indexes and reads none, so the tuned Parquet arm finds its pages here, as parquet-rs does for a row selection.

References
----------
Thrift compact protocol and parquet.thrift: https://github.com/apache/parquet-format (field numbers below are its own).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"PAR1"
# Compact protocol type codes.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12

Struct = dict[int, Any]


@dataclass(frozen=True)
class Page:
    """Where a data page lies, header included, and the row it begins with."""

    offset: int
    nbytes: int
    first_row: int


def pages(path: Path, column: str) -> list[Page]:
    """List the data pages of one column from the file's offset indexes, in row order.

    Parameters
    ----------
    path
        A Parquet file written with a page index.
    column
        A top-level column.
    """
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        tail = file.read(8)
        if tail[4:] != _MAGIC:
            raise ValueError(f"{path} does not end as a Parquet file")
        file.seek(-8 - int.from_bytes(tail[:4], "little"), os.SEEK_END)
        footer = read_struct(file.read())
        found: list[Page] = []
        row = 0
        for row_group in footer[4]:
            chunk = next(c for c in row_group[1] if c[3][3] == [column.encode()])
            file.seek(chunk[4])
            locations = read_struct(file.read(chunk[5]))[1]
            found += [Page(at[1], at[2], row + at[3]) for at in locations]
            row += row_group[3]
        return found


def values_start(page: bytes) -> int:
    """Return where a page's data begins: its header ends with it, and says its size third.

    A PageHeader opens with type, uncompressed size and compressed size; parsing on would only cost the reader time.
    """
    position = 0
    number = 0
    for _ in range(3):
        number, position = _varint(page, position + 1)
    return len(page) - _zigzag(number)


def read_struct(data: bytes) -> Struct:
    """Decode the compact-protocol struct at the start of `data` to its fields by number."""
    return _struct(data, 0)[0]


def _struct(data: bytes, position: int) -> tuple[Struct, int]:
    found: Struct = {}
    field = 0
    while byte := data[position]:
        position += 1
        if step := byte >> 4:
            field += step
        else:
            number, position = _varint(data, position)
            field = _zigzag(number)
        kind = byte & 15
        if kind in {_TRUE, _FALSE}:
            found[field] = kind == _TRUE
        else:
            found[field], position = _value(data, position, kind)
    return found, position + 1


def _value(data: bytes, position: int, kind: int) -> tuple[Any, int]:
    if kind in {_I16, _I32, _I64}:
        number, position = _varint(data, position)
        return _zigzag(number), position
    if kind == _BINARY:
        nbytes, position = _varint(data, position)
        return data[position : position + nbytes], position + nbytes
    if kind == _STRUCT:
        return _struct(data, position)
    if kind in {_LIST, _SET}:
        return _list(data, position)
    if kind in {_BYTE, _TRUE, _FALSE}:  # a bool in a list takes a byte of its own
        return data[position], position + 1
    if kind == _DOUBLE:
        return data[position : position + 8], position + 8
    raise ValueError(f"unknown type code {kind} in a Parquet structure")


def _list(data: bytes, position: int) -> tuple[list[Any], int]:
    size, kind = data[position] >> 4, data[position] & 15
    position += 1
    if size == 15:
        size, position = _varint(data, position)
    items = []
    for _ in range(size):
        item, position = _value(data, position, kind)
        items.append(item)
    return items, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7


def _zigzag(number: int) -> int:
    return (number >> 1) ^ -(number & 1)
