"""What a backfill is asked for, what it would do and what it did."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from lakehouse.errors import InvalidArgumentError
from lakehouse.features.computing import executors
from lakehouse.features.records import ledger
from lakehouse.features.records.counts import todo
from lakehouse.where import Where, quoted, render

if TYPE_CHECKING:
    from lakehouse.schema.lineage import Feature

Only = Literal["missing", "stale", "failed", "all"]
OnError = Literal["record", "raise", "null"]


@dataclass(frozen=True)
class Options:
    """What to fill and how.

    Parameters
    ----------
    where
        Only rows that match.
    only
        None: missing and stale rows. ``"missing"``, ``"stale"``, ``"failed"`` or ``"all"``.
    on_error
        ``"record"`` a failure and go on, ``"raise"`` at the first, or store ``"null"``.
    max_error_rate
        Share of failed rows, 0 to 1, above which the job stops; looked at from the hundredth row on, and at the end.
    limit
        At most this many rows: a pilot.
    progress
        See `lakehouse.progress.track`.
    num_workers, executor
        Where functions are computed, see `lakehouse.features.computing.executors`.
    """

    where: Where | None = None
    only: Only | None = None
    on_error: OnError = "record"
    max_error_rate: float | None = None
    limit: int | None = None
    progress: bool | None = None
    num_workers: int = 0
    executor: Any = "local"

    def __post_init__(self) -> None:
        if self.only not in (None, "missing", "stale", "failed", "all"):
            raise InvalidArgumentError(f'only={self.only!r}; choose None, "missing", "stale", "failed" or "all"')
        if self.on_error not in ("record", "raise", "null"):
            raise InvalidArgumentError(f'on_error={self.on_error!r}; choose "record", "raise" or "null"')
        if self.limit is not None and self.limit < 1:
            raise InvalidArgumentError(f"limit={self.limit}; it is a number of rows, 1 or more")
        if self.max_error_rate is not None and not 0 <= self.max_error_rate <= 1:
            raise InvalidArgumentError(f"max_error_rate={self.max_error_rate}; it is a share of rows, 0 to 1")
        executors.check(self.num_workers, self.executor)
        render(self.where)  # a mistake in it is told before anything is done

    @property
    def from_stamps(self) -> bool:
        """Whether the stamps tell when nothing is left: not for a number of rows, nor for rows done before."""
        return self.limit is None and self.only not in ("failed", "all")

    @property
    def is_whole(self) -> bool:
        """Whether no row is left out that could be filled."""
        return self.limit is None and self.where is None and self.only in (None, "all")

    @property
    def includes_missing(self) -> bool:
        """Whether rows without a value are asked for."""
        return self.only in (None, "missing", "all")


def pending(feature: Feature, options: Options) -> str:
    """Return the predicate of the rows to fill."""
    value, where = quoted(feature.name), render(options.where)
    match options.only:
        case None:
            state = f"({todo(feature)} OR {ledger.older(feature)})"
        case "missing":
            state = f"({todo(feature)} AND {value} IS NULL)"
        case "stale":
            state = f"({ledger.older(feature)} OR ({todo(feature)} AND {value} IS NOT NULL))"
        case "failed":
            state = ledger.failed(feature)
        case "all":
            state = "true"
    return f"{state} AND ({where})" if where else state


@dataclass(frozen=True)
class BackfillResult:
    """What a backfill did.

    Parameters
    ----------
    version
        The version that holds it.
    num_rows
        Rows that were to be filled and now are, or failed.
    num_filled, num_failed
        Rows that have a value now, and rows whose function failed.
    num_skipped
        Rows of the table that were left as they are.
    num_computed, num_resumed
        Rows the function ran on, and rows found computed by a job that was stopped.
    nbytes_written
        Bytes added to the table's folder.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
    >>> _ = table.add_columns({"area": "w * h"})
    >>> result = table.backfill("area", progress=False)
    >>> result.num_filled, result.num_failed, result.num_resumed
    (1, 0, 0)
    """

    version: int
    num_rows: int = 0
    num_filled: int = 0
    num_failed: int = 0
    num_skipped: int = 0
    num_computed: int = 0
    num_resumed: int = 0
    nbytes_written: int = 0

    def __add__(self, after: BackfillResult) -> BackfillResult:
        """Return what this one and a later one did together."""
        sums = {f.name: getattr(self, f.name) + getattr(after, f.name) for f in fields(self)}
        return BackfillResult(**{**sums, "version": max(self.version, after.version)})


@dataclass(frozen=True)
class BackfillPlan:
    """What a backfill would do.

    Parameters
    ----------
    num_rows
        Rows it would fill.
    seconds
        Time expected, from a few rows computed now; 0 if there are none.
    nbytes
        Bytes the column files will take, about.
    becomes_stale
        Features computed from the filled ones.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"w": 2, "h": 3}])
    >>> _ = table.add_columns({"area": "w * h"})
    >>> _ = table.add_columns({"large": "area > 4"})
    >>> plan = table.backfill("area", dry_run=True)
    >>> plan.num_rows, plan.becomes_stale
    (1, ('large',))
    """

    num_rows: int
    seconds: float
    nbytes: int
    becomes_stale: tuple[str, ...]
