"""One set of instruments for every arm: wall, CPU, and what the kernel counted for this process.

`/proc/self/io` counts bytes and calls of read and write system calls, whoever makes them (Rust, C++ or Python), waited-for child
processes included. It does not see reads through a memory map: those arms show as page faults instead.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_WARM_CHUNK_NBYTES = 4 << 20


@dataclass(frozen=True)
class Usage:
    """What a stretch of work cost; every figure covers all threads and waited-for children."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    reads: int = 0
    read_nbytes: int = 0
    writes: int = 0
    written_nbytes: int = 0
    minor_faults: int = 0
    major_faults: int = 0

    def __sub__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class Meter:
    """Measure the body of a ``with`` block; `usage` holds the result afterwards.

    Examples
    --------
    >>> with Meter() as meter:
    ...     _ = sum(range(1000))
    >>> meter.usage.reads, meter.usage.written_nbytes
    (0, 0)
    """

    def __init__(self) -> None:
        self.usage = Usage()
        before = _counters()
        self._own_cost = _counters() - before

    def __enter__(self) -> Self:
        self._counters = _counters()
        self._cpu_s, self._wall_s = _cpu_s(), time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wall_s, cpu_s = time.perf_counter() - self._wall_s, _cpu_s() - self._cpu_s
        counted = _counters() - self._counters - self._own_cost
        self.usage = replace(counted, wall_s=wall_s, cpu_s=cpu_s)


def warm_page_cache(folder: Path) -> int:
    """Read every file under `folder` once, so that all arms start hot; return the bytes read."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(_WARM_CHUNK_NBYTES):
                    total += len(chunk)
    return total


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _counters() -> Usage:
    # As few system calls of its own as can be: what remains is the same each time and is subtracted.
    file = os.open("/proc/self/io", os.O_RDONLY)
    try:
        text = os.read(file, 4096).decode()
    finally:
        os.close(file)
    io = {name: int(value) for name, value in (line.split(": ") for line in text.splitlines())}
    faults = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        reads=io["syscr"],
        read_nbytes=io["rchar"],
        writes=io["syscw"],
        written_nbytes=io["wchar"],
        minor_faults=faults.ru_minflt,
        major_faults=faults.ru_majflt,
    )
