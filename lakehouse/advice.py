"""What would make a table faster to ask, found from facts that are cheap to learn.

Only what was counted is said: each finding comes with its figures and the call that changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import reads, types
from lakehouse.errors import translated
from lakehouse.indexes import indexes
from lakehouse.units import format_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakehouse.snapshot import Snapshot

__all__ = ["Advice", "Facts", "IndexFacts", "KeyFacts", "TextFacts", "advice", "advise"]

_LEAST_ROWS = 10_000  # of a table or a fragment: below, nothing is slow, and above, what a fragment costs is hidden
_MOST_VALUES = 256  # of a category: what a code of one byte can tell apart
_ROWS_PER_VALUE = 100  # fewer, and a code for each value saves little
_SAMPLED_RANGES, _SAMPLED_ROWS = 4, 1_024
_SMALL_FRAGMENTS = 10  # that are small; fewer cost nothing that can be measured
_NOT_INDEXED = 0.1  # of the rows: searching these takes longer than the rest by the index

_SCHEMA = pa.schema([(name, pa.string()) for name in ("column", "finding", "evidence", "fix")])


@dataclass(frozen=True)
class Advice:
    """Something that can be made faster.

    Parameters
    ----------
    column
        The column; None for the table as a whole.
    finding
        What is so.
    evidence
        The figures.
    fix
        The calls that change it.
    """

    column: str | None
    finding: str
    evidence: str
    fix: str


@dataclass(frozen=True)
class TextFacts:
    """A column of strings that is not a category.

    Parameters
    ----------
    column
        Its name.
    num_values
        How many different ones it holds.
    nbytes
        What it takes in memory as text.
    """

    column: str
    num_values: int
    nbytes: int


@dataclass(frozen=True)
class KeyFacts:
    """The key of a table.

    Parameters
    ----------
    column
        Its name.
    is_indexed
        Whether it has a scalar index.
    nbytes
        What it takes on disk.
    """

    column: str
    is_indexed: bool
    nbytes: int


@dataclass(frozen=True)
class IndexFacts:
    """An index.

    Parameters
    ----------
    name
        Its name.
    column
        Its column.
    num_rows_not_indexed
        Rows added since.
    """

    name: str
    column: str
    num_rows_not_indexed: int


@dataclass(frozen=True)
class Facts:
    """What is known of a version.

    Parameters
    ----------
    num_rows
        Its rows.
    texts
        Its columns of few different strings.
    key
        Its key, if it has one.
    indexes
        Its indexes.
    fragment_rows
        The rows of each fragment.
    """

    num_rows: int
    texts: tuple[TextFacts, ...] = ()
    key: KeyFacts | None = None
    indexes: tuple[IndexFacts, ...] = ()
    fragment_rows: tuple[int, ...] = ()


def advise(snapshot: Snapshot) -> pa.Table:
    """Say what would make a table faster to ask.

    Returns
    -------
    pyarrow.Table
        ``column`` (NULL for the table as a whole), ``finding``, ``evidence``, ``fix``.
    """
    with translated(f"looking at {snapshot.name!r}"):
        found = [vars(each) for each in advice(_facts(snapshot))]
    return pa.Table.from_pylist(found, _SCHEMA)


def advice(facts: Facts) -> Iterator[Advice]:
    """Decide what is worth a user's time."""
    if facts.num_rows >= _LEAST_ROWS:
        yield from map(_of_text, facts.texts)
        if facts.key is not None and not facts.key.is_indexed:
            yield _of_key(facts.key)
        late = [each for each in facts.indexes if each.num_rows_not_indexed > _NOT_INDEXED * facts.num_rows]
        yield from (_of_index(each, facts.num_rows) for each in late)
    small = sum(rows < _LEAST_ROWS for rows in facts.fragment_rows)
    if small >= _SMALL_FRAGMENTS:
        yield Advice(
            None,
            "many small fragments: each is opened by every scan, and listed by every commit",
            f"{small} of {len(facts.fragment_rows)} fragments have fewer than {_LEAST_ROWS:,} rows",
            "t.compact()",
        )


