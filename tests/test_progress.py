"""How far a job is: bar, log lines, silence."""

import io
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lakehouse import progress
from lakehouse.progress import track


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_one_log_line_a_minute_and_a_last_one(clock, caplog):
    with caplog.at_level(logging.INFO, "lakehouse"), track("adding", total=600) as tracker:
        for _ in range(150):
            clock[0] += 1.0
            tracker.advance(4, failed=1, nbytes=2_000_000)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "adding: 240 of 600 rows, 60 failed, 4 rows/s, 2.0 MB/s, 0:01:30 left",
        "adding: 480 of 600 rows, 120 failed, 4 rows/s, 2.0 MB/s, 0:00:30 left",
        "adding: 600 of 600 rows, 150 failed, 4 rows/s, 2.0 MB/s, 0:00:00 left, done",
    ]


def test_a_short_job_logs_nothing(caplog):
    with caplog.at_level(logging.INFO, "lakehouse"), track("adding", total=2) as tracker:
        tracker.advance(2)
    assert not caplog.records


def test_a_line_without_a_total_has_no_time_left(clock, caplog):
    with caplog.at_level(logging.INFO, "lakehouse"), track("listing", unit="files") as tracker:
        tracker.note("photos/")
        clock[0] += 61
        tracker.advance(6100)
    assert caplog.records[0].getMessage() == "listing: 6,100 files, 100 files/s, photos/"


def test_disabled_says_nothing_even_on_a_terminal(monkeypatch, caplog):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with track("adding", total=10, enabled=False) as tracker:
        tracker.advance(10)
        tracker.note("x")
    assert terminal.getvalue() == ""
    assert not caplog.records


@pytest.mark.parametrize("enabled", [None, True])
def test_a_terminal_gets_a_bar_with_counts_and_failures(monkeypatch, enabled):
    monkeypatch.setenv("COLUMNS", "140")
    terminal = Terminal() if enabled is None else io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    with track("reading [red]x[/red]", total=1200, enabled=enabled) as tracker:
        tracker.advance(1200, failed=3)
        tracker.note("last fragment")
    text = terminal.getvalue()
    assert "reading [red]x[/red]" in text
    assert "1,200 of 1,200 rows, 3 failed" in text
    assert "last fragment" in text


def test_jobs_inside_jobs_share_one_display_and_leave_none(monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with track("outer", total=2) as outer:
        with track("inner", total=1) as inner:
            inner.advance()
            assert progress._display_users == 2
        outer.advance(2)
    assert progress._display is None


def test_an_error_in_the_job_takes_the_display_down(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(RuntimeError, match="mine"), track("adding", total=1):
        raise RuntimeError("mine")
    assert progress._display is None


def test_threads_lose_no_count(clock, caplog):
    with caplog.at_level(logging.INFO, "lakehouse"), track("adding") as tracker:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: tracker.advance(), range(2000)))
        clock[0] += 61
        tracker.advance(0)
    assert caplog.records[0].getMessage().startswith("adding: 2,000 rows")


def test_importing_it_loads_no_rich():
    code = "import sys, lakehouse.progress; assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
