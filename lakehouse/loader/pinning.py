"""A version that is kept from clean-up as long as an object lives."""

from __future__ import annotations

import _thread
import atexit
import weakref
from contextlib import ExitStack, suppress
from threading import Lock
from typing import TYPE_CHECKING

from lakehouse.errors import LakehouseError
from lakehouse.pins import pinned

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

__all__ = ["pin_while_alive"]


def pin_while_alive(owner: object, snapshot: Snapshot) -> None:
    """Pin a version until `owner` is collected or Python ends.

    Parameters
    ----------
    owner
        What reads it.
    snapshot
        The version, opened for this alone: Lance lends a handle to a single thread where tags are written.

    Raises
    ------
    VersionNotFoundError
        It is gone already.
    """
    held = ExitStack()
    held.enter_context(pinned(snapshot))
    # The collector calls in whatever thread it finds itself, under whatever lock: nothing may be waited for there.
    weakref.finalize(owner, _thread.start_new_thread, _let_go, (held,)).atexit = False
    _held.add(held)


_held: set[ExitStack] = set()
# Python does not wait for such threads at its end, and one that is in Lance then takes the process down (SIGABRT).
_letting_go = Lock()


def _let_go(held: ExitStack) -> None:
    with _letting_go, suppress(LakehouseError):  # the table was dropped, say; nobody is there to hear it
        held.close()
    _held.discard(held)


@atexit.register
def _let_all_go() -> None:
    for held in list(_held):
        _let_go(held)
