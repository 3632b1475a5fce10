"""One job, one owner: a put-if-absent file with a heartbeat. A heartbeat is never a table commit.

A lease saves work, it does not guard data: two fillers of one column conflict in the table anyway.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.commit import author
from lakehouse.errors import ConflictError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.location import Location

HEARTBEAT_S = 10.0
EXPIRES_S = 60.0  # six heartbeats: a paused laptop or a slow store is not a dead owner


@dataclass(frozen=True)
class Owner:
    """Who holds a lease.

    Parameters
    ----------
    id
        Of this lease, at random.
    author, host, pid
        Who, for people.
    place
        Where process numbers mean the same: machine, boot and container; None if that cannot be told.
    started
        When the process began, in the clock of its machine: a number can be given to another process.
    since, seen
        When the lease was taken and last renewed, seconds since 1970.
    """

    id: str
    author: str
    host: str
    pid: int
    place: str | None
    started: int | None
    since: float
    seen: float

    @classmethod
    def this_process(cls) -> Owner:
        """Return a new owner: this process, now."""
        now = time.time()
        pid = os.getpid()
        return cls(uuid.uuid4().hex, author(), socket.gethostname(), pid, _place(), _started(pid), now, now)

    def is_gone(self, now: float) -> bool:
        """Whether the owner's process is known to have ended, or was silent for too long."""
        if self.started is not None and self.place is not None and self.place == _place():
            return _started(self.pid) != self.started
        return now - self.seen > EXPIRES_S

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        return f"{self.author} (pid {self.pid} on {self.host}) since {since}"


@contextmanager
def lease(folder: Location, name: str, what: str) -> Iterator[Owner]:
    """Hold the lease `name` in `folder` while the block runs.

    Raises
    ------
    ConflictError
        Somebody else holds it; the message says who and since when.
    """
    me = Owner.this_process()
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
        if _holds(folder, file, me):
            folder.delete(file)


def holder(folder: Location, name: str) -> Owner | None:
    """Return who holds a lease; None if nobody does or the holder is gone."""
    owner = _read(folder, f"{name}.json")
    return None if owner is None or owner.is_gone(time.time()) else owner


def holders(folder: Location) -> dict[str, Owner]:
    """Return all leases in a folder that are held, by name."""
    names = (file.removesuffix(".json") for file in folder.listdir() if file.endswith(".json"))
    return {name: owner for name in names if (owner := holder(folder, name))}


def _acquire(folder: Location, file: str, me: Owner, what: str) -> None:
    if folder.put_if_absent(file, _encode(me)):
        return
    owner = _read(folder, file)
    if owner is None:  # released at this moment
        _acquire(folder, file, me, what)
        return
    if not owner.is_gone(time.time()):
        raise ConflictError(f"{what} is being done by {owner}; wait for it to end, or stop that process and call again")
    # The owner is gone, and its file would be removed by each who finds it, fresh ones of each other too. So of all
    # who find it, the one with the lease on its heritage replaces it; nobody else touches the file of a dead owner.
    heritage = f"{owner.id}.heir"
    _acquire(folder, heritage, me, what)
    try:
        if not _holds(folder, file, owner):
            raise ConflictError(f"{what} was taken up by somebody else at this moment; wait for it to end")
        folder.write_bytes(file, _encode(me))
    finally:
        folder.delete(heritage)


def _keep_alive(folder: Location, file: str, me: Owner, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_S):
        # A store out of reach for a moment: the next beat is in time, and losing the lease costs double work only.
        with suppress(StorageError):
            if not _holds(folder, file, me):
                return  # silent for too long, so somebody took it over
            folder.write_bytes(file, _encode(replace(me, seen=time.time())))


def _holds(folder: Location, file: str, owner: Owner) -> bool:
    now = _read(folder, file)
    return now is not None and now.id == owner.id


def _read(folder: Location, file: str) -> Owner | None:
    try:
        raw = json.loads(folder.read_bytes(file))
    except FileNotFoundError:
        return None
    return Owner(**{each.name: raw[each.name] for each in fields(Owner)})  # a newer release may say more


def _encode(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


@cache
def _place() -> str | None:
    """Linux only; elsewhere an owner is known by its heartbeat alone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """Return when a process began, in clock ticks since boot; None if it is not there."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    state, began = fields[0], fields[19]  # 3rd and 22nd field, proc(5)
    return None if state in (b"Z", b"X") else int(began)
