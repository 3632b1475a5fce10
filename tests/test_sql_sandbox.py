"""SQL text reaches the lake's tables and what is handed in; everything else is refused in our words."""

import hashlib
import io
import os
import random
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

import lakehouse as lh
from lakehouse.errors import (
    InvalidArgumentError,
    LakehouseError,
    NotFoundError,
    QueryError,
    ResourceLimitError,
    TableNotFoundError,
)
from lakehouse.sql import Engine, SqlLimits
from lakehouse.sql.sandbox import Sandbox


@pytest.fixture
def small(lake):
    lake.create_table("pets", data=pa.table({"id": range(20), "owner": [f"o{i % 3}" for i in range(20)]}))
    return lake


def engine(lake, **limits):
    return Engine(lake._snapshot_of, lake.table_names, SqlLimits(**limits))


SECRET = "not for SQL"

ATTACKS = {
    "read a text file": "SELECT * FROM read_text('{file}')",
    "read a blob": "SELECT * FROM read_blob('{file}')",
    "read a csv": "SELECT * FROM read_csv('{file}')",
    "sniff a csv": "FROM sniff_csv('{file}')",
    "read json": "SELECT * FROM read_json_auto('{file}')",
    "read parquet": "SELECT * FROM read_parquet('{folder}/*.parquet')",
    "read parquet's metadata": "SELECT * FROM parquet_metadata('{file}')",
    "a file as a table": "SELECT * FROM '{file}'",
    "a csv as a table": "SELECT * FROM '{folder}/secret.csv'",
    "a parent folder": "SELECT * FROM '../secret.csv'",
    "a URL as a table": "SELECT * FROM 'https://example.com/a.parquet'",
    "list files": "SELECT * FROM glob('{folder}/*')",
    "read in a subquery": "SELECT * FROM pets WHERE owner IN (SELECT content FROM read_text('{file}'))",
    "read in a scalar subquery": "SELECT (SELECT content FROM read_text('{file}'))",
    "read in a CTE": "WITH a AS (FROM read_text('{file}')) SELECT * FROM a",
    "read in a CTE nobody uses": "WITH a AS (FROM read_text('{file}')) SELECT 1",
    "read in a lateral join": "SELECT * FROM pets, LATERAL (SELECT * FROM read_text('{file}'))",
    "read in an AT clause": "SELECT * FROM pets AT (VERSION => (SELECT size FROM read_text('{file}')))",
    "read in ORDER BY": "SELECT id FROM pets ORDER BY (SELECT content FROM read_text('{file}'))",
    "read in a union": "SELECT owner FROM pets UNION ALL SELECT content FROM read_text('{file}')",
    "read with a qualified name": "SELECT * FROM system.main.read_text('{file}')",
    "hidden SQL": "SELECT * FROM query('SELECT content FROM read_text(''{file}'')')",
    "a hidden table name": "SELECT * FROM query_table('{file}')",
    "planned SQL": "SELECT json_serialize_plan('SELECT * FROM read_text(''{file}'')')",
    "serialised SQL": "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "copy out": "COPY (SELECT 1) TO '{folder}/out.csv'",
    "copy a table out": "COPY pets TO '{folder}/out.parquet'",
    "copy in": "COPY pets FROM '{file}'",
    "export": "EXPORT DATABASE '{folder}/out'",
    "import": "IMPORT DATABASE '{folder}'",
    "attach a file": "ATTACH '{folder}/out.db'",
    "attach another database": "ATTACH 'postgres:dbname=x' AS pg (TYPE postgres)",
    "detach": "DETACH memory",
    "use another schema": "USE system",
    "install": "INSTALL httpfs",
    "install from elsewhere": "INSTALL spatial FROM 'https://example.com'",
    "load": "LOAD json",
    "load a file": "LOAD '{folder}/x.duckdb_extension'",
    "unlock": "SET lock_configuration = false",
    "open up": "SET enable_external_access = true",
    "more memory": "SET memory_limit = '1TB'",
    "reset": "RESET memory_limit",
    "pragma": "PRAGMA enable_profiling",
    "pragma that writes": "PRAGMA add_parquet_key('k', '0123456789112345')",
    "call": "CALL pragma_version()",
    "create a table": "CREATE TABLE x AS SELECT 1",
    "create a view over a file": "CREATE VIEW x AS FROM read_text('{file}')",
    "create a macro": "CREATE MACRO f() AS TABLE FROM read_text('{file}')",
    "create a secret": "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "insert": "INSERT INTO pets VALUES (1, 'x')",
    "update": "UPDATE pets SET owner = 'me'",
    "delete": "DELETE FROM pets",
    "truncate": "TRUNCATE pets",
    "drop": "DROP TABLE pets",
    "alter": "ALTER TABLE pets DROP COLUMN owner",
    "merge": "MERGE INTO pets USING pets p ON pets.id = p.id WHEN MATCHED THEN DELETE",
    "a second statement": "SELECT 1; DROP TABLE pets",
    "a second statement after a comment": "SELECT 1 /* ; */ ; SET threads = 1",
    "prepare": "PREPARE x AS SELECT 1",
    "begin": "BEGIN TRANSACTION",
    "checkpoint": "CHECKPOINT",
    "explain that runs": "EXPLAIN ANALYZE SELECT 1",
    "settings": "SELECT * FROM duckdb_settings()",
    "one setting": "SELECT current_setting('temp_directory')",
    "one setting, qualified": "SELECT system.main.current_setting('temp_directory')",
    "secrets": "SELECT * FROM duckdb_secrets()",
    "a secret's name": "SELECT * FROM which_secret('s3://a/b', 's3')",
    "logs": "SELECT * FROM duckdb_logs()",
    "write a log": "SELECT write_log('x')",
    "environment": "SELECT getenv('HOME')",
    "the catalog": "SELECT * FROM sqlite_master",
    "the catalog's views": "SELECT * FROM duckdb_tables",
    "the information schema": "SELECT * FROM information_schema.schemata",
    "the information schema of another database": "SELECT * FROM system.information_schema.tables",
    "the system schema": "SELECT * FROM system.main.duckdb_views",
    "databases": "SHOW DATABASES",
    "a Python variable": "SELECT * FROM a_python_variable",
    "an internal function": "SELECT __internal_json_copy_to_json(1)",
    "a pandas scan": "SELECT * FROM pandas_scan(12345)",
    "an arrow scan": "SELECT * FROM arrow_scan(1::UBIGINT, 2::UBIGINT, 3::UBIGINT)",
    "a Python object's address": "SELECT * FROM python_arrow_scan(1::UBIGINT)",
    "a Python function's address": "SELECT * FROM python_map_function(1::UBIGINT, 2::UBIGINT)",
    "a table by its storage": "SELECT * FROM seq_scan('pets')",
    "a database file": "SELECT * FROM read_duckdb('{folder}/x.duckdb')",
    "a database file as a table": "SELECT * FROM '{folder}/x.duckdb'",
    "a file in double quotes": 'SELECT * FROM "{file}"',
    "a file through a link": "SELECT * FROM read_text('{link}')",
    "a link as a table": "SELECT * FROM '{link}'",
    "a file URL": "SELECT * FROM read_text('file://{file}')",
    "a bucket": "SELECT * FROM read_parquet('s3://bucket/a.parquet')",
    "several files": "SELECT * FROM read_text(['{file}', '{link}'])",
    "a single file": "SELECT * FROM read_single_csv_file('{file}')",
    "a file's keys": "SELECT * FROM parquet_kv_metadata('{file}')",
    "a file behind a lambda": "SELECT list_transform([1], x -> (SELECT content FROM read_text('{file}')))",
    "a file in HAVING": "SELECT owner FROM pets GROUP BY 1 HAVING max(id) > (SELECT size FROM read_text('{file}'))",
    "a file in QUALIFY": "SELECT id FROM pets QUALIFY row_number() OVER () < (SELECT size FROM read_text('{file}'))",
    "a file in LIMIT": "SELECT id FROM pets LIMIT (SELECT size FROM read_text('{file}'))",
    "a file in a window": "SELECT sum(id) OVER (ORDER BY (SELECT size FROM read_text('{file}'))) FROM pets",
    "a file in VALUES": "VALUES ((SELECT content FROM read_text('{file}')))",
    "a file in a set operation's order": "SELECT 1 AS a UNION SELECT 2 ORDER BY (SELECT size FROM read_text('{file}'))",
    "a file in a join's condition": "SELECT 1 FROM pets p JOIN pets q ON p.id = (SELECT size FROM read_text('{file}'))",
    "a file in recursion": "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r, read_text('{file}') WHERE n < 3) FROM r",
    "a file in a pivot": "PIVOT (FROM read_csv('{file}')) ON word USING count(*)",
    "a file pivoted": "PIVOT '{file}' ON word USING count(*)",
    "a file unpivoted": "UNPIVOT '{file}' ON word",
    "a file described": "DESCRIBE '{file}'",
    "a reader described": "DESCRIBE FROM read_csv('{file}')",
    "a file summarised": "SUMMARIZE '{file}'",
    "a file sampled": "SELECT * FROM '{file}' USING SAMPLE 1",
    "a file beside a table": "SELECT * FROM pets POSITIONAL JOIN '{file}'",
    "a file as of": "SELECT * FROM pets ASOF JOIN read_csv('{file}') f ON id >= f.word",
    "a file in a search": "SELECT * FROM lance_fts('{file}', 'owner', 'x')",
    "another lake in a search": "SELECT * FROM lance_vector_search('../other', 'v', [1.0])",
    "a search of what is no table": "SELECT * FROM lance_vector_search('pets; DROP TABLE pets', 'v', [1.0])",
    "SQL in a search": "SELECT * FROM lance_fts((SELECT content FROM read_text('{file}')), 'owner', 'x')",
    "another lake": "SELECT * FROM '../other/pets'",
    "a folder of the lake": "SELECT * FROM '_lakehouse'",
    "a table's folder": "SELECT * FROM '{lake}/pets.lance'",
    "a branch that is a path": 'SELECT * FROM "pets@../../etc"',
    "a tag that is a path": "SELECT * FROM pets AT (VERSION => '../../1')",
    "an insert in WITH": "WITH a AS (INSERT INTO pets VALUES (1, 'x') RETURNING *) SELECT * FROM a",
    "a delete in WITH": "WITH a AS (DELETE FROM pets RETURNING *) SELECT * FROM a",
    "an update in WITH": "WITH a AS (UPDATE pets SET owner = 'x' RETURNING *) SELECT * FROM a",
    "a copy of a database": "COPY FROM DATABASE memory TO system",
    "a copy with another format": "COPY (FROM pets) TO '{folder}/out.json' (FORMAT json)",
    "a copy in parts": "COPY (FROM pets) TO '{folder}/out' (PARTITION_BY (owner))",
    "a table over the lake's": "CREATE OR REPLACE TEMP VIEW pets AS SELECT 1",
    "a type": "CREATE TYPE mood AS ENUM ('x')",
    "a sequence": "CREATE SEQUENCE s",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON pets EXECUTE FUNCTION f()",
    "an index": "CREATE INDEX i ON pets (id)",
    "vacuum": "VACUUM pets",
    "a comment on a table": "COMMENT ON TABLE pets IS 'x'",
    "a variable": "SET VARIABLE x = (SELECT content FROM read_text('{file}'))",
    "a setting of the session": "SET SESSION threads = 64",
    "a setting of all": "SET GLOBAL allowed_directories = ['/']",
    "a setting without SET": "PRAGMA threads = 64",
    "the search path": "SET search_path = 'system'",
    "a log switched on": "CALL enable_logging()",
    "a profile written": "PRAGMA profiling_output = '{folder}/out.json'",
    "a resource from outside": "CALL register_external_resource('{file}')",
    "an extension by SQL": "SELECT * FROM duckdb_extensions()",
    "an extension's repository": "SET custom_extension_repository = 'http://example.com'",
    "variables": "SELECT * FROM duckdb_variables()",
    "memory in use": "SELECT * FROM duckdb_memory()",
    "temporary files": "SELECT * FROM duckdb_temporary_files()",
    "an explained write": "EXPLAIN DELETE FROM pets",
    "an explained copy": "EXPLAIN ANALYZE COPY pets TO '{folder}/out.csv'",
    "a statement in a statement": "EXECUTE IMMEDIATE 'DROP TABLE pets'",
    "a statement behind a line's end": "SELECT 1 -- x\n; DROP TABLE pets",
    "a statement behind a quoted semicolon": "SELECT ';' ; DROP TABLE pets",
    "a statement behind dollars": "SELECT $$;$$ ; DROP TABLE pets",
    "a statement behind a wide semicolon": "SELECT 1\uff1b DROP TABLE pets",
    "a zero byte": "SELECT 1\x00; DROP TABLE pets",
    "our own fetching": "SELECT lake_fetch_0(1)",
}


