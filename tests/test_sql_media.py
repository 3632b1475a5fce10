"""Functions on media in SQL: right for every storage, for late bytes only, and honest about what they cannot read."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import lakehouse as lh
from lakehouse.errors import MediaError, QueryError
from lakehouse.media.codecs import encode_image
from lakehouse.media.phash import phash
from lakehouse.schema import Column, Schema
from lakehouse.types import Type
from tests.media_files import picture, video


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """Pictures inline and as blobs: NULL, broken and empty ones among them."""
    lake = lh.connect(tmp_path_factory.mktemp("media") / "lake")
    columns = [
        Column("id", "string", nullable=False),
        Column("image", Type("image")),
        Column("blob", Type("image", storage="blob")),
        Column("score", "int32"),
    ]
    schema = Schema("pets", "id", columns)
    table = lake.create_table("pets", schema=schema)
    rows = [(picture(width_px=w, height_px=h), w) for w, h in [(64, 32), (48, 48), (40, 20), (30, 60)]]
    values = [*rows, (None, 5), (b"no picture at all", 6), (b"", 7)]
    table.add([{"id": f"p{i}", "image": b, "blob": b, "score": s} for i, (b, s) in enumerate(values)], progress=False)
    return lake


SIZES = [
    ("p0", 64, 32),
    ("p1", 48, 48),
    ("p2", 40, 20),
    ("p3", 30, 60),
    ("p4", None, None),
    ("p5", None, None),
    ("p6", None, None),
]


@pytest.mark.parametrize("column", ["image", "blob"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id, image_width({c}), image_height({c}) FROM pets ORDER BY id",
        "SELECT id, image_width(p.{c}), image_height(p.{c}) FROM pets AS p ORDER BY p.id LIMIT 10",
        "WITH a AS (SELECT id, {c} AS pic FROM pets) SELECT id, image_width(pic), image_height(pic) FROM a ORDER BY 1",
        "SELECT id, image_width(any_value({c})), max(image_height({c})) FROM pets GROUP BY id ORDER BY id",
        "SELECT DISTINCT id, image_width({c} || ''::BLOB), image_height({c}) FROM pets ORDER BY id",
    ],
)
def test_sizes_come_out_wherever_the_column_has_been(media, column, statement):
    assert media.sql(statement.format(c=column)).fetchall() == SIZES


def test_columns_are_called_as_duckdb_calls_them(media):
    result = media.sql(
        "SELECT image_width(image), sha256(blob), octet_length(image) AS n FROM pets ORDER BY score LIMIT 1"
    )
    assert result.schema.names == ["image_width(image)", "sha256(blob)", "n"]
    assert result.arrow().schema == result.schema


@pytest.mark.parametrize("column", ["image", "blob"])
def test_what_duckdb_has_itself_gives_the_same_on_late_bytes(media, column):
    late = media.sql(f"SELECT id, sha256({column}), octet_length({column}) FROM pets ORDER BY id").fetchall()
    stored = media.open_table("pets").to_arrow(["id", column]).sort_by("id").to_pylist()
    assert late == [
        (row["id"], b if b is None else hashlib.sha256(b).hexdigest(), b if b is None else len(b))
        for row in stored
        for b in [row[column]]
    ]


def test_thumbnails_and_hashes_are_those_of_the_library(media):
    first = media.open_table("pets")["p0"]["image"].read()
    small, bits = media.sql(
        "SELECT thumbnail(image, $px), phash(image) FROM pets WHERE id = 'p0'", {"px": 16}
    ).fetchall()[0]
    assert max(Image.open(io.BytesIO(small)).size) == 16
    assert bits == phash(first)


def test_a_perceptual_hash_stays_when_a_picture_is_scaled_and_compressed():
    ramp = np.add.outer(np.arange(200), np.sin(np.arange(300) / 20) * 40).astype(np.uint8)
    original = Image.fromarray(ramp).convert("RGB")
    buffer = io.BytesIO()
    original.resize((150, 100)).save(buffer, "JPEG", quality=60)
    mirrored = encode_image(np.asarray(original)[:, ::-1].copy())
    near = (phash(encode_image(np.asarray(original))) ^ phash(buffer.getvalue())).bit_count()
    far = (phash(encode_image(np.asarray(original))) ^ phash(mirrored)).bit_count()
    assert near <= 6
    assert far >= 16


def test_what_cannot_be_read_is_null_and_counted_or_ends_a_strict_statement(media, capsys):
    result = media.sql("SELECT id, image_width(image) AS w FROM pets WHERE score > 4 AND score < 10")
    assert {w for _, w in result.fetchall()} == {None}
    assert [(e["function"], e["num_failed"]) for e in result.errors().to_pylist()] == [("image_width", 2)]
    result.show()
    assert "image_width() failed on 2" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(MediaError, match=r"image_width\(\).*'pets'.*strict"):
        media.sql("SELECT image_width(image) FROM pets", strict=True).arrow()
    assert media.sql("SELECT 1").errors().num_rows == 0


def test_bytes_are_read_for_the_rows_that_reach_the_call(media, monkeypatch):
    from lakehouse.sql import functions

    read = []
    stored = functions._stored
    monkeypatch.setattr(
        functions, "_stored", lambda source, kind, keys: read.extend(keys.to_pylist()) or stored(source, kind, keys)
    )
    asked = "SELECT id, image_width(image), score FROM pets WHERE score > 10 ORDER BY score DESC LIMIT 2"
    assert media.sql(asked).fetchall() == [("p0", 64, 64), ("p1", 48, 48)]
    assert len(read) == 2
    read.clear()
    assert media.sql("SELECT *, image_height(blob) AS h FROM pets ORDER BY score LIMIT 1").arrow()["h"].to_pylist() == [
        None
    ]
    assert len(read) == 1
    read.clear()
    assert media.sql("SELECT count(*) FROM pets WHERE score > 10 AND image_width(image) > 40").fetchall() == [(2,)]
    assert len(set(read)) == 4


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT image_width(image) AS w FROM pets WHERE score > 10 ORDER BY w LIMIT 2",
        "SELECT image_width(image) AS w FROM pets WHERE score > 10 ORDER BY 1 LIMIT 2",
        "SELECT image_width(image) AS w FROM pets WHERE score > 10 ORDER BY image_width(image) LIMIT 2",
        "SELECT image_width(image) + 0 AS w FROM pets WHERE score BETWEEN 11 AND 45 ORDER BY score LIMIT 2",
        "SELECT min(image_width(image)) AS w FROM pets WHERE score > 10 GROUP BY score ORDER BY score LIMIT 2",
        "SELECT DISTINCT image_width(image) AS w FROM pets WHERE score > 10 ORDER BY w LIMIT 2",
        "SELECT image_width(a.image) AS w FROM pets a JOIN pets b USING (id) WHERE a.score > 10 ORDER BY b.score LIMIT 2",
        "SELECT w FROM (SELECT image_width(image) AS w, score FROM pets) WHERE score > 10 ORDER BY score LIMIT 2",
        "SELECT image_width(image) AS w FROM pets WHERE score > 10 ORDER BY score LIMIT 2 OFFSET 0",
    ],
)
def test_the_order_of_a_limit_is_the_order_of_the_statement(media, statement):
    assert [row[0] for row in media.sql(statement).fetchall()] == [30, 40]


def test_videos_tell_what_they_are_and_give_frames(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_bytes(video(num_frames=20, fps=10))
    table = lh.connect(tmp_path / "lake").create_table("clips", schema="videos")
    table.add(lh.read_videos(str(file)), progress=False)
    key = table.schema.names[0]
    handle = table.rows(table.head(1)[key].to_pylist())[0]["video"]
    lake = lh.connect(tmp_path / "lake")
    told = lake.sql(
        "SELECT video_width(video), video_height(video), video_duration_s(video), video_fps(video), video_codec(video) FROM clips"
    ).fetchall()
    info = handle.info
    assert told == [(info.width_px, info.height_px, info.duration_s, info.fps, info.codec)]
    (frame,) = lake.sql("SELECT frame_at(video, 0.5) FROM clips").fetchall()[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(frame))), np.asarray(handle.frame_at(0.5)))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("image_width()", "takes a column of images"),
        ("image_width(image, 3)", "takes a column of images"),
        ("thumbnail(image, 3, 4)", "if you like, one value"),
        ("thumbnail(image, max_px := 3)", "by position"),
        ("frame_at(image)", "one value"),
        ("image_width(score)", "no medium"),
    ],
)
def test_a_call_that_means_nothing_says_how_it_goes(media, call, word):
    with pytest.raises(QueryError, match=word):
        media.sql(f"SELECT {call} FROM pets").arrow()


def test_bytes_that_are_handed_in_are_media_too(media):
    given = pa.table({"b": pa.array([picture(width_px=7, height_px=9), None], pa.binary())})
    assert media.sql("SELECT image_width(b) FROM given", tables={"given": given}).fetchall() == [(7,), (None,)]
