"""Parts of columns in memory, the least recently used given up first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    import pyarrow as pa

__all__ = ["Memory"]

_MOST_TABLES = 256


class Memory:
    """Parts by their keys, and tables put together of them, which take no memory of their own.

    Parameters
    ----------
    max_nbytes
        What may be held.
    """

    def __init__(self, max_nbytes: int) -> None:
        self.max_nbytes = max_nbytes
        self.nbytes = 0
        self._lock = threading.Lock()
        self._parts: OrderedDict[Hashable, pa.ChunkedArray] = OrderedDict()
        self._tables: OrderedDict[Hashable, tuple[pa.Table, list[Hashable]]] = OrderedDict()

    def holds(self, keys: Iterable[Hashable]) -> bool:
        """Whether all parts are here."""
        with self._lock:
            return all(key in self._parts for key in keys)

    def find(self, keys: Iterable[Hashable]) -> dict[Hashable, pa.ChunkedArray]:
        """Return those parts that are here."""
        with self._lock:
            there = {key for key in keys if key in self._parts}
            for key in there:
                self._parts.move_to_end(key)
            return {key: self._parts[key] for key in there}

    def keep(self, parts: Mapping[Hashable, pa.ChunkedArray]) -> None:
        """Hold parts; those of another type than before take the place of what is there."""
        with self._lock:
            for key, values in parts.items():
                if key in self._parts and self._parts[key].type != values.type:
                    self._give_up(key)
                if key not in self._parts:
                    self._parts[key] = values
                    self.nbytes += values.nbytes
            while self.nbytes > self.max_nbytes:
                self._give_up(next(iter(self._parts)))

    def _give_up(self, key: Hashable) -> None:
        self.nbytes -= self._parts.pop(key).nbytes
        self._tables.clear()  # one of them may hold it

    def table(self, place: Hashable) -> pa.Table | None:
        """Return a table whose parts are all here yet."""
        with self._lock:
            if place not in self._tables:
                return None
            self._tables.move_to_end(place)
            table, keys = self._tables[place]
            for key in keys:
                self._parts.move_to_end(key)
            return table

    def keep_table(self, place: Hashable, table: pa.Table, parts: Mapping[Hashable, pa.ChunkedArray]) -> None:
        """Hold what was put together of parts, if they are those that are here: others would be memory not counted."""
        with self._lock:
            if all(self._parts.get(key) is values for key, values in parts.items()):
                self._tables[place] = table, list(parts)
                if len(self._tables) > _MOST_TABLES:
                    self._tables.popitem(last=False)
