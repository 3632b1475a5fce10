"""A backfill that is killed on the way: ``python -m lakehouse.demo.killed LAKE COLUMN``, a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import lakehouse as lh

__all__ = ["main"]

_PARTS = 6  # of 13 batches of 16 rows


def main(lake: str, column: str) -> None:
    """Fill a column of the table `pictures` until some batches are kept."""
    threading.Thread(target=_kill_midway, args=(Path(lake),), daemon=True).start()
    lh.connect(lake).open_table("pictures").backfill(column, progress=False)


def _kill_midway(lake: Path) -> None:
    """SIGKILL, as the kernel does when memory runs out: no handler, no clean-up."""
    while len(list((lake / "_lakehouse" / "checkpoints").rglob("*.arrow"))) < _PARTS:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
