"""SQL text reaches the lake's tables and what is handed in; everything else is refused in our words."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pytest

from lakehouse.errors import (
    InvalidArgumentError,
    LakehouseError,
    NotFoundError,
    QueryError,
    ResourceLimitError,
    TableNotFoundError,
)
from lakehouse.sql import Engine, Limits
from lakehouse.sql.sandbox import Sandbox


@pytest.fixture
def small(lake):
    lake.create_table("pets", data=pa.table({"id": range(20), "owner": [f"o{i % 3}" for i in range(20)]}))
    return lake


def engine(lake, **limits):
    return Engine(lake._snapshot_of, lake.table_names, Limits(**limits))


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
}


@pytest.mark.parametrize("attempt", ATTACKS)
def test_sql_reaches_nothing_outside_the_lake(small, tmp_path, attempt):
    a_python_variable = pa.table({"x": [SECRET]})
    file = tmp_path / "secret.csv"
    file.write_text(f"word\n{SECRET}\n")
    before = sorted(tmp_path.rglob("*"))
    version = small.open_table("pets").version
    with pytest.raises((QueryError, NotFoundError)) as refusal:
        small.sql(ATTACKS[attempt].format(file=file, folder=tmp_path)).arrow()
    assert SECRET not in str(refusal.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert small.open_table("pets").version == version
    assert small.sql("SELECT count(*) FROM pets").fetchall() == [(20,)]
    assert a_python_variable.num_rows == 1


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


def test_a_runaway_statement_is_stopped_and_the_next_one_answers(small):
    sandbox = engine(small, timeout_s=0.3)
    start = time.monotonic()
    with pytest.raises(ResourceLimitError, match="timeout_s"):
        sandbox.query("SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000) b").arrow()
    assert time.monotonic() - start < 10
    assert sandbox.query("SELECT count(*) FROM pets").fetchall() == [(20,)]


def test_endless_recursion_is_stopped(small):
    with pytest.raises(ResourceLimitError):
        engine(small, timeout_s=0.3).query(
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
        ).arrow()


def test_the_clock_runs_while_rows_are_computed_not_while_they_are_used(small):
    rows = engine(small, timeout_s=5).query("SELECT range FROM range(300000)").batches()
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


def test_limits_check_themselves():
    with pytest.raises(InvalidArgumentError, match="threads"):
        Limits(threads=0)
    with pytest.raises(InvalidArgumentError, match="memory_nbytes"):
        Limits(memory_nbytes=1)


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
        timeout=120,
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
        "threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
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
    sandbox = Sandbox(Limits())
    with pytest.raises(duckdb.Error):
        sandbox.cursor().execute(attempt.format(file=file, folder=tmp_path)).fetchall()
    sandbox.close()
    assert a_python_variable.num_rows == 1
