"""What `lake.sql` answers is what DuckDB answers about the same rows held in memory."""

import datetime as dt
import decimal
import math

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lakehouse as lh
from lakehouse import types
from lakehouse.sql import Engine

SCHEMA = pa.schema(
    [
        types.field("image", "image"),
        types.field("id", "string", nullable=False),
        types.field("n", "int32"),
        types.field("big", "uint64"),
        types.field("x", "float64"),
        types.field("y", "float32"),
        types.field("half", "float16"),
        types.field("word", "text"),
        types.field("flag", "bool"),
        types.field("split", "category", values=["train", "val", "test"]),
        types.field("day", "date32"),
        types.field("taken", "timestamp[us, UTC]"),
        types.field("price", "decimal128(10, 2)"),
        types.field("embedding", "vector<float16>[3]"),
        types.field("tags", "list<string>"),
        types.field("box", "struct<w: int32, label: string>"),
        types.field("video", "video"),
    ]
)
FLOATS = [0.5, -1.25, math.nan, math.inf, -math.inf, None, 0.0, 1e300]
WORDS = ["", "abc", "abd", "a%c", "a_c", "ünï", None, "x" * 300, "A", "0"]


def rows(start, stop):
    rng = np.random.default_rng(start)
    made = []
    for i in range(start, stop):
        made.append(
            {
                "image": None if i % 11 == 0 else rng.bytes(40 + i % 7),
                "id": f"k{i:03}",
                "n": None if i % 7 == 0 else i % 13 - 6,
                "big": 2**64 - 1 - i if i % 3 else None,
                "x": FLOATS[i % 8],
                "y": FLOATS[(i + 3) % 7],
                "half": None if i % 5 == 0 else i / 4,
                "word": WORDS[i % 10],
                "flag": (True, False, None)[i % 3],
                "split": (("train", "val", None) if start else ("test", "train", "val"))[i % 3],
                "day": dt.date(2024, 1, 1) + dt.timedelta(days=i % 40) if i % 9 else None,
                "taken": dt.datetime(2024, 3, 31, 0, 30, tzinfo=dt.UTC) + dt.timedelta(hours=i),
                "price": decimal.Decimal(i) / 4,
                "embedding": [i, i / 2, 0.25] if i % 6 else None,
                "tags": ["a", None, f"t{i % 4}"][: i % 4] if i % 8 else None,
                "box": {"w": i % 5, "label": WORDS[i % 4]} if i % 10 else None,
                "video": None if i % 4 == 0 else rng.bytes(100 + i),
            }
        )
    return pa.Table.from_pylist(made, SCHEMA)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A lake whose table has fragments, deletions, an index, NULLs, NaN and infinities; and its rows in memory."""
    lake = lh.connect(tmp_path_factory.mktemp("zoo"))
    table = lake.create_table("zoo", schema=SCHEMA)
    for start in range(0, 240, 60):
        table.add(rows(start, start + 60))
    table.delete("id = 'k005' OR id >= 'k200' AND id < 'k210'")
    for column in ("id", "n", "x"):
        table.create_index(column, lh.BTree())
    held = table.to_arrow()
    connection = in_memory(held)
    yield lake, held, lambda statement: connection.sql(statement).to_arrow_table()
    connection.close()


def in_memory(held):
    """A plain DuckDB over the same rows; it cannot be given float16."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    plain = pa.schema([f.with_type(widened(f.type)) for f in held.schema])
    connection.register("zoo", held.cast(plain))
    return connection


def widened(data_type):
    if data_type == pa.float16():
        return pa.float32()
    if data_type == pa.list_(pa.float16(), 3):
        return pa.list_(pa.float32(), 3)
    return data_type


def same(ours, theirs, *, ordered):
    assert ours.schema.names == theirs.schema.names
    mine, other = ([repr(tuple(row.values())) for row in named(t).to_pylist()] for t in (ours, theirs))
    if ordered:
        assert mine == other
    else:
        assert sorted(mine) == sorted(other)


def named(table):
    """Rows as dictionaries need names of their own."""
    return table.rename_columns([f"{i}" for i in range(table.num_columns)])


