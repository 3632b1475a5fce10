"""The twelve queries that a table of images is for, on real pictures: equal to DuckDB over Parquet holding the same bytes."""

import io

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import lakehouse as lh
from benchmarks.sql_statements import digest, media_statements
from benchmarks.sql_tables import MediaTables
from lakehouse.schema import Column, Schema
from lakehouse.types import Type

NUM_ROWS = 600
LABELS = pa.table(
    {
        "id": [f"label-{n}" for n in range(50)],
        "name": [f"name of {n}" for n in range(50)],
        "kept": [n % 10 == 0 for n in range(50)],
    }
)


def jpeg(seed):
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (24 + seed % 9, 32, 3), np.uint8)).save(file, "JPEG", quality=60)
    return file.getvalue()


def photos():
    """Rows of the benchmark's table with pictures that open, some missing."""
    rows = next(iter(MediaTables(NUM_ROWS, 2_000).rows.parts(1)))
    table = pa.Table.from_batches(rows).drop_columns("image")
    images = [None if n % 50 == 7 else jpeg(n) for n in range(NUM_ROWS)]
    return table.append_column("image", pa.array(images, pa.large_binary()))


@pytest.fixture(scope="module", params=["inline", "blob"])
def asked(request, tmp_path_factory):
    """A lake of several fragments with deletes and an update, and a DuckDB over the same rows as Parquet."""
    folder = tmp_path_factory.mktemp(request.param)
    plain = [Column("id", "string", nullable=False), Column("position", "int64"), Column("label", "string")]
    columns = [*plain, Column("score", "float64"), Column("image", Type("image", storage=request.param))]
    lake = lh.connect(folder / "lake")
    table = lake.create_table("media", schema=Schema("media", "id", columns))
    given = photos()
    for start in range(0, NUM_ROWS, 150):
        table.add(given.slice(start, 150), progress=False)
    table.create_index("id", lh.BTree())
    table.delete("position % 17 = 3")
    table.update(where="position % 29 = 1", values={"label": "label-20"})
    lake.create_table("labels", data=LABELS)
    left = given.to_pylist()
    left = [row for row in left if row["position"] % 17 != 3]
    for row in left:
        row["label"] = "label-20" if row["position"] % 29 == 1 else row["label"]
    pq.write_table(pa.Table.from_pylist(left, given.schema), folder / "media.parquet", compression="zstd")
    pq.write_table(LABELS, folder / "labels.parquet")
    reference = duckdb.connect()
    for name in ("media", "labels"):
        reference.execute(f"CREATE VIEW {name} AS FROM '{folder / name}.parquet'")
    return lake, reference


STATEMENTS = {each.name: each for each in media_statements(photos()["id"].to_pylist()[5:])}


@pytest.mark.parametrize("name", STATEMENTS)
def test_an_answer_about_images_is_that_of_duckdb_over_parquet(asked, name):
    lake, reference = asked
    statement = STATEMENTS[name]
    ours, theirs = lake.sql(statement.text).arrow(), reference.sql(statement.text).to_arrow_table()
    assert ours.schema.names == theirs.schema.names
    assert ours.num_rows == theirs.num_rows > 0
    assert digest(statement, ours) == digest(statement, theirs)


def test_the_pictures_of_an_answer_open(asked):
    lake, _ = asked
    shown = lake.sql(
        "SELECT image, image_width(image) AS w FROM media WHERE image IS NOT NULL ORDER BY score DESC LIMIT 10"
    )
    for image, width_px in shown.fetchall():
        assert Image.open(io.BytesIO(image)).width == width_px == 32
