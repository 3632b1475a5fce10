"""Work ahead of the consumer, in order and bounded; or none of it, which is the debugger."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Threads", "num_threads", "prefetched", "started"]

_T = TypeVar("_T")
_R = TypeVar("_R")


def num_threads() -> int:
    """How many threads decode: the cores this process may use, shared with the ranks torchrun started beside it."""
    beside = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, cores // max(beside, 1))


@dataclass(frozen=True)
class Threads:
    """Three pools, so that what waits in one never keeps it from what it waits for.

    Parameters
    ----------
    reads
        One thread that reads.
    batches
        One thread for each batch under way; they wait for rows to be read and decoded.
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


@contextmanager
def started(prefetch_batches: int) -> Iterator[Threads]:
    """Start the pools and end them with what they have not begun; 0 batches ahead means no threads."""
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
        yield Threads(reads, pool(prefetch_batches, "batches"), rows)


def prefetched(work: Callable[[_T], _R], items: Iterable[_T], executor: Executor, ahead: int) -> Iterator[_R]:
    """Give the results in order, with up to `ahead` more of them under way.

    An error comes out where its result would have stood.
    """
    pending: deque[Future[_R]] = deque()
    for item in items:
        pending.append(executor.submit(work, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
