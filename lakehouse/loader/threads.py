"""Work ahead of the consumer, in order and bounded; or none of it, which is the debugger."""

from __future__ import annotations

import os
import sys
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lakehouse.loader.stats import Meter

__all__ = ["ROWS_PER_TASK", "Threads", "num_at_once", "num_threads", "num_workers", "prefetched", "started"]

ROWS_PER_TASK = 8  # some milliseconds of decoding, against 50 µs to hand a task to a thread

_T = TypeVar("_T")
_R = TypeVar("_R")


def num_threads() -> int:
    """How many threads decode: the cores this process may use, shared with the ranks and workers beside it."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) * num_workers()  # as torchrun sets it
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // max(beside, 1))


def num_workers() -> int:
    """How many worker processes there are, if this is one of them; 1 if it is none."""
    data = sys.modules.get("torch.utils.data")  # who has not imported it is no worker of it
    worker = data.get_worker_info() if data else None
    return worker.num_workers if worker else 1


@dataclass(frozen=True)
class Threads:
    """Three pools, so that what waits in one never keeps it from what it waits for.

    Parameters
    ----------
    reads
        One thread that reads.
    batches
        Threads that put batches together; they wait for rows to be read and decoded.
    rows
        Threads that decode and transform.
    """

    reads: Executor
    batches: Executor
    rows: Executor


class _InPlace(Executor):
    """Runs what it is given at once, in the caller's thread."""

    def submit(self, fn: Callable[..., _R], /, *args: Any, **kwargs: Any) -> Future[_R]:
        future: Future[_R] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - handed over whole, as an executor does
            future.set_exception(error)
        return future


def num_at_once(batch_size: int) -> int:
    """How many batches are put together at a time where rows are decoded: what keeps those threads busy, and one more.

    Each fills memory of its own, so four at a time instead of two held 60 MB more of 17 MB batches and were no faster.
    """
    return 1 + -(-num_threads() * ROWS_PER_TASK // batch_size)


@contextmanager
def started(prefetch_batches: int, at_once: int = 1) -> Iterator[Threads]:
    """Start the pools and end them with what they have not begun; 0 batches ahead means no threads.

    One batch at a time is put together unless there is more to it than that: two threads that read or make Python's
    values wait for each other at every one, at twice the CPU.
    """
    if prefetch_batches == 0:
        yield Threads(_InPlace(), _InPlace(), _InPlace())
        return
    with ExitStack() as stack:

        def pool(size: int, name: str) -> Executor:
            executor = ThreadPoolExecutor(size, f"lakehouse-{name}")
            stack.callback(executor.shutdown, wait=True, cancel_futures=True)
            return executor

        rows = pool(num_threads(), "rows")  # ended last: the others wait for it
        reads = pool(1, "reads")
        yield Threads(reads, pool(min(prefetch_batches, at_once), "batches"), rows)


def prefetched(
    work: Callable[[_T], _R], items: Iterable[_T], executor: Executor, ahead: int, meter: Meter
) -> Iterator[_R]:
    """Give the results in order, with up to `ahead` more of them under way; count how many lie ready.

    An error comes out where its result would have stood.
    """
    pending: deque[Future[_R]] = deque()
    for item in items:
        pending.append(executor.submit(work, item))
        if len(pending) > ahead:
            meter.add(num_queued=ahead, num_ready=sum(future.done() for future in pending) - pending[-1].done())
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
