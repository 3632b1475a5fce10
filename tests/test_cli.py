"""The command line: targets, verbs, JSON, exit codes, help."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import lakehouse as lh
from lakehouse.cli.app import app
from lakehouse.cli.output import plain
from lakehouse.cli.reference import reference
from lakehouse.cli.tables import kind_of
from lakehouse.cli.target import Target, parse_target
from lakehouse.errors import InvalidArgumentError

VERBS = [
    "demo",
    "init",
    "ls",
    "info",
    "head",
    "get",
    "add",
    "sql",
    "search",
    "index",
    "schema",
    "feature",
    "history",
    "tag",
]
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,12}", fullmatch=True)
lakes = st.sampled_from(
    ["lake", ".", "/data/lake", "../x", "s3://bucket/lake", "gs://bucket", "my@home/lake", "a/b.lance.d"]
)
versions = st.none() | st.integers(0, 10**6) | st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def called(*arguments, code=0):
    """Call with --json and give back what it printed, parsed: nothing else may be on standard output."""
    return json.loads(call(*arguments, "--json", code=code).stdout)


def streamed(*arguments, code=0):
    """Call a long verb with --json and give back its events, the result being the last one."""
    return [json.loads(line) for line in call(*arguments, "--json", code=code).stdout.splitlines()]


@pytest.fixture
def where(pets):
    """The target of a table of 20 pictures."""
    return f"{Path(pets.uri).parent}/pets"


# Targets


@given(lakes, names, versions)
def test_a_target_that_is_printed_is_parsed_back(lake, table, version):
    target = Target(lake, table, version)
    assert parse_target(str(target), is_table=True) == target


@given(lakes)
def test_a_lake_is_what_was_typed(lake):
    assert parse_target(lake, is_table=False) == Target(lake)
    assert parse_target(lake + "/", is_table=lambda _: False) == Target(lake)


def test_info_asks_whether_there_is_a_table():
    asked = []
    assert parse_target("lake/pets", lambda path: not asked.append(path)) == Target("lake", "pets")
    assert asked == ["lake/pets.lance"]
    assert parse_target("lake/pets.lance/", lambda _: False) == Target("lake", "pets")


@pytest.mark.parametrize(
    ("text", "is_table"),
    [("lake@3", False), ("lake/pets@", True), ("s3://bucket", True), ("/", True), ("lake/@3", True)],
)
def test_a_target_that_cannot_be_meant_is_refused(text, is_table):
    with pytest.raises(InvalidArgumentError, match="write|names no table"):
        parse_target(text, is_table)


def test_files_are_read_as_what_the_table_holds():
    assert kind_of("x/*.parquet", ["image"]) == "parquet"
    assert kind_of("x", ["image", "text"]) == "images"
    assert kind_of("x", ["text"]) == "texts"
    with pytest.raises(InvalidArgumentError, match="--as"):
        kind_of("x", ["image", "video"])
    with pytest.raises(InvalidArgumentError, match="no media"):
        kind_of("x", [])


# JSON


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    )
)
def test_what_is_printed_as_json_is_strict_json(value):
    json.loads(json.dumps(plain(value), allow_nan=False))


def test_numpy_and_nested_values_become_json():
    assert plain({"v": np.arange(2), "f": np.float32(0.5), "r": [Target("a")]}) == {
        "v": [0, 1],
        "f": 0.5,
        "r": [{"lake": "a", "table": None, "version": None}],
    }


# Verbs


def test_init_makes_a_lake_and_a_table_that_ls_and_info_see(tmp_path):
    lake = tmp_path / "lake"
    call("init", lake)
    assert call("ls", lake).stdout.startswith("no tables")
    made = called("init", lake / "pets", "--schema", "images")
    assert made["name"] == "pets"
    assert made["num_rows"] == 0
    assert [t["name"] for t in called("ls", lake)] == ["pets"]
    assert called("info", lake) == called("ls", lake)
    assert called("info", lake / "pets")["key"] == "id"


def test_a_lake_in_a_lake_is_made_and_pointed_out(lake, pets):
    assert "--schema makes a table 'new'" in call("init", f"{lake.uri}/new").stdout
    assert called("init", lake.uri)["tables"] == ["pets"]
    assert "--schema" not in call("init", lake.uri).stdout


def test_info_tells_rows_columns_bytes_fragments_versions_and_indexes(where, pets):
    facts = called("info", where)
    assert (facts["num_rows"], facts["version"], facts["num_fragments"]) == (20, pets.version, 1)
    columns = {c["name"]: c for c in facts["columns"]}
    assert columns["image"]["type"] == "image, inline"
    assert columns["image"]["nbytes"] > sum(len(b) for b in pets.to_arrow(["image"])["image"].to_pylist()) * 0.99
    assert facts["nbytes"] <= facts["nbytes_on_disk"]
    text = call("info", where).stdout
    for word in (
        "rows",
        "20",
        "fragments",
        "versions kept",
        "indexes",
        "image, inline",
        "int32 (px)",
        "width as stored",
    ):
        assert word in text


def test_info_of_an_old_version_is_that_version(where, pets):
    old = pets.version
    pets.delete("split = 'val'")
    assert called("info", f"{where}@{old}")["num_rows"] == 20
    assert called("info", where)["num_rows"] < 20


def test_a_branch_is_read_by_its_name(where, pets):
    lance.dataset(pets.uri).create_branch("exp").delete("true")
    assert called("info", f"{where}@exp")["num_rows"] == 0
    assert called("info", where)["num_rows"] == 20
    refused = call("info", f"{where}@exq", code=1).stderr
    assert "no tag 'exq'" in refused
    assert "no branch 'exq' of table 'pets'; it has exp" in refused


def test_head_shows_rows_in_order_and_sizes_of_media(where, pets):
    rows = called("head", where, "-n", "3", "--columns", "id,image,caption")
    assert [r["id"] for r in rows] == pets.head(3)["id"].to_pylist()
    assert rows[0]["image"]["nbytes"] == len(pets.head(1)["image"][0].as_py())
    assert rows[0]["caption"] == "picture 0 of 20"
    assert "picture 2 of 20" in call("head", where, "-n", "3", "-c", "id,caption").stdout


def test_columns_that_are_empty_or_do_not_fit_are_named(where, lake):
    assert "nothing in orientation, label," in call("head", where).stdout
    lake.create_table("wide", data=pa.table({f"c{i}": ["x" * 60] for i in range(30)}))
    assert call("head", f"{lake.uri}/wide").stdout.endswith("c20, c21, c22 and 7 more\n")
    columns = ", ".join(f"id AS c{i}" for i in range(12))
    wide = call("sql", lake.uri, f"SELECT {columns} FROM pets LIMIT 2").stdout
    assert wide.splitlines()[-1] == "2 rows; not shown for want of room: c10, c11"
    assert call("sql", lake.uri, "SELECT id, width FROM pets LIMIT 1").stdout.count("…") == 0
    assert max(map(len, wide.splitlines())) <= 200


def test_get_shows_a_row_and_saves_its_picture(where, pets, tmp_path):
    key = pets.head(1)["id"][0].as_py()
    out = tmp_path / "one.png"
    row = called("get", where, key, "--save", out)
    assert row["id"] == key
    assert row["saved"]["nbytes"] == out.stat().st_size
    assert out.read_bytes() == pets.get([key])["image"][0].as_py()
    assert "wrote image" in call("get", where, key, "--save", out).stdout
    assert "/no/such" in call("get", where, key, "--save", "/no/such/folder/x.png", code=1).stderr
    assert call("get", where, key, "--save", tmp_path, code=1).stderr == f"lakehouse: {tmp_path}: Is a directory\n"
    both = call("get", where, key, "--save", out, "--columns", "id", code=1).stderr
    assert "name the one to save" in both
    assert out.read_bytes() == pets.get([key])["image"][0].as_py()


def test_get_finds_an_integer_key(lake):
    schema = lh.Schema("numbers", "n", [lh.Column("n", "int64", nullable=False)])
    lake.create_table("numbers", schema=schema, data=[{"n": 7}])
    assert called("get", f"{lake.uri}/numbers", "7") == {"n": 7}


def test_add_stores_files_and_says_what_it_wrote(tmp_path):
    from tests.seeded import pictures

    folder = tmp_path / "photos"
    folder.mkdir()
    for number, row in enumerate(pictures(4).to_pylist()):
        (folder / f"{number}.png").write_bytes(row["image"])
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    target = f"{tmp_path}/lake/pets"
    call("init", target, "--schema", "images")
    failed = call("add", target, folder, code=1)
    assert "broken.png" in failed.stderr
    assert "--on-bad-rows skip leaves such rows out" in failed.stderr
    assert called("info", target)["num_rows"] == 0
    done = called("add", target, folder, "--on-bad-rows", "record")
    assert (done["num_rows"], done["num_failed"]) == (4, 1)
    assert done["nbytes_written"] > 0
    assert "broken.png" in called("feature", "errors", target)[0]["key"]
    assert "broken.png" not in call("add", target, folder, "--on-bad-rows", "skip", code=1).stderr
    again = called("add", target, folder, "--on-bad-rows", "skip", "--on-duplicate-key", "skip")
    assert (again["num_rows"], called("info", target)["num_rows"]) == (0, 4)


def test_sql_prints_rows_takes_parameters_and_writes_parquet(where, lake, tmp_path):
    query = "SELECT split, count(*) AS n FROM pets WHERE width > $w GROUP BY 1 ORDER BY 1"
    assert called("sql", lake.uri, query, "--param", "w=3") == [
        {"split": "test", "n": 6},
        {"split": "train", "n": 7},
        {"split": "val", "n": 7},
    ]
    assert called("sql", lake.uri, query, "--param", "w=24") == []
    call("sql", lake.uri, query, "--param", "w=3", "--out", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 3
    call("sql", lake.uri, query, "--param", "w", code=2)
    call("sql", lake.uri, "SELEC 1", code=1)
    call("sql", lake.uri, "SELECT 1", "--param", "x=1", code=1)


def test_sql_shows_the_first_rows_and_says_that_there_are_more(lake):
    call("init", lake.uri)
    assert "the first 50 rows" in call("sql", lake.uri, "SELECT * FROM range(51)").stdout
    assert "the first" not in call("sql", lake.uri, "SELECT * FROM range(50)").stdout
    assert len(called("sql", lake.uri, "SELECT * FROM range(60)")) == 60


@pytest.fixture
def vectors(lake):
    values = np.random.default_rng(0).standard_normal((40, 8), np.float32)
    data = pa.table(
        {"id": [f"k{i}" for i in range(40)], "v": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), 8)},
        pa.schema([lh.types.field("id", "string", nullable=False), lh.types.field("v", "vector<float32>[8]")]),
    )
    schema = lh.Schema(
        "vectors", "id", [lh.Column("id", "string", nullable=False), lh.Column("v", "vector<float32>[8]")]
    )
    lake.create_table("vectors", schema=schema, data=data)
    return f"{lake.uri}/vectors", values


def test_search_finds_what_is_nearest_to_a_row_or_a_vector(vectors):
    target, values = vectors
    nearest = [f"k{i}" for i in np.argsort(((values - values[3]) ** 2).sum(1))[:5]]
    by_key = called("search", target, "v", "--like", "k3", "-k", "5", "--columns", "id")
    by_vector = called("search", target, "v", "--vector", json.dumps(values[3].tolist()), "-k", "5", "--columns", "id")
    assert [r["id"] for r in by_key] == [r["id"] for r in by_vector] == nearest
    told = call("search", target, "v", "--like", "k3").stdout
    assert told.split()[:2] == ["id", "_distance"]
    assert "k3" in told
    call("search", target, "v", code=2)
    call("search", target, "v", "--like", "k3", "--text", "x", code=2)


def test_search_finds_words(where):
    call("index", where, "caption", "--kind", "fts")
    hits = called("search", where, "caption", "--text", "picture 7", "-k", "1", "--columns", "caption")
    assert hits[0]["caption"] == "picture 7 of 20"


def test_index_is_built_listed_and_dropped(vectors):
    target, _ = vectors
    assert call("index", target).stdout.startswith("no indexes")
    done = called("index", target, "id", "--kind", "btree")
    assert done["nbytes_written"] > 0
    assert "id" in call("index", target).stdout
    assert called("info", target)["indexes"] == ["id"]
    call("index", target, "id", "--drop")
    assert called("index", target) == []


def test_schema_plan_ends_with_three_if_there_is_drift_and_apply_ends_it(where, pets, tmp_path):
    assert called("schema", "plan", where, "images")["steps"] == []
    file = tmp_path / "more.toml"
    file.write_text(pets_toml() + '\nmood = { type = "string", doc = "how it looks" }\n')
    planned = called("schema", "plan", where, file, code=3)
    assert [(s["verb"], s["column"], s["effect"]) for s in planned["steps"]] == [("add", "mood", "safe")]
    assert "mood" in call("schema", "plan", where, file, code=3).stdout
    assert called("schema", "apply", where, file)["nbytes_untouched"] > 0
    call("schema", "plan", where, file)
    assert "mood" in pets.schema.names


def pets_toml():
    return (Path(__file__).parent.parent / "schemas" / "images.toml").read_text()


def test_features_are_declared_previewed_filled_and_listed(where, pets, tmp_path, monkeypatch):
    (tmp_path / "my_cli_features.py").write_text(
        "import lakehouse as lh, pyarrow as pa\n"
        "@lh.udf(pa.int32())\n"
        "def half(width: int) -> int:\n"
        "    return width // 2\n"
        "@lh.udf(pa.int32())\n"
        "def fails(caption: str) -> int:\n"
        "    return 1 // (caption != 'picture 3 of 20')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert "no features" in call("feature", "ls", where).stdout
    call("feature", "preview", where, "my_cli_features:half", "-n", "2")
    failed = call("feature", "preview", where, "my_cli_features:fails", "-n", "20").stdout.splitlines()[-1]
    assert re.fullmatch(r"failed: my_cli_features\.py:7 in fails: ZeroDivisionError: .*", failed)
    assert "declared half" in call("feature", "add", where, "half", "my_cli_features:half").stdout
    call("feature", "add", where, "area", "--sql", "width * height")
    assert called("feature", "backfill", where, "half", "--dry-run")["num_rows"] == 20
    done = streamed("feature", "backfill", where, "half")[-1]
    assert (done["num_filled"], done["num_failed"]) == (20, 0)
    assert 0 < done["nbytes_written"] < done["nbytes_untouched"]
    states = {r["column"]: r["state"] for r in called("feature", "ls", where)}
    assert states == {"half": "fresh", "area": "declared"}
    assert pets.to_arrow(["half"])["half"].to_pylist() == [12] * 20
    call("feature", "add", where, "fails", "my_cli_features:fails")
    text = call("feature", "backfill", where).stdout
    assert "1 row failed" in text
    assert len(called("feature", "errors", where, "fails")) == 1
    assert "ZeroDivisionError" in call("feature", "errors", where).stdout
    assert "fresh" in call("info", where).stdout


def test_a_function_that_cannot_be_found_is_named(where):
    assert "MODULE:FUNCTION" in call("feature", "add", where, "x", "nocolon", code=2).stderr
    assert "no_such_module" in call("feature", "add", where, "x", "no_such_module:f", code=1).stderr
    call("feature", "add", where, "x", code=2)


def test_history_and_tags(where, pets):
    old = pets.version
    assert call("tag", where).stdout.startswith("no tags")
    call("tag", f"{where}@{old}", "v1")
    pets.delete("split = 'val'")
    assert called("tag", where) == {"v1": old}
    assert called("info", f"{where}@v1")["version"] == old
    rows = called("history", where, "-n", "2")
    assert [r["version"] for r in rows] == [pets.version, old]
    assert rows[1]["tags"] == ["v1"]
    assert "v1" in call("history", where).stdout
    call("tag", where, "v1", "--delete")
    assert called("tag", where) == {}
    call("tag", where, "--delete", code=2)


# All verbs

STORY = {
    "init": ["{folder}/new/pets", "--schema", "images"],
    "ls": ["{lake}"],
    "info": ["{where}"],
    "head": ["{where}", "-n", "2"],
    "get": ["{where}", "{key}"],
    "add": ["{where}", "{folder}/photos"],
    "sql": ["{lake}", "SELECT count(*) AS n FROM pets"],
    "index": ["{where}", "caption", "--kind", "fts"],
    "search": ["{where}", "caption", "--text", "picture"],
    "schema plan": ["{where}", "images"],
    "schema apply": ["{where}", "images"],
    "history": ["{where}"],
    "tag": ["{where}", "v1"],
    "feature ls": ["{where}"],
    "feature add": ["{where}", "half", "story_features:half"],
    "feature preview": ["{where}", "story_features:half"],
    "feature backfill": ["{where}", "half"],
    "feature alter": ["{where}", "half", "story_features:other_half"],
    "feature accept": ["{where}", "half"],
    "feature errors": ["{where}", "half"],
    "feature history": ["{where}", "half"],
    "feature runs": ["{where}"],
    "feature rollback": ["{where}", "half", "{filled}"],
    "feature release": ["{where}", "half"],
    "feature add-from": ["{where}", "{folder}/scores.parquet"],
    "feature rename": ["{where}", "half", "third"],
    "feature drop": ["{where}", "third", "--cascade"],
    "compact": ["{where}"],
}
LONG = {"feature backfill", "feature add-from", "compact"}  # with --json these print a line after the other
WRITES = {
    "add", "index", "schema apply", "compact", *(f"feature {verb}" for verb in
    ("add", "backfill", "alter", "accept", "rollback", "add-from", "rename", "drop"))
}  # fmt: skip


@pytest.fixture
def scene(tmp_path, where, pets, lake, monkeypatch):
    """Say what the names in the story stand for."""
    from tests.seeded import pictures

    monkeypatch.chdir(tmp_path)
    (tmp_path / "story_features.py").write_text(
        "import lakehouse as lh, pyarrow as pa\n"
        "@lh.udf(pa.int32(), version='1')\n"
        "def half(width: int) -> int:\n"
        "    return width // 2\n"
        "@lh.udf(pa.int32(), version='2')\n"
        "def other_half(width: int) -> int:\n"
        "    return width - width // 2\n"
    )
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.png").write_bytes(pictures(25)["image"][24].as_py())
    keys = pets.to_arrow(["id"])["id"]
    pq.write_table(pa.table({"id": keys, "score": pa.array(range(len(keys)))}), tmp_path / "scores.parquet")
    return {"folder": tmp_path, "where": where, "lake": lake.uri, "key": keys[0].as_py()}


def tell(scene, told, *options):
    """Run every verb in turn; `told` is called with each verb and what it printed."""
    for verb, arguments in STORY.items():
        words = [argument.format(**scene) for argument in arguments]
        told(verb, call(*verb.split(), *words, *options).stdout)
        if verb == "feature backfill":
            scene["filled"] = lh.connect(scene["lake"]).open_table("pets").version


def test_the_story_has_every_verb():
    """The demo has a file of its own, tests/test_demo.py."""
    assert {"demo", *STORY} == {line.removeprefix("## ") for line in reference().splitlines() if line.startswith("## ")}


def test_every_verb_prints_json_and_nothing_else(scene):
    printed = {}
    tell(scene, printed.__setitem__, "--json")
    for verb, out in printed.items():
        lines = [json.loads(line) for line in out.splitlines()] if verb in LONG else [json.loads(out)]
        if verb in LONG:
            assert [line["event"] for line in lines] == ["progress"] * (len(lines) - 1) + ["result"], verb
        if verb in WRITES:
            assert {"version", "nbytes_written", "nbytes_untouched"} <= lines[-1].keys(), verb
    assert set(printed) == set(STORY)


def test_every_verb_that_writes_says_in_bytes_what_it_wrote_and_what_it_left(scene):
    printed = {}
    tell(scene, printed.__setitem__)
    told = {verb for verb, out in printed.items() if re.search(r"[\d.]+ k?M?B written, [\d.]+ k?M?B untouched", out)}
    assert told >= WRITES
    assert all(printed.values())


def test_a_backfill_streams_its_progress(where, scene):
    call("feature", "add", where, "half", "story_features:half")
    *events, result = streamed("feature", "backfill", where, "half")
    keys = {"event", "job", "unit", "rows", "total", "rate", "failed", "resumed", "eta_s"}
    assert all(event.keys() == keys for event in events)
    assert (events[0]["rows"], events[0]["total"]) == (0, 20)
    assert (events[-1]["rows"], events[-1]["total"], events[-1]["eta_s"]) == (20, 20, 0)
    assert (result["num_filled"], result["num_resumed"]) == (20, 0)
    assert [event["event"] for event in streamed("feature", "backfill", where, "half", "--dry-run")] == ["result"]


# Errors and help


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "{lake}/nope"),
        ("head", "{where}@99"),
        ("head", "{where}@no-tag"),
        ("head", "{where}", "--columns", "captoin"),
        ("get", "{where}", "no such key"),
        ("sql", "{lake}", "SELECT * FROM nope"),
        ("search", "{where}", "caption", "--vector", "[1, 2]"),
        ("add", "{where}", "/no/such/folder"),
        ("index", "{where}", "nope"),
        ("schema", "plan", "{where}", "no-such-file.toml"),
        ("feature", "backfill", "{where}", "nope"),
        ("init", "{where}", "--schema", "images"),
        ("sql", "{lake}", "SELECT id FROM pets", "--out", "/no/such/folder/x.parquet"),
        ("demo", "/dev/null/x"),
        ("feature", "ls", "{lake}/nope"),
        ("feature", "add", "{where}", "x", "json:loads"),
        ("feature", "add", "{where}", "x", "--sql", "no_such_column + 1"),
        ("feature", "preview", "{where}", "json:nope"),
        ("feature", "backfill", "{where}", "width"),
        ("feature", "backfill", "{where}", "caption", "--executor", "ray", "--workers", "2"),
        ("feature", "errors", "{where}", "nope"),
        ("feature", "history", "{where}", "nope"),
        ("feature", "rollback", "{where}", "width", "1"),
        ("feature", "rollback", "{where}", "nope", "1"),
        ("feature", "alter", "{where}", "width", "json:loads"),
        ("feature", "accept", "{where}", "width"),
        ("feature", "drop", "{where}", "nope"),
        ("feature", "drop", "{where}", "id"),
        ("feature", "rename", "{where}", "nope", "x"),
        ("feature", "rename", "{where}", "width", "height"),
        ("feature", "release", "{where}", "nope"),
        ("feature", "add-from", "{where}", "/no/such/file.parquet"),
        ("compact", "{lake}/nope"),
        ("ls", "{where}"),
        ("ls", "{where}.lance"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_one(where, lake, arguments):
    result = call(*(a.format(where=where, lake=lake.uri) for a in arguments), code=1)
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("lakehouse: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("info",),
        ("head", "x/y", "-n", "0"),
        ("index", "x/y", "--drop"),
        ("ls", "lake@3"),
        ("add", "x/y@3", "z"),
        ("feature", "backfill", "x/y", "--only", "some"),
        ("feature", "backfill", "x/y", "--max-error-rate", "2"),
        ("feature", "backfill", "x/y", "--executor", "dask"),
        ("feature", "rollback", "x/y", "f", "last"),
        ("feature", "drop", "x/y"),
        ("feature", "add", "x/y", "f"),
        ("compact", "x/y@3"),
        ("feature", "alter", "x/y", "f", "g"),
    ],
)
def test_wrong_usage_is_exit_code_two(arguments):
    call(*arguments, code=2)


def test_the_program_ends_with_its_codes_and_never_a_traceback(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "lakehouse", *arguments], capture_output=True, text=True, cwd=tmp_path
        )

    failed = run("info", "lake/nope")
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert "Traceback" in run("--debug", "info", "lake/nope").stderr
    assert run("--version").stdout.strip() == lh.__version__


def test_help_waits_for_neither_lance_nor_duckdb():
    code = "import sys, lakehouse.cli; assert not {'lance', 'duckdb', 'PIL', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_verb_has_help_with_an_example_and_json():
    page = reference()
    assert [line.split()[1] for line in page.splitlines() if line.startswith("## ")] != []
    for verb in VERBS:
        assert f"\n## {verb}" in page
        assert "Example" in call(verb, "--help").stdout or verb in ("schema", "feature")
    sections = page.split("\n## ")[1:]
    assert all("`--json`" in section and "```text\nlakehouse " in section for section in sections)


def test_the_reference_page_is_current():
    page = Path(__file__).parent.parent / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == reference(), "python -m lakehouse.cli.reference > docs/cli.md"


# A backfill that is stopped: real processes, real signals

_MODULE = """
import threading
from pathlib import Path
import lakehouse as lh, pyarrow as pa

