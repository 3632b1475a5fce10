import hashlib
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import BackfillError
from lakehouse.features.jobs import runs
from lakehouse.features.udfs import environment
from tests.killing import run_and_kill


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, x: int) -> int:
        if x > 8:
            raise ValueError("too large")
        return self.by * x


scale = lh.udf(pa.int64(), inputs=["half"], version="7")(Scale)(by=3)


@pytest.fixture
def table(lake):
    made = lake.create_table("t", data=[{"x": n} for n in range(10)])
    made.add_columns({"half": "x / 2"})
    made.add_columns({"f": scale})
    return made


def fill(table, **options):
    return table.backfill("f", udf=scale, progress=False, **options)


def test_a_run_says_who_filled_what_with_what_and_from_what(table, monkeypatch):
    monkeypatch.setenv("LAKEHOUSE_AUTHOR", "ada")
    table.backfill("half", progress=False)
    result = fill(table, where="x < 8")
    assert table.runs().num_rows == 2
    (run,) = table.runs("f").to_pylist()
    feature = table.snapshot().features["f"]
    assert (run["columns"], run["state"], run["who"]) == (["f"], "done", "ada")
    assert (run["function"], run["declared_version"]) == (f"{__name__}:Scale", "7")
    assert (run["arguments"], run["code_hash"], run["generation"]) == ('{"by": 3}', feature.code_hash, 1)
    assert (run["inputs"], run["all_inputs"]) == (["half"], ["half", "x"])
    assert (run["num_rows"], run["num_filled"], run["num_computed"], run["num_skipped"]) == (8, 8, 8, 2)
    assert (run["nbytes_written"], run["versions"]) == (result.nbytes_written, [result.version])
    assert run["from_version"] < result.version
    assert run["options"] == '{"where": "x < 8"}'
    assert run["started_at"] <= run["ended_at"]
    assert {"python", "pylance", "pyarrow", "pytest"} <= dict(run["packages"]).keys()
    assert run["error"] is None


def test_every_file_a_run_committed_is_there_with_its_checksum(table):
    table.backfill("half", progress=False)
    fill(table)
    files = dict(table.runs("f")["files"].to_pylist()[0])
    assert len(files) == 1
    for name, digest in files.items():
        assert hashlib.sha256(Path(table.uri, "data", name).read_bytes()).hexdigest() == digest


def test_the_same_inputs_have_the_same_digest_and_others_another(table):
    table.backfill("half", progress=False)
    fill(table, limit=2)
    fill(table)
    table.add([{"x": 3}])
    table.backfill("half", progress=False)
    fill(table)
    first, second, third = table.runs("f")["inputs_digest"].to_pylist()
    assert first == second != third


def test_a_run_that_failed_says_why(table):
    table.update("x = 9", {"x": 90})
    table.backfill("half", progress=False)
    with pytest.raises(BackfillError):
        fill(table, on_error="raise")
    run = table.runs("f").to_pylist()[-1]
    assert (run["state"], "too large" in run["error"]) == ("failed", True)
    assert run["ended_at"] is not None


def test_a_run_that_was_interrupted_or_killed_shows_as_stopped(lake, tmp_path):
    table = lake.create_table("t", data=[{"x": n} for n in range(10)])
    table.add_columns({"f": "x + 1"})
    run_and_kill(
        """
        import lakehouse as lh
        from lakehouse.features.storing import landing
        before(landing, "commit_staged", "commit")
        lh.connect("lake").open_table("t").backfill("f", progress=False)
        """,
        "commit.1",
        tmp_path,
    )
    assert table.runs("f")["state"].to_pylist() == ["stopped"]
    table.backfill("f", progress=False)
    assert table.runs("f")["state"].to_pylist() == ["stopped", "done"]


def test_a_run_that_goes_on_says_so(lake):
    table = lake.create_table("t", data=[{"x": n} for n in range(10)])
    seen = []

    @lh.udf(pa.int64(), version="1")
    def watching(x: int) -> int:
        seen.append(table.runs("f")["state"].to_pylist())
        return x

    table.add_columns({"f": watching})
    table.backfill("f", udf=watching, progress=False)
    assert seen[0] == ["running"]
    assert table.runs("f")["state"].to_pylist() == ["done"]


def test_a_table_without_runs_has_none(lake):
    table = lake.create_table("t", data=[{"x": 1}])
    assert table.runs().schema == runs.RUNS
    assert table.runs().num_rows == 0


def test_the_log_goes_with_the_table(lake):
    table = lake.create_table("t", data=[{"x": 1}])
    table.add_columns({"f": "x + 1"})
    table.backfill(progress=False)
    table.features()
    lake.drop_table("t")
    again = lake.create_table("t", data=[{"x": 1}])
    assert again.runs().num_rows == 0
    left = Path(lake.uri, "_lakehouse").rglob("*.*")
    assert [file.name for file in left if file.is_file()] == ["format.json"]


# What a function ran with


def repository(folder):
    def git(*args):
        identity = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        return subprocess.run(["git", *identity, *args], cwd=folder, check=True, capture_output=True, text=True).stdout

    git("init", "-q", "-b", "main")
    (folder / "project_of_ada.py").write_text("def f(x):\n    return x\n")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    return git


def test_the_commit_of_the_functions_project_is_read_from_its_files(tmp_path, monkeypatch):
    project = tmp_path / "project"
    project.mkdir()
    git = repository(project)
    monkeypatch.syspath_prepend(project)
    from project_of_ada import f  # type: ignore[import-not-found]  # written above

    try:
        head = git("rev-parse", "HEAD").strip()
        assert environment.git_commit(f) == head
        git("pack-refs", "--all")
        assert environment.git_commit(f) == head
        git("checkout", "-q", "--detach")
        assert environment.git_commit(f) == head
        git("worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
        monkeypatch.setattr(sys.modules["project_of_ada"], "__file__", str(tmp_path / "side" / "project_of_ada.py"))
        assert environment.git_commit(f) == head
        monkeypatch.setattr(sys.modules["project_of_ada"], "__file__", str(tmp_path / "elsewhere.py"))
        assert environment.git_commit(f) is None
    finally:
        del sys.modules["project_of_ada"]


def test_the_packages_are_those_the_functions_module_imports():
    found = environment.packages(Scale)
    assert found["pyarrow"] == pa.__version__
    assert "pytest" in found
    assert "duckdb" not in found
    assert set(environment.packages(None)) <= {"python", "lance-lakehouse", "pylance", "pyarrow"}
