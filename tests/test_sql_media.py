"""Functions on media in SQL: right for every storage, for late bytes only, and honest about what they cannot read."""

import hashlib
import io

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import lakehouse as lh
from lakehouse.errors import InvalidArgumentError, MediaError, QueryError
from lakehouse.media.codecs import encode_image
from lakehouse.media.phash import phash
from lakehouse.schema import Column, Schema
from lakehouse.sql import Engine
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


def test_what_a_medium_does_not_have_is_null_and_counted_or_ends_a_strict_statement(tmp_path):
    lake = lh.connect(tmp_path / "lake")
    clips = [{"v": video(num_frames=n, fps=10), "i": picture(), "px": px} for n, px in [(5, 0), (20, 16)]]
    asked = "SELECT frame_at(v, 1.5) IS NULL, thumbnail(i, px) IS NULL FROM clips ORDER BY px"
    result = lake.sql(asked, tables={"clips": clips})
    assert result.fetchall() == [(True, True), (False, False)]
    assert {row["function"]: row["num_failed"] for row in result.errors().to_pylist()} == {
        "frame_at": 1,
        "thumbnail": 1,
    }
    with pytest.raises(InvalidArgumentError, match="the video has 0 s to 0.5 s.*strict"):
        lake.sql("SELECT frame_at(v, 1.5) FROM clips", tables={"clips": clips}, strict=True).arrow()


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("image_width()", "takes a column of images"),
        ("image_width(image, 3)", "takes a column of images"),
        ("thumbnail(image, 3, 4)", "if you like, one number"),
        ("thumbnail(image, max_px := 3)", "by position"),
        ("frame_at(image)", "one number"),
        ("image_width(score)", "no medium"),
        ("image_width(id)", "no medium"),
        ("thumbnail(image, 'a')", "takes a number"),
        ("audio_duration_s(image)", "column of images"),
    ],
)
def test_a_call_that_means_nothing_says_how_it_goes(media, call, word):
    with pytest.raises(QueryError, match=word):
        media.sql(f"SELECT {call} FROM pets").arrow()


def test_bytes_that_are_handed_in_are_media_too(media):
    given = pa.table({"b": pa.array([picture(width_px=7, height_px=9), None], pa.binary())})
    assert media.sql("SELECT image_width(b) FROM given", tables={"given": given}).fetchall() == [(7,), (None,)]


HEAVY_ROWS, HEAVY_NBYTES = 600, 5_000


@pytest.fixture(scope="module")
def heavy(tmp_path_factory):
    """3 MB of bytes inline, none of them NULL, and as much as blobs, of which every tenth is."""
    rng = np.random.default_rng(0)
    lake = lh.connect(tmp_path_factory.mktemp("heavy") / "lake")
    columns = [Column("image", Type("image")), Column("blob", Type("image", storage="blob"))]
    table = lake.create_table("t", schema=Schema("t", None, [*columns, Column("n", "int32"), Column("kind", "string")]))
    values = [rng.bytes(HEAVY_NBYTES) for _ in range(HEAVY_ROWS)]
    rows = [{"image": b, "blob": b if i % 10 else None, "n": i, "kind": "ab"[i % 2]} for i, b in enumerate(values)]
    table.add(rows, progress=False)
    return lake


def read(lake, statement):
    """Rows, and the bytes read for them when the files' footers are known."""
    snapshot = lake.open_table("t").snapshot()
    engine = Engine(lambda name: snapshot, lake.table_names)
    engine.query(statement).arrow()
    snapshot.dataset.io_stats_incremental()
    rows = engine.query(statement).fetchall()
    nbytes = snapshot.dataset.io_stats_incremental().read_bytes
    engine.close()
    return rows, nbytes