STATEMENTS = [
    "SELECT count(*) FROM zoo",
    "SELECT * FROM zoo ORDER BY id",
    "FROM zoo ORDER BY id LIMIT 7",
    "SELECT image, id FROM zoo ORDER BY n NULLS LAST, id LIMIT 5 OFFSET 3",
    "SELECT id, image AS pic, video FROM zoo WHERE n > 2 ORDER BY id",
    "SELECT split, count(*), sum(n), max(x) FILTER (WHERE isfinite(x)) FROM zoo GROUP BY split ORDER BY split NULLS FIRST",
    "SELECT split, count(image), count(*) FROM zoo GROUP BY ALL ORDER BY ALL",
    "SELECT octet_length(image) AS o, count(*) FROM zoo GROUP BY 1 ORDER BY 1",
    "SELECT id FROM zoo WHERE image IS NULL ORDER BY id",
    "SELECT DISTINCT image IS NULL, video IS NULL FROM zoo ORDER BY 1, 2",
    "SELECT DISTINCT split FROM zoo ORDER BY split",
    "SELECT count(DISTINCT image) FROM zoo",
    "SELECT image FROM (SELECT image, row_number() OVER (PARTITION BY split ORDER BY id) AS r FROM zoo) WHERE r = 1 ORDER BY octet_length(image)",
    "SELECT id, pic FROM (SELECT id, image AS pic, n FROM zoo WHERE word LIKE 'ab%') WHERE n IS NOT NULL ORDER BY n, id",
    "SELECT p.id, q.image FROM zoo p JOIN zoo q ON p.n = q.n AND p.id < q.id WHERE p.id < 'k020' ORDER BY 1, q.id",
    "SELECT a.id, b.image FROM (VALUES ('k001'), ('k002'), ('nope')) a(id) LEFT JOIN zoo b USING (id) ORDER BY a.id",
    "SELECT id FROM zoo ORDER BY image NULLS FIRST, id LIMIT 3",
    "SELECT id, image FROM zoo ORDER BY 2 NULLS FIRST, 1 LIMIT 30",
    "SELECT max(image), min(octet_length(video)) FROM zoo",
    "SELECT any_value(image ORDER BY id) FROM zoo",
    "SELECT id, CASE WHEN n > 0 THEN image END AS i FROM zoo ORDER BY id",
    "SELECT id, coalesce(image, video) AS i FROM zoo ORDER BY id",
    "SELECT id, image = video FROM zoo ORDER BY id",
    "SELECT id, (SELECT image FROM zoo q WHERE q.id = p.id) AS i FROM zoo p WHERE n = 1 ORDER BY id",
    "SELECT id FROM zoo WHERE image IN (SELECT image FROM zoo WHERE n = 1) ORDER BY id",
    "SELECT id FROM zoo p WHERE EXISTS (SELECT image FROM zoo q WHERE q.n = p.n + 12) ORDER BY id",
    "SELECT image FROM zoo WHERE n = 1 UNION SELECT image FROM zoo WHERE n = 1",
    "SELECT id, image FROM zoo WHERE n = 1 UNION ALL SELECT id, video FROM zoo WHERE n = 2 ORDER BY id",
    "SELECT id, image FROM zoo WHERE n = 1 UNION ALL BY NAME SELECT image, id FROM zoo WHERE n = 2 ORDER BY id",
    "SELECT image FROM zoo EXCEPT SELECT image FROM zoo WHERE n > 0",
    "WITH a AS (SELECT id, image FROM zoo WHERE n = 1), b(k, pic) AS (SELECT * FROM a) SELECT k, pic FROM b ORDER BY k",
    "WITH a AS (SELECT image AS p, id FROM zoo), b AS (SELECT p AS q, id FROM a) SELECT octet_length(q), id FROM b ORDER BY id",
    "WITH zoo AS (SELECT id FROM zoo WHERE n = 1) SELECT count(*) FROM zoo",
    "WITH RECURSIVE r AS (SELECT 0 AS i, NULL::BLOB AS b UNION ALL SELECT i + 1, (SELECT image FROM zoo WHERE id = 'k001') FROM r WHERE i < 3) SELECT * FROM r ORDER BY i",
    "SELECT zoo FROM zoo WHERE id = 'k001'",
    "SELECT z.box.label, z.tags[1], z.embedding FROM zoo z WHERE z.box.w > 2 ORDER BY z.id",
    "SELECT * EXCLUDE (image, video) FROM zoo ORDER BY id LIMIT 3",
    "SELECT * REPLACE (octet_length(image) AS image) FROM zoo ORDER BY id LIMIT 3",
    "SELECT * RENAME (image AS pic) FROM zoo ORDER BY id LIMIT 3",
    "SELECT COLUMNS('i.*') FROM zoo ORDER BY id LIMIT 3",
    "SELECT count(COLUMNS(*)) FROM zoo",
    "SELECT id, image FROM zoo ORDER BY #2 NULLS LAST, #1 LIMIT 3",
    "SELECT DISTINCT ON (split) split, id, image FROM zoo ORDER BY split, id",
    "SELECT DISTINCT ON (octet_length(image)) octet_length(image), id FROM zoo ORDER BY ALL",
    "SELECT image FROM zoo GROUP BY image HAVING count(*) > 1",
    "SELECT id, lag(image) OVER (ORDER BY id) AS before FROM zoo ORDER BY id LIMIT 5",
    "SELECT id, image FROM zoo QUALIFY row_number() OVER (PARTITION BY split ORDER BY x, id) = 1 ORDER BY id",
    "SELECT list(image ORDER BY id) FROM zoo WHERE n = 1",
    "SELECT {'i': image, 'k': id} AS s FROM zoo WHERE n = 1 ORDER BY id",
    "SELECT image AS id, id AS image FROM zoo WHERE n = 1 ORDER BY zoo.id",
    "SELECT a.image, b.image FROM zoo a JOIN zoo b USING (id) WHERE a.n = 1 ORDER BY id",
    "SELECT count(*) FROM zoo a JOIN zoo b USING (image)",
    "SELECT count(*) FROM zoo NATURAL JOIN (SELECT id, image FROM zoo WHERE n = 1)",
    "SELECT count(*) FROM (SELECT id, image, n FROM zoo) NATURAL JOIN (SELECT id, image FROM zoo WHERE n = 1)",
    "FROM (SELECT split, n FROM zoo) PIVOT (sum(n) FOR split IN ('train', 'val'))",
    "SELECT * FROM (SELECT id, n, big FROM zoo WHERE id < 'k003') UNPIVOT (v FOR name IN (n, big)) ORDER BY ALL",
    "SELECT id FROM zoo WHERE split = 'train' ORDER BY id",
    "SELECT id FROM zoo WHERE split IN ('val', 'test') AND flag ORDER BY id",
    "SELECT id FROM zoo WHERE half > 3.5 ORDER BY id",
    "SELECT id FROM zoo WHERE half = 0.25 ORDER BY id",
    "SELECT id FROM zoo WHERE box.w = 3 ORDER BY id",
    "SELECT id FROM zoo WHERE embedding IS NULL ORDER BY id",
    "SELECT count(*) FROM zoo WHERE taken >= '2024-04-01 00:00:00+02'",
    "SELECT taken::DATE AS d, count(*) FROM zoo GROUP BY 1 ORDER BY 1",
    "SELECT count(*) FROM zoo WHERE price BETWEEN 3 AND 20.5",
    "SELECT array_distance(embedding, [1, 2, 3]::FLOAT[3]) AS d, id FROM zoo ORDER BY d NULLS LAST, id LIMIT 4",
    "SELECT sum(n), max(big), min(word) FROM zoo WHERE id IN ('k001', 'k002', 'nope')",
    "SUMMARIZE SELECT id, word, image FROM zoo",
    "DESCRIBE zoo",
    "SELECT word, embedding, id FROM zoo ORDER BY n, id LIMIT 4",
    "SELECT * FROM zoo WHERE split = 'train' ORDER BY word, id LIMIT 4",
    "SELECT word AS id, id AS word FROM zoo ORDER BY zoo.id DESC LIMIT 3",
    "SELECT id, word FROM zoo LIMIT 5 OFFSET 63",
    "SELECT count(*) FROM zoo LIMIT 1",
    "SELECT max(id) FROM zoo LIMIT 1",
    "SELECT id, id AS again FROM zoo WHERE n > 5 LIMIT 3",
    "SELECT * FROM zoo LIMIT 0",
    "SELECT unnest([1, 2]) AS u, id FROM zoo LIMIT 3",
    "SELECT upper(word), word FROM zoo ORDER BY n, id LIMIT 3",
    "SELECT n + 100 AS n, id FROM zoo WHERE n > 4 ORDER BY id",
    "SELECT a.id, b.id FROM zoo a LEFT JOIN zoo b ON a.n = b.big WHERE b.id IS NULL AND b.n IS NULL ORDER BY ALL",
    "SELECT a.id, b.id FROM zoo a LEFT JOIN zoo b ON a.n + 6 = b.n WHERE a.n > 3 AND b.split = 'val' ORDER BY ALL",
    "SELECT a.id, b.id FROM zoo a RIGHT JOIN zoo b ON a.n + 9 = b.n WHERE a.n IS NULL AND b.n > 3 ORDER BY ALL",
    "SELECT count(*) FROM zoo a FULL JOIN zoo b ON a.id = b.word WHERE a.id IS NULL OR b.n = 3",
    "SELECT a.id FROM zoo a SEMI JOIN zoo b ON a.n = b.n + 1 WHERE a.n > 3 ORDER BY ALL",
    "SELECT a.id FROM zoo a, zoo b WHERE a.id = 'k001' AND b.id LIKE 'k00%' AND a.n < b.n ORDER BY ALL",
    "SELECT id FROM zoo p WHERE n IN (SELECT n FROM zoo q WHERE q.id > 'k100' AND p.split = q.split) ORDER BY id",
    "SELECT id FROM zoo WHERE zoo.n = 3 OR NOT (zoo.split = 'val' OR x > 0.25) ORDER BY id",
    "SELECT id FROM zoo t(a, id, image) WHERE id = 'k001'",
    "SELECT id FROM zoo ASOF JOIN (SELECT n AS m, taken AS t FROM zoo WHERE n > 3) b ON taken >= t WHERE b.m = 5 ORDER BY id",
    "SHOW zoo",
    "SELECT a.id FROM zoo a ASOF JOIN zoo b ON a.split = b.split AND a.taken >= b.taken ORDER BY a.id LIMIT 5",
    "SELECT z.id, t.tag FROM zoo z, unnest(z.tags) AS t(tag) ORDER BY ALL LIMIT 9",
    "SELECT p.id, l.m FROM zoo p, LATERAL (SELECT max(q.n) AS m FROM zoo q WHERE q.split = p.split) l ORDER BY ALL LIMIT 9",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_answer_equals_duckdbs_over_rows_in_memory(zoo, statement):
    lake, _, duck = zoo
    result = lake.sql(statement)
    ours, theirs = result.arrow(), duck(statement)
    same(ours, theirs, ordered="ORDER BY" in statement)
    assert result.schema == ours.schema
    assert lake.sql(statement).schema == ours.schema
    streamed = lake.sql(statement).batches()
    assert streamed.schema == ours.schema
    same(streamed.read_all(), ours, ordered="ORDER BY" in statement)


COLUMNS = {
    "n": st.integers(-8, 8).map(str),
    "big": st.sampled_from(["18446744073709551610", "5", "0"]),
    "x": st.sampled_from(["0.5", "'nan'::DOUBLE", "'inf'::DOUBLE", "'-inf'::DOUBLE", "0", "1e300", "-1.25"]),
    "y": st.sampled_from(["0.5", "'nan'::FLOAT", "'inf'::FLOAT", "0.1", "-1.25"]),
    "half": st.sampled_from(["0.25", "3", "'nan'::FLOAT"]),
    "word": st.sampled_from(["'abc'", "''", "'a'", "'ünï'", "'abd'", "'A'"]),
    "id": st.integers(0, 240).map(lambda i: f"'k{i:03}'"),
    "split": st.sampled_from(["'train'", "'val'", "'nope'"]),
    "flag": st.sampled_from(["true", "false"]),
    "day": st.integers(1, 31).map(lambda d: f"DATE '2024-01-{d:02}'"),
    "taken": st.integers(0, 23).map(lambda h: f"TIMESTAMPTZ '2024-04-01 {h:02}:30:00+00'"),
    "price": st.sampled_from(["3", "2.25", "10.5"]),
    "box.w": st.integers(0, 5).map(str),
    "box.label": st.sampled_from(["'abc'", "''"]),
    "octet_length(image)": st.integers(39, 47).map(str),
}


@st.composite
def comparisons(draw):
    column = draw(st.sampled_from(sorted(COLUMNS)))
    value = COLUMNS[column]
    form = draw(
        st.sampled_from(["=", "<>", "<", ">", "<=", ">=", "IN", "NOT IN", "BETWEEN", "NULL", "DISTINCT", "LIKE"])
    )
    if form in ("IN", "NOT IN"):
        items = draw(st.lists(value | st.just("NULL"), min_size=1, max_size=4))
        return f"{column} {form} ({', '.join(items)})"
    if form == "BETWEEN":
        return f"{column} BETWEEN {draw(value)} AND {draw(value)}"
    if form == "NULL":
        return f"{column} IS {draw(st.sampled_from(['', 'NOT ']))}NULL"
    if form == "DISTINCT":
        return f"{column} IS NOT DISTINCT FROM {draw(value)}"
    if form == "LIKE":
        pattern = draw(st.sampled_from(["a%", "ab_", "%c", "a%c", "", "%", "a\\%c", "A%", "k0%", "t%"]))
        name = draw(st.sampled_from(["word", "id", "split"]))
        return f"{name} {draw(st.sampled_from(['LIKE', 'NOT LIKE', 'ILIKE']))} '{pattern}'"
    return f"{column} {form} {draw(value)}"


predicates = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["AND", "OR"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda p: f"NOT ({p})"),
    ),
    max_leaves=5,
)


