"""Answers as text for people and programs, written as they come; media as their sizes."""

from __future__ import annotations

import json
import math
from itertools import chain, count
from typing import TYPE_CHECKING, Any, Literal, TextIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from lakehouse.cli.output import plain
from lakehouse.display import format_value
from lakehouse.units import format_nbytes
from lakehouse.values import python_value, python_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["SUFFIXES", "WRITERS", "First", "Format"]

Format = Literal["table", "csv", "json", "markdown", "parquet"]
SUFFIXES: dict[str, Format] = {".csv": "csv", ".json": "json", ".md": "markdown", ".parquet": "parquet"}


class First:
    """The first rows of an answer.

    Parameters
    ----------
    reader
        The answer.
    most
        How many rows are wanted; None means all.
    """

    def __init__(self, reader: pa.RecordBatchReader, most: int | None) -> None:
        self.schema = reader.schema
        self.num_rows = 0
        self.are_more = False
        self._reader = reader
        self._most = most

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._reader:
            left = batch.num_rows if self._most is None else self._most - self.num_rows
            self.are_more = left < batch.num_rows
            self.num_rows += min(left, batch.num_rows)
            if left:
                yield batch.slice(0, left)
            if self.are_more:
                return


def write_csv(rows: First, file: TextIO) -> None:
    """Write RFC 4180 with a header; NULL is nothing, an empty text ``""``, what is nested JSON."""
    for batch in chain([rows.schema.empty_table()], rows):
        table = pa.Table.from_arrays([_csv_column(column) for column in batch.columns], rows.schema.names)
        options = pa.csv.WriteOptions(include_header=batch.num_rows == 0)
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(table, sink, options)
        file.write(sink.getvalue().to_pybytes().decode())


def _csv_column(column: Any) -> Any:
    if _is_plain(column.type) and not _is_far(column):
        return column
    return pa.array([None if value is None else _as_word(value) for value in _values(column)], pa.string())


def _is_far(column: Any) -> bool:
    """Whether there are days that Arrow's own CSV calls out of range: infinity, or thousands of years away."""
    kind = column.type
    if not (pa.types.is_date(kind) or pa.types.is_timestamp(kind)) or getattr(kind, "unit", "") == "ns":
        return False
    ends = pc.min_max(column)
    return any(isinstance(python_value(ends[name]), str) for name in ("min", "max"))


def _is_plain(kind: pa.DataType) -> bool:
    """Whether Arrow's own CSV has it: numbers, texts, booleans and times."""
    tests = (
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_date,
        pa.types.is_time,
        pa.types.is_timestamp,
    )
    return any(test(kind) for test in tests) and not pa.types.is_float16(kind)


def write_json(rows: First, file: TextIO) -> None:
    """Write one JSON document, a list with an object for each row; of two columns of a name the second is ``n_1``."""
    names = _distinct(rows.schema.names)
    start = "[\n"
    for row in _rows(rows):
        record = dict(zip(names, map(plain, row), strict=True))
        file.write(f"{start}  {json.dumps(record, ensure_ascii=False)}")
        start = ",\n"
    file.write("[]\n" if start == "[\n" else "\n]\n")


def write_markdown(rows: First, file: TextIO) -> None:
    """Write a table of GitHub's Markdown, numbers flush right."""
    file.write(_line(_cell(name) for name in rows.schema.names))
    numbers = [pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in rows.schema.types]
    file.write(_line("---:" if number else "---" for number in numbers))
    file.writelines(_line(_cell(_as_word(value)) if value is not None else "" for value in row) for row in _rows(rows))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _cell(text: str) -> str:
    return format_value(text, max_chars=10_000).replace("\\", "\\\\").replace("|", "\\|")


def _as_word(value: Any) -> str:
    if isinstance(value, bytes):
        return format_nbytes(len(value))
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    simple = plain(value)
    return simple if isinstance(simple, str) else json.dumps(simple, ensure_ascii=False)


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[Any, ...]]:
    for batch in batches:
        yield from zip(*(_values(column) for column in batch.columns), strict=True)


def _values(column: Any) -> list[Any]:
    """Python's values; its times have no nanoseconds, so those come as text."""
    kind = column.type
    if getattr(kind, "unit", "") == "ns":
        column = column.cast(pa.string())
    values = python_values(column)
    if pa.types.is_decimal(kind) and kind.scale == 0:  # DuckDB's 128-bit integers, which sum() gives
        return [value if value is None else int(value) for value in values]
    return values


def _distinct(names: list[str]) -> list[str]:
    """Give each column a name of its own."""
    distinct: list[str] = []
    for name in names:
        free = chain([name], (f"{name}_{n}" for n in count(1)))
        distinct.append(next(each for each in free if each not in distinct))
    return distinct


WRITERS: dict[str, Callable[[First, TextIO], None]] = {
    "csv": write_csv,
    "json": write_json,
    "markdown": write_markdown,
}