def digest(folder):
    """Hash the names and bytes of all files under a folder."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        found.update(str(path.relative_to(folder)).encode())
        if not path.is_symlink():
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="module")
def stronghold(tmp_path_factory):
    """A lake, beside it what must not be reached, and the names that attacks are written with."""
    folder = tmp_path_factory.mktemp("stronghold")
    lake = lh.connect(folder / "lake", sql_limits=SqlLimits(timeout_s=100))
    lake.create_table("pets", data=pa.table({"id": range(20), "owner": [f"o{i % 3}" for i in range(20)]}))
    lh.connect(folder / "other").create_table("pets", data=pa.table({"id": [1], "owner": [SECRET]}))
    file, link = folder / "secret.csv", folder / "link.csv"
    file.write_text(f"word\n{SECRET}\n")
    link.symlink_to(file)
    return lake, {"file": file, "link": link, "folder": folder, "lake": lake.uri}


@pytest.fixture
def fortress(stronghold):
    """The stronghold, with a check that nothing was changed and that the next statement answers."""
    lake, names = stronghold
    before = digest(names["folder"])
    yield lake, names
    assert digest(names["folder"]) == before
    assert lake.sql("SELECT count(*) FROM pets").fetchall() == [(20,)]


@pytest.mark.parametrize("attempt", ATTACKS)
def test_sql_reaches_nothing_outside_the_lake(fortress, attempt):
    lake, names = fortress
    a_python_variable = pa.table({"x": [SECRET]})
    with pytest.raises((QueryError, NotFoundError, InvalidArgumentError)) as refusal:  # before its time is over
        lake.sql(ATTACKS[attempt].format(**names)).arrow()
    assert SECRET not in str(refusal.value)
    assert a_python_variable.num_rows == 1


def test_no_change_of_an_attack_gets_through(fortress):
    """Seeded: other letters, comments, quotes, wrappings, pieces of two attacks; each is refused or answers with nothing of value."""
    lake, names = fortress
    rng = random.Random(0)
    attacks = [text.format(**names) for text in ATTACKS.values()]
    refused = 0
    for _ in range(NUM_MUTATIONS):
        text = changed(rng, rng.choice(attacks), rng.choice(attacks))
        try:
            answer = lake.sql(text, params_of(text)).arrow()
            told = str(answer.to_pylist())
        except LakehouseError as error:
            told = str(error)
            refused += 1
        assert SECRET not in told, text
    assert refused > 0.8 * NUM_MUTATIONS


NUM_MUTATIONS = 500
WRAPPINGS = [
    "SELECT * FROM ({})",
    "WITH a AS ({}) SELECT * FROM a",
    "WITH a AS MATERIALIZED ({}) SELECT 1",
    "EXPLAIN {}",
    "({})",
    "SELECT 1 WHERE EXISTS ({})",
    "FROM pets WHERE id IN ({})",
    "{} UNION ALL SELECT owner FROM pets",
    "DESCRIBE {}",
    "SELECT 1; {}",
    "{};;",
    "/* {} */ SELECT 1; {}",
    "SELECT * FROM query($${}$$)",
]


def changed(rng, text, other):
    """Change a statement once to three times."""
    for _ in range(rng.randint(1, 3)):
        at, till = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        words = text.split(" ")
        text = rng.choice(
            [
                lambda: "".join(rng.choice([letter.upper(), letter.lower()]) for letter in text),
                lambda: text.replace(" ", rng.choice(["/**/", "\n", "\t", " /* ; */ ", "  ", "\xa0", "\u200b"])),
                lambda: (
                    text[:at]
                    + rng.choice(["'", '"', ";", "--", "/*", ")", "(", "\\", "$1", "$a", "?", ","])
                    + text[at:]
                ),
                lambda: text[:at] + text[till:],
                lambda: text[:at] + text[at:till] * 2 + text[till:],
                lambda: text[:at] + other[at:],
                lambda: " ".join(rng.sample(words, len(words))),
                lambda: rng.choice(WRAPPINGS).replace("{}", text),
                lambda: text.replace("'", '"'),
                lambda: text.replace("(", " ("),
            ]
        )()
    return text


def params_of(text):
    return {"a": "pets"} if "$a" in text else ["pets"] * text.count("?") if "?" in text else None


@pytest.mark.parametrize(
    ("statement", "call"),
    [
        ("CREATE TABLE x AS SELECT 1", "lake.create_table"),
        ("INSERT INTO pets VALUES (1)", ".add("),
        ("UPDATE pets SET owner = 'x'", ".update("),
        ("DELETE FROM pets", ".delete("),
        ("DROP TABLE pets", "lake.drop_table"),
        ("ALTER TABLE pets ADD COLUMN x INT", "add_columns"),
        ("COPY pets TO 'x.parquet'", ".write_parquet("),
        ("EXPLAIN SELECT 1", ".explain()"),
        ("PIVOT pets ON owner USING count(*)", "IN ("),
    ],
)
def test_what_is_refused_names_the_call_that_does_it(small, statement, call):
    with pytest.raises(QueryError) as refusal:
        small.sql(statement)
    assert call in str(refusal.value)


def test_a_symlink_is_no_table(small, tmp_path):
    (tmp_path / "secret.csv").write_text(SECRET)
    (Path(small.uri) / "linked.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(TableNotFoundError):
        small.sql("SELECT * FROM 'linked.csv'")


INJECTIONS = [
    "' OR 1=1 --",
    "o1'; DROP TABLE pets; --",
    "o1' UNION SELECT content FROM read_text('/etc/passwd') --",
    '"',
    "$$",
    "\\",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_value_is_never_syntax(small, text):
    assert small.sql("SELECT count(*) FROM pets WHERE owner = $o", {"o": text}).fetchall() == [(0,)]
    assert small.sql("SELECT ? AS x", [text]).fetchall() == [(text,)]


@pytest.mark.parametrize(
    "name", ["pets; DROP TABLE pets", 'a" UNION SELECT 1 --', "read_text('/etc/passwd')", "../../etc/passwd", ""]
)
def test_a_name_is_never_syntax(small, name):
    quoted = '"' + name.replace('"', '""') + '"'
    with pytest.raises((TableNotFoundError, QueryError)):
        small.sql(f"SELECT * FROM {quoted}").arrow()
    labels = pa.table({"id": [1]})
    if name:
        assert small.sql(f"SELECT * FROM {quoted}", tables={name: labels}).fetchall() == [(1,)]


def test_a_column_name_is_never_syntax(lake):
    name = "a\") FROM read_text('/etc/passwd') --"
    lake.create_table("odd", data=pa.table({name: ["x"], "select": [1]}))
    assert lake.sql("SELECT * FROM odd").arrow().to_pydict() == {name: ["x"], "select": [1]}
    assert lake.sql('SELECT count(*) FROM odd WHERE "select" = 1').fetchall() == [(1,)]


STOPPED_S = 60  # a fraction of a second, and what a busy machine takes


def test_a_runaway_statement_is_stopped_and_the_next_one_answers(small):
    sandbox = engine(small, timeout_s=0.3)
    start = time.monotonic()
    with pytest.raises(ResourceLimitError, match="timeout_s"):
        sandbox.query("SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000) b").arrow()
    assert time.monotonic() - start < STOPPED_S
    assert answer(lambda: sandbox.query("SELECT count(*) FROM pets")) == [(20,)]


def answer(asked):
    """Ask until there is time enough: a busy machine may take longer over anything than a runaway is given."""
    while True:
        try:
            return asked().fetchall()
        except ResourceLimitError:
            continue


def test_endless_recursion_is_stopped(small):
    with pytest.raises(ResourceLimitError):
        engine(small, timeout_s=0.3).query(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
        ).arrow()


def test_the_clock_runs_while_rows_are_computed_not_while_they_are_used(small):
    rows = engine(small, timeout_s=100).query("SELECT range FROM range(300000)").batches()
    assert sum(batch.num_rows for batch in rows) == 300_000


@pytest.mark.parametrize(
    "bomb",
    [
        "SELECT list(range::VARCHAR || repeat('x', 50)) FROM range(30000000)",
        "SELECT count(*) FROM (SELECT DISTINCT md5(range::VARCHAR) FROM range(3000000))",
        "SELECT string_agg(range::VARCHAR, ',') FROM range(100000000)",
        "SELECT md5(range::VARCHAR) || md5((range + 1)::VARCHAR) AS word FROM range(2000000) ORDER BY word",
    ],
)
def test_memory_and_temporary_space_are_bounded(small, bomb):
    with pytest.raises(ResourceLimitError, match="memory_nbytes"):
        engine(small, memory_nbytes=32 << 20, temp_nbytes=8 << 20, threads=1).query(bomb).arrow()


# Not among them: a constant of gigabytes, `list_resize([1], 10 ** 10)` or `unnest(range(10 ** 9))`. DuckDB 2.0 neither
# counts nor interrupts the making of one value, as `SqlLimits` says; it would go on in the test's process.
BOMBS = {
    "sleep": "SELECT pg_sleep(100)",
    "sleep often": "SELECT sleep_ms(100) FROM range(100000)",
    "a long string": "SELECT repeat('x', 100000000000)",
    "a long list": "SELECT range(10000000000)",
    "a wide number": "SELECT printf('%1000000000d', 1)",
    "a string that doubles": "WITH RECURSIVE r AS (SELECT 'x' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
    "a list that doubles": "WITH RECURSIVE r AS (SELECT [1] AS s UNION ALL SELECT s || s FROM r) SELECT max(len(s)) FROM r",
    "a product of tables": "SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE a.range + b.range = 3",
    "a product of pets": "SELECT count(a.owner || b.owner) FROM pets a, pets b, pets c, pets d, pets e, pets f, pets g, pets h",
    "one list of all": "SELECT list(range) FROM range(1000000000)",
    "one group each": "SELECT histogram(range) FROM range(1000000000)",
    "one string of all": "SELECT string_agg(repeat('x', 1000), '') FROM range(100000000)",
    "a sort": "SELECT md5(range::VARCHAR) AS m FROM range(100000000) ORDER BY m",
    "all rows out": "SELECT range FROM range(1000000000)",
    "a slow comparison": "SELECT count(*) FROM range(100000) WHERE levenshtein(repeat('a', 1000), md5(range::VARCHAR)) = 1",
}


@pytest.fixture(scope="module")
def bomb_proof(stronghold):
    lake, _ = stronghold
    limits = {"memory_nbytes": 128 << 20, "temp_nbytes": 8 << 20, "threads": 1, "timeout_s": 0.2, "max_rows": 100_000}
    return lh.connect(lake.uri, sql_limits=SqlLimits(**limits))


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_put_out_and_the_next_statement_answers(bomb_proof, bomb):
    start = time.monotonic()
    with pytest.raises((ResourceLimitError, QueryError)):
        bomb_proof.sql(BOMBS[bomb]).arrow()
    assert time.monotonic() - start < STOPPED_S
    assert answer(lambda: bomb_proof.sql("SELECT count(*) FROM pets")) == [(20,)]


def bomb_picture(side_px):
    """A PNG of a few kilobytes whose pixels are gigabytes."""
    file = io.BytesIO()
    Image.new("1", (side_px, side_px)).save(file, "PNG", optimize=True)
    return file.getvalue()


@pytest.mark.parametrize("call", ["thumbnail(p, 16)", "phash(p)"])
def test_a_picture_that_unpacks_to_gigabytes_is_not_unpacked(bomb_proof, call):
    given = pa.table({"p": [bomb_picture(20_000)]})
    result = bomb_proof.sql(f"SELECT {call} FROM given", tables={"given": given})
    assert result.fetchall() == [(None,)]
    assert result.errors()["num_failed"].to_pylist() == [1]


class Odd:
    """A value whose text is SQL."""

    def __str__(self):
        return "1; DROP TABLE pets"

    __repr__ = __str__


@pytest.mark.parametrize(
    "params",
    [
        {"o) OR (true": "x"},
        {"o; DROP TABLE pets": "x"},
        {"": "x"},
        {"o": Odd()},
        {"o": object},
        {"o": lambda: "x"},
        {"o": "x", "p": "not asked for"},
        {"O": "x"},
        ["x"],
        ["x", "y"],
        {"o": {"a": Odd()}},
        "o",
        7,
    ],
)
def test_parameters_that_do_not_fit_are_refused(fortress, params):
    with pytest.raises(LakehouseError):
        fortress[0].sql("SELECT count(*) FROM pets WHERE owner = $o", params).arrow()


@pytest.mark.parametrize(
    "value", ["{file}", "SELECT 1", 7, object(), ["{file}"], {"a": 1}, Path("/etc/passwd"), lambda: 1]
)
def test_what_is_no_table_is_not_handed_in_as_one(fortress, value):
    lake, names = fortress
    given = value.format(**names) if isinstance(value, str) else value
    with pytest.raises(LakehouseError) as refusal:
        lake.sql("SELECT * FROM given", tables={"given": given}).arrow()
    assert SECRET not in str(refusal.value)


FILTERS = [
    "true; DROP TABLE pets",
    "id IN (SELECT id FROM pets)",
    "id = 1) OR (true",
    "id = 1 id = 2",
    "id = 1 LIMIT 0",
    "id = 1, true",
    "read_text('/etc/passwd') IS NOT NULL",
    "current_setting('x') = 'y'",
    "id = 1 UNION SELECT 1",
    "",
    "CASE",
    "id = 'x' -- ",
]


@pytest.mark.parametrize("where", FILTERS)
def test_a_filter_is_one_condition_or_refused(fortress, where):
    table = fortress[0].open_table("pets")
    for call in (table.count_rows, table.delete, lambda text: table.to_arrow(where=text)):
        with pytest.raises(LakehouseError):
            call(where)


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_value_in_a_filter_is_never_syntax(small, text):
    table = small.open_table("pets")
    where = ("owner = $o", {"o": text})
    assert table.count_rows(where) == 0
    assert table.to_arrow(where=where).num_rows == 0
    table.update(where=where, values={"owner": "me"})
    table.delete(where)
    assert small.sql("SELECT count(*), count(*) FILTER (owner = 'me') FROM pets").fetchall() == [(20, 0)]


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "/tmp/evil", "..", "", ".", "a\x00b", "pets.lance/../evil", "~", "a;b", "_lakehouse"]
)
def test_a_name_is_no_path(fortress, name):
    lake, _ = fortress
    rows = pa.table({"id": [1]})
    with pytest.raises(LakehouseError):
        lake.create_table(name, data=rows)
    with pytest.raises(LakehouseError):
        lake.open_table(name)
    with pytest.raises(LakehouseError):
        lake.drop_table(name)


def test_a_statement_that_knows_our_names_gains_nothing(fortress):
    """``current_query()`` tells what a table is called inside; it means nothing outside of that statement."""
    lake, _ = fortress
    result = lake.sql("SELECT current_query() AS text, id FROM pets")
    under_way = result.batches()
    seen = under_way.read_next_batch()["text"][0].as_py()
    names = set(re.findall(r"__duckdb_source_\w+", seen))
    assert names
    for slot in names | {"lake_0", f"{lake._engine._prefix}_0"}:
        with pytest.raises(LakehouseError):
            lake.sql(f"SELECT * FROM {slot}").arrow()
        with pytest.raises(LakehouseError):
            lake.sql(f"SELECT {slot}(1)").arrow()


def test_rows_are_bounded(small):
    sandbox = engine(small, max_rows=19)
    with pytest.raises(ResourceLimitError, match="max_rows"):
        sandbox.query("FROM pets").arrow()
    with pytest.raises(ResourceLimitError, match="max_rows"):
        sandbox.query("FROM pets").batches().read_all()
    assert sandbox.query("FROM pets LIMIT 19").arrow().num_rows == 19


@pytest.mark.parametrize("depth", [5_000, 100_000])
def test_a_statement_that_nests_without_end_is_refused(small, depth):
    with pytest.raises(QueryError):
        small.sql("SELECT " + "(" * depth + "1" + ")" * depth).arrow()
    with pytest.raises(QueryError):
        small.sql("SELECT " + "+".join(["1"] * depth)).arrow()


@pytest.mark.parametrize("text", ["SELECT 1 \0", "SELECT 'o1\0' AS o", "SELECT id FROM pets WHERE owner = 'o1\0'"])
def test_a_zero_byte_is_a_value_and_no_part_of_a_statement(small, text):
    with pytest.raises(QueryError, match="zero byte"):
        small.sql(text)
    assert small.sql("SELECT count(*), $v FROM pets WHERE owner = $v", {"v": "o1\0"}).fetchall() == [(0, "o1\0")]


def test_no_setting_is_advised_that_is_refused(small):
    remainder, arrow = "SELECT 1 % n FROM range(2) t(n)", "SELECT list_transform([1], x -> x)"
    for statement in (remainder, arrow, "SELECT " + "+".join(["1"] * 3000)):
        with pytest.raises(QueryError, match=r"(?s)^((?!SET ).)*$"):
            small.sql(statement).arrow()


def test_limits_check_themselves():
    with pytest.raises(InvalidArgumentError, match="threads"):
        SqlLimits(threads=0)
    with pytest.raises(InvalidArgumentError, match="memory_nbytes"):
        SqlLimits(memory_nbytes=1)
    for limits in ({"max_rows": "5"}, {"threads": 1.5}, {"timeout_s": float("nan")}, {"max_media_nbytes": None}):
        with pytest.raises(InvalidArgumentError, match="; give|the least"):
            SqlLimits(**limits)
    with pytest.raises(InvalidArgumentError, match=r"lh\.SqlLimits"):
        lh.connect("lake", sql_limits={"timeout_s": 1})


def test_every_refusal_is_one_of_ours(small):
    for statement in (
        "SELECT nope FROM pets",
        "SELECT * FROM nope",
        "SELECT 'x'::INT FROM pets",
        "SELEC",
        "",
        "-- x",
        "SELECT $w",
    ):
        with pytest.raises(LakehouseError):
            small.sql(statement).arrow()


def test_two_sandboxes_share_nothing(small, tmp_path):
    first, second = engine(small), engine(small)
    assert first.query("SELECT 1 FROM labels", tables={"labels": pa.table({"a": [1]})}).fetchall() == [(1,)]
    with pytest.raises(TableNotFoundError):
        first.query("SELECT 1 FROM labels")
    with pytest.raises(TableNotFoundError):
        second.query("SELECT 1 FROM labels")


CHILD = """
    import sys, signal, threading, os
    import pyarrow as pa
    import lakehouse as lh
    lake = lh.connect(sys.argv[1])
    {code}
