"""A DuckDB connection with the lake's tables, as notebooks and BI tools use one."""

import os
import subprocess
import sys
import textwrap
import threading

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse import types
from lakehouse._lance import lance
from lakehouse.errors import InvalidArgumentError, TableNotFoundError
from lakehouse.sql.scans.validity import may_be_null


@pytest.fixture
def clips(lake):
    """Make a table of every kind of column, some media NULL, over two files and with a deleted row."""
    kinds = {
        "id": "int64",
        "score": "float64",
        "half": "float16",
        "split": ("category", ("train", "val")),
        "vector": "vector<float32>[4]",
        "box": "struct<x: int32>",
        "image": "image",
        "video": "video",
        "two words": "string",
    }
    fields = [
        types.field(name, kind) if isinstance(kind, str) else types.field(name, kind[0], values=kind[1])
        for name, kind in kinds.items()
    ]
    table = lake.create_table("my-clips.1", schema=pa.schema(fields))
    rng = np.random.default_rng(0)
    for start in (0, 30):
        table.add([_clip(n, rng) for n in range(start, start + 30)], progress=False)
    table.delete("id = 7")
    return table


def _clip(n, rng):
    return {
        "id": n,
        "score": float("nan") if n % 10 == 3 else float(rng.random()),
        "half": np.float16(n / 2),
        "split": ("train", "val")[n % 2],
        "vector": [n, 0, 0, 0],
        "box": {"x": n},
        "image": rng.bytes(30_000) if n % 3 else None,
        "video": rng.bytes(90_000) if n % 2 else None,
        "two words": f"clip {n}",
    }


def nbytes_read(ask):
    """Return what a call reads of files, by the kernel's count."""
    before = _rchar()
    ask()
    return _rchar() - before


def _rchar():
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def test_tables_are_views_that_tools_see(lake, pets, clips):
    with lake.duckdb() as con:
        assert con.sql("SHOW TABLES").fetchall() == [("my-clips.1",), ("pets",)]
        listed = con.sql("SELECT table_schema, table_name, table_type FROM information_schema.tables").fetchall()
        assert sorted(listed) == [("main", "my-clips.1", "VIEW"), ("main", "pets", "VIEW")]
        assert con.cursor().execute("SELECT count(*) FROM pets").fetchall() == [(20,)]
        described = {row[0]: row[1] for row in con.sql('DESCRIBE "my-clips.1"').fetchall()}
        assert list(described) == [*clips.schema.names, "_rowid"]
        assert described["image"] == 'STRUCT("my-clips.1.image" UBIGINT)'
        assert described["half"] == "FLOAT"


def test_answers_are_those_of_lake_sql(lake, clips):
    statements = [
        """SELECT count(*), sum(id), count("two words") FROM "my-clips.1" WHERE score > 0.5 AND split = 'val'""",
        'SELECT split, avg(half), max(box.x), count(vector) FROM "my-clips.1" GROUP BY split ORDER BY split',
        "SELECT id FROM \"my-clips.1\" WHERE score = 'nan'::DOUBLE ORDER BY id",
        'SELECT count(*), count(image), count(video) FROM "my-clips.1"',
        'SELECT count(*) FILTER (image IS NULL), count(*) FILTER (video IS NULL AND image IS NOT NULL) FROM "my-clips.1"',
        'SELECT id FROM "my-clips.1" WHERE image IS NULL AND video IS NOT NULL ORDER BY id',
        'SELECT id FROM "my-clips.1" WHERE image IS NULL OR box.x = 8 ORDER BY id',
        'SELECT id, media_nbytes(image), media_sha256(video) FROM "my-clips.1" ORDER BY id',
        'SELECT a.id FROM "my-clips.1" a JOIN "my-clips.1" b ON a._rowid = b._rowid WHERE b.id > 50 ORDER BY ALL',
        'SELECT v[1] FROM (SELECT vector v FROM "my-clips.1" ORDER BY id DESC LIMIT 2)',
    ]
    with lake.duckdb() as con:
        for statement in statements:
            assert con.execute(statement).fetchall() == lake.sql(statement).fetchall(), statement


