"""How far a long job is: a bar on a terminal, one log line a minute elsewhere.

Bars go to standard error, so that results on standard output can be piped.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

__all__ = ["Tracker", "track"]

LOG_INTERVAL_S = 60.0

logger = logging.getLogger("lakehouse")


class Tracker(Protocol):
    """What a job tells about itself while it runs; safe to call from several threads."""

    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0) -> None:
        """Count `n` more units as dealt with, `failed` of them in vain, for `nbytes` read or written."""

    def note(self, text: str) -> None:
        """Say in a few words what is going on right now."""


@contextmanager
def track(
    description: str, total: int | None = None, *, enabled: bool | None = None, unit: str = "rows"
) -> Iterator[Tracker]:
    """Show how far a job is while the block runs.

    Parameters
    ----------
    description
        What is being done, in two or three words.
    total
        Units to deal with; ``None`` where that is not known beforehand (then there is no time left either).
    enabled
        ``None``: a bar if standard error is a terminal, else one log line a minute (logger ``lakehouse``,
        level INFO). ``True``: a bar in any case. ``False``: nothing.
    unit
        What is counted, in the plural.

    Examples
    --------
    >>> with track("reading", total=3, enabled=False) as tracker:
    ...     for _ in range(3):
    ...         tracker.advance()
    """
    if enabled is False:
        yield _Silent()
    elif enabled or sys.stderr.isatty():
        with _bar(description, total, unit) as bar:
            yield bar
    else:
        lines = _Lines(description, total, unit)
        yield lines
        lines.close()


class _Silent:
    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Lines:
    """Log lines; nothing at all for a job shorter than the interval."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self._description, self._total, self._unit = description, total, unit
        self._done = self._failed = self._nbytes = 0
        self._note = ""
        self._lock = threading.Lock()
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0) -> None:
        with self._lock:
            self._done += n
            self._failed += failed
            self._nbytes += nbytes
            now = time.monotonic()
            due = now - self._last >= LOG_INTERVAL_S
            if due:
                self._last = now
        if due:
            logger.info("%s", self._line(now))

    def note(self, text: str) -> None:
        with self._lock:
            self._note = text

    def close(self) -> None:
        if self._last > self._start:
            logger.info("%s, done", self._line(time.monotonic()))

    def _line(self, now: float) -> str:
        elapsed = max(now - self._start, 1e-9)
        counts = _counts(self._done, self._total, self._failed, self._unit)
        speed = _speed(self._done / elapsed, self._nbytes / elapsed, self._unit)
        parts = [counts, speed, _time_left(self._done, self._total, elapsed), self._note]
        return f"{self._description}: {', '.join(part for part in parts if part)}"


class _Bar:
    def __init__(self, progress: Progress, task: TaskID, unit: str, total: int | None) -> None:
        self._progress, self._task, self._unit, self._total = progress, task, unit, total
        self._done = self._failed = self._nbytes = 0
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0) -> None:
        with self._lock:
            self._done += n
            self._failed += failed
            self._nbytes += nbytes
            elapsed = max(time.monotonic() - self._start, 1e-9)
            self._progress.update(
                self._task,
                completed=self._done,
                counts=_counts(self._done, self._total, self._failed, self._unit),
                speed=_speed(self._done / elapsed, self._nbytes / elapsed, self._unit),
            )

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)


# One display a process: jobs run inside jobs and side by side, and a terminal has one last line.
_display: Progress | None = None
_display_users = 0
_display_lock = threading.Lock()


@contextmanager
def _bar(description: str, total: int | None, unit: str) -> Iterator[_Bar]:
    global _display, _display_users  # noqa: PLW0603 - the one terminal of the process
    with _display_lock:
        if _display is None:
            _display = _new_display()
            _display.start()
        _display_users += 1
        progress = _display
        task = progress.add_task(description, total=total, counts=_counts(0, total, 0, unit), speed="", note="")
    try:
        yield _Bar(progress, task, unit, total)
    finally:
        with _display_lock:
            progress.stop_task(task)
            _display_users -= 1
            if _display_users == 0:
                progress.stop()
                _display = None


def _new_display() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    # markup=False: a file name may hold square brackets
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[counts]}", markup=False),
        TextColumn("{task.fields[speed]}", style="dim", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
        console=Console(stderr=True),
    )


def _counts(done: int, total: int | None, failed: int, unit: str) -> str:
    text = f"{done:,} {unit}" if total is None else f"{done:,} of {total:,} {unit}"
    return f"{text}, {failed:,} failed" if failed else text


def _speed(units_per_s: float, nbytes_per_s: float, unit: str) -> str:
    text = f"{units_per_s:,.0f} {unit}/s" if units_per_s >= 10 else f"{units_per_s:.2g} {unit}/s"
    return f"{text}, {nbytes_per_s / 1e6:,.1f} MB/s" if nbytes_per_s else text


def _time_left(done: int, total: int | None, elapsed_s: float) -> str:
    if total is None or done == 0:
        return ""
    minutes, seconds = divmod(round((total - done) * elapsed_s / done), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left"
