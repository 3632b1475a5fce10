"""How far a job is: bar, log lines, silence."""

import io
import logging
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse import progress
from lakehouse.progress import Progress, reporting_to, track


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


# Told to a program

steps = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.floats(0, 3)), max_size=40)


@given(steps)
def test_a_program_is_told_twice_a_second_at_most_and_the_last_word_is_the_whole_truth(taken):
    now, told = [0.0], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress.time, "monotonic", lambda: now[0])
        with reporting_to(told.append), track("filling f", total=100) as tracker:
            for num_rows, failed, resumed, seconds in taken:
                now[0] += seconds
                tracker.advance(num_rows, failed=failed, resumed=resumed)
    assert told[0] == Progress("filling f", "rows", 100)
    sums = [sum(step[place] for step in taken) for place in range(3)]
    last = told[-1]
    assert [last.num_done, last.num_failed, last.num_resumed] == sums
    assert [each.ended for each in told] == [False] * (len(told) - 1) + [True]
    assert len(told) <= 3 + now[0] / progress.REPORT_INTERVAL_S
    assert [each.num_done for each in told] == sorted(each.num_done for each in told)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 1e6))
def test_what_was_found_done_does_not_make_the_time_left_look_shorter(resumed, computed, left, seconds):
    total = resumed + computed + left
    now = Progress("x", "rows", total, num_done=resumed + computed, num_resumed=resumed, elapsed_s=seconds)
    assert now.rate == pytest.approx(computed / max(seconds, 1e-9))
    assert (now.eta_s is None) == (computed == 0)
    if computed:
        assert now.eta_s == pytest.approx(left * max(seconds, 1e-9) / computed)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_job_that_stops_tells_how_far_it_came(error):
    told = []

    def job():
        with track("filling f", total=9) as tracker:
            tracker.advance(4, resumed=1)
            raise error

    with reporting_to(told.append), pytest.raises(error):
        job()
    assert (told[-1].num_done, told[-1].num_resumed, told[-1].ended) == (4, 1, False)


def test_what_is_told_to_a_program_is_not_shown_and_after_it_bars_are_back(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with reporting_to(lambda _: None):
        for enabled in (None, True, False):
            with track("hidden", enabled=enabled) as tracker:
                tracker.advance()
    assert terminal.getvalue() == ""
    with track("shown"):
        pass
    assert "shown" in terminal.getvalue()


def test_jobs_of_another_thread_are_told_to_nobody():
    told = []
    with reporting_to(told.append), ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: track("elsewhere").__enter__()).result()
    assert told == []


def test_rows_that_were_found_done_are_shown(clock, caplog):
    with caplog.at_level(logging.INFO, "lakehouse"), track("filling f", total=100) as tracker:
        tracker.advance(40, resumed=40)
        clock[0] += 60
        tracker.advance(30)
    assert caplog.records[0].getMessage() == ("filling f: 70 of 100 rows, 40 resumed, 0.5 rows/s, 0:01:00 left")


def test_importing_it_loads_no_rich():
    code = "import sys, lakehouse.progress; assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