@pytest.mark.parametrize("column", ["image", "blob"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT count({c}), count(*) FROM t",
        "SELECT count(*) FROM t WHERE {c} IS NULL",
        "SELECT n FROM t WHERE {c} IS NULL AND n < 15 ORDER BY n",
        "SELECT count(*) FROM t WHERE {c} IS NOT NULL AND kind = 'a'",
        "SELECT kind, count({c}) FROM t GROUP BY kind ORDER BY kind",
        "SELECT sum(CASE WHEN {c} IS NULL THEN 1 ELSE 0 END) FROM t",
        "SELECT count(pic) FROM (SELECT {c} AS pic FROM t WHERE n < 20)",
        "WITH a AS (SELECT {c} AS pic, n FROM t ORDER BY n LIMIT 3) SELECT n FROM a WHERE pic IS NULL",
        "SELECT n, {c} IS NULL FROM t ORDER BY {c} IS NULL DESC, n LIMIT 2",
        "SELECT count(*) FROM t a LEFT JOIN t b ON a.n = b.n + 590 WHERE b.{c} IS NULL",
        "SELECT count(*) FROM t WHERE image IS NULL OR {c} IS NULL",
    ],
)
def test_whether_a_medium_is_null_is_told_without_its_bytes(heavy, column, statement):
    rows, nbytes = read(heavy, statement.format(c=column))
    held = heavy.open_table("t").to_arrow()
    assert (
        rows == heavy.sql(statement.format(c=column).replace("FROM t", "FROM held"), tables={"held": held}).fetchall()
    )
    assert nbytes < HEAVY_ROWS * HEAVY_NBYTES / 20


@pytest.mark.parametrize("column", ["image", "blob"])
@pytest.mark.parametrize(
    ("statement", "num_read"),
    [
        ("SELECT n FROM t WHERE sha256({c}) > '0' AND n % 100 = 7", 6),
        ("SELECT n FROM t WHERE n % 100 = 7 AND sha256({c}) > '0' AND kind = 'b'", 6),
        ("SELECT n FROM t WHERE sha256({c}) > '0' AND {c} IS NOT NULL AND n < 10", 10),
        ("SELECT sha256({c}) AS h, count(*) FROM t WHERE n % 100 = 7 GROUP BY h ORDER BY h", 6),
        ("SELECT n FROM t WHERE n % 100 = 7 ORDER BY sha256({c})", 6),
        ("SELECT max(sha256({c})) FROM t WHERE n IN (1, 2, 3)", 3),
        ("SELECT CASE WHEN n < 3 THEN sha256({c}) END FROM t", 3),
        ("SELECT a.n FROM t a JOIN t b ON sha256(a.{c}) = b.kind WHERE a.n < 4", 4),
        ("SELECT a.n FROM t a JOIN t b USING (n) WHERE sha256(a.{c}) > '0' AND a.n % 100 = 7 AND b.kind = 'b'", 6),
        ("SELECT sha256({c}) FROM t QUALIFY row_number() OVER (PARTITION BY kind ORDER BY n DESC) = 1", 2),
        ("SELECT octet_length({c}), base64({c}) FROM t ORDER BY n DESC LIMIT 4", 4),
        ("SELECT DISTINCT kind, sha256({c}) FROM t WHERE n BETWEEN 1 AND 5", 5),
        ("SELECT sha256({c}) FROM t USING SAMPLE 5", 5),
    ],
)
def test_a_call_reads_the_media_that_other_conditions_leave(heavy, column, statement, num_read):
    _, nbytes = read(heavy, statement.format(c=column))
    assert nbytes <= (num_read + 1) * HEAVY_NBYTES + 40_000


def test_conditions_beside_a_call_mean_what_they_meant(heavy):
    for where in (
        "image_width(image) > 3 OR n < 5",
        "NOT (sha256(image) > 'f' AND n < 300)",
        "sha256(image) > '8' AND n < 300 AND kind = 'a'",
        "sha256(image) > '8' AND n IN (SELECT n FROM t WHERE n < 100)",
        "sha256(image) IS NULL AND n < 100",
        "(n < 50) IS NOT FALSE AND sha256(image) > '8'",
    ):
        stored = heavy.open_table("t").to_arrow(["image", "n", "kind"])
        other = f"SELECT n FROM stored t WHERE {where.replace('FROM t', 'FROM stored')} ORDER BY n"
        assert heavy.sql(f"SELECT n FROM t WHERE {where} ORDER BY n").fetchall() == [
            tuple(row) for row in heavy.sql(other, tables={"stored": stored}).fetchall()
        ]
