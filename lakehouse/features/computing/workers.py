"""Worker processes of our own, as an executor.

`multiprocessing` with spawn runs the user's script again in each worker and breaks without a main guard; fork breaks
Lance. A worker here imports `lakehouse.features.computing.worker` and never sees the user's script:
what it runs comes over a pipe. One that dies fails the call it was at, and the next one takes its seat.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import CancelledError, Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import BackfillError
from lakehouse.features.computing.worker import END, read_frame, write_frame
from lakehouse.features.udfs.codehash import is_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["WorkerLostError", "Workers"]

# Not `-m`: that puts the working folder on the path, where a types.py of the user would stand for Python's own.
_BOOT = """\
import json, sys
told = json.loads(sys.argv.pop())
sys.path[:] = told["path"]
from lakehouse.features.udfs.codehash import is_installed
from lakehouse.features.computing.worker import main
main(told["faults"])
"""
_STARTS = 3  # deaths in a row while starting, after which nobody is started any more
_PACKAGE = str(Path(__file__).parents[1])
_LEAVE_S = 30.0  # for the `close()` of the user's class


class WorkerLostError(BackfillError):
    """The process that was at this call died."""


class Workers(Executor):
    """A pool of worker processes, which start at once.

    Parameters
    ----------
    num_workers
        How many run at the same time.
    initializer, initargs
        Called in each of them before anything else; the pool gives up if it raises.
    envs
        Variables to set in each of them, beside those of this process; the first ones' again where there are fewer.
    """

    def __init__(
        self,
        num_workers: int,
        initializer: Callable[..., object],
        initargs: tuple[Any, ...] = (),
        envs: Sequence[Mapping[str, str]] = ({},),
    ) -> None:
        self._first = pickle.dumps((initializer, initargs))
        self._calls: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running: set[_Process] = set()
        self._ended = self._killed = False
        self._seats = [
            threading.Thread(
                target=self._sit,
                args=({**os.environ, **envs[seat % len(envs)]},),
                name=f"lakehouse worker {seat}",
                daemon=True,
            )
            for seat in range(num_workers)
        ]
        for seat in self._seats:
            seat.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn(*args)`` in the next free worker; `WorkerLostError` if that dies of it."""
        if kwargs:
            raise TypeError("workers take positional arguments")
        if self._ended:
            raise RuntimeError("the workers were shut down")
        future: Future[Any] = Future()
        self._calls.put((future, pickle.dumps((fn, args))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers leave when all is done; `cancel_futures` gives up what has not begun."""
        if cancel_futures:
            self._cancel_waiting()
        if not self._ended:
            self._ended = True
            for _ in self._seats:
                self._calls.put(None)
        if wait:
            for seat in self._seats:
                seat.join()

    def kill(self) -> None:
        """End the workers at once, whatever they are at."""
        with self._lock:
            self._killed = True
            for process in self._running:
                process.kill()
        self.shutdown(cancel_futures=True)

    def _cancel_waiting(self) -> None:
        with suppress(queue.Empty):
            while True:
                call = self._calls.get_nowait()
                if call is None:
                    self._calls.put(None)
                    return
                call[0].cancel()

    def _sit(self, env: Mapping[str, str]) -> None:
        """Keep one worker running, and hand it calls."""
        try:
            process = self._started(env)
            while (call := self._calls.get()) is not None:
                if process.died():
                    self._end(process)
                    process = self._started(env)
                future, frame = call
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    future.set_result(process.call(frame))
                except WorkerLostError as error:
                    self._end(process)
                    future.set_exception(error)
                    process = self._started(env)
                except Exception as error:  # noqa: BLE001 - whatever the call raised
                    future.set_exception(error)
        except Exception as error:  # noqa: BLE001 - of the initializer; it answers all calls from here on
            self._refuse(error)
        else:
            self._end(process)

    def _started(self, env: Mapping[str, str]) -> _Process:
        for _ in range(_STARTS):
            process = _Process(env)
            with self._lock:
                self._running.add(process)
                if self._killed:
                    process.kill()
            try:
                process.call(self._first)
            except WorkerLostError as error:
                lost = error
                self._end(process)
                if self._killed:
                    raise CancelledError from error
            except BaseException:  # whatever it was, the process is not left behind
                self._end(process)
                raise
            else:
                return process
        raise BackfillError(f"{lost} while it was being started, before any row")

    def _end(self, process: _Process) -> None:
        with self._lock:
            self._running.discard(process)
        process.leave()

    def _refuse(self, error: Exception) -> None:
        while (call := self._calls.get()) is not None:
            if call[0].set_running_or_notify_cancel():
                call[0].set_exception(error)


class _Process:
    """One worker process, from its start to its end."""

    def __init__(self, env: Mapping[str, str]) -> None:
        # Its own process group: Ctrl-C in a terminal is for the driver, which commits what is staged and ends us.
        self._last_words = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `leave`
        faults = self._last_words.fileno()
        told = {"path": [entry for entry in sys.path if isinstance(entry, str)], "faults": faults}
        self._popen = subprocess.Popen(  # noqa: S603 - this Python, our own module
            [sys.executable, "-c", _BOOT, json.dumps(told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(env),
            process_group=0,
            pass_fds=[faults],
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._calls, self._replies = self._popen.stdin, self._popen.stdout

    def call(self, frame: bytes) -> Any:
        """Return what the call returned, raise what it raised."""
        reply = None
        with suppress(BrokenPipeError):
            write_frame(self._calls, frame)
            reply = read_frame(self._replies)
        if reply is None:
            raise WorkerLostError(self._death())
        done, value = pickle.loads(reply)  # noqa: S301 - from a process that we started
        if done:
            return value
        raise value

    def died(self) -> bool:
        return self._popen.poll() is not None

    def kill(self) -> None:
        self._popen.kill()

    def leave(self) -> None:
        """Ask it to leave, and wait until it has."""
        with suppress(BrokenPipeError):
            write_frame(self._calls, END)
        with suppress(BrokenPipeError):
            self._calls.close()
        self._code()
        self._replies.close()
        self._last_words.close()

    def _code(self) -> int:
        try:
            return self._popen.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def _death(self) -> str:
        code = self._code()
        if code >= 0:
            return f"the worker ended with exit code {code}"
        if code == -signal.SIGKILL:
            return "the worker was killed by signal 9 (SIGKILL), as the kernel does when memory runs out,"
        return f"{self._line()}the worker was killed by signal {-code} ({signal.Signals(-code).name})"

    def _line(self) -> str:
        """Name the line of the user's that was running, from what `faulthandler` wrote."""
        self._last_words.seek(0)
        frames = re.findall(r'File "(.+)", line (\d+) in (\S+)', self._last_words.read().decode(errors="replace"))
        own = [frame for frame in frames if not frame[0].startswith(_PACKAGE) and not is_installed(frame[0])]
        return next((f"{Path(file).name}:{line} in {name}: " for file, line, name in own), "")