"""


def in_a_new_process(lake, code):
    script = textwrap.dedent(CHILD).format(code=textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script, lake.uri],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_nothing_is_said_and_nothing_is_left_at_exit(small, tmp_path):
    """DuckDB's bindings print pages about each of their objects that is alive at exit."""
    child = in_a_new_process(
        small,
        "never_fetched = lake.sql('FROM pets'); half = lake.sql('SELECT range FROM range(1000000)').batches(); next(half)\n"
        "whole = lake.sql('FROM pets'); whole.arrow(); import tempfile; print(tempfile.gettempdir())\n"
        "try: lake.sql('SELECT nope FROM pets')\n"
        "except Exception as error: kept = error",
    )
    assert child.returncode == 0
    assert child.stderr == ""


def test_ctrl_c_stops_a_statement(small):
    child = in_a_new_process(
        small,
        "lake.sql('FROM pets').arrow()  # what is imported for a statement is there\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try: lake.sql('SELECT sum(a.range * b.range) FROM range(100000000) a, range(10000) b').arrow()\n"
        "except KeyboardInterrupt: print('stopped', lake.sql('SELECT count(*) FROM pets').fetchall())",
    )
    assert child.stdout.strip() == "stopped [(20,)]", child.stderr


def test_spilled_files_lie_in_a_folder_of_their_own_and_go_away(small, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    (tmp_path / "temp").mkdir()
    monkeypatch.chdir(tmp_path)
    sandbox = engine(small, memory_nbytes=64 << 20, threads=1)
    rows = sandbox.query(
        "SELECT range, range::VARCHAR || repeat('x', 20) AS s FROM range(3000000) ORDER BY hash(range)"
    )
    assert next(rows.batches()).num_rows > 0
    assert len(os.listdir(tmp_path / "temp")) == 1
    sandbox.close()
    assert os.listdir(tmp_path / "temp") == []
    assert not (tmp_path / ".tmp").exists()


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT * FROM read_text('{file}')",
        "COPY (SELECT 1) TO '{folder}/out.csv'",
        "ATTACH '{folder}/out.db'",
        "INSTALL httpfs",
        "SET memory_limit = '1TB'",
        "SET lock_configuration = false",
        "RESET max_temp_directory_size",
        "EXPORT DATABASE '{folder}/out'",
        "SELECT * FROM a_python_variable",
        "SELECT * FROM glob('{folder}/*')",
    ],
)
def test_the_sandbox_holds_even_where_no_statement_is_checked(tmp_path, attempt):
    import duckdb

    a_python_variable = pa.table({"x": [SECRET]})
    file = tmp_path / "secret.csv"
    file.write_text(f"word\n{SECRET}\n")
    sandbox = Sandbox(SqlLimits())
    with pytest.raises(duckdb.Error):
        sandbox.cursor().execute(attempt.format(file=file, folder=tmp_path)).fetchall()
    sandbox.close()
    assert a_python_variable.num_rows == 1
