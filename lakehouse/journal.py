"""The finished fragments of an add, kept beside the table until they are a version."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lakehouse.failures import RowFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.location import Location

_SEAL = "commit"


@dataclass
class Spooled:
    """One entry: finished fragments and what they cover."""

    fragments: list[dict[str, Any]] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    keys: list[Any] = field(default_factory=list)
    failures: list[RowFailure] = field(default_factory=list)
    num_rows: int = 0
    num_skipped: int = 0
    nbytes: int = 0

    def cover(self, other: Spooled) -> None:
        """Count what another entry covers as covered by this one."""
        self.items += other.items
        self.keys += other.keys
        self.failures += other.failures
        self.num_skipped += other.num_skipped
        self.num_rows += other.num_rows


class Journal:
    """The entries of one add.

    Parameters
    ----------
    folder
        Where it is kept, named after the source; None for plain data, which cannot be read a second time.
    """

    def __init__(self, folder: Location | None) -> None:
        self._folder = folder
        self._num_landed = 0
        self.entries: list[Spooled] = []
        self.commit_id = self.run = uuid.uuid4().hex
        self.source = self.run if folder is None else folder.name
        self.sealed_at: int | None = None

    @property
    def pending(self) -> list[Spooled]:
        """The entries that are no version yet."""
        return self.entries[self._num_landed :]

    def load(self, still_fits: Callable[[dict[str, Any]], bool]) -> None:
        """Read what an earlier, killed call left; entries with a fragment that does not fit are forgotten."""
        if self._folder is None:
            return
        for name in self._folder.listdir():
            if name == _SEAL:
                seal = json.loads(self._folder.read_bytes(name))
                self.commit_id = self.run = seal["id"]
                self.sealed_at = seal["version"]
            elif name.endswith(".json"):
                raw = json.loads(self._folder.read_bytes(name))
                entry = Spooled(**{**raw, "failures": [RowFailure(**failure) for failure in raw["failures"]]})
                if all(still_fits(fragment) for fragment in entry.fragments):
                    self.entries.append(entry)
                else:
                    self._folder.delete(name)

    def append(self, entry: Spooled) -> None:
        """Keep an entry; from here on a kill does not lose it."""
        self.entries.append(entry)
        if self._folder is not None:
            self._folder.write_bytes(f"{uuid.uuid4().hex}.json", json.dumps(asdict(entry)).encode())

    def seal(self, version: int) -> None:
        """Note the id the commit will have and the version it comes after, before it is tried."""
        if self._folder is not None:
            self._folder.write_bytes(_SEAL, json.dumps({"id": self.commit_id, "version": version}).encode())

    def reopen(self) -> None:
        """Note that the entries are a version; what they cover stays covered."""
        self._num_landed = len(self.entries)
        self.commit_id = uuid.uuid4().hex
        self.discard()

    def discard(self) -> None:
        """Remove the journal."""
        if self._folder is not None:
            self._folder.delete("")
