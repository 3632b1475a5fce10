"""Where units of a backfill are computed: own worker processes, somebody's executor, or Ray."""

from __future__ import annotations

import os
import re
import warnings
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse._optional import require
from lakehouse.errors import BackfillError, InvalidArgumentError
from lakehouse.features.computing.units import Unit, UnitResult, begin, run_held, run_shipped
from lakehouse.features.computing.workers import WorkerLostError, Workers
from lakehouse.features.udfs.shipping import ship

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from lakehouse.features.udfs.udf import UDF

__all__ = ["Runner", "check", "environments", "runner_for"]

_NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU, where the driver is loaded


class Runner(Protocol):
    """Computes units somewhere."""

    num_workers: int  # units computed at the same time, as far as is known
    in_flight: int  # units to hand over before waiting for one

    def submit(self, unit: Unit) -> Future[UnitResult]:
        """Compute a unit; `WorkerLostError` if the process that was at it died."""


def check(num_workers: int, executor: Any) -> None:
    """Refuse what names no place to run.

    Raises
    ------
    InvalidArgumentError
    MissingDependencyError
        Ray is not installed.
    """
    if isinstance(num_workers, bool) or not isinstance(num_workers, int) or num_workers < 0:
        raise InvalidArgumentError(f"num_workers={num_workers!r}; it is a number of processes, 0 for this one")
    if executor == "ray":
        require("ray", 'executor="ray"')
    elif executor != "local" and not isinstance(executor, Executor):
        raise InvalidArgumentError(
            f'executor={executor!r}; choose "local", "ray" or a concurrent.futures.Executor that is open'
        )


@contextmanager
def runner_for(udfs: Mapping[str, UDF], num_workers: int, executor: Any) -> Iterator[Runner | None]:
    """Start what computes the units of a job, and end it with the block; None means this process, or nothing to call.

    Parameters
    ----------
    udfs
        All functions of the job, by the token of their feature.
    num_workers
        Processes to start; for executors that exist already, how many of their workers to keep busy, 0 for all.
    executor
        As `check` admits.
    """
    if not udfs:
        yield None
    elif executor == "ray":
        ray = _Ray(udfs, num_workers)
        try:
            yield ray
        finally:
            ray.cancel()
    elif executor != "local":
        foreign = _Foreign(udfs, num_workers, executor)
        try:
            yield foreign
        finally:
            foreign.cancel()
    elif num_workers:
        local = _Local(udfs, num_workers)
        try:
            yield local
        except BaseException:  # Ctrl-C too: no worker outlives its job
            local.pool.kill()
            raise
        local.pool.shutdown()
    else:
        yield None


