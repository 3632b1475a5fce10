"""What is asked: TPC-H's queries, twelve over a table of images, the empty ones, and those whose bytes are counted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.tpch import QUERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

_DIGITS = 9  # sums of floats depend on the order of addition


@dataclass(frozen=True)
class Statement:
    """A query by name; with `any_rows` it may answer with any rows, as LIMIT without an order does."""

    name: str
    text: str
    any_rows: bool = False


TPCH = [Statement(name, " ".join(text.split())) for name, text in QUERIES.items()]
EMPTY = [
    Statement("constant", "SELECT 1 AS one"),
    Statement("no_rows", "SELECT id FROM labels WHERE false"),
]


def media_statements(ids: Sequence[str]) -> list[Statement]:
    """Return the twelve queries over ``media`` (id, position, label, score, image) and ``labels``; `ids` are some of its keys."""
    some = ", ".join(f"'{key}'" for key in ids[:100])
    return [
        Statement("count", "SELECT count(*) AS n FROM media"),
        Statement("count_where", "SELECT count(*) AS n FROM media WHERE score > 0.9"),
        Statement("group_by_label", "SELECT label, count(*) AS n, avg(score) AS mean FROM media GROUP BY label"),
        Statement(
            "group_by_many", "SELECT position % 50000 AS g, count(*) AS n, max(score) AS m FROM media GROUP BY g"
        ),
        Statement("top_numbers", "SELECT id, score FROM media ORDER BY score DESC LIMIT 10"),
        Statement("top_images", TOP_IMAGES.text),
        Statement("limit_images", "SELECT image FROM media LIMIT 3", any_rows=True),
        Statement("one_key", f"SELECT image FROM media WHERE id = '{ids[0]}'"),
        Statement("hundred_keys", f"SELECT id, image FROM media WHERE id IN ({some})"),
        Statement("prefix", f"SELECT id, score FROM media WHERE id LIKE '{ids[1][:3]}%'"),
        Statement(
            "join",
            "SELECT l.name, count(*) AS n FROM media m JOIN labels l ON m.label = l.id WHERE l.kept GROUP BY ALL",
        ),
        Statement(
            "window",
            "SELECT id, label FROM media QUALIFY row_number() OVER (PARTITION BY label ORDER BY score DESC, id) <= 2",
        ),
    ]


TOP_IMAGES = Statement("top_images", "SELECT id, score, image FROM media ORDER BY score DESC LIMIT 10")
BYTES = [
    Statement("bytes_count", "SELECT count(*) AS n FROM media"),
    Statement("bytes_top", "SELECT image FROM media ORDER BY score DESC LIMIT 5"),
    Statement("bytes_filter", "SELECT image FROM media WHERE score < 0.001"),
]


def lookup(key: str) -> Statement:
    """Return the query for one row by its key."""
    return Statement("bytes_lookup", f"SELECT id, image FROM media WHERE id = '{key}'")


def digest(statement: Statement, answer: pa.Table) -> str:
    """Hash an answer, rows in no order, floats to nine digits; of arbitrary rows only how many they are."""
    if statement.any_rows:
        return f"{answer.num_rows} rows"
    columns = [[_told(value) for value in column.to_pylist()] for column in answer.columns]
    rows = sorted("\x1f".join(row) for row in zip(*columns, strict=True))
    return hashlib.sha256("\x1e".join(rows).encode()).hexdigest()


def _told(value: Any) -> str:
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    # Releases of DuckDB differ in whether a mean is a decimal or a float.
    try:
        return f"{float(value):.{_DIGITS}g}"
    except (TypeError, ValueError):
        return str(value)
