"""An engineer who fills a column: ``python -m lakehouse.demo.engineer LAKE COLUMN [PARTS]``, a process of its own.

It says that it is ready and begins when it is told to, so that several begin at the same moment. With PARTS it is
killed as soon as so many batches are kept.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import lakehouse as lh
from lakehouse.features.storing.checkpoints import feature_folder

__all__ = ["main"]


def main(lake: str, column: str, parts: str = "") -> None:
    """Fill a column of the table `pictures`."""
    table = lh.connect(lake).open_table("pictures")
    print("ready", flush=True)  # noqa: T201 - to the process that started this one
    sys.stdin.readline()
    if parts:
        snapshot = table.snapshot()
        kept = Path(feature_folder(snapshot, snapshot.features[column]).uri)
        threading.Thread(target=_kill_midway, args=(kept, int(parts)), daemon=True).start()
    table.backfill(column, progress=False)


def _kill_midway(kept: Path, parts: int) -> None:
    """SIGKILL, as the kernel does when memory runs out: no handler, no clean-up."""
    while len(list(kept.rglob("*.arrow"))) < parts:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
