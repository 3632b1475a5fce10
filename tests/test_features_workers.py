"""Worker processes: real ones, killed for real."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from lakehouse.errors import BackfillError, InvalidArgumentError
from lakehouse.features.computing.workers import WorkerLostError, Workers

# What a worker is asked to do has to be importable there, and this folder's modules are.


def nothing():
    pass


def pid():
    return os.getpid()


def die(how):
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), how)


def fail(error):
    raise error


def environment(*names):
    return [os.environ.get(name) for name in names]


def say(words):
    print(words)
    print(words, file=sys.stderr)
    return input() if words == "read" else None


def hold_gate(fifo):
    """Say on the fifo that the call is under way, and wait for what never comes."""
    with open(fifo, "w") as gate:
        gate.write(f"{os.getpid()}\n")
    threading.Event().wait()


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail_strangely():
    raise Unpicklable(1, 2)


@pytest.fixture
def pool():
    workers = Workers(2, nothing)
    yield workers
    workers.kill()


def test_calls_are_answered_by_processes_that_live_on(pool):
    pids = {future.result() for future in [pool.submit(pid) for _ in range(20)]}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert list(pool.map(abs, [-1, -2])) == [1, 2]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (signal.SIGKILL, "killed by signal 9 (SIGKILL), as the kernel does when memory runs out"),
        (signal.SIGSEGV, "in die: the worker was killed by signal 11 (SIGSEGV)"),
        ("exit", "ended with exit code 3"),
    ],
)
def test_a_worker_that_dies_fails_its_call_and_the_next_one_is_answered(pool, how, told):
    others = [pool.submit(abs, n) for n in range(5)]
    lost = pool.submit(die, how)
    after = [pool.submit(abs, n) for n in range(5)]
    with pytest.raises(WorkerLostError) as caught:
        lost.result()
    assert told in str(caught.value)
    assert [future.result() for future in others + after] == [*range(5), *range(5)]


def test_errors_come_back_as_they_are_with_where_they_were_raised(pool):
    with pytest.raises(InvalidArgumentError, match="no such thing") as caught:
        pool.submit(fail, InvalidArgumentError("no such thing")).result()
    assert "in fail" in caught.value.__notes__[0]
    with pytest.raises(BackfillError, match="Unpicklable: 1 and 2"):
        pool.submit(fail_strangely).result()


def test_what_a_function_prints_reaches_standard_error_and_breaks_nothing(capfd):
    with Workers(1, nothing) as pool:
        assert pool.submit(say, "hello").result() is None
        assert pool.submit(abs, -1).result() == 1
        with pytest.raises(EOFError):
            pool.submit(say, "read").result()
    out, err = capfd.readouterr()
    assert (out, err.count("hello")) == ("", 2)


def test_each_worker_has_its_environment(monkeypatch):
    monkeypatch.setenv("MINE", "user")
    with Workers(2, nothing, envs=[{"SEAT": "0"}, {"SEAT": "1"}]) as pool:
        seen = [pool.submit(environment, "MINE", "SEAT").result() for _ in range(20)]
    assert {"user"} == {mine for mine, _ in seen}
    assert {seat for _, seat in seen} <= {"0", "1"}


def test_an_initializer_that_fails_fails_every_call():
    with Workers(2, fail, (BackfillError("no model"),)) as pool:
        for future in [pool.submit(pid) for _ in range(4)]:
            with pytest.raises(BackfillError, match="no model"):
                future.result()


def test_an_initializer_that_dies_is_not_tried_for_ever():
    with (
        Workers(1, die, ("exit",)) as pool,
        pytest.raises(BackfillError, match="exit code 3 while it was being started, before any row"),
    ):
        pool.submit(pid).result()


def test_leaving_the_pool_waits_for_what_was_asked(tmp_path):
    with Workers(1, nothing) as pool:
        futures = [pool.submit(abs, -n) for n in range(10)]
    assert [future.result() for future in futures] == list(range(10))
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(pid)


def test_killing_the_pool_ends_calls_under_way_and_gives_up_the_rest(tmp_path):
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    pool = Workers(1, nothing)
    held, waiting = pool.submit(hold_gate, str(fifo)), pool.submit(pid)
    worker = int(fifo.read_text())
    pool.kill()
    with pytest.raises(WorkerLostError, match="SIGKILL"):
        held.result()
    assert waiting.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import test_features_workers as calls
from lakehouse.features.computing.workers import Workers
print("script runs", file=sys.stderr)
pool = Workers(1, calls.nothing)
pool.submit(calls.hold_gate, {fifo!r})
sys.stdin.read()
"""


@pytest.mark.parametrize("as_script", [True, False])
def test_workers_end_with_a_driver_that_is_killed_and_never_run_its_script(tmp_path, as_script):
    fifo = tmp_path / "gate"
    os.mkfifo(fifo)
    code = textwrap.dedent(SCRIPT.format(tests=os.path.dirname(__file__), fifo=str(fifo)))
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "script.py"] if as_script else [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver:
        worker = int(fifo.read_text())
        os.kill(worker, 0)  # it is there
        driver.kill()
        # It holds the driver's standard error until it ends: read to the end of it.
        assert driver.stderr.read().count("script runs") == 1
