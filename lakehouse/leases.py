"""One job, one owner: a put-if-absent file with a heartbeat. A heartbeat is never a table commit."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lakehouse.commit import author
from lakehouse.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.location import Location

HEARTBEAT_S = 10.0
EXPIRES_S = 60.0  # six heartbeats: a paused laptop or a slow store is not a dead owner


@dataclass(frozen=True)
class Owner:
    """Who holds a lease, and when it was last heard of (seconds since 1970)."""

    id: str
    author: str
    host: str
    pid: int
    since: float
    seen: float

    def is_gone(self, now: float) -> bool:
        """Whether the owner's process is known to have ended, or was silent for too long."""
        if self.host == socket.gethostname():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return True
            except PermissionError:
                return False
            return False
        return now - self.seen > EXPIRES_S

    def __str__(self) -> str:
        return f"{self.author} (pid {self.pid} on {self.host}) since {time.strftime('%H:%M:%S', time.localtime(self.since))}"


@contextmanager
def lease(folder: Location, name: str, what: str) -> Iterator[Owner]:
    """Hold the lease `name` in `folder` while the block runs.

    Raises
    ------
    ConflictError
        Somebody else holds it; the message says who and since when.
    """
    now = time.time()
    me = Owner(uuid.uuid4().hex, author(), socket.gethostname(), os.getpid(), now, now)
    file = f"{name}.json"
    _acquire(folder, file, me, what)
    done = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(folder, file, me, done), name=f"lease {name}", daemon=True)
    beat.start()
    try:
        yield me
    finally:
        done.set()
        beat.join()
        folder.delete(file)


def holder(folder: Location, name: str) -> Owner | None:
    """Return who holds a lease; None if nobody does or the holder is gone."""
    try:
        owner = Owner(**json.loads(folder.read_bytes(f"{name}.json")))
    except FileNotFoundError:
        return None
    return None if owner.is_gone(time.time()) else owner


def _acquire(folder: Location, file: str, me: Owner, what: str) -> None:
    if folder.put_if_absent(file, _encode(me)):
        return
    owner = holder(folder, file.removesuffix(".json"))
    if owner is not None:
        raise ConflictError(f"{what} is being done by {owner}; wait for it to end, or stop that process and call again")
    folder.delete(file)  # left by an owner that is gone; of two who find it, put-if-absent lets one in
    if not folder.put_if_absent(file, _encode(me)):
        raise ConflictError(f"{what} was taken up by somebody else at this moment; wait for it to end")


def _keep_alive(folder: Location, file: str, me: Owner, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        folder.write_bytes(file, _encode(Owner(**{**asdict(me), "seen": time.time()})))


def _encode(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()
