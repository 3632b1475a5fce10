"""A large table is read for the keys of the small one it is joined to, and the answer is what it always is."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.sql import Engine, SqlLimits

ROWS, CAPTION_NBYTES = 40_000, 300
PHOTOS = pa.schema(
    [
        types.field("id", "string", nullable=False),
        types.field("n", "int64"),
        types.field("owner", "int32"),
        types.field("caption", "text"),
        types.field("embedding", "vector<float32>[8]"),
    ]
)
HAND = pa.table({"id": ["k0000007", "k0000010", "k0023456", "nope", None], "x": [1, 2, 3, 4, 5]})


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "indexed"])
def both(request, tmp_path_factory):
    """A large table with deletions, with or without an index on its keys, labels of some of it; and the same in DuckDB."""
    folder, rng = tmp_path_factory.mktemp("joins"), np.random.default_rng(0)
    lake = lh.connect(folder / "lake")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 9, ROWS * 8).astype(np.float32)), 8)
    columns = {
        "id": [f"k{i:07}" for i in range(ROWS)],
        "n": np.arange(ROWS),
        "owner": np.arange(ROWS, dtype=np.int32) % 1_000,
        "caption": [f"caption {i} " + rng.bytes(CAPTION_NBYTES // 2).hex() for i in range(ROWS)],
        "embedding": vectors,
    }
    rows = pa.table(columns, schema=PHOTOS)
    photos = lake.create_table("photos", schema=PHOTOS)
    for start in (0, ROWS // 2):
        photos.add(rows.slice(start, ROWS // 2), progress=False)
    photos.delete("n % 100 = 7")
    some = range(0, ROWS, 20)
    data = {"id": [f"k{i:07}" for i in some], "label": [f"l{i % 500}" for i in some], "owner": range(len(some))}
    labels = lake.create_table("labels", data=pa.table(data))
    duck = duckdb.connect()
    for table in (photos, labels):
        pq.write_table(table.to_arrow(), folder / f"{table.name}.parquet")
        duck.execute(f"CREATE VIEW {table.name} AS FROM '{folder}/{table.name}.parquet'")
    duck.register("hand", HAND)
    if request.param:
        photos.create_index("id", lh.BTree())
        photos.create_index("n", lh.BTree())
    yield lake, duck
    duck.close()


STATEMENTS = [
    "SELECT p.caption, h.x FROM photos p JOIN hand h USING (id)",
    "SELECT p.caption, h.x FROM hand h LEFT JOIN photos p ON h.id = p.id",
    "SELECT p.caption, h.x FROM photos p RIGHT JOIN hand h ON h.id = p.id",
    "SELECT p.caption, h.x FROM photos p LEFT JOIN hand h ON h.id = p.id WHERE h.x IS NULL AND p.n < 20",
    "SELECT p.caption FROM photos p SEMI JOIN hand h USING (id)",
    "SELECT h.x FROM hand h ANTI JOIN photos p ON p.id = h.id AND p.caption LIKE '%7%'",
    "SELECT count(p.caption) FROM photos p ANTI JOIN hand h USING (id)",
    "SELECT caption FROM photos WHERE id IN (SELECT id FROM hand)",
    "SELECT caption FROM photos WHERE id IN (SELECT id FROM labels WHERE label = 'l40')",
    "SELECT caption FROM photos WHERE id NOT IN (SELECT id FROM hand WHERE id IS NOT NULL) AND n < 9",
    "SELECT caption, label FROM photos p, labels l WHERE p.id = l.id AND l.label = 'l40'",
    "SELECT caption, label FROM photos p, labels l WHERE p.id = l.id AND label IN ('l40','l60') AND p.n > 1000",
    "SELECT caption, label FROM photos p JOIN labels l ON p.id = l.id AND l.label = 'l40'",
    "SELECT l.id, caption FROM labels l LEFT JOIN photos p ON p.id = l.id AND l.label = 'l40' WHERE l.owner < 100",
    "SELECT l.id, caption FROM labels l LEFT JOIN photos p ON p.id = l.id WHERE l.label = 'l40'",
    "WITH w AS (SELECT id, label FROM labels WHERE label = 'l60') SELECT caption, label FROM photos JOIN w USING (id)",
    "WITH w AS (SELECT max(id) AS id FROM labels WHERE label = 'l60') SELECT caption FROM photos JOIN w USING (id)",
    "SELECT caption FROM photos p JOIN (VALUES ('k0000001'), ('k0000002')) v(id) ON p.id = v.id",
    "SELECT caption FROM photos p JOIN (VALUES (5), (6)) v(n) USING (n)",
    "SELECT caption FROM photos WHERE n IN (SELECT x FROM hand)",
    "SELECT caption FROM photos WHERE owner IN (SELECT x FROM hand) AND n < 10000",
    "SELECT x, (SELECT max(caption) FROM photos p WHERE p.id = h.id) FROM hand h",
    "SELECT x, (SELECT max(caption) FROM photos p JOIN labels l ON p.id = l.id WHERE l.label = 'l40' AND l.owner > h.x) FROM hand h",
    "SELECT h.x, q.caption FROM hand h LEFT JOIN (photos q JOIN labels l ON q.id = l.id) ON h.id = q.id WHERE l.id IS NULL",
    "SELECT h.x, q.caption FROM hand h LEFT JOIN (photos q JOIN labels l ON q.id = l.id) ON h.id = q.id WHERE l.label IS NULL OR l.label = 'l0'",
    "SELECT a.caption, b.caption FROM photos a JOIN photos b ON a.n = b.n JOIN hand h ON h.id = a.id",
    "SELECT a.caption, b.caption FROM photos a JOIN hand h USING (id) JOIN photos b ON b.n = a.n + 1",
    "SELECT caption FROM photos p FULL JOIN hand h ON p.id = h.id WHERE p.n < 5 OR h.x > 3",
    "SELECT caption FROM photos p WHERE EXISTS (SELECT 1 FROM hand h WHERE h.id = p.id)",
    "SELECT caption FROM photos WHERE id IN (SELECT id FROM labels WHERE label = 'nope')",
    "SELECT caption FROM photos JOIN labels USING (id) WHERE label = 'l40'",
    "SELECT max(embedding[1]) FROM photos WHERE n IN (SELECT n + 1 FROM photos WHERE n < 50)",
    "SELECT caption FROM photos p JOIN (SELECT id FROM labels ORDER BY owner LIMIT 3) l USING (id)",
    "SELECT caption FROM photos p JOIN (SELECT id FROM labels USING SAMPLE 3) l USING (id) WHERE p.n < 0",
    "SELECT caption FROM photos p JOIN (SELECT any_value(id) AS id FROM labels GROUP BY label LIMIT 3) l USING (id) WHERE p.n < 0",
    "SELECT caption FROM photos WHERE id = ANY (SELECT id FROM hand)",
    "SELECT caption FROM photos WHERE (id, n) IN (SELECT id, x FROM hand)",
    "SELECT p.caption FROM photos p ASOF JOIN hand h ON p.id >= h.id WHERE p.n < 5",
    "SELECT p.caption FROM photos p POSITIONAL JOIN hand h WHERE p.n < 5 AND p.id = h.id",
    "SELECT p.caption FROM photos p NATURAL JOIN hand h",
    "SELECT caption FROM photos p JOIN hand h USING (id) ORDER BY h.x LIMIT 2",
    "SELECT label, count(*), min(caption) FROM photos p JOIN labels l USING (id) WHERE l.label LIKE 'l4%' AND l.owner < 100 GROUP BY 1",
    "SELECT caption FROM photos p JOIN hand h ON p.n::VARCHAR = h.id",
    "SELECT caption FROM photos p JOIN (SELECT x::DOUBLE AS n FROM hand) h ON p.n = h.n",
    "SELECT caption FROM photos p JOIN (SELECT x::VARCHAR AS n FROM hand) h ON p.n = h.n",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_join_equals_duckdbs_over_parquet(both, statement):
    lake, duck = both
    tables = {"hand": HAND} if "hand" in statement else None
    ours, theirs = lake.sql(statement, tables=tables).arrow(), duck.sql(statement).to_arrow_table()
    assert ours.column_names == theirs.column_names
    mine, other = ([repr(tuple(row.values())) for row in t.to_pylist()] for t in (ours, theirs))
    assert sorted(mine) == sorted(other)


def read(lake, statement, tables=None):
    """Rows, bytes read when the files' footers are known, and what is said of it."""
    opened = {}

    def resolve(name):
        return opened.setdefault(name.name, lake.open_table(name.name).snapshot())

    engine = Engine(resolve, lake.table_names, SqlLimits(resident_nbytes=0))
    engine.query(statement, tables=tables).arrow()
    for snapshot in opened.values():
        snapshot.dataset.io_stats_incremental()
    result = engine.query(statement, tables=tables)
    rows = result.arrow()
    nbytes = opened["photos"].dataset.io_stats_incremental().read_bytes
    explained = result.explain()
    engine.close()
    return rows, nbytes, explained


