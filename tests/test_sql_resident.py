"""Columns held in memory are those of the version, and nothing is decoded twice that did not change."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import reads, types
from lakehouse.sql.scans.forms import compact_type
from lakehouse.sql.scans.resident import Resident

ROWS = 3_000
SCHEMA = pa.schema(
    [
        types.field("id", "int64", nullable=False),
        types.field("x", "float64"),
        types.field("word", "string"),
        types.field("price", "decimal128(12, 2)"),
        types.field("split", "category", values=["a", "b"]),
        types.field("tags", "list<string>"),
        types.field("box", "struct<w: int32, label: string>"),
        types.field("embedding", "vector<float16>[4]"),
        types.field("image", "image"),
    ]
)
PLAIN = [name for name in SCHEMA.names if name != "image"]


def rows(start, stop):
    rng = np.random.default_rng(start)
    return [
        {
            "id": i,
            "x": None if i % 7 == 0 else rng.random(),
            "word": f"word {i % 50}",
            "price": None if i % 5 == 0 else Decimal(i).scaleb(-2),
            "split": ("a", "b", None)[i % 3],
            "tags": ["t"] * (i % 4),
            "box": None if i % 9 == 0 else {"w": i, "label": str(i)},
            "embedding": rng.random(4, dtype=np.float32).astype(np.float16),
            "image": rng.bytes(20),
        }
        for i in range(start, stop)
    ]


@pytest.fixture
def table(lake):
    table = lake.create_table("t", schema=SCHEMA)
    for start in range(0, ROWS, 1000):
        table.add(rows(start, start + 1000), progress=False)
    return table


@pytest.fixture
def resident():
    return Resident(64 << 20, num_threads=2)


def stored(snapshot, columns):
    """The same by the library's other way to read."""
    return reads.to_table(snapshot, columns)


def same(held, read):
    """What is held may have another form, and fragments may code a category differently."""
    return (
        held.schema.names == read.schema.names
        and all(form in (stored, compact_type(stored)) for form, stored in zip(held.schema.types, read.schema.types))
        and held.to_pylist() == read.to_pylist()
    )


def read_nbytes(snapshot, call):
    snapshot.dataset.io_stats_incremental()
    call()
    return snapshot.dataset.io_stats_incremental().read_bytes


def append(table):
    table.add(rows(ROWS, ROWS + 10), progress=False)


def delete(table):
    table.delete("id % 3 = 1 AND id < 1000")


def delete_a_fragment(table):
    table.delete("id >= 1000 AND id < 2000")


def update(table):
    table.update(where="id < 5", values={"word": "changed"})


def add_a_column(table):
    table.add_columns({"twice": "id * 2"})
    table.backfill("twice", progress=False)


def add_a_declared_column(table):
    table.add_columns({"later": pa.field("later", pa.int32())})


def rename(table):
    table.rename_column("word", "text")


def drop_and_add_again(table):
    table.drop_columns(["x"])
    table.add_columns({"x": "CAST(id AS DOUBLE)"})
    table.backfill("x", progress=False)


def compact(table):
    table.compact(progress=False)


