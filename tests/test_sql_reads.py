"""What a statement reads, counted in bytes: Lance tells, and the counts do not depend on the machine."""

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.sql import Engine

ROWS, IMAGE_NBYTES, VIDEO_NBYTES = 3_000, 6_000, 70_000
SCHEMA = pa.schema(
    [
        types.field("image", "image"),
        types.field("id", "string"),
        types.field("score", "float64"),
        types.field("width", "int32"),
        types.field("caption", "text"),
        types.field("embedding", "vector<float32>[64]"),
        types.field("video", "video"),
    ]
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures inline, a few videos as blobs: 18 MB of the one, 7 MB of the other."""
    rng = np.random.default_rng(0)
    lake = lh.connect(tmp_path_factory.mktemp("photos"))
    table = lake.create_table("photos", schema=SCHEMA)
    for start in range(0, ROWS, 1000):
        table.add(
            [
                {
                    "image": rng.bytes(IMAGE_NBYTES),
                    "id": f"k{i:05}",
                    "score": rng.random(),
                    "width": i,
                    "caption": f"caption {i} " + "lorem " * 20,
                    "embedding": rng.random(64, dtype=np.float32),
                    "video": rng.bytes(VIDEO_NBYTES) if i % 30 == 0 else None,
                }
                for i in range(start, start + 1000)
            ]
        )
    table.create_index("id", lh.BTree())
    return lake


def read(lake, statement, params=None):
    """Bytes read from storage the second time, when the files' footers are known, and the rows."""
    snapshot = lake.open_table("photos").snapshot()
    engine = Engine(lambda name: snapshot, lake.table_names)
    engine.query(statement, params).arrow()
    snapshot.dataset.io_stats_incremental()
    rows = engine.query(statement, params).arrow()
    nbytes = snapshot.dataset.io_stats_incremental().read_bytes
    engine.close()
    return nbytes, rows


SCORES = 8 * ROWS


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*) FROM photos",
        "SELECT count(*) FROM (SELECT * FROM photos)",
        "SELECT 1 FROM photos LIMIT 5",
        "SELECT count(*) FROM photos WHERE _rowid < 100",
        "SELECT count(*) FROM photos p, photos q WHERE p._rowid = q._rowid",
        "DESCRIBE photos",
        "SHOW TABLES",
        "SELECT image FROM photos WHERE false",
    ],
)
def test_no_bytes_are_read_for_what_the_manifest_knows(photos, statement):
    if "photos" not in statement:
        statement = f"FROM ({statement}), (SELECT 1 FROM photos LIMIT 1)"
    assert read(photos, statement)[0] == 0


def test_a_top_k_reads_the_sort_column_and_k_rows(photos):
    nbytes, rows = read(photos, "SELECT * EXCLUDE (video) FROM photos ORDER BY score DESC LIMIT 5")
    payload = 5 * IMAGE_NBYTES
    assert rows.num_rows == 5
    assert nbytes <= 1.05 * (SCORES + payload) + 5 * 8_192  # the k rows' texts and vectors: a page a row at most


def test_a_top_k_of_media_alone_reads_five_of_them(photos):
    nbytes, _ = read(photos, "SELECT image FROM photos ORDER BY score DESC LIMIT 5")
    assert nbytes <= 1.05 * (SCORES + 5 * IMAGE_NBYTES) + 4_096


def test_a_filter_reads_media_for_the_rows_it_keeps(photos):
    nbytes, rows = read(photos, "SELECT image, video FROM photos WHERE score > 0.99")
    kept = rows.nbytes
    assert 0 < rows.num_rows < 60
    assert nbytes <= 1.1 * (SCORES + kept) + rows.num_rows * 512


def test_a_join_and_a_limit_read_media_of_the_rows_that_are_left(photos):
    labels = "(VALUES ('k00030'), ('k00031'), ('nope')) l(id)"
    nbytes, rows = read(photos, f"SELECT p.image, p.video FROM photos p JOIN {labels} USING (id)")
    assert rows.num_rows == 2
    assert nbytes < 2 * IMAGE_NBYTES + VIDEO_NBYTES + 20 * ROWS
    nbytes, rows = read(photos, "SELECT image FROM photos LIMIT 3")
    assert rows.num_rows == 3
    assert nbytes < 4 * IMAGE_NBYTES


@pytest.mark.parametrize(
    "where",
    ["id = 'k00777'", "id = $id", "id IN ('k00777', 'nope')", "id LIKE 'k00777%'", "id BETWEEN 'k00777' AND 'k00777'"],
)
def test_a_lookup_by_an_indexed_key_reads_a_page_of_the_index_and_the_row(photos, where):
    params = {"id": "k00777"} if "$" in where else None
    nbytes, rows = read(photos, f"SELECT id, image FROM photos WHERE {where}", params)
    assert rows["id"].to_pylist() == ["k00777"]
    assert nbytes < IMAGE_NBYTES + 64_000  # the index's one page holds all 3,000 keys here


def test_a_grouping_reads_the_columns_it_names(photos):
    nbytes, _ = read(photos, "SELECT width % 10, count(*) FROM photos GROUP BY 1")
    assert nbytes <= 4 * ROWS


def test_bytes_that_sql_works_on_are_read_and_no_other_media(photos):
    nbytes, rows = read(photos, "SELECT sum(octet_length(image)) FROM photos")
    assert rows.column(0).to_pylist() == [ROWS * IMAGE_NBYTES]
    assert nbytes < 1.05 * ROWS * IMAGE_NBYTES + 64_000