KEY_NBYTES = 16 * ROWS  # the column of keys, where no index knows them


@pytest.mark.parametrize(
    ("statement", "num_rows"),
    [
        ("SELECT p.caption, h.x FROM photos p JOIN hand h USING (id)", 2),
        ("SELECT p.caption, h.x FROM hand h LEFT JOIN photos p ON h.id = p.id", 5),
        ("SELECT caption FROM photos WHERE id IN (SELECT id FROM hand)", 2),
        ("SELECT caption FROM photos WHERE n IN (SELECT x FROM hand)", 5),
        ("SELECT caption FROM photos p SEMI JOIN hand h USING (id)", 2),
        ("SELECT caption FROM photos p JOIN (VALUES (5), (6)) v(n) USING (n)", 2),
        ("SELECT caption, label FROM photos p, labels l WHERE p.id = l.id AND l.label = 'l40' AND l.owner < 100", 4),
        (
            "WITH w AS (SELECT id FROM labels WHERE label = 'l60' AND owner < 100) SELECT caption FROM photos JOIN w USING (id)",
            4,
        ),
        ("SELECT caption FROM photos p JOIN labels l ON p.id = l.id AND l.label = 'l40' AND l.owner < 50", 2),
        ("SELECT caption FROM photos WHERE _rowid IN (SELECT x FROM hand)", 5),
        (
            "WITH top AS (SELECT id FROM labels ORDER BY owner DESC LIMIT 4) SELECT caption FROM photos JOIN top USING (id)",
            4,
        ),
        ("SELECT caption FROM photos WHERE id IN (SELECT max(id) FROM labels GROUP BY label ORDER BY 1 LIMIT 2)", 2),
    ],
)
def test_wide_columns_are_read_for_the_keys_of_the_small_side(both, statement, num_rows):
    rows, nbytes, explained = read(both[0], statement, {"hand": HAND} if "hand" in statement else None)
    assert rows.num_rows == num_rows
    assert nbytes <= KEY_NBYTES + 10 * (CAPTION_NBYTES + 8_192)  # of 12 MB of captions
    assert "photos: narrowed by" in explained.replace("; narrowed", "photos: narrowed")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT caption FROM photos p LEFT JOIN hand h USING (id) WHERE p.n < 30",  # rows without a match stay
        "SELECT caption FROM photos p ANTI JOIN hand h USING (id) WHERE p.n < 30",
        "SELECT caption FROM photos p FULL JOIN hand h ON p.id = h.id WHERE p.n < 30",
        "SELECT caption FROM photos p JOIN labels l USING (id) WHERE p.n < 30",  # 2,000 labels, none left out
        "SELECT caption FROM photos p JOIN (SELECT id FROM labels LIMIT 3) l USING (id)",  # any three
        "SELECT caption FROM photos p JOIN (SELECT id FROM labels WHERE label < current_date::VARCHAR) l USING (id)",
        "SELECT caption FROM photos p JOIN (FROM hand USING SAMPLE 3) h USING (id)",  # another one each time
        "SELECT caption FROM photos p JOIN (SELECT any_value(id) AS id FROM hand) h USING (id)",
        "SELECT caption FROM photos p TABLESAMPLE 10 ROWS JOIN hand h USING (id)",
        "SELECT caption FROM photos p JOIN hand h ON p.n::VARCHAR = h.id",
    ],
)
def test_what_would_be_wrong_or_is_not_small_is_not_narrowed(both, statement):
    explained = both[0].sql(statement, tables={"hand": HAND} if "hand" in statement else None).explain()
    assert "narrowed" not in explained


