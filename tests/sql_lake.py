"""Tables with everything that makes reading hard, at several versions, and the same rows as Parquet for a plain DuckDB."""

import datetime as dt
import decimal
import math
from dataclasses import dataclass

import duckdb
import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lakehouse as lh
from lakehouse import types
from lakehouse.schema import Column, Schema

PETS = pa.schema(
    [
        types.field("image", "image"),
        types.field("id", "string", nullable=False),
        types.field("n", "int64"),
        types.field("small", "int8"),
        types.field("count", "uint32"),
        types.field("score", "float64"),
        types.field("ratio", "float32"),
        types.field("name", "string"),
        types.field("note", "text"),
        types.field("kind", "category", values=["cat", "dog", "fish", ""]),
        types.field("flag", "bool"),
        types.field("day", "date32"),
        types.field("at", "timestamp[us]"),
        types.field("seen", "timestamp[ms, UTC]"),
        types.field("price", "decimal128(12, 2)"),
        types.field("box", "struct<w: int32, x: float64, label: string>"),
        types.field("tags", "list<string>"),
    ]
)
VISITS = pa.schema(
    [
        types.field("visit", "int64", nullable=False),
        types.field("id", "string"),
        types.field("owner", "int32"),
        types.field("small", "int16"),
        types.field("score", "float64"),
        types.field("day", "date32"),
        types.field("kind", "string"),
    ]
)
OWNERS = pa.schema(
    [
        types.field("owner", "int32", nullable=False),
        types.field("name", "string"),
        types.field("score", "float64"),
        types.field("day", "date32"),
    ]
)
# Multiples of 1/8: sums and means are exact in any order, so that floats are compared to the last bit.
FLOATS = [0.5, -1.25, 0.0, -0.0, 3.0, 7.125, -6.5, 2.0**40]
EDGES = [math.nan, math.inf, -math.inf, None]
NAMES = ["", "abc", "abd", "a%c", "a_c", "ünï", "A", "0", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "Zoë", None]
DAY = dt.date(2024, 2, 27)


@dataclass(frozen=True)
class Lake:
    """The lake, a plain DuckDB over its rows, and the versions of each table that both know."""

    lake: lh.Lake
    reference: duckdb.DuckDBPyConnection
    versions: dict[str, list[int]]


def make(folder):
    """Build the lake by every kind of change, and export each version that was kept."""
    lake = lh.connect(folder / "lake")
    rng = np.random.default_rng(4)
    pets = lake.create_table("pets", schema=PETS)
    for start in range(0, 300, 75):
        pets.add(rows_of_pets(rng, start, start + 75), progress=False)
    pets.add_columns({"late": "small * 2"})  # four fragments know nothing of it, four have NULLs
    for start in range(300, 600, 75):
        pets.add(rows_of_pets(rng, start, start + 75), progress=False)
    for column in ("id", "score"):
        pets.create_index(column, lh.BTree())
    pets.create_index("name", lh.Bitmap())
    kept = [pets.version]
    pets.delete("n % 5 = 1 OR id = 'p0007'")
    pets.update(where="small = 3", values={"name": "abc"}, values_sql={"score": "score + 0.5"})
    pets.add(rows_of_pets(rng, 600, 680), progress=False)  # not in the indexes
    kept.append(pets.version)
    pets.backfill("late", progress=False)
    pets.add(rows_of_pets(rng, 680, 720), progress=False)
    pets.delete("id >= 'p0300' AND id < 'p0375'")  # a whole fragment
    pets.create_index("n", lh.BTree())
    kept.append(pets.version)
    visits = lake.create_table("visits", schema=Schema("visits", "visit", map(Column.from_field, VISITS)))
    visits.add(pa.Table.from_pylist(rows_of_visits(rng, 0, 500), VISITS), progress=False)
    first = visits.version
    visits.create_index("owner", lh.BTree())
    visits.merge_insert("visit").when_matched_update_all().when_not_matched_insert_all().execute(
        pa.Table.from_pylist(rows_of_visits(rng, 400, 650), VISITS)
    )
    owners = lake.create_table("owners", data=pa.Table.from_pylist(rows_of_owners(), OWNERS))
    lake.create_table("nothing", schema=OWNERS)
    versions = {"pets": kept, "visits": [first, visits.version], "owners": [owners.version], "nothing": [1]}
    return Lake(lake, exported(lake, versions, folder), versions)


