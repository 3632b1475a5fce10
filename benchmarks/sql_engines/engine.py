"""What every way of asking SQL has in common, and how its answers are timed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from benchmarks.sql_statements import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

    from benchmarks.harness import Arm
    from benchmarks.sql_statements import Statement


@dataclass(frozen=True)
class Answered:
    """What a statement took, the median of its repeats; `read_nbytes` are those of one repeat."""

    name: str
    wall_s: float
    cpu_s: float
    read_nbytes: float
    digest: str


class Engine(Protocol):
    """One arm: constructed has the tables open.

    `layout` names the folder that `build` of the format makes, so that arms may share one.
    """

    arm: ClassVar[Arm]
    layout: ClassVar[str]

    def __init__(self, folder: Path) -> None: ...

    def ask(self, text: str) -> pa.Table:
        """Answer a statement as an Arrow table."""
        ...


def answer(
    ask: Callable[[str], pa.Table], statements: Sequence[Statement], num_repeats: int, budget_s: float
) -> list[Answered]:
    """Ask each statement once to warm up, then `num_repeats` times, fewer where they take longer than `budget_s`."""
    found = []
    for statement in statements:
        told = digest(statement, ask(statement.text))
        taken: list[tuple[float, float]] = []
        before = _read_nbytes()
        while len(taken) < num_repeats and sum(wall_s for wall_s, _ in taken) < budget_s:
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            ask(statement.text)
            taken.append((time.perf_counter() - wall_s, time.process_time() - cpu_s))
        read_nbytes = (_read_nbytes() - before) / len(taken)
        walls, cpus = (sorted(each) for each in zip(*taken, strict=True))
        found.append(Answered(statement.name, walls[len(walls) // 2], cpus[len(cpus) // 2], read_nbytes, told))
    return found


def _read_nbytes() -> int:
    # Read by hand, as its own text is counted: 100 bytes, the same before and after.
    with open("/proc/self/io", "rb", buffering=0) as file:
        return int(file.read(4096).split(b"\n")[0].removeprefix(b"rchar: "))
