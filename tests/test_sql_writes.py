"""SQL only reads: every statement that would write is refused with a call, and the calls named take results of SQL."""

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import QueryError

REFUSED = {
    "ALTER TABLE pets ADD COLUMN x INT": r"ALTER is refused: .*t\.add_columns",
    "ALTER TABLE pets RENAME COLUMN width TO w": r"t\.rename_column",
    "ANALYZE pets": r"ANALYZE is refused: .*explain",
    "ATTACH 'x.db'": r"ATTACH is refused: .*tables=",
    "BEGIN": "BEGIN is refused: .*pinned",
    "CALL pragma_version()": "CALL is refused",
    "CHECKPOINT": r"CHECKPOINT is refused: .*t\.tag",
    "COMMENT ON TABLE pets IS 'x'": r"COMMENT is refused: .*lake\.plan",
    "COMMIT": "COMMIT is refused: .*pinned",
    "COPY pets TO 'x.parquet'": r"COPY is refused: .*write_parquet",
    "COPY (SELECT 1) TO 'x.csv'": r"COPY is refused: .*write_parquet",
    "CREATE TABLE x AS SELECT 1": r"CREATE is refused: .*lake\.create_table\(name, data=lake\.sql",
    "CREATE OR REPLACE TEMP TABLE x AS SELECT 1": r"lake\.create_table\(name, data=lake\.sql",
    "CREATE VIEW x AS SELECT 1": "CREATE VIEW is refused: .*WITH",
    "CREATE OR REPLACE TEMP VIEW x AS SELECT 1": "CREATE VIEW is refused: .*WITH",
    "CREATE MACRO f(a) AS a + 1": "CREATE MACRO is refused: .*WITH",
    "CREATE UNIQUE INDEX i ON pets(id)": r"CREATE INDEX is refused: .*create_index\(column, lh\.BTree",
    "CREATE SCHEMA s": r"CREATE SCHEMA is refused: .*lh\.connect",
    "CREATE SECRET (TYPE s3)": r"CREATE SECRET is refused: .*lh\.connect",
    "CREATE SEQUENCE s": "CREATE SEQUENCE is refused: .*range",
    "CREATE TYPE t AS ENUM ('a')": r"CREATE TYPE is refused: .*schema=",
    "DEALLOCATE x": "DEALLOCATE is refused: .*second argument",
    "DELETE FROM pets WHERE width = 1": r"DELETE is refused: .*delete\(where\)",
    "DETACH x": "DETACH is refused",
    "DROP TABLE pets": r"DROP is refused: .*lake\.drop_table",
    "EXECUTE x": "EXECUTE is refused: .*second argument",
    "EXPLAIN SELECT 1": r"EXPLAIN is refused: .*explain\(\)",
    "EXPLAIN ANALYZE SELECT 1": r"explain\(\)",
    "EXPORT DATABASE 'x'": r"EXPORT is refused: .*write_parquet",
    "IMPORT DATABASE 'x'": r"IMPORT is refused: .*lh\.read_parquet",
    "INSERT INTO pets VALUES ('z', 1)": r"INSERT is refused: .*add\(lake\.sql",
    "INSERT OR REPLACE INTO pets VALUES ('z', 1)": r"add\(lake\.sql",
    "WITH a AS (SELECT 1) INSERT INTO pets SELECT * FROM a": r"INSERT is refused: .*add\(lake\.sql",
    "WITH a AS (INSERT INTO pets VALUES ('z', 1) RETURNING *) FROM a": "INSERT is refused, in WITH too",
    "WITH a AS (DELETE FROM pets RETURNING *) FROM a": "DELETE is refused, in WITH too",
    "WITH a AS (UPDATE pets SET width = 0 RETURNING *) FROM a": "UPDATE is refused, in WITH too",
    "INSTALL json": "INSTALL is refused",
    "LOAD json": "LOAD is refused",
    "MERGE INTO pets USING pets p ON pets.id = p.id WHEN MATCHED THEN DELETE": r"MERGE is refused: .*merge_insert",
    "PRAGMA version": "PRAGMA is refused",
    "PREPARE x AS SELECT 1": "PREPARE is refused: .*second argument",
    "RESET threads": "RESET is refused",
    "ROLLBACK": "ROLLBACK is refused",
    "SET threads = 1": "SET is refused",
    "TRUNCATE pets": r"TRUNCATE is refused: .*delete\('true'\)",
    "UPDATE pets SET width = 0": r"UPDATE is refused: .*update\(where=",
    "UPDATE EXTENSIONS": "UPDATE EXTENSIONS is refused",
    "USE main": "USE is refused",
    "VACUUM": r"VACUUM is refused: .*compact\(\)",
    "/* a */ -- b\n drop TABLE pets": "DROP is refused",
    "PIVOT pets ON id USING sum(width)": "does not name its values.*SELECT DISTINCT",
    "FROM (PIVOT pets ON id USING sum(width))": "does not name its values",
    "": "the statement is empty",
    "-- nothing": "the statement is empty",
    ";": "the statement is empty",
    "SELECT 1; SELECT 2": "2 statements; lake.sql answers one at a time",
    "SELEC 1": "does not parse",
}


