"""What SQL reads, by the kernel's count and by Lance's: as promised for gigabytes, held here at a few megabytes."""

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from benchmarks.harness.instruments import Meter

NUM_ROWS, IMAGE_NBYTES = 20_000, 1_500
SCHEMA = """
name = "media"
key = "id"
[columns]
image = { type = "image" }
id    = { type = "string", nullable = false }
score = { type = "float64", nullable = false }
"""
SORT_COLUMN = 8 * NUM_ROWS
MANIFEST = 16_384  # and what names the newest version: a few KB, however large the table


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A table of 30 MB of images, whose files are open; nothing of it is kept in memory."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "media.toml").write_text(SCHEMA)
    lake = lh.connect(folder / "lake", sql_limits=lh.SqlLimits(resident_nbytes=0))
    table = lake.create_table("media", schema=folder / "media.toml")
    rng = np.random.default_rng(0)
    scores = rng.permutation(NUM_ROWS) / NUM_ROWS
    for start in range(0, NUM_ROWS, 10_000):
        images = [rng.bytes(IMAGE_NBYTES) for _ in range(10_000)]
        ids = [f"k{n:05}" for n in range(start, start + 10_000)]
        columns = [pa.array(images, pa.large_binary()), ids, scores[start : start + 10_000]]
        table.add(pa.table(columns, names=["image", "id", "score"]), progress=False)
    table.create_index("id", lh.BTree())
    return lake


def read_nbytes(call):
    """Count the second call: the first opens files."""
    call()
    with Meter() as meter:
        answer = call()
    return meter.usage.read_nbytes, answer


def asked(lake, text):
    return read_nbytes(lambda: lake.sql(text).arrow())


def test_counting_reads_no_data(media):
    nbytes, answer = asked(media, "SELECT count(*) FROM media")
    assert answer.to_pydict() == {"count_star()": [NUM_ROWS]}
    assert nbytes <= MANIFEST


def test_the_top_five_read_the_sort_column_and_five_images(media):
    nbytes, answer = asked(media, "SELECT image FROM media ORDER BY score DESC LIMIT 5")
    assert answer.num_rows == 5
    assert nbytes <= 1.05 * (SORT_COLUMN + 5 * IMAGE_NBYTES) + MANIFEST


def test_the_top_five_read_five_images_where_the_sort_column_is_in_memory(media):
    lake = lh.connect(media.uri)
    nbytes, answer = asked(lake, "SELECT image FROM media ORDER BY score DESC LIMIT 5")
    assert answer.num_rows == 5
    assert nbytes <= 5 * IMAGE_NBYTES + MANIFEST


def test_a_lookup_reads_hardly_more_than_get(media):
    got, row = read_nbytes(lambda: media.open_table("media").get(["k07777"], columns=["id", "image"]))
    nbytes, answer = asked(media, "SELECT id, image FROM media WHERE id = 'k07777'")
    assert answer.to_pylist() == row.to_pylist()
    assert nbytes <= 1.5 * got + MANIFEST / 2


def test_a_filter_that_keeps_a_thousandth_reads_a_thousandth_of_the_images(media):
    nbytes, answer = asked(media, "SELECT image FROM media WHERE score < 0.001")
    assert answer.num_rows == NUM_ROWS // 1000
    assert nbytes <= 1.05 * (SORT_COLUMN + answer.num_rows * IMAGE_NBYTES) + MANIFEST


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(image) FROM media",
        "SELECT count(*) FROM media WHERE image IS NULL",
        "SELECT id FROM media WHERE score < 0.001",
        "SELECT max(score) FROM (SELECT * FROM media)",
        "SELECT count(*) FROM media a JOIN media b USING (id)",
    ],
)
def test_no_image_is_read_for_what_does_not_show_one(media, text):
    nbytes, _ = asked(media, text)
    assert nbytes < NUM_ROWS * IMAGE_NBYTES / 20
