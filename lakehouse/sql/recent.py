"""What was worked out lately, kept for the next time it is asked for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

__all__ = ["Recent"]

Key = TypeVar("Key", bound="Sized")
Made = TypeVar("Made")

_MAX_CHARS = 100_000  # of a text; longer ones are made anew: a tree is some 20 times as long as its text


class Recent(Generic[Key, Made]):
    """What was made of the latest keys; many threads ask.

    Parameters
    ----------
    most
        How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: OrderedDict[Key, Made] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Key) -> Made | None:
        """Return what was made of a key; None where it is not kept."""
        with self._lock:
            if key not in self._made:
                return None
            self._made.move_to_end(key)
            return self._made[key]

    def keep(self, key: Key, made: Made) -> Made:
        """Keep what was made of a key, and return it."""
        if len(key) <= _MAX_CHARS:
            with self._lock:
                self._made[key] = made
                while len(self._made) > self._most:
                    self._made.popitem(last=False)
        return made

    def drop(self, test: Callable[[Made], bool]) -> None:
        """Give up what passes a test."""
        with self._lock:
            for key in [key for key, made in self._made.items() if test(made)]:
                del self._made[key]

    def get(self, key: Key, make: Callable[[], Made]) -> Made:
        """Return what was made of a key, or make it."""
        made = self.find(key)
        return self.keep(key, make()) if made is None else made