@given(where=predicates)
def test_any_predicate_keeps_the_rows_duckdb_keeps(zoo, where):
    lake, _, duck = zoo
    statement = f"SELECT id, n, split FROM zoo WHERE {where} ORDER BY id"
    same(lake.sql(statement).arrow(), duck(statement), ordered=True)


@given(where=predicates, k=st.integers(0, 5))
def test_a_top_k_with_media_has_the_right_media(zoo, where, k):
    lake, _, duck = zoo
    statement = f"SELECT image, id, video AS clip FROM zoo WHERE {where} ORDER BY n DESC NULLS LAST, id LIMIT {k}"
    same(lake.sql(statement).arrow(), duck(statement), ordered=True)


@pytest.mark.parametrize("column", SCHEMA.names)
def test_a_column_comes_out_as_it_went_in(zoo, column):
    lake, held, _ = zoo
    ours = lake.sql(f'SELECT "{column}" FROM zoo ORDER BY id').arrow()[column].to_pylist()
    stored = held.sort_by("id")[column].to_pylist()
    assert repr(ours) == repr(stored)


def test_a_category_is_its_label_over_fragments_that_code_it_differently(zoo):
    lake, held, _ = zoo
    by_id = dict(zip(held["id"].to_pylist(), held["split"].to_pylist(), strict=True))
    assert dict(lake.sql("SELECT id, split FROM zoo").fetchall()) == by_id


