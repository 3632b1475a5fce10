"""Where a backfill runs: processes of our own, somebody's executor, Ray. Real processes, killed for real."""

import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import lakehouse as lh
from lakehouse.errors import BackfillError, InvalidArgumentError, UnsupportedTableError
from lakehouse.features.computing import spread
from lakehouse.features.storing.checkpoints import Checkpoints


@lh.udf(pa.int64())
def square(x: int) -> int:
    return x * x


@lh.udf(pa.int64())
def deadly(x: int) -> int:
    if x == 333:
        os.kill(os.getpid(), signal.SIGKILL)
    return x + 1


@lh.udf(pa.int64())
def inverse(x: int) -> int:
    return 100 // x


def numbers(lake, udf, num_rows=1000, parts=1):
    """Make a table of so many fragments."""
    table = lake.create_table("numbers", schema=pa.schema([("x", pa.int64())]))
    for part in np.array_split(np.arange(num_rows), parts):
        table.add(pa.table({"x": part}), progress=False)
    table.add_columns({next(iter(udf.outputs)): udf})
    return table


def filled(table, column):
    return dict(zip(*(table.to_arrow(["x", column])[name].to_pylist() for name in ("x", column)), strict=True))


def test_two_workers_fill_what_one_process_fills(lake):
    table = numbers(lake, square, 3000, parts=5)
    result = table.backfill("square", udf=square, num_workers=2, progress=False)
    assert (result.num_filled, result.num_computed, result.num_failed) == (3000, 3000, 0)
    assert filled(table, "square") == {x: x * x for x in range(3000)}
    assert table.features()["state"].to_pylist() == ["fresh"]


def test_looking_for_what_workers_saved_takes_a_twentieth_of_the_time_and_never_misses_any(lake, monkeypatch):
    """By a clock that stands still nobody may look again before all is done; then everything is found."""
    looks, load = [], Checkpoints.load
    monkeypatch.setattr(Checkpoints, "load", lambda *args: looks.append(args[1]) or load(*args))
    monkeypatch.setattr(spread, "monotonic", lambda: 0.0)
    table = numbers(lake, square, 600, parts=2)
    batches = dataclasses.replace(square, batch_size=10)
    assert table.backfill("square", udf=batches, num_workers=1, progress=False).num_filled == 600
    assert len(looks) <= 2 * 3  # at first, when all is done, and for what is kept


def test_a_row_that_workers_die_of_fails_alone(lake):
    table = numbers(lake, deadly, parts=2)
    result = table.backfill("deadly", udf=deadly, num_workers=2, progress=False)
    assert (result.num_filled, result.num_failed, result.num_computed) == (999, 1, 1000)
    (error,) = table.errors("deadly").to_pylist()
    assert error["error"] == "WorkerLostError"
    assert error["message"].startswith("the worker was killed by signal 9 (SIGKILL)")
    assert filled(table, "deadly") == {x: None if x == 333 else x + 1 for x in range(1000)}


def test_failed_rows_are_recorded_and_a_job_can_be_told_to_stop(lake):
    table = numbers(lake, inverse)
    with pytest.raises(BackfillError, match="ZeroDivisionError"):
        table.backfill("inverse", udf=inverse, num_workers=1, on_error="raise", progress=False)
    result = table.backfill("inverse", udf=inverse, num_workers=1, progress=False)
    assert (result.num_filled, result.num_failed) == (999, 1)
    assert result.num_resumed > 0
    assert result.num_resumed + result.num_computed == 1000


def test_a_pilot_and_expressions_run_with_workers_too(lake):
    table = numbers(lake, square)
    assert table.backfill("square", udf=square, num_workers=2, limit=70, progress=False).num_filled == 70
    table.add_columns({"twice": "x * 2"})
    assert table.backfill("twice", num_workers=2, progress=False).num_filled == 1000