CHANGES = [
    append,
    delete,
    delete_a_fragment,
    update,
    add_a_column,
    add_a_declared_column,
    rename,
    drop_and_add_again,
    compact,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_columns_are_those_of_the_version_before_and_after_any_change(table, resident, change):
    before = table.snapshot()
    assert same(resident.table(before, PLAIN), stored(before, PLAIN).select(PLAIN))
    change(table)
    after = table.snapshot()
    names = [name for name in after.schema.names if name != "image"]
    for snapshot, columns in ((after, names), (before, PLAIN), (after, names[::-1])):
        assert same(resident.table(snapshot, columns), stored(snapshot, columns).select(columns))


@pytest.mark.parametrize("change", [append, delete, update, add_a_column])
def test_row_ids_are_those_of_the_version(table, resident, change):
    for _ in range(2):
        snapshot = table.snapshot()
        ids = resident.table(snapshot, ["_rowid", "id"])
        assert ids["_rowid"].to_pylist() == reads.row_ids(snapshot).tolist()
        change(table)


def test_nothing_is_read_twice(table, resident):
    snapshot = table.snapshot()
    assert not resident.held(snapshot, ["id", "x"])
    assert read_nbytes(snapshot, lambda: resident.table(snapshot, ["id", "x"])) >= 8 * ROWS
    assert resident.held(snapshot, ["x", "id"])
    assert read_nbytes(snapshot, lambda: resident.table(snapshot, ["id", "x"])) == 0


def test_an_append_and_a_delete_read_the_fragments_they_changed(table, resident):
    resident.table(table.snapshot(), ["x"])
    append(table)
    snapshot = table.snapshot()
    stored(snapshot, ["x"])  # the files' footers
    assert read_nbytes(snapshot, lambda: resident.table(snapshot, ["x"])) < 8 * 1000
    table.delete("id < 10")
    snapshot = table.snapshot()
    stored(snapshot, ["x"])
    assert 8 * 900 < read_nbytes(snapshot, lambda: resident.table(snapshot, ["x"])) < 8 * 1100


def test_a_column_that_was_added_leaves_the_others_where_they_are(table, resident):
    resident.table(table.snapshot(), PLAIN)
    add_a_column(table)
    assert resident.held(table.snapshot(), PLAIN)
    assert not resident.held(table.snapshot(), ["twice"])


def test_texts_are_held_alike_in_all_fragments(table, resident):
    before = table.snapshot()
    forms = [resident.table(before, ["word"]).schema.field("word").type for _ in range(3)]
    assert forms == [pa.string(), pa.string(), compact_type(pa.string())]  # decided when it was asked for again
    table.add([{**row, "word": str(row["id"])} for row in rows(ROWS, 2 * ROWS)], progress=False)
    after = table.snapshot()
    for snapshot in (after, before, after):
        held = resident.table(snapshot, ["word", "x"])
        assert held.schema.field("word").type == pa.string()
        assert same(held, stored(snapshot, ["word", "x"]))
        assert read_nbytes(snapshot, lambda: resident.table(snapshot, ["x", "word"])) == 0  # noqa: B023 - called at once
    assert resident.nbytes == sum(column.nbytes for column in resident.table(after, ["word", "x"]).columns)


def test_what_is_held_is_bounded_and_the_oldest_goes_first(table):
    resident = Resident(96_000, num_threads=2)
    snapshot = table.snapshot()
    for column in ("id", "x", "split", "embedding", "_rowid"):
        assert resident.table(snapshot, [column]).num_rows == ROWS
        assert 0 < resident.nbytes <= 96_000
    assert not resident.held(snapshot, ["id"])
    resident.table(snapshot, ["x"])
    resident.table(snapshot, ["id"])
    assert resident.held(snapshot, ["x", "id", "_rowid"])
    assert not resident.held(snapshot, ["split"])


@pytest.mark.parametrize("columns", [["image"], ["image", "id"], []])
def test_media_are_not_held(table, resident, columns):
    assert resident.table(table.snapshot(), columns) is None
    assert resident.nbytes == 0


def test_a_column_that_would_take_more_than_a_quarter_is_not_read(table):
    resident = Resident(4 * 8 * ROWS - 1, num_threads=1)
    snapshot = table.snapshot()
    assert resident.table(snapshot, ["x"]) is None
    assert resident.table(snapshot, ["word"]) is None
    assert resident.table(snapshot, ["split"]).num_rows == ROWS
    assert read_nbytes(snapshot, lambda: resident.table(snapshot, ["x", "split"])) == 0


def test_an_empty_table_has_columns_without_rows(lake, resident):
    snapshot = lake.create_table("empty", schema=SCHEMA).snapshot()
    assert resident.table(snapshot, ["id", "_rowid"]).num_rows == 0


def test_what_can_be_lost_between_two_threads_is_time(table, resident):
    snapshot = table.snapshot()
    whole = stored(snapshot, PLAIN)
    small = Resident(200_000, num_threads=2)

    def ask(n):
        columns = PLAIN[n % 5 : n % 5 + 2]
        return all(same(holder.table(snapshot, columns), whole.select(columns)) for holder in (resident, small))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))
    assert 0 <= small.nbytes <= 200_000


def test_two_branches_of_one_number_are_told_apart(table, resident):
    lh_table = table.snapshot()
    branch = lh_table.dataset.create_branch("exp")
    branch.delete("id < 1500")
    table.delete("id >= 1500")
    lake = lh.connect(table.uri.rsplit("/", 1)[0])
    main, exp = lake.open_table("t").snapshot(), lake.open_table("t", branch="exp").snapshot()
    for snapshot in (main, exp, main):
        assert same(resident.table(snapshot, ["id"]), stored(snapshot, ["id"]))
