"""What runs in a worker process of `lakehouse.features.computing.workers`: it answers calls until it is told to leave.

Frames are a length and a pickle. What the user's function prints goes to standard error, so that it can neither break
the frames nor mix with results on standard output.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import struct
import sys
import threading
import traceback
from typing import IO

from lakehouse.errors import BackfillError

__all__ = ["END", "main", "read_frame", "write_frame"]

END = b""
"""The frame that asks a worker to leave; a pipe that closes without it means that the driver was killed."""

_LENGTH = struct.Struct(">Q")


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write one frame."""
    stream.write(_LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read one frame; None if the other end is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    length = _LENGTH.unpack(head)[0]
    payload = stream.read(length)
    return payload if len(payload) == length else None


def main(faults: int) -> None:
    """Answer calls: a frame is ``(function, arguments)``, a reply ``(True, result)`` or ``(False, error)``.

    Parameters
    ----------
    faults
        The file where a segmentation fault leaves the line it happened in.
    """
    faulthandler.enable(faults, all_threads=False)
    calls, replies = _private_streams()
    arrived: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, arrived), daemon=True).start()
    while (frame := arrived.get()) != END:
        write_frame(replies, _answer(frame))


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """Keep the pipes for ourselves: the user's function finds an empty input, and prints to standard error."""
    calls, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return calls, replies


def _listen(calls: IO[bytes], arrived: queue.SimpleQueue[bytes]) -> None:
    while (frame := read_frame(calls)) is not None:
        arrived.put(frame)
        if frame == END:
            return
    os._exit(1)  # an orphan would compute what its successor computes


def _answer(frame: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(frame)  # noqa: S301 - from the process that started this one
        return pickle.dumps((True, function(*arguments)))
    except Exception as error:  # noqa: BLE001 - the driver decides
        error.add_note(f"in a worker process:\n{traceback.format_exc()}")
        return _pickled(error)


def _pickled(error: Exception) -> bytes:
    try:
        payload = pickle.dumps((False, error))
        pickle.loads(payload)  # noqa: S301 - ours; an error whose class wants more arguments fails only here
    except Exception:  # noqa: BLE001 - a foreign error may hold anything
        payload = pickle.dumps((False, BackfillError(f"a worker stopped at {type(error).__name__}: {error}")))
    return payload
