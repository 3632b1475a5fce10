"""`lakehouse sql` as people use it: a shell on a real terminal, scripts, pipes, every format."""

import csv
import datetime as dt
import io
import json
import os
import subprocess
import sys
import termios

import pexpect.fdpexpect
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lakehouse.cli.app import app
from lakehouse.cli.formats import First, write_csv, write_json, write_markdown
from lakehouse.cli.statements import is_whole, statements
from tests.test_cli import call

COMMAND = [sys.executable, "-m", "lakehouse", "sql"]
EVERLASTING = "SELECT sum(hash(range)) FROM range(900000000000)"
PATIENCE_S = 240  # a shell loads everything, and the machine may be busy


class Terminal:
    """A process on a terminal of its own, made without a fork of this one, which has Lance in it."""

    def __init__(self, *command):
        ours, self.its = os.openpty()
        termios.tcsetwinsize(self.its, (50, 110))
        # The leader of a session gets the first terminal that it opens.
        opens = f'exec "$@" <>{os.ttyname(self.its)} >&0 2>&0'
        self.process = subprocess.Popen(["sh", "-c", opens, "sh", *command], start_new_session=True)
        self.child = pexpect.fdpexpect.fdspawn(ours, encoding="utf-8", timeout=PATIENCE_S)

    def expect(self, words):
        self.child.expect(words)
        return self.child.before

    def type(self, text):
        self.child.send(text)

    def ask(self, text, answer=""):
        self.child.sendline(text)
        self.child.expect(answer)
        self.child.expect("lake>")

    def exit_code(self):
        return self.process.wait(PATIENCE_S)

    def close(self):
        self.process.kill()
        self.process.wait()
        self.child.close()
        os.close(self.its)


@pytest.fixture
def terminal():
    """Start commands on terminals; what still runs at the end is killed."""
    started = []

    def start(*command):
        started.append(Terminal(*command))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.fixture