@lh.udf(pa.int64(), batch=True, batch_size=50)
class Remembering:
    def __init__(self, log):
        self.log = log
        self.note("built")

    def note(self, what):
        with open(self.log, "a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def __call__(self, x: pa.Array) -> pa.Array:
        assert len(x) <= 50
        while Path(self.log).read_text().count("built") < 2:  # on a busy machine one worker might do all
            time.sleep(0.01)
        return x

    def close(self):
        self.note("closed")


def test_a_class_is_built_once_in_each_worker_and_closed(lake, tmp_path):
    remembering = Remembering(str(tmp_path / "log"))
    table = numbers(lake, remembering, parts=3)
    table.backfill("Remembering", udf=remembering, num_workers=2, progress=False)
    lines = (tmp_path / "log").read_text().split("\n")[:-1]
    assert len({line.split()[1] for line in lines}) == 2
    assert Counter(line.split()[0] for line in lines) == {"built": 2, "closed": 2}
    assert str(os.getpid()) not in " ".join(lines)


@lh.udf(pa.int64())
class Unbuildable:
    def __init__(self):
        raise RuntimeError("no weights")

    def __call__(self, x: int) -> int:
        return x


def test_a_class_that_cannot_be_built_ends_the_job_with_its_reason(lake):
    table = numbers(lake, Unbuildable())
    with pytest.raises(BackfillError, match="could not be built.*no weights"):
        table.backfill("Unbuildable", udf=Unbuildable(), num_workers=2, progress=False)


# The user's script

HELPERS = """
FACTOR = 3

def times(x):
    return x * FACTOR
"""

SCRIPT = """
from pathlib import Path
import pyarrow as pa
import lakehouse as lh
import helpers

with Path("runs.txt").open("a") as file:
    file.write("script\\n")
OFFSET = 1

@lh.udf(pa.int64())
def f(x: int) -> int:
    return helpers.times(x) + OFFSET

table = lh.connect("lake").create_table("t", data=pa.table({"x": range(500)}))
table.add_columns({"f": f})
Path("helpers.py").write_text("def times(x): return 0")  # somebody edits while it runs
print(table.backfill("f", udf=f, num_workers=1, progress=False).num_filled)
assert table.to_arrow(["f"])["f"].to_pylist() == [3 * x + 1 for x in range(500)]
"""


@pytest.mark.parametrize("how", ["script", "-c", "stdin"])
def test_a_script_without_main_guard_runs_once_and_computes_with_its_own_code(tmp_path, how):
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = {"script": ["script.py"], "-c": ["-c", SCRIPT], "stdin": ["-"]}[how]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        input=SCRIPT if how == "stdin" else None,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("500\n", 0), done.stderr
    assert (tmp_path / "runs.txt").read_text() == "script\n"


INTERRUPTED = """
import os, threading
import pyarrow as pa
import lakehouse as lh

@lh.udf(pa.int64(), batch=True, batch_size=10)
def f(x: pa.Array) -> pa.Array:
    if x[0].as_py() >= 300 and os.path.exists("gate"):
        with open("gate", "w") as gate:
            gate.write(f"{os.getpid()}")
        threading.Event().wait()
    return x

lake = lh.connect("lake")
there = "t" in lake.table_names()
table = lake.open_table("t") if there else lake.create_table("t", data=pa.table({"x": range(500)}))
table.add_columns({"f": f})
result = table.backfill("f", udf=f, num_workers=1, progress=False)
print(result.num_filled, result.num_resumed)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_job_that_is_ended_takes_its_workers_along_and_is_resumed(tmp_path, how):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    os.mkfifo(tmp_path / "gate")
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as job:
        (tmp_path / "gate").read_text()
        os.kill(job.pid, how)
        stderr = job.stderr.read()  # its worker holds it too: this returns when both have ended
    assert job.returncode != 0
    assert "KeyboardInterrupt" in stderr or how == signal.SIGKILL
    (tmp_path / "gate").unlink()
    again = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (again.stdout, again.stderr) == ("500 300\n", "")  # no batch before the one it was at is computed again


# Executors of others


@pytest.mark.parametrize("make", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_any_executor_computes(lake, make):
    table = numbers(lake, square, parts=3)
    context = {} if make is ThreadPoolExecutor else {"mp_context": multiprocessing.get_context("spawn")}
    with make(2, **context) as executor:
        result = table.backfill("square", udf=square, executor=executor, progress=False)
        assert result.num_filled == 1000
        assert executor.submit(abs, -1).result() == 1  # it is left as it was
    assert filled(table, "square") == {x: x * x for x in range(1000)}


@pytest.mark.filterwarnings("ignore:lance is not fork-safe", "ignore:This process .* is multi-threaded")
def test_forked_workers_are_refused_with_the_way_out(lake):
    table = numbers(lake, square)
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as executor,
        pytest.raises(UnsupportedTableError, match="spawn"),
    ):
        table.backfill("square", udf=square, executor=executor, progress=False)


def test_an_executor_that_a_death_breaks_keeps_what_was_computed(lake):
    table = numbers(lake, deadly, parts=4)
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, mp_context=context) as executor,
        pytest.raises(BackfillError, match='what was computed is kept.*executor="local"'),
    ):
        table.backfill("deadly", udf=deadly, executor=executor, progress=False)
    result = table.backfill("deadly", udf=deadly, num_workers=1, progress=False)
    assert (result.num_failed, result.num_rows + result.num_skipped) == (1, 1000)
    assert result.num_resumed + result.num_skipped > 0


def test_a_closed_executor_is_named(lake):
    table = numbers(lake, square)
    with ThreadPoolExecutor(1) as executor:
        pass
    with pytest.raises(InvalidArgumentError, match="the executor is not open"):
        table.backfill("square", udf=square, executor=executor, progress=False)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"num_workers": -1}, "number of processes"),
        ({"num_workers": 1.5}, "number of processes"),
        ({"executor": "dask"}, '"local", "ray" or a concurrent.futures.Executor'),
    ],
)
def test_what_names_no_place_to_run_is_refused(lake, asked, told):
    table = numbers(lake, square)
    with pytest.raises(InvalidArgumentError, match=told):
        table.backfill("square", udf=square, progress=False, **asked)


# Ray


@pytest.fixture(scope="module")
def cluster():
    """Start Ray on this machine, offline, with little memory."""
    import logging

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "lance is not fork-safe")  # Ray forks to start other programs
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")  # otherwise 2.60 makes a token and says so on standard error
        import ray

        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=100_000_000,
        )
        yield ray
        ray.shutdown()


def test_ray_fills_a_column_and_a_row_that_its_workers_die_of_fails_alone(lake, cluster):
    table = numbers(lake, deadly, parts=2)
    result = table.backfill("deadly", udf=deadly, executor="ray", progress=False)
    assert (result.num_filled, result.num_failed, result.num_computed) == (999, 1, 1000)
    (error,) = table.errors("deadly").to_pylist()
    assert error["message"].startswith("the Ray worker died")
    assert filled(table, "deadly") == {x: None if x == 333 else x + 1 for x in range(1000)}


@lh.udf(pa.float64(), num_cpus=0.5, memory_nbytes=50 << 20)
def cpus(x: int) -> float:
    import ray

    return ray.get_runtime_context().get_assigned_resources()["CPU"]


def test_ray_is_told_what_the_function_needs(lake, cluster):
    table = numbers(lake, cpus, 40)
    table.backfill("cpus", udf=cpus, executor="ray", num_workers=1, progress=False)
    assert set(filled(table, "cpus").values()) == {0.5}