def environments(udfs: Collection[UDF], num_workers: int) -> list[dict[str, str]]:
    """Return what the environment of each worker of this machine is set to.

    Their threads together are not many times the cores, where the user did not say how many they want; and functions
    that want a GPU have those there are, or those that are visible here, spread over the workers.
    """
    cpus = max(1, int(max(udf.num_cpus for udf in udfs)), (os.cpu_count() or 1) // num_workers)
    threads = {name: os.environ.get(name, str(cpus)) for name in ("LANCE_CPU_THREADS", "OMP_NUM_THREADS")}
    gpus = _gpus() if any(udf.num_gpus >= 1 for udf in udfs) else []
    seats = [{"CUDA_VISIBLE_DEVICES": gpus[seat % len(gpus)]} if gpus else {} for seat in range(num_workers)]
    return [threads | seat for seat in seats]


def _gpus() -> list[str]:
    """Return the GPUs as CUDA names them: those the user left visible, or all that NVIDIA's driver lists."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    there = _NVIDIA.iterdir() if _NVIDIA.is_dir() else ()
    return [str(number) for number, _ in enumerate(there)]


class _Local:
    def __init__(self, udfs: Mapping[str, UDF], num_workers: int) -> None:
        self.num_workers, self.in_flight = num_workers, 2 * num_workers
        shipped = {token: ship(udf) for token, udf in udfs.items()}
        self.pool = Workers(num_workers, begin, (shipped,), environments(udfs.values(), num_workers))

    def submit(self, unit: Unit) -> Future[UnitResult]:
        return self.pool.submit(run_held, unit)


class _Foreign:
    """An executor whose workers we neither start nor end; a death breaks it, and it stays broken."""

    def __init__(self, udfs: Mapping[str, UDF], num_workers: int, executor: Executor) -> None:
        there = getattr(executor, "_max_workers", None)  # of both pools of the standard library
        self.num_workers = num_workers or there or os.cpu_count() or 1
        self.in_flight = num_workers or 2 * self.num_workers
        self._executor = executor
        self._shipped = {token: ship(udf) for token, udf in udfs.items()}
        self._open: set[Future[Any]] = set()

    def submit(self, unit: Unit) -> Future[UnitResult]:
        try:
            shipped = {token: self._shipped[token] for token in unit.asked.tokens}
            future = self._executor.submit(run_shipped, shipped, unit)
        except RuntimeError as error:  # BrokenExecutor is one
            raise _told(error) from error
        self._open.add(future)
        future.add_done_callback(self._open.discard)
        return _translated(future, _told)

    def cancel(self) -> None:
        for future in list(self._open):
            future.cancel()


def _told(error: BaseException) -> BaseException:
    if isinstance(error, BrokenExecutor):
        return BackfillError(
            f"a process of the executor died, which ended the executor: {error}; what was computed is kept, run it "
            'again with a new one, or with executor="local", which goes on without the row that a process dies of'
        )
    if isinstance(error, RuntimeError) and "shutdown" in str(error):
        return InvalidArgumentError(f"the executor is not open: {error}")
    return error


class _Ray:
    """Tasks on the Ray cluster this process is connected to, or on a new one of this machine."""

    def __init__(self, udfs: Mapping[str, UDF], num_workers: int) -> None:
        self._ray = ray = require("ray", 'executor="ray"')
        if not ray.is_initialized():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "lance is not fork-safe")  # Ray 2.60 forks to start other programs
                ray.init()
        cpus = ray.cluster_resources().get("CPU", 1)
        self.num_workers = num_workers or max(1, int(cpus / max(udf.num_cpus for udf in udfs.values())))
        self.in_flight = num_workers or 2 * self.num_workers
        self._udfs, self._shipped = udfs, {token: ship(udf) for token, udf in udfs.items()}
        self._tasks: dict[tuple[str, ...], tuple[Any, Any]] = {}
        errors = ray.exceptions
        self._losses = (
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.OutOfMemoryError,
            errors.ObjectLostError,
        )
        self._open: set[Any] = set()

    def submit(self, unit: Unit) -> Future[UnitResult]:
        run, shipped = self._task(unit.asked.tokens)
        reference = run.remote(shipped, unit)
        self._open.add(reference)
        future = reference.future()
        future.add_done_callback(lambda _: self._open.discard(reference))
        return _translated(future, self._told)

    def _task(self, tokens: tuple[str, ...]) -> tuple[Any, Any]:
        """Return the task that calls these functions with all that each needs, and the functions in Ray's store."""
        if tokens not in self._tasks:
            udfs = [self._udfs[token] for token in tokens]
            num_cpus = max(udf.num_cpus for udf in udfs)
            needs: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": max(udf.num_gpus for udf in udfs)}
            if memory := [udf.memory_nbytes for udf in udfs if udf.memory_nbytes is not None]:
                needs["memory"] = max(memory)
            threads = {"env_vars": {"LANCE_CPU_THREADS": str(max(1, int(num_cpus)))}}
            # No retries of Ray's: the driver knows what was saved, and finds the row that processes die of.
            task = self._ray.remote(run_shipped).options(max_retries=0, runtime_env=threads, **needs)
            self._tasks[tokens] = task, self._ray.put({token: self._shipped[token] for token in tokens})
        return self._tasks[tokens]

    def _told(self, error: BaseException) -> BaseException:
        if isinstance(error, self._losses):
            why = re.split(r"[.\n]", str(error), maxsplit=1)[0]
            return WorkerLostError(f"the Ray worker died ({why})")
        if isinstance(error, self._ray.exceptions.RayTaskError):
            cause: BaseException = error.cause
            return cause
        return error

    def cancel(self) -> None:
        for reference in list(self._open):
            self._ray.cancel(reference, force=True)


def _translated(future: Future[Any], told: Callable[[BaseException], BaseException]) -> Future[Any]:
    """Return a future of the same result, whose error is ours."""
    ours: Future[Any] = Future()
    ours.set_running_or_notify_cancel()

    def finish(done: Future[Any]) -> None:
        if done.cancelled():
            ours.set_exception(CancelledError())
        elif (error := done.exception()) is not None:
            ours.set_exception(told(error))
        else:
            ours.set_result(done.result())

    future.add_done_callback(finish)
    return ours