def _of_text(text: TextFacts) -> Advice:
    other = _as_category(text.column)
    values = f"arrow_cast(`{text.column}`, 'Dictionary(Int32, Utf8)')"
    return Advice(
        text.column,
        "few different strings, stored as text: GROUP BY in SQL takes three times as long as by a category",
        f"{text.num_values} different values; {format_nbytes(text.nbytes)} as text in memory",
        f't.add_columns({{"{other}": "{values}"}}); t.backfill("{other}"); in the schema of a new table: '
        f'{text.column} = {{ type = "category", values = […] }}',
    )


def _as_category(column: str) -> str:
    return f"{column}_category"


def _of_key(key: KeyFacts) -> Advice:
    return Advice(
        key.column,
        "the key has no index: each lookup reads the whole column",
        f"{format_nbytes(key.nbytes)} a lookup",
        f't.create_index("{key.column}", lh.BTree())',
    )


def _of_index(index: IndexFacts, num_rows: int) -> Advice:
    share = index.num_rows_not_indexed / num_rows
    return Advice(
        index.column,
        f"the index {index.name} does not cover all rows: the others are compared one by one",
        f"{index.num_rows_not_indexed:,} of {num_rows:,} rows ({share:.0%}) are not in it",
        "t.optimize_indices()",
    )


def _facts(snapshot: Snapshot) -> Facts:
    known = indexes(snapshot).to_pylist()
    stored = reads.column_nbytes(snapshot)
    scalar = {each["column"] for each in known if each["kind"] in ("BTREE", "BITMAP")}
    key = snapshot.key
    return Facts(
        num_rows=snapshot.num_rows,
        texts=tuple(_texts(snapshot)) if snapshot.num_rows >= _LEAST_ROWS else (),
        key=KeyFacts(key, key in scalar, stored[key]) if key else None,
        indexes=tuple(IndexFacts(each["name"], each["column"], each["num_rows_not_indexed"]) for each in known),
        fragment_rows=tuple(fragment.count_rows() for fragment in snapshot.dataset.get_fragments()),
    )


def _texts(snapshot: Snapshot) -> Iterator[TextFacts]:
    plain = [field.name for field in snapshot.schema if _is_plain_text(field)]
    for column in _of_few_values(snapshot, [name for name in plain if _as_category(name) not in snapshot.schema.names]):
        counted = _counted(reads.scan(snapshot, [column]), column)
        if counted is not None and counted[0] * _ROWS_PER_VALUE <= snapshot.num_rows:
            yield TextFacts(column, *counted)


def _is_plain_text(field: pa.Field) -> bool:
    is_string = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    return bool(is_string and not types.is_media(field))


def _of_few_values(snapshot: Snapshot, columns: list[str]) -> list[str]:
    """Leave out the columns that hold many values in a few ranges of rows already."""
    if not columns:
        return []
    step = snapshot.num_rows // _SAMPLED_RANGES
    ranges = [
        snapshot.dataset.scanner(columns=columns, offset=at * step, limit=_SAMPLED_ROWS).to_table()
        for at in range(_SAMPLED_RANGES)
    ]
    sample = pa.concat_tables(ranges)
    return [column for column in columns if pc.count_distinct(sample[column]).as_py() <= _MOST_VALUES]


def _counted(batches: Iterable[pa.RecordBatch], column: str) -> tuple[int, int] | None:
    """Count the values of a column exactly, and their bytes; None as soon as there are too many for a category."""
    values: set[str] = set()
    nbytes = 0
    for batch in batches:
        array = batch.column(column)
        values.update(value for value in array.unique().to_pylist() if value is not None)
        nbytes += array.nbytes
        if len(values) > _MOST_VALUES:
            return None
    return len(values), nbytes
