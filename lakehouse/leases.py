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
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse import layout
from lakehouse.commit import author
from lakehouse.errors import ConflictError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

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
    fragments
        The fragments being worked on, see `Lease.cover`.
    """

    id: str
    author: str
    host: str
    pid: int
    place: str | None
    started: int | None
    since: float
    seen: float
    fragments: tuple[int, ...] = ()

    @classmethod
    def this_process(cls) -> Owner:
        """Return a new owner: this process, now."""
        now = time.time()
        pid = os.getpid()
        return cls(uuid.uuid4().hex, author(), socket.gethostname(), pid, _place(), _started(pid), now, now)

    def is_gone(self, now: float, expires_s: float = EXPIRES_S) -> bool:
        """Whether the owner's process is known to have ended, or was silent for too long."""
        if self.started is not None and self.place is not None and self.place == _place():
            return _started(self.pid) != self.started
        return now - self.seen > expires_s

    def __str__(self) -> str:
        since = time.strftime("%H:%M:%S", time.localtime(self.since))
        silent = max(time.time() - self.seen, 0)
        return f"{self.author} (pid {self.pid} on {self.host}) since {since}, last heard from {silent:.0f} s ago"


class Lease:
    """A lease this process has taken.

    Two files, so that no write can undo another's: the record says whose it is and is written once, by whoever takes
    the lease; the beat belongs to one owner and says when it was last alive and what it works on.

    Parameters
    ----------
    folder
        Where leases are.
    file
        The name of the record.
    owner
        This process.
    what
        What it allows, for messages.
    """

    def __init__(self, folder: Location, file: str, owner: Owner, what: str) -> None:
        self.owner = owner
        self._folder = folder
        self._file = file
        self._what = what
        self._writing = threading.Lock()
        self._fragments: tuple[int, ...] = ()

    def cover(self, fragment_ids: Iterable[int]) -> None:
        """Tell which fragments are being worked on, in place of what was told before; compaction leaves them alone."""
        with self._writing:
            self._fragments = tuple(sorted(fragment_ids))
            self._beat()

    def check(self) -> None:
        """Make sure that nobody took the lease away.

        Raises
        ------
        ConflictError
            It was released by somebody, or taken over after too long a silence.
        """
        now = _read(self._folder, self._file)
        if now is None or now.id != self.owner.id:
            by = "released by somebody" if now is None else f"taken over by {now}"
            raise ConflictError(
                f"the lease on {self._what} was {by}; nothing more is written by this process, what it computed is "
                "kept and found by the next one"
            )

    def keep_alive(self, done: threading.Event) -> None:
        """Renew the lease until the event is set or the lease is lost."""
        while not done.wait(HEARTBEAT_S):
            # A store out of reach for a moment: the next beat is in time, and losing the lease costs double work only.
            with suppress(StorageError), self._writing:
                if not _holds(self._folder, self._file, self.owner):
                    return
                self._beat()

    def give_back(self) -> None:
        """Free what is still this process's; a fork of it owns nothing."""
        if os.getpid() != self.owner.pid:
            return
        if _holds(self._folder, self._file, self.owner):
            self._folder.delete(self._file)
        self._folder.delete(_beat_file(self.owner))

    def _beat(self) -> None:
        beat = {"seen": time.time(), "fragments": self._fragments}
        self._folder.write_bytes(_beat_file(self.owner), json.dumps(beat).encode(), durable=False)


@contextmanager
def lease(folder: Location, name: str, what: str, *, take_over: str = "") -> Iterator[Lease]:
    """Hold the lease `name` in `folder` while the block runs.

    Parameters
    ----------
    folder
        Where leases are.
    name
        Of this one.
    what
        What it allows, for messages.
    take_over
        The call that ends somebody else's lease, for the message; empty if there is none.

    Raises
    ------
    ConflictError
        Somebody else holds it; the message says who, since when and what to do.
    """
    held = Lease(folder, f"{name}.json", Owner.this_process(), what)
    _acquire(folder, f"{name}.json", held.owner, what, take_over)
    done = threading.Event()
    beat = threading.Thread(target=held.keep_alive, args=(done,), name=f"lease {name}", daemon=True)
    beat.start()
    try:
        yield held
    finally:
        done.set()
        beat.join()
        held.give_back()


def leases_of(snapshot: Snapshot) -> Location:
    """Return where it is written who is doing what with a table."""
    return layout.side(snapshot.lake).child("leases").child(snapshot.name)


def release(folder: Location, name: str) -> Owner | None:
    """End a lease, whoever holds it: the holder notices before its next commit and stops.

    Returns
    -------
    Owner or None
        Who held it; None if nobody did.
    """
    owner = _read(folder, f"{name}.json")
    if owner is None:
        return None
    folder.delete(f"{name}.json")
    folder.delete(_beat_file(owner))
    return None if owner.is_gone(time.time()) else owner


def holder(folder: Location, name: str) -> Owner | None:
    """Return who holds a lease; None if nobody does or the holder is gone."""
    owner = _read(folder, f"{name}.json")
    return None if owner is None or owner.is_gone(time.time()) else owner


def holders(folder: Location) -> dict[str, Owner]:
    """Return all leases in a folder that are held, by name."""
    return {name: owner for name, owner in owners(folder).items() if not owner.is_gone(time.time())}


def owners(folder: Location) -> dict[str, Owner]:
    """Return whose leases lie in a folder, by name, those of owners that are gone too."""
    names = (file.removesuffix(".json") for file in folder.listdir() if file.endswith(".json"))
    return {name: owner for name in names if (owner := _read(folder, f"{name}.json"))}


def _acquire(folder: Location, file: str, me: Owner, what: str, take_over: str = "") -> None:
    if folder.put_if_absent(file, _encode(me)):
        return
    owner = _read(folder, file)
    if owner is None:  # released at this moment
        _acquire(folder, file, me, what, take_over)
        return
    if not owner.is_gone(time.time()):
        raise ConflictError(
            f"{what} is being done by {owner}. Wait for it to end; or stop that process and call again, its lease ends "
            f"with it (found out at once on that machine, elsewhere after {EXPIRES_S:.0f} s of silence)"
            + (f"; or take over with {take_over}, and it stops before its next commit" if take_over else "")
        )
    # The owner is gone, and its file would be removed by each who finds it, fresh ones of each other too. So of all
    # who find it, the one with the lease on its heritage replaces it; nobody else touches the file of a dead owner.
    heritage = f"{owner.id}.heir"
    _acquire(folder, heritage, me, what)
    try:
        if not _holds(folder, file, owner):
            raise ConflictError(f"{what} was taken up by somebody else at this moment; wait for it to end")
        folder.write_bytes(file, _encode(me))
        folder.delete(_beat_file(owner))
    finally:
        folder.delete(heritage)


def _holds(folder: Location, file: str, owner: Owner) -> bool:
    now = _read(folder, file)
    return now is not None and now.id == owner.id


def _read(folder: Location, file: str) -> Owner | None:
    try:
        raw = json.loads(folder.read_bytes(file))
    except FileNotFoundError:
        return None
    with suppress(FileNotFoundError, ValueError):  # no beat yet, or one that a power cut left empty
        raw |= json.loads(folder.read_bytes(f"{raw['id']}.beat"))
    raw["fragments"] = tuple(raw["fragments"])
    return Owner(**{each.name: raw[each.name] for each in fields(Owner)})  # a newer release may say more


def _beat_file(owner: Owner) -> str:
    return f"{owner.id}.beat"


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
