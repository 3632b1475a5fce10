"""What a loader did so far, and which part of it the training waits for."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields

__all__ = ["LoaderStats", "Meter"]

_WAITING = 0.05  # below this share of the time, a faster loader would change nothing one can see


@dataclass(frozen=True)
class LoaderStats:
    """Counts and seconds since the loader was made.

    Parameters
    ----------
    num_batches, num_rows
        Received by the consumer.
    num_bad_rows
        Rows that were masked or substituted.
    num_reads, num_rows_read, nbytes_read
        Asked of storage, and the bytes of the cells that came back.
    num_threads
        That decode and transform.
    read_s, decode_s
        Busy seconds of the reading thread, and of the others together.
    wait_s
        Seconds the consumer waited for a batch.
    elapsed_s
        Seconds spent in iterations, the consumer's own work included.
    """

    num_batches: int = 0
    num_rows: int = 0
    num_bad_rows: int = 0
    num_reads: int = 0
    num_rows_read: int = 0
    nbytes_read: int = 0
    num_threads: int = 1
    read_s: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows received per second."""
        return self.num_rows / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def stall_share(self) -> float:
        """Share of the time that the consumer waited, in ``[0, 1]``."""
        return min(1.0, self.wait_s / self.elapsed_s) if self.elapsed_s else 0.0

    @property
    def verdict(self) -> str:
        """What bounds the speed: ``"consumer"``, ``"storage"``, ``"decode"``, or ``"nothing yet"``."""
        if not self.num_batches:
            return "nothing yet"
        if self.stall_share < _WAITING:
            return "consumer"
        return "storage" if self.read_s > self.decode_s / self.num_threads else "decode"

    def __str__(self) -> str:
        return (
            f"{self.num_rows:,} rows in {self.num_batches:,} batches, {self.rows_per_s:,.0f} rows/s, "
            f"waiting {self.stall_share:.0%} of the time ({self.verdict}-bound); "
            f"{self.num_reads:,} reads, {self.nbytes_read / 1e6:,.1f} MB, {self.num_bad_rows:,} bad rows"
        )


class Meter:
    """Adds up what several threads did."""

    def __init__(self, num_threads: int) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, float] = {f.name: f.default for f in fields(LoaderStats)}  # type: ignore[misc]  # all have one
        self._sums["num_threads"] = num_threads

    def add(self, **amounts: float) -> None:
        """Add to the fields of `LoaderStats` named."""
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] += amount

    def add_work(self, work: LoaderStats) -> None:
        """Add what was read and decoded elsewhere."""
        names = ("num_bad_rows", "num_reads", "num_rows_read", "nbytes_read", "read_s", "decode_s")
        self.add(**{name: getattr(work, name) for name in names})

    def stats(self) -> LoaderStats:
        """Return the sums so far."""
        with self._lock:
            return LoaderStats(**self._sums)  # type: ignore[arg-type]  # counts stay int, only int is added to them
