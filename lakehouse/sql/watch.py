"""A statement's work in another thread: Ctrl-C or a clock ends the wait for it, and a bar shows how far it is.

DuckDB 2.0 looks for Ctrl-C only when it is done, and for an interrupt between two of its batches: that is seconds on an
object store, and minutes where one call makes a text of gigabytes. Of its progress it tells nothing where Arrow is read
(`query_progress` stays -1), so rows that came out and bytes that Lance read are shown.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from contextlib import ExitStack
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from lakehouse.errors import ResourceLimitError
from lakehouse.progress import track

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.progress import Tracker

__all__ = ["Watch", "pressed"]

T = TypeVar("T")

_SHOWN_AFTER_S = 2.0  # most statements are done by then; DuckDB's own shell waits as long
_LOOK_S = 0.5
_ASK_AGAIN_S = 0.1  # an interrupt before the statement has begun is lost, so it is repeated
_PATIENCE_S = 0.15  # for work that is stopped; then it is left to end by itself
_MOST_IDLE = 4  # threads


class Watch:
    """Makes the calls of one statement, one after the other.

    Parameters
    ----------
    asked
        What is computed, for messages.
    interrupt
        Asks the work to stop; it may be called often.
    timeout_s
        Seconds that all calls together may take; None means any.
    progress
        None: a bar on a terminal, a log line a minute elsewhere; False for none.
    nbytes_read
        Tells how many bytes were read so far.
    """

    def __init__(
        self,
        asked: str,
        interrupt: Callable[[], None],
        timeout_s: float | None,
        *,
        progress: bool | None,
        nbytes_read: Callable[[], int],
    ) -> None:
        self._asked = asked
        self._interrupt = interrupt
        self._timeout_s = timeout_s
        self._progress = progress
        self._nbytes_read = nbytes_read
        self._spent_s = 0.0
        self._future: Future[Any] | None = None
        self._display = ExitStack()
        self._tracker: Tracker | None = None
        self._untold_rows = 0

    def call(self, work: Callable[[], T]) -> T:
        """Call, and wait for it as long as nobody objects.

        Raises
        ------
        ResourceLimitError
            The time is up.
        """
        future: Future[T] = Future()
        self._future = future
        try:
            _Worker.do(work, future)
            self._wait(future)
        except BaseException:
            self.hide()
            if not future.cancel():  # else it has not begun, and will not
                self._stop(future, _PATIENCE_S)
            raise
        return future.result()

    def count(self, num_rows: int) -> None:
        """Count rows that came out."""
        self._untold_rows += num_rows
        self._show()

    def hide(self) -> None:
        """Take the bar away, for good."""
        self._progress = False
        self._tracker = None
        self._display.close()

    def end(self, tidy: Callable[[], None]) -> None:
        """Tidy up when nothing runs any more: at once, or later in a thread that the program's exit waits for."""
        self.hide()
        future = self._future
        if future is None or future.done():
            tidy()
            return

        def stop() -> None:
            self._stop(future, None)
            tidy()

        threading.Thread(target=stop, name="lakehouse-sql-stopping", daemon=False).start()

    def _wait(self, future: Future[Any]) -> None:
        before, start = self._spent_s, time.monotonic()
        while not future.done():
            left_s = _LOOK_S if self._timeout_s is None else self._timeout_s - self._spent_s
            if left_s <= 0:
                raise ResourceLimitError(
                    f"{self._asked}: stopped after timeout_s = {self._timeout_s:g} s; ask for less, or raise the limit"
                )
            try:
                future.exception(min(_LOOK_S, left_s))
            except TimeoutError:
                self._show()
            self._spent_s = before + time.monotonic() - start

    def _show(self) -> None:
        if self._tracker is None:
            if self._progress is False or self._spent_s < _SHOWN_AFTER_S:
                return
            self._tracker = self._display.enter_context(track("SQL", enabled=self._progress))
        self._tracker.advance(self._untold_rows)
        self._tracker.note(f"{self._nbytes_read() / 1e6:,.0f} MB read")
        self._untold_rows = 0

    def _stop(self, future: Future[Any], patience_s: float | None) -> None:
        end = None if patience_s is None else time.monotonic() + patience_s
        while not future.done() and (end is None or time.monotonic() < end):
            self._interrupt()
            try:
                future.exception(_ASK_AGAIN_S)
            except TimeoutError:
                continue


def pressed(error: BaseException | None) -> bool:
    """Whether DuckDB made this error of a Ctrl-C, as it does while a statement is planned in the caller's thread."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # causes may form a ring: an error raised again from its own
        if str(error) == "Query interrupted" or str(error).rstrip(": ").endswith("KeyboardInterrupt"):
            return True
        seen.add(id(error))
        error = error.__cause__
    return False


class _Worker(threading.Thread):
    """A thread that works for one statement after the other: to start one costs a tenth of a small statement."""

    _idle: ClassVar[list[_Worker]] = []
    _lock = threading.Lock()

    def __init__(self) -> None:
        super().__init__(name="lakehouse-sql", daemon=True)
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()

    @classmethod
    def do(cls, work: Callable[[], T], future: Future[T]) -> None:
        """Have it done, by whoever has nothing to do."""
        with cls._lock:
            worker = cls._idle.pop() if cls._idle else None
        if worker is None:
            worker = cls()
            try:
                worker.start()
            except RuntimeError as error:  # out of threads or memory
                raise ResourceLimitError(f"no thread for the query: {error}; let others end first") from error
        worker._tasks.put((work, future))

    def run(self) -> None:
        """Work until there are enough others."""
        while self._one():
            pass

    def _one(self) -> bool:
        """In a method, so that nothing of a statement lives on in a waiting thread."""
        work, future = self._tasks.get()
        value, error = None, None
        try:
            begins = future.set_running_or_notify_cancel()
            value = work() if begins else None
        except BaseException as raised:  # noqa: BLE001 - handed to the caller, Rust panics included
            error = raised
        with self._lock:
            stays = len(self._idle) < _MOST_IDLE
            if stays:
                self._idle.append(self)
        if error is not None:
            future.set_exception(error)
        elif begins:
            future.set_result(value)
        return stays