def shell(lake, pets, terminal, tmp_path, monkeypatch):
    """Start the shell, its history in a folder of this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")  # nobody answers where the cursor is
    started = terminal(*COMMAND, lake.uri)
    started.expect("lake>")
    return started


CTRL_C, CTRL_D = "\x03", "\x04"


def test_a_session_on_a_terminal(shell, tmp_path):
    shell.ask(".tables", "pets\r\n")
    shell.child.sendline("SELECT count(*) AS n")
    shell.expect(r"\.\.\.")
    shell.ask("FROM pets; SELECT 'it''s; one' AS s;", r"(?s)20 .*1 row\r\n.*ms\r\n.*it's; one")
    shell.ask("FROM pets SELECT id, image LIMIT 1;", r"(?s)image 1\.\d\d kB.*1 row\r\n")
    for wrong, said in (
        ("SELEC 1;", 'syntax error at or near "SELEC"\r\n'),
        ("FROM pest;", "did you mean 'pets'"),
        ("SELECT no FROM pets;", '"no" not found'),
        ("DROP TABLE pets;", "lake.drop_table"),
        (".tabels", "did you mean '.tables'"),
        (".limit many", "no number of rows"),
        (".explain", "which statement"),
        (".format xml", "csv, json, markdown"),
        (".schema nope", "no table 'nope'"),
    ):
        shell.child.sendline(wrong)
        assert "Traceback" not in shell.expect(said)
        assert "Traceback" not in shell.expect("lake>")
    shell.type("FROM pe\t")
    shell.expect("ts")
    shell.type(" SELECT capt\t")
    shell.expect("ion")
    shell.ask(" LIMIT 1;", "1 row")
    shell.type(".sch\t")
    shell.expect("ema")
    shell.ask(" pets", "(?s)VARCHAR.*BLOB")
    shell.ask(".explain SELECT id FROM pets WHERE width > 3;", "no index, every row is compared")
    shell.ask(".format csv")
    shell.ask("SELECT 1 AS a, 'x,y' AS b;", '"a","b"\r\n1,"x,y"\r\n')
    shell.ask(".limit 2")
    shell.ask("SELECT width FROM pets;", "the first 2 rows; there are more")
    shell.type(CTRL_D)
    assert shell.exit_code() == 0
    history = tmp_path / "state" / "lakehouse" / "sql_history"
    assert "FROM pets; SELECT 'it''s; one' AS s;" in history.read_text()
    assert oct(history.stat().st_mode)[-2:] == "00"


def test_ctrl_c_stops_the_statement_and_not_the_shell(shell):
    shell.child.sendline(f"{EVERLASTING};")
    shell.expect("SQL ")  # the bar comes after two seconds
    shell.type(CTRL_C)
    shell.expect("stopped")
    shell.expect("lake>")
    shell.type("SELECT half a line")
    shell.expect("line")
    shell.type(CTRL_C)
    shell.expect("lake>")
    shell.ask("SELECT 41 + 1;", "42")
    shell.child.sendline("quit")
    assert shell.exit_code() == 0


def run(lake_uri, *arguments, stdin=None, **more):
    return subprocess.run(
        [*COMMAND, lake_uri, *arguments], input=stdin, capture_output=True, text=True, check=False, **more
    )


def test_a_script_on_standard_input_is_answered_up_to_its_first_mistake(lake, pets):
    script = "-- a comment; with a semicolon\n.format csv\nSELECT count(*) AS n\nFROM pets;\nSELECT ';' AS s; SELECT 3 AS last"
    done = run(lake.uri, stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == '"n"\n20\n"s"\n";"\n"last"\n3\n'

    def invoked(script, *arguments):
        return CliRunner().invoke(app, ["sql", lake.uri, *arguments], input=script)

    done = invoked("SELECT 1 AS a; FROM nope; SELECT 2 AS b;", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (1, [{"a": 1}])
    assert done.stderr.startswith("lakehouse: no table 'nope'")
    assert done.stderr.count("\n") == 1
    assert invoked("").output == invoked("-- nothing\n.quit\nFROM nope;").output == ""


def test_a_reader_that_leaves_early_ends_the_statement_quietly(lake):
    lake.create_table("t", data=[{"a": 1}])
    command = " ".join([*COMMAND, lake.uri, "'FROM range(100000000)'", "--format csv | head -n 2"])
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert (done.stdout, done.stderr) == ('"range"\n0\n', "")


@pytest.mark.soak
def test_ctrl_c_ends_a_single_statement_with_one_line(lake, terminal):
    lake.create_table("t", data=[{"a": 1}])
    one = terminal(*COMMAND, lake.uri, EVERLASTING)
    one.expect("SQL ")
    one.type(CTRL_C)
    one.expect("lakehouse: stopped\r\n")
    assert one.exit_code() == 130


def test_words_that_the_terminal_lacks_are_spelled_out(lake):
    lake.create_table("t", data=[{"a": "größe ☃"}])
    done = run(lake.uri, "FROM t", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert r"gr\xf6\xdfe \u2603" in done.stdout


# Formats

VALUES = pa.table(
    {
        "n": pa.array([1, None], pa.int64()),
        "word": ['a "b", c|d\ne', ""],
        "x": [0.5, float("nan")],
        "when": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None], pa.timestamp("us")),
        "ns": pa.array([1, None], pa.timestamp("ns")),
        "list": [[1, None], None],
        "box": [{"a": b"xyz"}, None],
        "kind": pa.array(["u", None]).dictionary_encode(),
        "data": pa.array([b"\x00" * 2000, None], pa.large_binary()),
        "yes": [True, False],
    }
)


def written(writer, table=VALUES, most=None):
    file = io.StringIO()
    writer(First(table.to_reader(max_chunksize=1), most), file)
    return file.getvalue()


def test_csv_is_read_back_by_pythons_csv():
    rows = list(csv.reader(io.StringIO(written(write_csv))))
    assert rows[0] == VALUES.column_names
    assert rows[1] == ["1", 'a "b", c|d\ne', "0.5", "2026-01-02 03:04:05.000000", "1970-01-01 00:00:00.000000001",
                       "[1, null]", '{"a": {"nbytes": 3}}', "u", "2.00 kB", "true"]  # fmt: skip
    assert rows[2] == ["", "", "nan", "", "", "", "", "", "", "false"]
    assert '\n,"",nan,' in written(write_csv)  # an empty text is not NULL


def test_json_is_one_strict_document():
    rows = json.loads(written(write_json), parse_constant=pytest.fail)
    assert rows[0]["word"] == 'a "b", c|d\ne'
    assert rows[0]["data"] == {"nbytes": 2000}
    assert rows[1] == dict.fromkeys(VALUES.column_names) | {"word": "", "yes": False}
    twice = pa.table([[1], [2], [3]], names=["a", "a", "a_1"])
    assert json.loads(written(write_json, twice)) == [{"a": 1, "a_1": 2, "a_1_1": 3}]


def test_markdown_has_a_line_a_row():
    lines = written(write_markdown).splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("| ---: | --- | ---: |")
    assert r'a "b", c\|d e' in lines[2]
    assert lines[3].startswith("|  |  | nan |")
    assert len({line.replace(r"\|", "").count("|") for line in lines}) == 1


@pytest.mark.parametrize("writer", [write_csv, write_json, write_markdown])
def test_days_that_python_has_no_room_for_are_written_out(writer):
    days = pa.array([2**31 - 1, 10**7, None, 1], pa.int32()).cast(pa.date32())
    moments = pa.array([-(2**63) + 1, 9 * 10**18, 0, None], pa.int64()).cast(pa.timestamp("us", "UTC"))
    text = written(writer, pa.table({"day": days, "at": moments, "id": [1, 2, 3, 4]}))
    for said in ("infinity", "-infinity", "29349-01-26", "287168-08-24 16:00:00.000000+00:00", "1970-01-02"):
        assert said in text


@pytest.mark.parametrize(
    ("writer", "empty"), [(write_csv, '"a"\n'), (write_json, "[]\n"), (write_markdown, "| a |\n| ---: |\n")]
)
def test_an_answer_without_rows_is_whole(writer, empty):
    assert written(writer, pa.table({"a": pa.array([], pa.int64())})) == empty


@given(st.lists(st.integers(0, 5), max_size=6), st.none() | st.integers(1, 12))
def test_the_first_rows_are_so_many_and_say_whether_there_are_more(sizes, most):
    schema = pa.schema([("a", pa.int64())])
    batches = [pa.record_batch({"a": range(size)}, schema=schema) for size in sizes]
    rows = First(pa.RecordBatchReader.from_batches(schema, batches), most)
    shown = sum(batch.num_rows for batch in rows)
    assert shown == rows.num_rows == min(sum(sizes), most or 1_000)
    assert rows.are_more == (sum(sizes) > shown)


def test_out_goes_by_its_ending_and_leaves_nothing_half(lake, pets, tmp_path):
    statement = "SELECT id, image, width FROM pets ORDER BY id"
    for name in ("out.csv", "out.json", "out.md", "out.parquet"):
        told = call("sql", lake.uri, statement, "--out", tmp_path / name).stdout
        assert told.startswith("wrote ")
    assert pq.read_table(tmp_path / "out.parquet")["image"][0].as_py()[:4] == b"\x89PNG"
    assert len(json.loads((tmp_path / "out.json").read_text())) == 20
    assert len((tmp_path / "out.md").read_text().splitlines()) == 22
    before = sorted(path.name for path in tmp_path.iterdir())
    call("sql", lake.uri, "SELECT CASE WHEN range > 300000 THEN 'x' ELSE '1' END::INT FROM range(400000)", "--out", tmp_path / "new.csv", code=1)  # fmt: skip
    call("sql", lake.uri, statement, "--out", tmp_path / "out.xls", code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    call("sql", lake.uri, "SELECT 1 AS a", "--format", "markdown", "--out", tmp_path / "note.txt")
    assert (tmp_path / "note.txt").read_text() == "| a |\n| ---: |\n| 1 |\n"


def test_parquet_goes_through_a_pipe(lake, pets):
    done = subprocess.run([*COMMAND, lake.uri, "SELECT id, image FROM pets", "--format", "parquet"], capture_output=True, check=True)  # fmt: skip
    assert pq.read_table(io.BytesIO(done.stdout)).num_rows == 20


def test_bounds_are_said_and_parameters_go_by_name_or_position(lake, pets):
    shown = call("sql", lake.uri, "SELECT range AS n FROM range(10)", "--limit", 3, "--format", "csv")
    assert shown.stdout == '"n"\n0\n1\n2\n'
    assert "the first 3 rows; there are more" in shown.stderr
    assert call("sql", lake.uri, "SELECT range AS n FROM range(3)", "--limit", 3, "--format", "csv").stderr == ""
    told = call("sql", lake.uri, "SELECT ? + ? AS n", "--param", "1=40", "--param", "2=2", "--format", "csv").stdout
    assert told == '"n"\n42\n'
    broken = call("sql", lake.uri, "SELECT image_width('no'::BLOB) AS w", "--format", "csv")
    assert "image_width() failed on 1" in broken.stderr
    call("sql", lake.uri, "SELECT 1", "--json", "--format", "csv", code=2)
    call("sql", lake.uri, "SELECT 1", "--format", "parquet", "--limit", 1, code=2)
    call("sql", lake.uri, "--param", "a=1", code=2)


# Statements


@pytest.mark.parametrize(
    ("text", "parted", "rest"),
    [
        ("SELECT 1; SELECT 2", ["SELECT 1"], " SELECT 2"),
        ("SELECT ';' ; -- ;\n/* ; */ SELECT \";\";", ["SELECT ';'", '-- ;\n/* ; */ SELECT ";"'], ""),
        ("SELECT $$a;b$$;;", ["SELECT $$a;b$$"], ""),
        ("SELECT 'größe;'; x", ["SELECT 'größe;'"], " x"),
        ("SELECT 'open ;", [], "SELECT 'open ;"),
        ("", [], ""),
    ],
)
def test_semicolons_part_statements_where_sql_says_so(text, parted, rest):
    assert statements(text) == (parted, rest)


@given(st.text(max_size=30))
def test_any_text_is_parted_without_losing_a_letter_of_its_end(text):
    parted, rest = statements(text)
    whole = text.encode("utf-8", "replace").decode()
    assert whole.endswith(rest)
    assert all(part in whole for part in parted)
    is_whole(text)
