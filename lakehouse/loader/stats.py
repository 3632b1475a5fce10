"""What a loader did so far, and which part of it the training waits for."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from lakehouse.units import count, format_nbytes

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    num_short_clips
        Clips whose video ended early: their last frame is repeated.
    num_reads, num_rows_read, nbytes_read
        Asked of storage, and the bytes of the cells that came back.
    nbytes_kept
        Bytes of the cells that are kept in memory for all epochs.
    num_queued, num_ready
        Batches under way when one was asked for, summed up over the batches, and those of them that lay ready; 0 where
        worker processes make them.
    num_threads, num_readers
        That decode and transform, and that read.
    read_s, decode_s
        Busy seconds of all that read, and of all that decode, transform and put together.
    wait_s
        Seconds the consumer waited for a batch.
    elapsed_s
        Seconds spent in iterations, the consumer's own work included.
    """

    num_batches: int = 0
    num_rows: int = 0
    num_bad_rows: int = 0
    num_short_clips: int = 0
    num_reads: int = 0
    num_rows_read: int = 0
    nbytes_read: int = 0
    nbytes_kept: int = 0
    num_queued: int = 0
    num_ready: int = 0
    num_threads: int = 1
    num_readers: int = 1
    read_s: float = 0.0
    decode_s: float = 0.0
    wait_s: float = 0.0
    elapsed_s: float = 0.0

    @property
    def rows_per_s(self) -> float:
        """Rows received per second."""
        return self.num_rows / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def nbytes_per_row(self) -> float:
        """Bytes of cells read for each row received."""
        return self.nbytes_read / self.num_rows if self.num_rows else 0.0

    @property
    def reads_per_row(self) -> float:
        """Reads for each row received."""
        return self.num_reads / self.num_rows if self.num_rows else 0.0

    @property
    def queue_fill(self) -> float | None:
        """Share of the batches under way that lay ready when one was asked for; None where there was no queue."""
        return self.num_ready / self.num_queued if self.num_queued else None

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
        return "storage" if self.read_s / self.num_readers > self.decode_s / self.num_threads else "decode"

    def __str__(self) -> str:
        if not self.num_batches:
            return "no batches yet"
        queue = "" if self.queue_fill is None else f", queue {self.queue_fill:.0%} full"
        return (
            f"{count(self.num_rows, 'row')} in {count(self.num_batches, 'batch')}, "
            f"{self.rows_per_s:,.0f} rows/s, waiting {self.stall_share:.0%} of the time ({self.verdict}-bound){queue}; "
            f"{count(self.num_reads, 'read')} of {format_nbytes(self.nbytes_read)}, "
            f"{format_nbytes(round(self.nbytes_per_row))} a row; "
            f"{count(self.num_bad_rows, 'bad row')}, {count(self.num_short_clips, 'short clip')}"
        )


class Meter:
    """Adds up what several threads did.

    Parameters
    ----------
    num_threads, num_readers
        As of `LoaderStats`.
    """

    def __init__(self, num_threads: int, num_readers: int = 1) -> None:
        self._lock = threading.Lock()
        self._sizes = {"num_threads": num_threads, "num_readers": num_readers}
        self._sums = self._zeros()

    def _zeros(self) -> dict[str, float]:
        zeros: dict[str, float] = {f.name: f.default for f in fields(LoaderStats)}  # type: ignore[misc]  # all have one
        return zeros | self._sizes

    def add(self, **amounts: float) -> None:
        """Add to the fields of `LoaderStats` named."""
        with self._lock:
            for name, amount in amounts.items():
                self._sums[name] += amount

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds the block takes to a field."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add(**{name: time.perf_counter() - began})

    def add_work(self, work: LoaderStats) -> None:
        """Add what was read and decoded elsewhere."""
        names = ("num_bad_rows", "num_short_clips", "num_reads", "num_rows_read", "nbytes_read", "nbytes_kept")
        self.add(**{name: getattr(work, name) for name in (*names, "read_s", "decode_s")})

    def stats(self) -> LoaderStats:
        """Return the sums so far."""
        with self._lock:
            return self._added()

    def take(self) -> LoaderStats:
        """Return the sums since the last time, and begin again."""
        with self._lock:
            sums = self._added()
            self._sums = self._zeros()
            return sums

    def _added(self) -> LoaderStats:
        return LoaderStats(**self._sums)  # type: ignore[arg-type]  # counts stay int, only int is added to them
