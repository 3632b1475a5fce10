"""What a lake's SQL may use."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from lakehouse.errors import InvalidArgumentError

__all__ = ["SqlLimits"]

_NEVER_NONE = ("temp_nbytes", "max_media_nbytes")


@dataclass(frozen=True)
class SqlLimits:
    """What all SQL of one lake handle may use together, and what one result may hold.

    DuckDB's own accounting leaves single values out: one string of gigabytes is not seen by `memory_nbytes`, nor
    stopped by `timeout_s` where it is a constant: DuckDB 2.0 computes those while it plans, and lets nothing else run
    meanwhile. Text from people who are not trusted belongs into a process or container of its own.

    Parameters
    ----------
    memory_nbytes
        Bytes DuckDB may hold for sorts, joins and groups; beyond it spills. None means half of the machine's
        memory, so that the program around it keeps the other half.
    temp_nbytes
        Bytes it may spill into a folder of its own under the system's temporary folder, gone with the process.
    threads
        Threads; None means one a core.
    timeout_s
        Seconds one statement may compute, the caller's own time between batches not counted; None means no end.
    max_rows
        Rows of one result; None means any number.
    max_media_nbytes
        Bytes of media in one result that is held as a whole, or in one streamed batch.
    resident_nbytes
        Bytes of columns that are kept in memory for the next statements; None means an eighth of the machine's
        memory, 0 none.

    Examples
    --------
    >>> SqlLimits(timeout_s=30, max_rows=1_000_000).max_media_nbytes
    2147483648
    """

    memory_nbytes: int | None = None
    temp_nbytes: int = 32 << 30
    threads: int | None = None
    timeout_s: float | None = None
    max_rows: int | None = None
    max_media_nbytes: int = 2 << 30
    resident_nbytes: int | None = None

    def __post_init__(self) -> None:
        least = {
            "memory_nbytes": 16 << 20,
            "temp_nbytes": 0,
            "threads": 1,
            "timeout_s": 0,
            "max_rows": 0,
            "max_media_nbytes": 0,
            "resident_nbytes": 0,
        }
        for name, smallest in least.items():
            value: Any = getattr(self, name)
            if value is None and name not in _NEVER_NONE:
                continue
            kind, what = (Real, "a number of seconds") if name == "timeout_s" else (Integral, "a whole number")
            is_kind = isinstance(value, kind) and not isinstance(value, bool)
            if not is_kind:
                raise InvalidArgumentError(f"{name} is {value!r}; give {what}")
            if not value >= smallest:  # NaN too
                raise InvalidArgumentError(f"{name} is {value}; the least is {smallest}")