def test_every_version_answers_for_itself(lake):
    table = lake.create_table("pets", data=pa.table({"id": range(10)}))
    first = table.version
    table.tag("v1")
    table.delete("id < 4")
    second = table.version
    table.add(pa.table({"id": [100]}))
    assert lake.sql("SELECT count(*) FROM pets").fetchall() == [(7,)]
    assert lake.sql(f"SELECT count(*) FROM pets AT (VERSION => {first})").fetchall() == [(10,)]
    assert lake.sql("SELECT count(*) FROM pets AT (VERSION => 'v1')").fetchall() == [(10,)]
    assert lake.sql("SELECT count(*) FROM pets AT (VERSION => $v)", {"v": second}).fetchall() == [(6,)]
    assert lake.sql("SELECT count(*) FROM pets p AT (VERSION => ? - 1) WHERE p.id > ?", [second + 1, 8]).fetchall() == [
        (1,)
    ]
    joined = lake.sql(f"SELECT count(*) FROM pets p JOIN pets q AT (VERSION => {first}) USING (id)")
    assert joined.fetchall() == [(6,)]
    assert joined.versions == {"pets": table.version, f"pets AT (VERSION => {first})": first}


def test_versions_are_pinned_when_the_statement_is_asked(lake):
    table = lake.create_table("pets", data=pa.table({"id": range(10)}))
    result = lake.sql("SELECT count(*) FROM pets")
    table.delete("id < 4")
    assert result.fetchall() == [(10,)]


def test_threads_ask_at_the_same_time(zoo):
    from concurrent.futures import ThreadPoolExecutor

    lake, held, _ = zoo
    statement = "SELECT count(*), sum(p.n) FROM zoo p JOIN zoo q USING (id) WHERE p.n >= $n"

    def ask(n):
        return lake.sql(statement, {"n": n}).fetchall()[0]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(-6, 6)))
    values = [n for n in held["n"].to_pylist() if n is not None]
    assert answers == [(len([v for v in values if v >= n]), sum(v for v in values if v >= n)) for n in range(-6, 6)]


def test_an_engine_opened_again_answers(zoo):
    lake, _, _ = zoo
    engine = Engine(lake._snapshot_of, lake.table_names)
    assert engine.query("SELECT count(*) FROM zoo").fetchall() == [(229,)]
    engine.close()
    assert engine.query("SELECT count(*) FROM zoo").fetchall() == [(229,)]
    engine.close()