def exported(lake, versions, folder):
    """Write each version as Parquet by pylance alone, and name it ``<table>_<version>`` in a DuckDB of its own."""
    reference = duckdb.connect()
    reference.execute("SET TimeZone = 'UTC'")
    for name, numbers in versions.items():
        for number in numbers:
            dataset = lance.dataset(lake.open_table(name).uri, version=number)
            stored = dataset.to_table(with_row_id=True)
            shown = [field for field in stored.schema if not field.name.endswith("__stamp")]
            file = folder / f"{name}_{number}.parquet"
            pq.write_table(stored.select([field.name for field in shown]), file, row_group_size=256)
            # Read once, not viewed: DuckDB 2.0.0 crashes on `(s.field ILIKE '_')` over a struct in Parquet itself.
            reference.execute(f"CREATE TABLE {name}_{number} AS FROM '{file}'")
    return reference


def rows_of_pets(rng, start, stop):
    made = []
    for i in range(start, stop):
        small = int(rng.integers(-4, 5))
        box = {"w": int(rng.integers(0, 6)), "x": one(rng, FLOATS + EDGES), "label": one(rng, NAMES)}
        made.append(
            {
                "image": None if i % 9 == 0 else rng.bytes(int(rng.integers(0, 60))),
                "id": f"p{i:04}",
                "n": maybe(rng, i),
                "small": maybe(rng, small),
                "count": maybe(rng, 2**32 - 1 - i % 50),
                "score": one(rng, FLOATS * 4 + EDGES),
                "ratio": one(rng, FLOATS * 4 + EDGES),
                "name": one(rng, NAMES),
                "note": one(rng, NAMES) if i % 2 else f"note {i % 40} of some length",
                "kind": one(rng, ["cat", "dog", "fish", "", None] if i < 300 else ["dog", "fish"]),
                "flag": one(rng, [True, False, None]),
                "day": maybe(rng, DAY + dt.timedelta(days=int(rng.integers(0, 60)))),
                "at": maybe(rng, dt.datetime(2024, 2, 28, 23) + dt.timedelta(minutes=int(rng.integers(0, 5000)))),
                "seen": maybe(rng, dt.datetime(2024, 2, 28, tzinfo=dt.UTC) + dt.timedelta(hours=i)),
                "price": maybe(rng, decimal.Decimal(int(rng.integers(-900, 90_000))) / 100),
                "box": maybe(rng, box),
                "tags": maybe(rng, [one(rng, NAMES) for _ in range(int(rng.integers(0, 4)))]),
            }
        )
    return pa.Table.from_pylist(made, PETS)


def rows_of_visits(rng, start, stop):
    return [
        {
            "visit": i,
            "id": maybe(rng, f"p{int(rng.integers(0, 760)):04}"),
            "owner": maybe(rng, int(rng.integers(0, 45))),
            "small": maybe(rng, int(rng.integers(-4, 5))),
            "score": one(rng, FLOATS * 4 + EDGES),
            "day": maybe(rng, DAY + dt.timedelta(days=int(rng.integers(0, 60)))),
            "kind": one(rng, ["cat", "dog", "fish", "", "bird", None]),
        }
        for i in range(start, stop)
    ]


def rows_of_owners():
    rng = np.random.default_rng(5)
    return [
        {"owner": i, "name": one(rng, NAMES), "score": one(rng, FLOATS + EDGES), "day": DAY + dt.timedelta(days=i)}
        for i in range(40)
    ]


def one(rng, values):
    return values[int(rng.integers(len(values)))]


def maybe(rng, value):
    return None if rng.random() < 0.08 else value
