"""The transactional heart: verify, commit, make sure it landed, rebase what others moved.

Every write of the library goes through one of two loops. `retrying` is for operations Lance builds and commits itself
(update, delete, upsert, declare, compact): each attempt starts from the newest version, so nothing stale is ever
re-committed; who did it and why is left in a mark beside the table. `commit_operation` is for operations built here
(append, data replacement): it stamps the transaction with an id, so that after an unknown outcome it can look for
itself in the log before doing anything. Both look after a success whether the commit is in the line of versions.

This module knows fragments, fields and files, not features.
"""

from __future__ import annotations

import datetime as dt
import getpass
import os
import random
import socket
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse import marks
from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify
from lakehouse.errors import ConflictError, LakehouseError, translate, translated
from lakehouse.transactions import (
    ACCEPTED,
    ACCEPTED_AT,
    AT,
    AUTHOR,
    FILLED,
    FROM_VERSION,
    ID,
    JOB,
    OPERATION,
    RESET,
    RUN,
    Trace,
    files_of,
    find,
    has_landed,
    id_of,
    newest,
    path_of,
    properties_of,
    stored_at,
    transaction_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lakehouse.location import Location

__all__ = [
    "ACCEPTED",
    "ACCEPTED_AT",
    "AT",
    "AUTHOR",
    "FILLED",
    "FROM_VERSION",
    "ID",
    "JOB",
    "OPERATION",
    "RESET",
    "RUN",
    "Budget",
    "Committed",
    "author",
    "commit_operation",
    "files_of",
    "find",
    "id_of",
    "job",
    "manifest_nbytes",
    "new_nbytes",
    "newest",
    "path_of",
    "properties_of",
    "retrying",
    "signed",
    "stored_at",
    "stored_ids",
    "top_ids",
    "transaction_of",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Budget:
    """How long to try before giving up with a `ConflictError`.

    Parameters
    ----------
    timeout_s
        Seconds from the first attempt to the last.
    first_wait_s, longest_wait_s
        Bounds of the random wait between attempts, doubled each time.
    """

    timeout_s: float = 120.0
    first_wait_s: float = 0.01  # a metadata commit takes about 10 ms on a local disk
    longest_wait_s: float = 1.0

    def waits(self) -> Iterator[float]:
        """Yield the pauses between attempts: exponential with full jitter, until the time is up."""
        end = time.monotonic() + self.timeout_s
        bound = self.first_wait_s
        while True:
            yield random.uniform(0, bound)  # noqa: S311 - spreads writers, no secret
            if time.monotonic() >= end:
                return
            bound = min(2 * bound, self.longest_wait_s)


@dataclass(frozen=True)
class Committed:
    """A commit that is in the table's history."""

    version: int
    id: str
    attempts: int


def retrying(
    table: Location,
    attempt: Callable[[Any], T],
    asked: str,
    budget: Budget = Budget(),
) -> T:
    """Run `attempt` on the newest version until no other commit gets in between.

    Parameters
    ----------
    table
        The table's folder.
    attempt
        Takes the newest dataset, builds and commits on it; called again with a newer one after a conflict.
    asked
        What is being done, for messages.
    budget
        How long to try.

    Raises
    ------
    ConflictError
        Others kept committing first for the whole budget.
    """
    for wait in budget.waits():
        try:
            before = newest(table)
            dataset = before.checkout_version(before.version)
            with marks.announced(table, int(before.version)):
                done = attempt(dataset)
                if dataset.version == before.version or _left_mark(table, before, dataset, signed(asked)):
                    return done
        except LakehouseError:
            raise
        except Exception as error:
            # Incompatible here is a concurrent drop, rename or restore: the next attempt reads the schema
            # as it is now, and either works or says what is missing.
            if classify(error) is Outcome.UNKNOWN:
                raise translate(error, asked) from error
        time.sleep(wait)
    raise _exhausted(asked, budget)


def _left_mark(table: Location, before: Any, after: Any, properties: Mapping[str, str]) -> bool:
    """Say whose the commit is that made a dataset what it is now; False if it is not in the line of versions."""
    version = int(after.version)
    transaction = transaction_of(after, version)
    if transaction is None:  # cleaned up since, so it was one of the line
        return True
    marks.leave(table, version, transaction.uuid, properties)
    return has_landed(table, version, partial(Trace.of, transaction.operation, before))


def commit_operation(
    table: Location,
    build: Callable[[Any], Any | None],
    properties: Mapping[str, str],
    asked: str,
    *,
    commit_id: str | None = None,
    budget: Budget = Budget(),
) -> Committed | None:
    """Commit an operation built here, exactly once.

    Parameters
    ----------
    table
        The table's folder.
    build
        Takes the newest dataset, verifies what was staged against it and returns a `LanceOperation`, or None
        when nothing is left to commit.
    properties
        Kept with the transaction: who, what, which job.
    asked
        What is being done, for messages.
    commit_id
        The id to find the transaction by; give one to be able to look for it after a crash.
    budget
        How long to try.

    Returns
    -------
    Committed or None
        None when `build` had nothing to commit.

    Raises
    ------
    ConflictError
        Others kept committing first for the whole budget; what was staged stays where it is.
    """
    commit_id = commit_id or uuid.uuid4().hex
    properties = signed(asked, properties) | {ID: commit_id}
    for attempts, wait in enumerate(budget.waits(), 1):
        with translated(asked):
            dataset = newest(table)
            operation = build(dataset)
        if operation is None:
            return None
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=properties)
        version = _commit_once(table, dataset, transaction, commit_id, asked)
        if version is not None:
            return Committed(version, commit_id, attempts)
        time.sleep(wait)
    raise _exhausted(asked, budget)


def _commit_once(table: Location, dataset: Any, transaction: Any, commit_id: str, asked: str) -> int | None:
    """Return the version it became, None if somebody else was first."""
    options = dict(table.storage_options) or None
    try:
        version = lance.LanceDataset.commit(table.uri, transaction, storage_options=options).version
    except Exception as error:
        # Whatever the answer was, the commit may have got there and the answer lost: the log knows.
        with translated(asked):
            landed = find(table, commit_id, transaction.read_version)
        if landed is None and classify(error) is Outcome.UNKNOWN:
            raise translate(error, asked) from error
        return landed
    with translated(asked):
        left = partial(Trace.of, transaction.operation, dataset)
        return int(version) if has_landed(table, version, left) else None


def top_ids(dataset: Any) -> dict[str, int]:
    """Return Lance's id of each top-level column; ids are used again after a drop."""
    return {field.name(): int(field.id()) for field in dataset.lance_schema.fields()}


def stored_ids(dataset: Any) -> dict[str, frozenset[int]]:
    """Return the field ids data files may know each column by: a struct or list by its leaves, a blob by itself."""

    def below(field: Any) -> frozenset[int]:
        return frozenset({int(field.id())}).union(*(below(child) for child in field.children()))

    return {field.name(): below(field) for field in dataset.lance_schema.fields()}


def signed(asked: str, properties: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the properties that make a transaction ours: who, what, when and in which job; `properties` go before."""
    at = dt.datetime.now(dt.UTC).isoformat()
    return {ID: uuid.uuid4().hex, AUTHOR: author(), OPERATION: asked, JOB: job(), AT: at, **(properties or {})}


def author() -> str:
    """Return who is writing: ``LAKEHOUSE_AUTHOR``, or the account's name."""
    try:
        return os.environ.get("LAKEHOUSE_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def job() -> str:
    """Return what is writing: ``LAKEHOUSE_JOB``, or host and process."""
    return os.environ.get("LAKEHOUSE_JOB") or f"{socket.gethostname()}:{os.getpid()}"


def _exhausted(asked: str, budget: Budget) -> ConflictError:
    return ConflictError(
        f"{asked}: other commits kept coming first for {budget.timeout_s:.0f} s; "
        "nothing staged is lost, call it again when the table is quieter"
    )


def new_nbytes(before: frozenset[str], after: Any) -> int:
    """Return the bytes of the data files that a version has and an earlier one, given by its files, has not."""
    files = (file for fragment in after.get_fragments() for file in fragment.data_files())
    return sum(file.file_size_bytes or 0 for file in files if path_of(file) not in before)


def manifest_nbytes(dataset: Any) -> int:
    """Return the size of the manifest, which every commit writes anew; 0 where it cannot be told cheaply."""
    # Named so that the newest comes first in a listing: one look, however many versions there are.
    manifest = Path(dataset.uri) / "_versions" / f"{2**64 - 1 - dataset.version:020}.manifest"
    return manifest.stat().st_size if manifest.is_file() else 0