def make(lake):
    return lake, lake.create_table("pets", data=pa.table({"id": ["a", "b", "c"], "width": [3, 1, 2]}))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    return make(lh.connect(tmp_path_factory.mktemp("untouched") / "lake"))


@pytest.mark.parametrize("statement", REFUSED)
def test_a_statement_that_is_no_question_is_refused_with_the_call_that_does_it(untouched, statement):
    lake, table = untouched
    version = table.version
    with pytest.raises(QueryError, match=REFUSED[statement]):
        lake.sql(statement)
    assert lake.open_table("pets").version == version
    assert lake.table_names() == ["pets"]


def test_the_calls_that_are_named_take_results_of_sql(lake, tmp_path):
    lake, pets = make(lake)
    made = lake.create_table("made", data=lake.sql("SELECT id, width * 2 AS twice FROM pets"))
    assert lake.sql("SELECT sum(twice) FROM made").fetchall() == [(12,)]
    pets.add(lake.sql("SELECT id || '2' AS id, width FROM pets WHERE width > $w", {"w": 1}), progress=False)
    assert lake.sql("SELECT count(*) FROM pets").fetchall() == [(5,)]
    ranks = "SELECT id, row_number() OVER (ORDER BY width DESC, id) AS rank FROM pets"
    pets.add_columns_from(lake.sql(ranks), on="id", progress=False)
    assert lake.sql("SELECT id FROM pets ORDER BY rank LIMIT 2").fetchall() == [("a",), ("a2",)]
    pets.update(where="width = 1", values={"width": 10})
    pets.delete("id = 'a2'")
    assert lake.sql("SELECT sum(width), count(*) FROM pets").fetchall() == [(17, 4)]
    lake.sql("SELECT id, rank FROM pets ORDER BY rank").write_parquet(tmp_path / "out.parquet")
    again = lake.create_table("again", data=lh.read_parquet(tmp_path / "out.parquet"))
    assert again.count_rows() == 4
    made.delete("true")
    assert lake.sql("SELECT count(*) FROM made").fetchall() == [(0,)]
    lake.drop_table("made")
    assert lake.sql("SHOW TABLES").fetchall() == [("again",), ("pets",)]
    pets.create_index("id", lh.BTree())
    assert "index" in lake.sql("SELECT width FROM pets WHERE id = 'a'").explain()


def test_media_of_a_result_become_media_of_a_table(lake):
    from tests.seeded import pictures

    lake.create_table("pets", schema="images", data=pictures(6))
    key = lake.open_table("pets").schema.names[0]
    few = lake.sql(f"SELECT * FROM pets ORDER BY {key} DESC LIMIT 2")
    copied = lake.create_table("few", data=few)
    image = next(name for name in copied.schema.names if copied.schema.field(name).metadata and name == "image")
    first = lake.sql(f"SELECT {image} FROM pets ORDER BY {key} DESC LIMIT 1").fetchall()
    assert lake.sql(f"SELECT {image} FROM few ORDER BY {key} DESC LIMIT 1").fetchall() == first
    assert lake.sql(f"SELECT image_width({image}) > 0 FROM few").fetchall() == [(True,), (True,)]