@lh.udf(pa.int64())
def tripled(x: int) -> int:
    if x == 700 and not Path("go on").exists():
        Path("reached").open("w").close()  # a named pipe: waits for who reads it
        threading.Event().wait()
    return 3 * x
"""
_FRAGMENTS, _FRAGMENT_ROWS = 4, 250


@pytest.fixture
def endless(tmp_path, monkeypatch):
    """Make a table with a feature whose function never comes back from row 700 of 1,000."""
    table = lh.connect(tmp_path / "lake").create_table("t", schema=pa.schema([("x", pa.int64())]))
    for number in range(_FRAGMENTS):
        table.add(pa.table({"x": range(number * _FRAGMENT_ROWS, (number + 1) * _FRAGMENT_ROWS)}), progress=False)
    (tmp_path / "endless_features.py").write_text(_MODULE)
    os.mkfifo(tmp_path / "reached")
    monkeypatch.chdir(tmp_path)
    call("feature", "add", "lake/t", "f", "endless_features:tripled")
    return tmp_path, table, [sys.executable, "-m", "lakehouse", "feature", "backfill", "lake/t", "f", "--json"]


def stop(folder, command, number):
    """Start a command in a process group of its own, stop all of it when the function is at its row."""
    with subprocess.Popen(
        command, cwd=folder, process_group=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        (folder / "reached").read_text()
        os.killpg(child.pid, number)
        out, err = child.communicate()
    (folder / "go on").touch()
    return child.returncode, [json.loads(line) for line in out.splitlines()], err


def run_on(folder, command):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_ctrl_c_ends_any_verb_with_one_line_and_130(where, tmp_path, monkeypatch):
    (tmp_path / "interrupted_features.py").write_text(
        "import os, signal, lakehouse as lh, pyarrow as pa\n"
        "@lh.udf(pa.int32())\n"
        "def half(width: int) -> int:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return width // 2\n"
    )
    monkeypatch.chdir(tmp_path)
    result = call("feature", "preview", where, "interrupted_features:half", code=130)
    assert (result.stdout, result.stderr) == ("", "lakehouse: stopped\n")


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_commits_what_is_staged_says_so_and_the_same_command_goes_on(endless, workers):
    folder, table, command = endless
    command += ["--workers", str(workers)]
    code, events, said = stop(folder, command, signal.SIGINT)
    assert code == 130
    assert {event["event"] for event in events} == {"progress"}
    assert events[-1]["rows"] < events[-1]["total"] == 1000
    committed = table.count_rows("f IS NOT NULL")
    assert committed > 0
    assert len(said.strip().splitlines()) == 1, said
    assert f"lakehouse: stopped; f is {committed / 1000:.0%} filled, as version {table.version}" in said
    assert "the same command goes on" in said
    result = run_on(folder, command)[-1]
    assert result["num_rows"] == 1000 - committed
    assert 0 < result["num_resumed"] < result["num_rows"]
    assert table.to_arrow(["x", "f"])["f"].to_pylist() == [3 * x for x in range(1000)]


def test_after_a_kill_the_same_command_says_what_it_resumed(endless):
    folder, table, command = endless
    code, events, said = stop(folder, command, signal.SIGKILL)
    assert (code, said) == (-signal.SIGKILL, "")
    text = subprocess.run(command[:-1], cwd=folder, capture_output=True, text=True, check=True).stdout
    resumed, computed = (int(re.findall(f"([0-9]+) {word}", text)[0]) for word in ("resumed", "computed"))
    assert resumed + computed == 1000 - table.count_rows("f IS NULL") == 1000
    assert 0 < computed <= 1000 - 700 + 64  # of a batch of 64 at most is nothing kept