def test_media_are_references_that_functions_open(lake, pets):
    with lake.duckdb() as con:
        (found,) = con.sql("SELECT image, media_bytes(image), image_width(image), thumbnail(image, 8), thumbnail(image) "
                           "FROM (FROM pets ORDER BY id LIMIT 1)").fetchall()  # fmt: skip
        reference, data, width, small, _ = found
        row_id = reference["pets.image"]
        assert data == pets.take_row_ids([row_id], columns=["image"])["image"][0].as_py()
        assert (width, small[8:12]) == (24, b"WEBP")
        ids = con.sql("SELECT _rowid FROM pets ORDER BY id LIMIT 2").to_arrow_table()["_rowid"]
        assert pets.rows(ids)[0]["image"].read() == data
        assert con.sql("SELECT image_width(NULL), media_bytes(NULL), media_bytes('ab'::BLOB)").fetchall() == [
            (None, None, b"ab")
        ]


def test_no_medium_is_read_that_no_function_asks_for(lake):
    table = lake.create_table("big", schema=pa.schema([pa.field("id", pa.int64()), types.field("image", "image"), types.field("video", "video")]))  # fmt: skip
    rng = np.random.default_rng(0)
    for start in range(0, 120, 40):
        table.add(
            [{"id": n, "image": rng.bytes(100_000), "video": rng.bytes(200_000)} for n in range(start, start + 40)]
        )
    assert not may_be_null(table.snapshot(), "image")
    with lake.duckdb() as con:
        for statement in (
            "SELECT count(*) FROM big",
            "SELECT * FROM big LIMIT 5",
            "SELECT id, image, video FROM big ORDER BY hash(id) LIMIT 5",
            "SELECT count(image), count(video) FROM big",
            "SELECT count(*) FROM big WHERE image IS NULL",
            "FROM big",
        ):
            assert nbytes_read(lambda: con.execute(statement).fetchall()) < 200_000, statement
        five = "SELECT media_bytes(image), media_bytes(video) FROM (FROM big ORDER BY hash(id) LIMIT 5)"
        assert nbytes_read(lambda: con.execute(five).fetchall()) < 1.05 * 5 * 300_000 + 200_000


def test_a_column_that_may_hold_nulls_is_told_from_one_that_cannot(lake, clips, pets):
    assert may_be_null(clips.snapshot(), "image")
    assert may_be_null(clips.snapshot(), "video")
    assert not may_be_null(pets.snapshot(), "image")
    pets.add_columns({"small": pa.field("small", pa.large_binary(), metadata=types.Type("image").metadata)})
    assert may_be_null(pets.snapshot(), "small")  # nothing filled yet
    lance.dataset(pets.uri).create_branch("exp")
    assert may_be_null(lake.open_table("pets@exp").snapshot(), "image")  # its files lie elsewhere


def test_nulls_of_media_in_files_of_the_legacy_format_are_lances_to_find(lake):
    media = pa.schema([types.field("id", "string"), types.field("image", "image")])
    data = pa.Table.from_pylist([{"id": "a", "image": b"1"}, {"id": "b", "image": None}], media)
    lance.write_dataset(data, f"{lake.uri}/old.lance", data_storage_version="legacy")
    assert lake.sql("SELECT id FROM old WHERE image IS NULL").fetchall() == [("b",)]
    assert lake.sql("SELECT count(image), count(*) FROM old").fetchall() == [(1, 2)]
    with lake.duckdb("old") as con:
        assert con.sql("SELECT count(image) FROM old").fetchall() == [(1,)]


def test_a_view_stays_at_its_version(lake, pets):
    with lake.duckdb() as con:
        pets.delete("true")
        assert con.sql("SELECT count(*) FROM pets").fetchall() == [(20,)]
    with lake.duckdb() as con:
        assert con.sql("SELECT count(*) FROM pets").fetchall() == [(0,)]