@pytest.mark.parametrize("k", [1, 3, 7, 90])
def test_of_rows_that_tie_for_a_limit_any_may_be_joined(both, k):
    lake, _ = both
    top = f"SELECT id, label FROM labels ORDER BY label DESC LIMIT {k}"
    statement = f"SELECT caption, l.label FROM photos p RIGHT JOIN ({top}) l USING (id)"
    result = lake.sql(statement)
    assert "narrowed" in result.explain()
    labels = [label for _, label in result.fetchall()]
    every = sorted(lake.open_table("labels").to_arrow()["label"].to_pylist(), reverse=True)
    assert sorted(labels, reverse=True) == every[:k]
    assert all(caption is not None for caption, _ in result.fetchall())


def test_a_stream_is_read_once(both):
    stream = pa.RecordBatchReader.from_batches(HAND.schema, HAND.to_batches())
    result = both[0].sql("SELECT caption FROM photos JOIN hand USING (id)", tables={"hand": stream})
    assert result.arrow().num_rows == 2


def test_many_keys_are_no_keys(both):
    lake, duck = both
    many = pa.table({"id": [f"k{i:07}" for i in range(5_000)]})
    statement = "SELECT count(caption), min(caption) FROM photos JOIN many USING (id)"
    duck.register("many", many)
    assert lake.sql(statement, tables={"many": many}).fetchall() == duck.sql(statement).fetchall()


def test_keys_belong_to_the_version_that_is_read(lake):
    columns = {"id": [f"k{i:06}" for i in range(40_000)], "caption": ["x" * 20] * 40_000}
    table = lake.create_table("photos", data=pa.table(columns))
    first = table.version
    table.delete("id = 'k000001'")
    hand = pa.table({"id": ["k000001", "k000002"]})
    statement = "SELECT p.id FROM photos p AT (VERSION => $v) JOIN hand USING (id) ORDER BY 1"
    assert lake.sql(statement, {"v": first}, tables={"hand": hand}).fetchall() == [("k000001",), ("k000002",)]
    assert lake.sql(statement, {"v": table.version}, tables={"hand": hand}).fetchall() == [("k000002",)]
    both = "SELECT count(*), count(q.id) FROM photos p AT (VERSION => $v) JOIN hand USING (id) LEFT JOIN photos q USING (id)"
    assert lake.sql(both, {"v": first}, tables={"hand": hand}).fetchall() == [(2, 1)]
