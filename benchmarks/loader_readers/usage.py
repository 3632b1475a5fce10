"""What a process and all below it use: loaders of several processes are counted whole."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

_OWNED = ("Pss_Anon:", "Pss_Shmem:")  # shared pages are split among those who share them


@dataclass(frozen=True)
class TreeUsage:
    """Sums over a process and its descendants, those that have ended and were waited for included."""

    cpu_s: float = 0.0
    reads: int = 0
    read_nbytes: int = 0
    page_faults: int = 0

    def __add__(self, other: TreeUsage) -> TreeUsage:
        return TreeUsage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __sub__(self, other: TreeUsage) -> TreeUsage:
        return TreeUsage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


def tree_usage() -> TreeUsage:
    """Add up what the kernel counted for this process and all below it."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() + ended.ru_utime + ended.ru_stime  # finer than the ticks of the others
    found = _counted(os.getpid(), cpu_s)
    for pid in family(os.getpid())[1:]:
        with suppress(OSError):  # it ended while we looked
            found = found + _counted(pid, None)
    return found


def _counted(pid: int, cpu_s: float | None) -> TreeUsage:
    # After the name in parentheses: state is field 0, minflt 7, cminflt 8, utime 11, stime 12, cutime 13, cstime 14.
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    ticks_s = sum(map(int, stat[11:15])) / os.sysconf("SC_CLK_TCK")
    faults = int(stat[7]) + int(stat[8])
    return TreeUsage(ticks_s if cpu_s is None else cpu_s, int(io["syscr"]), int(io["rchar"]), faults)


def memory_nbytes(pid: int) -> int:
    """Add up the memory that a process and its descendants hold of their own; files they map are the page cache's."""
    total = 0
    for each in family(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith(_OWNED))
    return total * 1024


def family(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{each}/task"):
                found += map(int, Path(f"/proc/{each}/task/{task}/children").read_text().split())
    return found