def test_nothing_of_the_lake_can_be_written(lake, pets):
    version = pets.version
    with lake.duckdb() as con:
        for statement in ("INSERT INTO pets (id) VALUES ('x')", "DELETE FROM pets", "UPDATE pets SET width = 1"):
            with pytest.raises(Exception, match="not an table|not a table|Can only"):
                con.execute(statement)
        con.execute("CREATE TABLE mine AS SELECT id FROM pets LIMIT 3")
        con.execute("DROP VIEW pets")
    assert (pets.version, len(pets)) == (version, 20)


def test_tables_are_chosen_by_name_branches_among_them(lake, pets, clips):
    lance.dataset(pets.uri).create_branch("exp").delete("split = 'val'")
    with lake.duckdb(["pets", "pets@exp"]) as con:
        assert con.sql("SHOW TABLES").fetchall() == [("pets",), ("pets@exp",)]
        more = con.sql('SELECT count(*) FROM pets ANTI JOIN "pets@exp" USING (id)').fetchall()
        assert more[0][0] == 20 - len(lake.open_table("pets", branch="exp"))
    with pytest.raises(TableNotFoundError, match="did you mean 'pets'"):
        lake.duckdb(["pest"])
    with pytest.raises(InvalidArgumentError):
        lake.duckdb(["../x"])
    lake.create_table("Pets", data=[{"a": 1}])
    with pytest.raises(InvalidArgumentError, match="'Pets' and 'pets' are one"):
        lake.duckdb()
    with lake.duckdb("Pets") as con:
        assert con.sql("FROM pets SELECT a").fetchall() == [(1,)]


def test_a_broken_medium_is_null_and_logged_once(lake, caplog):
    lake.create_table(
        "odd", schema=pa.schema([types.field("image", "image")]), data=[{"image": b"no"}, {"image": b"ni"}]
    )
    with lake.duckdb() as con, caplog.at_level("WARNING", "lakehouse"):
        assert con.sql("SELECT image_width(image) FROM odd").fetchall() == [(None,), (None,)]
    assert [record.message.count("image_width()") for record in caplog.records] == [1]


@pytest.mark.parametrize("call", ["thumbnail(image, 1, 2)", "image_width(image, 3)", "frame_at(video)"])
def test_a_call_with_too_many_or_too_few_arguments_says_how_it_goes(lake, clips, call):
    with lake.duckdb() as con, pytest.raises(duckdb.Error, match="one number, by position|images, by position"):
        con.sql(f'SELECT {call} FROM "{clips.name}"').fetchall()


def test_limits_of_the_lake_are_limits_of_the_connection(tmp_path):
    lake = lh.connect(tmp_path / "lake", sql_limits=lh.SqlLimits(memory_nbytes=64 << 20, threads=1))
    lake.create_table("t", data=[{"a": 1}])
    with lake.duckdb() as con:
        assert con.sql("SELECT current_setting('threads'), current_setting('memory_limit')").fetchall() == [
            (1, "64.0 MiB")
        ]
        total = con.sql("SELECT count(*) FROM (SELECT hash(range) h FROM range(6000000) ORDER BY h)").fetchall()
        assert total == [(6_000_000,)]  # spilled
    assert not [name for name in os.listdir(".") if name == ".tmp"]


def test_threads_ask_at_once_over_cursors(lake, pets):
    answers = []
    with lake.duckdb() as con:

        def ask(cursor):
            answers.append(cursor.execute("SELECT sum(image_width(image)), count(*) FROM pets").fetchall())

        threads = [threading.Thread(target=ask, args=(con.cursor(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [[(480, 20)]] * 4


@pytest.mark.parametrize("end", ["", "con.close()", "del con"])
def test_the_program_ends_without_a_word_whatever_is_left_open(pets, end):
    program = f"""
        import lakehouse as lh
        con = lh.connect({os.path.dirname(pets.uri)!r}).duckdb()
        cursor = con.cursor()
        con.sql("SELECT * FROM pets LIMIT 1").fetchall()
        half = cursor.execute("SELECT image_width(image) FROM pets")
        {end}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
