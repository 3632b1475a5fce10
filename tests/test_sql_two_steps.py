"""What is read and computed after a LIMIT is what DuckDB gives over Parquet, and little is read for it."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.sql import Engine, SqlLimits

ROWS = 1_200
PHOTOS = pa.schema(
    [
        types.field("image", "image"),
        types.field("id", "string", nullable=False),
        types.field("score", "float64"),
        types.field("width", "int32"),
        types.field("caption", "text"),
        types.field("embedding", "vector<float32>[8]"),
        types.field("split", "category", values=["train", "val"]),
        types.field("owner", "string"),
        types.field("tags", "list<string>"),
    ]
)


def photo(i, rng):
    """A row whose sort key has ties and NULLs."""
    return {
        "image": None if i % 11 == 0 else rng.bytes(200),
        "id": f"k{i:05}",
        "score": None if i % 7 == 0 else float(rng.integers(0, 40)) / 4,
        "width": i % 50,
        "caption": None if i % 13 == 0 else f"caption {i} " + "lorem " * (i % 9),
        "embedding": [float(x) for x in rng.integers(0, 9, 8)] if i % 17 else None,
        "split": (None, "train", "val")[i % 3],
        "owner": f"o{i % 20}",
        "tags": [f"t{i % 3}", f"u{i % 5}"],
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A lake with fragments and deletions, and DuckDB over the same rows as Parquet."""
    folder, rng = tmp_path_factory.mktemp("both"), np.random.default_rng(0)
    lake = lh.connect(folder / "lake")
    photos = lake.create_table("photos", schema=PHOTOS)
    for start in range(0, ROWS, ROWS // 4):
        rows = [photo(i, rng) for i in range(start, start + ROWS // 4)]
        photos.add(pa.Table.from_pylist(rows, PHOTOS), progress=False)
    photos.delete("id = 'k00005' OR width = 49")
    names = {"id": [f"o{i}" for i in range(0, 30, 2)], "name": [f"name {i} " + "x" * 50 for i in range(0, 30, 2)]}
    owners = lake.create_table("owners", data=pa.table({**names, "caption": range(15)}))
    duck = duckdb.connect()
    for table, columns in ((photos, "* REPLACE (embedding::FLOAT[8] AS embedding)"), (owners, "*")):
        pq.write_table(table.to_arrow(), folder / f"{table.name}.parquet")
        duck.execute(f"CREATE VIEW {table.name} AS SELECT {columns} FROM '{folder}/{table.name}.parquet'")
    yield lake, duck
    duck.close()


STATEMENTS = [
    "SELECT upper(caption) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT upper(caption), id FROM photos ORDER BY score DESC NULLS LAST, id LIMIT 3 OFFSET 2",
    "SELECT upper(caption) AS id, id AS caption FROM photos ORDER BY id DESC NULLS LAST LIMIT 3",
    "SELECT length(caption) AS n, id FROM photos ORDER BY n DESC NULLS LAST, id LIMIT 4",
    "SELECT length(caption), id FROM photos ORDER BY 1 DESC NULLS LAST, 2 LIMIT 4",
    "SELECT length(caption), id FROM photos ORDER BY length(caption) DESC NULLS LAST, id LIMIT 4",
    "SELECT *, upper(caption) AS u FROM photos ORDER BY score, id LIMIT 3",
    "SELECT * EXCLUDE (image), caption || '!' AS u FROM photos ORDER BY score, id LIMIT 3",
    "SELECT * REPLACE (upper(caption) AS caption) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT COLUMNS('c.*'), upper(caption) FROM photos ORDER BY id LIMIT 3",
    "SELECT p.caption, upper(p.caption) u, o.name || o.id FROM photos p JOIN owners o ON p.owner = o.id ORDER BY p.score NULLS FIRST, p.id LIMIT 5",
    "SELECT p.*, o.*, upper(p.caption) FROM photos p JOIN owners o ON p.owner = o.id ORDER BY p.score NULLS FIRST, p.id LIMIT 5",
    "SELECT *, length(name) FROM photos p JOIN owners o ON p.owner = o.id ORDER BY p.score NULLS FIRST, p.id LIMIT 5",
    "SELECT upper(name), length(o.name), p.caption FROM photos p LEFT JOIN owners o ON p.owner = o.id ORDER BY p.score NULLS FIRST, p.id LIMIT 9",
    "SELECT upper(a.caption), b.caption FROM photos a JOIN photos b ON a.width = b.width AND a.id < b.id ORDER BY a.score, a.id, b.id LIMIT 7",
    "SELECT avg(length(caption)) FROM (SELECT * FROM photos ORDER BY score, id LIMIT 5)",
    "SELECT max(caption) FROM (SELECT caption FROM photos ORDER BY score, id LIMIT 5)",
    "SELECT upper(caption), id FROM (SELECT * FROM photos ORDER BY score, id LIMIT 5) ORDER BY id",
    "SELECT upper(c), id FROM (SELECT caption AS c, id FROM photos ORDER BY score, id LIMIT 5) WHERE c LIKE '%1%' ORDER BY id",
    "SELECT c FROM (SELECT caption AS c, id FROM photos ORDER BY score, id LIMIT 5) WHERE c IS NOT NULL ORDER BY id",
    "SELECT image FROM (SELECT image, id FROM photos ORDER BY score, id LIMIT 50) WHERE image IS NOT NULL ORDER BY id",
    "SELECT base64(image) FROM photos ORDER BY score, id LIMIT 5",
    "SELECT octet_length(image), sha256(image) FROM photos ORDER BY score, id LIMIT 5",
    "SELECT sha256(b) FROM (SELECT image AS b, id FROM photos ORDER BY score, id LIMIT 5) WHERE b <> 'x'::BLOB ORDER BY id",
    "WITH top AS (SELECT * FROM photos ORDER BY score, id LIMIT 5) SELECT upper(caption), embedding FROM top ORDER BY id",
    "WITH top AS (SELECT * FROM photos ORDER BY score, id LIMIT 5) SELECT a.caption = b.caption, a.id FROM top a JOIN top b USING (id) ORDER BY id",
    "WITH top AS (SELECT * FROM photos WHERE width > 5) SELECT upper(caption) FROM top ORDER BY score, id LIMIT 4",
    "WITH a AS (SELECT * FROM photos), b AS (SELECT id, caption AS c, score FROM a) SELECT upper(c) FROM b ORDER BY score, id LIMIT 4",
    "WITH a AS (SELECT caption FROM photos ORDER BY id LIMIT 3) SELECT * FROM (WITH a AS (SELECT upper(caption) AS caption FROM a) SELECT * FROM a) ORDER BY 1",
    "WITH photos AS (SELECT * FROM photos WHERE width < 10 ORDER BY score, id LIMIT 10) SELECT upper(caption) FROM photos ORDER BY id LIMIT 3",
    "SELECT array_distance(embedding, [1,2,3,4,5,6,7,8]::FLOAT[8]) AS d, id FROM photos ORDER BY score, id LIMIT 4",
    "SELECT array_distance(embedding, [1,2,3,4,5,6,7,8]::FLOAT[8]) AS d, id FROM photos ORDER BY d NULLS LAST, id LIMIT 4",
    "SELECT list_sum(embedding::FLOAT[]), embedding[2], id FROM photos ORDER BY score, id LIMIT 4",
    "SELECT embedding::VARCHAR FROM photos ORDER BY score, id LIMIT 4",
    "SELECT max(embedding) FROM (SELECT embedding FROM photos ORDER BY score, id LIMIT 6)",
    "SELECT caption FROM photos WHERE caption LIKE '%lorem%' ORDER BY score, id LIMIT 3",
    "SELECT length(caption) AS w FROM photos WHERE w > 20 ORDER BY score, id LIMIT 3",
    "SELECT upper(caption) AS u FROM photos WHERE u LIKE 'CAPTION 1%' ORDER BY score, id LIMIT 3",
    "SELECT length(caption) AS w, w + 1 AS x FROM photos ORDER BY score, id LIMIT 3",
    "SELECT width + 1 AS width, width * 2 AS z, upper(caption) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT width + 1 AS width, upper(caption) FROM photos ORDER BY width DESC, id LIMIT 3",
    "SELECT -width AS width, upper(caption), id FROM photos ORDER BY width + 0, id LIMIT 3",
    "SELECT id, upper(caption), row_number() OVER (ORDER BY id) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT id, upper(caption), lag(caption) OVER (ORDER BY id) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT id, upper(caption) FROM photos QUALIFY row_number() OVER (PARTITION BY split ORDER BY score, id) = 1 ORDER BY id LIMIT 3",
    "SELECT id, upper(caption), row_number() OVER w AS r FROM photos WINDOW w AS (PARTITION BY split ORDER BY id) ORDER BY r, id LIMIT 3",
    "SELECT id, upper(caption), row_number() OVER (ORDER BY score, id) AS r FROM photos QUALIFY r < 4 ORDER BY r LIMIT 3",
    "SELECT id, (SELECT max(name) FROM owners o WHERE o.id = p.owner), upper(caption) FROM photos p ORDER BY score, id LIMIT 3",
    "SELECT id, (SELECT upper(p.caption)), caption FROM photos p ORDER BY score, id LIMIT 3",
    "SELECT id, EXISTS (SELECT 1 FROM owners o WHERE o.id = p.owner) AS e, upper(caption) FROM photos p ORDER BY e, score, id LIMIT 3",
    "SELECT DISTINCT upper(caption) AS u FROM photos ORDER BY u LIMIT 3",
    "SELECT DISTINCT ON (split) split, upper(caption), id FROM photos ORDER BY split, score, id LIMIT 3",
    "SELECT DISTINCT ON (1) split, upper(caption), id FROM photos ORDER BY 1, score, id LIMIT 3",
    "SELECT split, max(upper(caption)) FROM photos GROUP BY split ORDER BY split LIMIT 3",
    "SELECT split, upper(caption) FROM photos GROUP BY ALL ORDER BY ALL LIMIT 3",
    "SELECT split, caption FROM photos GROUP BY ALL ORDER BY split, caption LIMIT 3",
    "SELECT max(caption), upper('x') FROM photos LIMIT 1",
    "SELECT max(id), count(*) FROM photos LIMIT 3",
    "SELECT count(*) FROM (SELECT split FROM photos GROUP BY ALL LIMIT 2)",
    "SELECT count(*) FROM (SELECT width FROM photos LIMIT 7 OFFSET 3)",
    "SELECT upper(caption), caption, image FROM photos WHERE id > 'k00500' ORDER BY ALL LIMIT 3",
    "SELECT id, upper(caption) FROM photos ORDER BY ALL DESC LIMIT 3",
    "SELECT upper(caption) FROM photos ORDER BY score + width, id LIMIT 3",
    "SELECT upper(caption) FROM photos ORDER BY CASE WHEN split = 'val' THEN 0 ELSE 1 END, id LIMIT 3",
    "SELECT upper(caption) FROM photos ORDER BY length(owner), score, id LIMIT 3",
    "SELECT caption FROM photos ORDER BY caption NULLS LAST LIMIT 3",
    "SELECT upper(caption) AS caption, id FROM photos ORDER BY caption NULLS LAST, id LIMIT 3",
    "SELECT p.caption AS c FROM photos p ORDER BY p.caption NULLS LAST LIMIT 3",
    "(SELECT upper(caption) AS c FROM photos ORDER BY score, id LIMIT 2) UNION ALL (SELECT lower(caption) FROM photos ORDER BY id LIMIT 2) ORDER BY c",
    "SELECT caption FROM photos UNION ALL SELECT name FROM owners ORDER BY 1 NULLS LAST LIMIT 5",
    "(SELECT caption, id FROM photos ORDER BY id LIMIT 4) UNION ALL SELECT 'x', 'y' ORDER BY id",
    "(SELECT image, id FROM photos ORDER BY id LIMIT 4) UNION ALL SELECT 'x'::BLOB, 'y' ORDER BY id",
    "(SELECT image, id FROM photos ORDER BY id LIMIT 4) UNION ALL (SELECT image, id FROM photos ORDER BY id DESC LIMIT 4) ORDER BY id",
    "SELECT image FROM photos WHERE width = 3 UNION ALL SELECT image FROM photos WHERE image > 'x'::BLOB ORDER BY 1",
    "SELECT m FROM (SELECT id, image AS m FROM photos UNION ALL SELECT id, caption::BLOB FROM photos) ORDER BY id, m LIMIT 9",
    "SELECT id, caption FROM photos UNION ALL BY NAME SELECT caption::VARCHAR AS caption, id FROM owners ORDER BY id, caption LIMIT 5",
    "SELECT id FROM photos EXCEPT (SELECT id FROM photos ORDER BY id DESC LIMIT 1100) ORDER BY id",
    "SELECT * FROM (SELECT caption FROM photos ORDER BY id LIMIT 3) INTERSECT SELECT caption FROM photos ORDER BY 1",
    "SELECT * FROM (SELECT caption, id FROM photos ORDER BY id LIMIT 3) NATURAL JOIN (SELECT caption, id FROM photos) ORDER BY id",
    "SELECT x FROM (SELECT p AS x, id FROM photos p ORDER BY id LIMIT 2) ORDER BY id",
    "SELECT photos.caption FROM photos ORDER BY photos.score, photos.id LIMIT 2",
    "SELECT length(photos.caption) FROM photos ORDER BY photos.score, photos.id LIMIT 2",
    "SELECT o.caption + 1, upper(p.caption) FROM photos p JOIN owners o ON p.owner = o.id ORDER BY p.score, p.id LIMIT 4",
    "SELECT o.caption + 1, o.caption FROM owners o ORDER BY o.id LIMIT 4",
    "SELECT upper(caption) FROM photos WHERE id IN (SELECT id FROM photos ORDER BY score, id LIMIT 3) ORDER BY id",
    "SELECT name FROM owners WHERE id IN (SELECT owner FROM photos ORDER BY score, id LIMIT 3) ORDER BY id",
    "SELECT * FROM owners o, LATERAL (SELECT upper(caption) AS u, id AS pid FROM photos p WHERE p.owner = o.id ORDER BY score, p.id LIMIT 1) ORDER BY o.id",
    "SELECT o.id, l.c FROM owners o, LATERAL (SELECT length(caption) AS c FROM photos p WHERE p.owner = o.id ORDER BY score, p.id LIMIT 1) l ORDER BY o.id",
    "SELECT o.id, (SELECT upper(caption) FROM photos p WHERE p.owner = o.id ORDER BY score, p.id LIMIT 1) FROM owners o ORDER BY o.id",
    "SELECT upper(caption), unnest(tags) FROM photos ORDER BY id LIMIT 4",
    "SELECT unnest({'a': id, 'b': caption}), width FROM photos ORDER BY id LIMIT 4",
    "SELECT struct_pack(a := caption, b := id) FROM photos ORDER BY score, id LIMIT 4",
    "SELECT {'i': image, 'k': id} FROM photos ORDER BY score, id LIMIT 4",
    "SELECT [upper(t) FOR t IN tags], upper(caption) FROM photos ORDER BY score, id LIMIT 4",
    "SELECT list_transform(tags, lambda x: x || caption), upper(caption) FROM photos ORDER BY score, id LIMIT 4",
    "SELECT upper(caption)::VARCHAR, CAST(length(caption) AS DOUBLE), caption IS NULL, coalesce(caption, id), CASE WHEN width > 3 THEN caption ELSE id END FROM photos ORDER BY score, id LIMIT 9",
    "SELECT caption IS NULL, id FROM photos ORDER BY score, id LIMIT 20",
    "SELECT image IS NULL, id FROM photos ORDER BY score, id LIMIT 20",
    "SELECT count(image), count(*), count(DISTINCT image), count(caption) FROM photos",
    "SELECT count(image) FILTER (WHERE width > 3), split FROM photos GROUP BY split ORDER BY split",
    "SELECT id FROM photos WHERE image IS NULL ORDER BY id",
    "SELECT id, image FROM photos WHERE image IS NOT NULL AND width > 40 ORDER BY id",
    "SELECT split, image IS NULL AS m, count(*) FROM photos GROUP BY ALL ORDER BY ALL",
    "SELECT o.id, p.image IS NULL FROM owners o LEFT JOIN photos p ON p.owner = o.id AND p.width = 3 ORDER BY o.id, p.id",
    "SELECT id FROM (SELECT image AS pic, id FROM photos) WHERE pic IS NULL ORDER BY id",
    "SELECT count(pic) FROM (SELECT image AS pic, id FROM photos WHERE width < 10)",
    "SELECT sum(CASE WHEN image IS NULL THEN 1 ELSE 0 END) FROM photos",
    "SELECT id, image IS NULL AND caption IS NULL FROM photos ORDER BY id LIMIT 30",
    "SELECT id FROM photos ORDER BY image IS NULL DESC, id LIMIT 5",
    "SELECT id, image FROM photos ORDER BY image IS NULL DESC, score, id LIMIT 5",
    "SELECT count(*) FROM photos a JOIN photos b ON (a.image IS NULL) = (b.image IS NULL) WHERE a.width = 3 AND b.width = 4",
    "SELECT random() < 2 AS r, upper(caption) FROM photos ORDER BY score, id LIMIT 3",
    "SELECT upper(caption) FROM photos ORDER BY score, id LIMIT 0",
    "SELECT count(upper(caption)) FROM photos LIMIT 3",
    "SELECT string_agg(caption, ',' ORDER BY id) FROM (SELECT caption, id FROM photos ORDER BY id LIMIT 3)",
    "SELECT nullif(caption, 'x'), fmod(width, 3), id FROM photos ORDER BY score, id LIMIT 3",
    "SELECT caption[1:3], caption ILIKE '%1%', caption SIMILAR TO '.*1.*', substring(caption FROM 2 FOR 3), position('a' IN caption) FROM photos ORDER BY score, id LIMIT 3",
    'SELECT upper(caption) AS "SELECT", id AS "lake_late_1" FROM photos ORDER BY score, id LIMIT 3',
    "SELECT lake_late_1 FROM (SELECT caption AS lake_late_1, score, id FROM photos) ORDER BY score, id LIMIT 3",
    "SELECT upper(lake_late_1), id FROM (SELECT caption AS lake_late_1, score, id FROM photos) lake_late ORDER BY score, id LIMIT 3",
    "SELECT upper(lake_late_1), id, lake_late_2 FROM (SELECT caption AS lake_late_1, upper(id) AS lake_late_2, score, id FROM photos ORDER BY id LIMIT 4) lake_late ORDER BY score, id LIMIT 3",
    "SELECT upper(caption) FROM (SELECT * FROM photos ORDER BY id LIMIT 20) ORDER BY score, id LIMIT 3",
    "SELECT upper(c) FROM (SELECT upper(caption) AS c, score FROM (SELECT * FROM photos ORDER BY id LIMIT 20) ORDER BY score, c LIMIT 10) ORDER BY c LIMIT 3",
    "SELECT a.caption, b.caption, upper(a.caption) FROM (SELECT * FROM photos ORDER BY id LIMIT 3) a, (SELECT * FROM photos ORDER BY id DESC LIMIT 3) b ORDER BY a.id, b.id LIMIT 5",
    "SELECT max(a.caption), max(b.caption) FROM (SELECT * FROM photos ORDER BY id LIMIT 3) a, (SELECT * FROM photos ORDER BY id DESC LIMIT 3) b",
    "SELECT max(a.caption), max(b.caption) FROM (SELECT * FROM photos ORDER BY id LIMIT 3) a, photos b",
    "SELECT s, count(*) FROM (SELECT split AS s, caption FROM photos ORDER BY id LIMIT 100) GROUP BY GROUPING SETS ((s), ()) ORDER BY ALL",
    "SELECT s, caption, count(*) FROM (SELECT split AS s, caption FROM photos ORDER BY id LIMIT 10) GROUP BY ROLLUP (s, caption) ORDER BY ALL",
    "SELECT id, sum(width) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW), length(caption) FROM photos ORDER BY id LIMIT 5",
    "PIVOT (SELECT split, width, caption FROM photos ORDER BY id LIMIT 30) ON split IN ('train', 'val') USING max(caption) GROUP BY width ORDER BY width",
    "SELECT * FROM (SELECT id, caption, owner FROM photos ORDER BY id LIMIT 4) UNPIVOT (v FOR k IN (caption, owner)) ORDER BY ALL",
    "SELECT p.id, o.id, upper(p.caption) FROM (SELECT * FROM photos ORDER BY id LIMIT 5) p POSITIONAL JOIN (SELECT * FROM owners ORDER BY id LIMIT 3) o ORDER BY p.id",
    "SELECT p.id, upper(p.caption), o.name FROM photos p ASOF JOIN owners o ON p.owner >= o.id ORDER BY p.score, p.id LIMIT 5",
    "SELECT p.id, upper(p.caption) FROM photos p SEMI JOIN owners o ON p.owner = o.id ORDER BY p.score, p.id LIMIT 5",
    "SELECT p.id, upper(caption) FROM photos p ANTI JOIN owners o ON p.owner = o.id ORDER BY p.score, p.id LIMIT 5",
    "WITH RECURSIVE r AS (SELECT 0 AS i, ''::VARCHAR AS c UNION ALL SELECT i + 1, (SELECT upper(caption) FROM photos ORDER BY id LIMIT 1) FROM r WHERE i < 3) SELECT * FROM r ORDER BY i",
    "FROM photos SELECT id, upper(caption) ORDER BY score, id LIMIT 2",
    "SELECT id, upper(caption) FROM (FROM photos) ORDER BY score, id LIMIT 2",
    "SELECT caption AS a, caption AS b, upper(caption) AS a FROM photos ORDER BY score, id LIMIT 2",
    "SELECT id id, id id, upper(caption) FROM photos ORDER BY score, id LIMIT 2",
    "SELECT p.id, q.id, upper(p.caption) FROM photos p JOIN photos q USING (id) ORDER BY p.score, p.id LIMIT 2",
    "SELECT id, upper(p.caption) FROM photos p JOIN photos q USING (id) ORDER BY p.score, id LIMIT 2",
    "SELECT main.photos.id, upper(main.photos.caption) FROM photos ORDER BY main.photos.score, id LIMIT 2",
    "SELECT * FROM (VALUES ('k00001', 1), ('k00002', 2)) v(k, n) JOIN photos p ON v.k = p.id ORDER BY v.n DESC LIMIT 1",
    "SELECT upper(caption), n FROM (VALUES ('k00001', 1), ('k00002', 2)) v(k, n) JOIN photos p ON v.k = p.id ORDER BY v.n DESC LIMIT 1",
    "SELECT CAST(caption AS BLOB), upper(caption) COLLATE NOCASE FROM photos ORDER BY score, id LIMIT 3",
    "SELECT upper(caption) FROM photos ORDER BY owner COLLATE NOCASE DESC, id LIMIT 3",
    "SELECT caption FROM photos ORDER BY score, id LIMIT 10%",
    "SELECT upper(caption) FROM photos ORDER BY score, id LIMIT (SELECT 3)",
    "SELECT upper(caption) FROM photos ORDER BY score, id FETCH FIRST 3 ROWS ONLY",
    "SELECT upper(caption) FROM photos ORDER BY score, id OFFSET 1148",
    "SELECT upper(caption) AS u, id FROM photos WHERE width = 3 ORDER BY u LIMIT 3",
    "SELECT caption c, c FROM photos ORDER BY score, id LIMIT 3",
    "SELECT score AS id, upper(caption), owner AS score FROM photos ORDER BY score, photos.id LIMIT 4",
    "SELECT upper(caption), max(width) OVER () FROM photos ORDER BY score, id LIMIT 4",
    "SELECT * FROM (SELECT upper(caption) FROM photos ORDER BY score, id LIMIT 4)",
    'SELECT "upper(caption)" FROM (SELECT upper(caption) FROM photos ORDER BY score, id LIMIT 4) ORDER BY 1',
    'SELECT x."length(caption)" + 1 FROM (SELECT length(caption), id FROM photos ORDER BY score, id LIMIT 4) x ORDER BY x.id',
    "SELECT grouping(split), split, max(length(caption)) FROM photos GROUP BY CUBE (split) ORDER BY ALL LIMIT 3",
]


def rows_of(table):
    """Rows as text; names of columns may repeat."""
    numbered = table.rename_columns([str(at) for at in range(table.num_columns)])
    return [repr(tuple(row.values())) for row in numbered.to_pylist()]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_an_answer_with_a_limit_equals_duckdbs_over_parquet(both, statement):
    lake, duck = both
    ours, theirs = lake.sql(statement, progress=False).arrow(), duck.sql(statement).to_arrow_table()
    assert ours.column_names == theirs.column_names
    if "ORDER BY" in statement.rpartition(")")[2]:
        assert rows_of(ours) == rows_of(theirs)
    else:
        assert sorted(rows_of(ours)) == sorted(rows_of(theirs))


@pytest.mark.parametrize(
    "statement", ["SELECT nope FROM photos ORDER BY id LIMIT 3", "SELECT upper(p.width.x) FROM photos p LIMIT 1"]
)
def test_a_name_that_is_not_there_is_named_in_the_user_s_words(both, statement):
    with pytest.raises(lh.errors.QueryError, match="nope|width") as caught:
        both[0].sql(statement).arrow()
    assert "lake_late" not in str(caught.value)


WIDE_ROWS, CAPTION_NBYTES, VECTOR_NBYTES = 20_000, 400, 512
SCORES = 8 * WIDE_ROWS


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Long captions and vectors: 8 MB of the one, 10 MB of the other, over three fragments with deletions."""
    rng = np.random.default_rng(1)
    lake = lh.connect(tmp_path_factory.mktemp("wide") / "lake")
    vectors = pa.array(rng.random(WIDE_ROWS * 128, dtype=np.float32))
    rows = pa.table(
        {
            "id": np.arange(WIDE_ROWS),
            "score": rng.random(WIDE_ROWS),
            "caption": [rng.bytes(CAPTION_NBYTES // 2).hex() for _ in range(WIDE_ROWS)],
            "embedding": pa.FixedSizeListArray.from_arrays(vectors, 128),
        }
    )
    table = lake.create_table("t", data=rows.slice(0, 8_000))
    table.add(rows.slice(8_000, 6_000), progress=False)
    table.add(rows.slice(14_000), progress=False)
    table.delete("id % 10 = 3")
    return lake


def read(lake, statement, params=None):
    """Rows, and the bytes read for them when the files' footers are known."""
    snapshot = lake.open_table("t").snapshot()
    engine = Engine(lambda name: snapshot, lake.table_names, SqlLimits(resident_nbytes=0))
    engine.query(statement, params).arrow()
    snapshot.dataset.io_stats_incremental()
    rows = engine.query(statement, params).arrow()
    nbytes = snapshot.dataset.io_stats_incremental().read_bytes
    engine.close()
    return rows, nbytes


@pytest.mark.parametrize(
    ("statement", "num_rows", "num_fetched"),
    [
        ("SELECT caption, embedding FROM t ORDER BY score LIMIT 5", 5, 5),
        ("SELECT * FROM t ORDER BY score LIMIT 5 OFFSET 3", 5, 5),
        ("SELECT upper(caption), embedding[1:3] FROM t ORDER BY score LIMIT 5", 5, 5),
        ("SELECT length(caption) AS n FROM t ORDER BY score DESC NULLS FIRST, id LIMIT 5", 5, 5),
        ("SELECT upper(caption) AS u, row_number() OVER () FROM t ORDER BY score LIMIT 5", 5, 5),
        ("SELECT id, upper(caption) FROM t QUALIFY row_number() OVER (ORDER BY score) < 4 ORDER BY id LIMIT 5", 3, 3),
        ("SELECT max(length(caption)) FROM (SELECT * FROM t ORDER BY score LIMIT 5)", 1, 5),
        ("WITH a AS (SELECT caption AS c FROM t ORDER BY score LIMIT 5) SELECT upper(c) FROM a WHERE c > 'a'", None, 5),
        ("SELECT a.caption || b.caption FROM t a JOIN t b USING (id) ORDER BY a.score + b.score LIMIT 5", 5, 10),
        ("SELECT upper(c) FROM (SELECT caption AS c, score AS s FROM t WHERE id % 2 = 0) ORDER BY s LIMIT 5", 5, 5),
        ("SELECT array_distance(embedding, range(128)::FLOAT[128]) FROM t ORDER BY score LIMIT 5", 5, 5),
    ],
)
def test_wide_columns_are_read_for_the_rows_that_a_limit_keeps(wide, statement, num_rows, num_fetched):
    rows, nbytes = read(wide, statement)
    assert num_rows is None or rows.num_rows == num_rows
    # What sorts, filters and joins; then, for each row, one page of each wide column at most.
    assert nbytes <= 4 * SCORES + num_fetched * (CAPTION_NBYTES + VECTOR_NBYTES + 2 * 8_192)


@pytest.mark.parametrize(
    ("statement", "params"),
    [
        ("SELECT * FROM t LIMIT 5", None),
        ("SELECT * FROM t LIMIT 5 OFFSET 12345", None),
        ("SELECT upper(caption), id + 1 FROM t LIMIT $k OFFSET $o", {"k": 5, "o": 12_345}),
        ("SELECT count(caption) FROM (SELECT caption FROM t LIMIT 5 OFFSET 777)", None),
        ("SELECT id, caption FROM t WHERE score >= 0 LIMIT 5", None),
    ],
)
def test_a_plain_limit_stops_early(wide, statement, params):
    _, nbytes = read(wide, statement, params)
    assert nbytes <= 5 * (CAPTION_NBYTES + VECTOR_NBYTES) + 200_000  # of 20 MB


def test_a_limit_and_an_offset_count_the_rows_that_are_left(wide):
    every = wide.sql("SELECT id FROM t").arrow()["id"].to_pylist()
    for offset in (0, 1, 7_000, 7_300, 17_990):
        got = wide.sql("SELECT id, upper(caption) AS c FROM t LIMIT 20 OFFSET ?", [offset]).arrow()
        assert got["id"].to_pylist() == every[offset : offset + 20]


def test_every_version_is_cut_for_itself(lake):
    table = lake.create_table("t", data=pa.table({"id": range(100), "caption": [f"c{i}" for i in range(100)]}))
    first = table.version
    table.delete("id < 50")
    statement = "SELECT upper(caption) FROM t AT (VERSION => $v) ORDER BY id LIMIT 1"
    assert [lake.sql(statement, {"v": v}).fetchall() for v in (first, table.version)] == [[("C0",)], [("C50",)]]
