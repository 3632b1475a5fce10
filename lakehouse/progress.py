"""How far a long job is: a bar on a terminal, one log line a minute elsewhere, or whatever a program asks for.

Bars go to standard error, so that results on standard output can be piped.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    import rich.progress

    Sink: TypeAlias = Callable[["Progress"], None]

__all__ = ["Progress", "Tracker", "reporting_to", "track"]

LOG_INTERVAL_S = 60.0
REPORT_INTERVAL_S = 0.5  # often enough for a page that shows it, too seldom to cost anything

logger = logging.getLogger("lakehouse")


class Tracker(Protocol):
    """What a job tells about itself while it runs; safe to call from several threads."""

    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0, resumed: int = 0) -> None:
        """Count `n` more units as dealt with.

        Of them, `failed` in vain, `resumed` found done by a job before this one, and `nbytes` read or written.
        """

    def note(self, text: str) -> None:
        """Say in a few words what is going on right now."""


@dataclass(frozen=True)
class Progress:
    """How far a job is at one moment.

    Parameters
    ----------
    description, unit
        What is being done, and what is counted, in the plural.
    total
        Units to deal with; None where that is not known beforehand.
    num_done, num_failed, num_resumed
        Units dealt with, and those of them in vain and by a job before this one.
    nbytes
        Read or written.
    elapsed_s
        Seconds since it began.
    note
        What is going on right now.
    ended
        Whether it came to its end.

    Examples
    --------
    >>> halfway = Progress("filling f", "rows", total=100, num_done=60, num_resumed=20, elapsed_s=2.0)
    >>> halfway.rate, halfway.eta_s
    (20.0, 2.0)
    """

    description: str
    unit: str
    total: int | None = None
    num_done: int = 0
    num_failed: int = 0
    num_resumed: int = 0
    nbytes: int = 0
    elapsed_s: float = 0.0
    note: str = ""
    ended: bool = False

    @property
    def rate(self) -> float:
        """Units a second; those that were found done took no time."""
        return (self.num_done - self.num_resumed) / max(self.elapsed_s, 1e-9)

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate; None where that cannot be told."""
        return (self.total - self.num_done) / self.rate if self.total is not None and self.rate > 0 else None


_sink: ContextVar[Sink | None] = ContextVar("lakehouse progress", default=None)


@contextmanager
def reporting_to(sink: Sink) -> Iterator[None]:
    """Tell `sink` how far the jobs begun in this block are, instead of bars and log lines.

    Parameters
    ----------
    sink
        Called when a job begins, twice a second at most while it runs, and when it ends, however that may be.

    Examples
    --------
    >>> told = []
    >>> with reporting_to(told.append), track("reading", total=3) as tracker:
    ...     tracker.advance(3)
    >>> [(each.num_done, each.ended) for each in told]
    [(0, False), (3, True)]
    """
    before = _sink.set(sink)
    try:
        yield
    finally:
        _sink.reset(before)


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
        level INFO). ``True``: a bar in any case. ``False``: nothing. `reporting_to` takes the place of both.
    unit
        What is counted, in the plural.

    Examples
    --------
    >>> with track("reading", total=3, enabled=False) as tracker:
    ...     for _ in range(3):
    ...         tracker.advance()
    """
    start, sink = Progress(description, unit, total), _sink.get()
    if enabled is False:
        yield _Silent()
    elif sink is not None:
        sink(start)
        with _counted(start, sink, REPORT_INTERVAL_S) as counter:
            yield counter
    elif enabled or sys.stderr.isatty():
        with _bar(start) as bar, _counted(start, bar, interval_s=0) as counter:
            yield counter
    else:
        with _counted(start, _Lines(), LOG_INTERVAL_S) as counter:
            yield counter


class _Silent:
    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0, resumed: int = 0) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Counter:
    """Adds up, and shows the sums when it is time."""

    def __init__(self, start: Progress, show: Sink, interval_s: float) -> None:
        self._now, self._show, self._interval_s = start, show, interval_s
        self._lock = threading.Lock()
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1, failed: int = 0, nbytes: int = 0, resumed: int = 0) -> None:
        with self._lock:
            now = self._now
            self._now = replace(
                now,
                num_done=now.num_done + n,
                num_failed=now.num_failed + failed,
                num_resumed=now.num_resumed + resumed,
                nbytes=now.nbytes + nbytes,
            )
            self._tell()

    def note(self, text: str) -> None:
        with self._lock:
            self._now = replace(self._now, note=text)
            self._tell()

    def end(self, *, whole: bool) -> None:
        with self._lock:
            self._interval_s = 0
            self._now = replace(self._now, ended=whole)
            self._tell()

    def _tell(self) -> None:
        time_s = time.monotonic()
        if time_s - self._last >= self._interval_s:
            self._last = time_s
            self._show(replace(self._now, elapsed_s=time_s - self._start))


@contextmanager
def _counted(start: Progress, show: Sink, interval_s: float) -> Iterator[_Counter]:
    counter = _Counter(start, show, interval_s)
    try:
        yield counter
    except BaseException:  # Ctrl-C too: a bar that stopped says so
        counter.end(whole=False)
        raise
    counter.end(whole=True)


class _Lines:
    """Log lines; nothing at all for a job shorter than the interval."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, now: Progress) -> None:
        if now.elapsed_s >= LOG_INTERVAL_S or self._said:
            self._said = True
            parts = [_counts(now), _speed(now), _time_left(now), now.note, "done" if now.ended else ""]
            logger.info("%s: %s", now.description, ", ".join(part for part in parts if part))


# One display a process: jobs run inside jobs and side by side, and a terminal has one last line.
_display: rich.progress.Progress | None = None
_display_users = 0
_display_lock = threading.Lock()


@contextmanager
def _bar(start: Progress) -> Iterator[Sink]:
    global _display, _display_users  # noqa: PLW0603 - the one terminal of the process
    with _display_lock:
        if _display is None:
            _display = _new_display()
            _display.start()
        _display_users += 1
        display = _display
        task = display.add_task(start.description, total=start.total, counts=_counts(start), speed="", note="")

    def show(now: Progress) -> None:
        display.update(task, completed=now.num_done, counts=_counts(now), speed=_speed(now), note=now.note)

    try:
        yield show
    finally:
        with _display_lock:
            display.stop_task(task)
            _display_users -= 1
            if _display_users == 0:
                display.stop()
                _display = None


def _new_display() -> rich.progress.Progress:
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


def _counts(now: Progress) -> str:
    of = "" if now.total is None else f" of {now.total:,}"
    resumed = f", {now.num_resumed:,} resumed" if now.num_resumed else ""
    failed = f", {now.num_failed:,} failed" if now.num_failed else ""
    return f"{now.num_done:,}{of} {now.unit}{resumed}{failed}"


def _speed(now: Progress) -> str:
    text = f"{now.rate:,.0f} {now.unit}/s" if now.rate >= 10 else f"{now.rate:.2g} {now.unit}/s"
    return f"{text}, {now.nbytes / max(now.elapsed_s, 1e-9) / 1e6:,.1f} MB/s" if now.nbytes else text


def _time_left(now: Progress) -> str:
    if now.eta_s is None:
        return ""
    minutes, seconds = divmod(round(now.eta_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} left"
