"""Samples are DuckDB's own: its methods, its seeds, before the WHERE; media and wide columns are read for them alone."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse.sql import Engine, SqlLimits

ROWS, CAPTION_NBYTES, IMAGE_NBYTES = 10_000, 400, 600
SCHEMA = pa.schema(
    [
        types.field("id", "int64"),
        types.field("width", "int32"),
        types.field("caption", "text"),
        types.field("image", "image"),
    ]
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """One fragment, so that DuckDB sees the same batches of it as of a table in memory."""
    rng = np.random.default_rng(0)
    lake = lh.connect(tmp_path_factory.mktemp("sample") / "lake")
    rows = [
        {
            "id": i,
            "width": i % 100,
            "caption": f"{i} " + rng.bytes(CAPTION_NBYTES // 2).hex(),
            "image": rng.bytes(IMAGE_NBYTES),
        }
        for i in range(ROWS)
    ]
    lake.create_table("t", schema=SCHEMA).add(pa.Table.from_pylist(rows, SCHEMA), progress=False)
    return lake


@pytest.fixture(scope="module")
def duck(lake):
    connection = duckdb.connect()
    connection.register("held", lake.open_table("t").to_arrow())
    connection.execute("CREATE TABLE t AS FROM held")
    yield connection
    connection.close()


SAMPLES = [
    "TABLESAMPLE reservoir(20 ROWS) REPEATABLE (3)",
    "TABLESAMPLE (20 ROWS) REPEATABLE (4)",
    "TABLESAMPLE reservoir(1%) REPEATABLE (5)",
    "TABLESAMPLE bernoulli(0.5%) REPEATABLE (6)",
    "TABLESAMPLE system(20%) REPEATABLE (7)",
    "TABLESAMPLE system(90%) REPEATABLE (8)",
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_a_seed_draws_the_rows_that_it_draws_in_duckdb(lake, duck, sample):
    for columns in ("id", "id, caption, image", "*", "id, upper(caption) AS c, octet_length(image) AS n"):
        statement = f"SELECT {columns} FROM t {sample} ORDER BY id"
        assert lake.sql(statement).fetchall() == duck.sql(statement).fetchall(), columns


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count(*), min(width) FROM t WHERE width > 50 USING SAMPLE reservoir(200 ROWS) REPEATABLE (3)",
        "SELECT width, max(caption) FROM t GROUP BY width USING SAMPLE reservoir(50 ROWS) REPEATABLE (3) ORDER BY width",
        "SELECT caption, id FROM t WHERE caption LIKE '%1%' USING SAMPLE reservoir(50 ROWS) REPEATABLE (3) ORDER BY id",
        "SELECT upper(a.caption), a.id FROM t a TABLESAMPLE reservoir(9 ROWS) REPEATABLE (3) JOIN t b USING (id) ORDER BY 2",
        "SELECT max(caption) FROM (FROM t WHERE width > 20) TABLESAMPLE reservoir(10 ROWS) REPEATABLE (3)",
        "SELECT upper(caption) AS u FROM t USING SAMPLE reservoir(50 ROWS) REPEATABLE (3) ORDER BY u LIMIT 3",
        "WITH s AS (FROM t USING SAMPLE reservoir(9 ROWS) REPEATABLE (3)) SELECT caption, image FROM s ORDER BY id",
    ],
)
def test_what_is_done_with_a_sample_is_done_after_it(lake, duck, statement):
    assert lake.sql(statement).fetchall() == duck.sql(statement).fetchall()


@pytest.mark.parametrize(
    ("asked", "least", "most"), [("10 ROWS", 10, 10), ("1%", 1, 200), ("10% (bernoulli)", 800, 1_200)]
)
def test_without_a_seed_a_sample_has_its_size(lake, asked, least, most):
    sampled = lake.sql(f"SELECT id, caption FROM t USING SAMPLE {asked}").fetchall()
    assert asked == "1%" or least <= len(sampled) <= most
    assert all(caption.startswith(f"{i} ") for i, caption in sampled)
    assert len({i for i, _ in sampled}) == len(sampled)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT caption, image FROM t USING SAMPLE 10",
        "SELECT * FROM t TABLESAMPLE reservoir(0.1%)",
        "SELECT upper(caption), sha256(image) FROM t USING SAMPLE 10 ROWS",
        "SELECT max(caption) FROM t WHERE caption LIKE '%a%' USING SAMPLE 10 ROWS",
        "SELECT count(DISTINCT image), width % 2 FROM t TABLESAMPLE 10 ROWS GROUP BY ALL",
    ],
)
def test_wide_columns_and_media_are_read_for_the_sample_alone(lake, statement):
    snapshot = lake.open_table("t").snapshot()
    engine = Engine(lambda name: snapshot, lake.table_names, SqlLimits(resident_nbytes=0))
    engine.query(statement).arrow()
    snapshot.dataset.io_stats_incremental()
    engine.query(statement).arrow()
    nbytes = snapshot.dataset.io_stats_incremental().read_bytes
    engine.close()
    assert nbytes <= 12 * ROWS + 10 * (CAPTION_NBYTES + IMAGE_NBYTES + 2 * 8_192)  # of 10 MB


def test_a_sample_of_a_version_has_its_rows(tmp_path):
    table = lh.connect(tmp_path / "lake").create_table("t", data=pa.table({"id": range(100), "caption": ["x"] * 100}))
    first = table.version
    table.delete("id >= 10")
    lake = lh.connect(tmp_path / "lake")
    assert lake.sql("SELECT count(*), max(id) < 10 FROM t USING SAMPLE 50").fetchall() == [(10, True)]
    assert lake.sql("SELECT count(upper(caption)) FROM t AT (VERSION => ?) USING SAMPLE 50", [first]).fetchall() == [
        (50,)
    ]
