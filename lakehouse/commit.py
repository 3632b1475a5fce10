"""The transactional heart: verify, commit, make sure it landed, rebase what others moved.

Every write of the library goes through one of two loops. `retrying` is for operations Lance builds itself
(update, delete, upsert, declare): each attempt starts from the newest version, so nothing stale is ever
re-committed. `commit_operation` is for operations built here (append, data replacement): it stamps the
transaction with an id, so that after an unknown outcome it can look for itself in the log before doing
anything, and after a success it looks whether the commit is still there (lance#3718: clean-up can recycle a
version number under a stalled writer, which then gets a success for a commit that is gone).

This module knows fragments, fields and files, not features.
"""

from __future__ import annotations

import getpass
import os
import random
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify
from lakehouse.errors import ConflictError, LakehouseError, translate, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from lakehouse.location import Location

T = TypeVar("T")
ID = "lakehouse:id"
AUTHOR = "lakehouse:author"
OPERATION = "lakehouse:operation"


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


def newest(table: Location) -> Any:
    """Open the newest version of a table as a Lance dataset."""
    return lance.dataset(table.uri, storage_options=dict(table.storage_options) or None)


def retrying(table: Location, attempt: Callable[[Any], T], asked: str, budget: Budget = Budget()) -> T:
    """Run `attempt` on the newest version until no other commit gets in between.

    Parameters
    ----------
    table
        The table's folder.
    attempt
        Takes the newest dataset, builds and commits; called again from a newer one after a conflict.
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
            return attempt(newest(table))
        except LakehouseError:
            raise
        except Exception as error:
            # Incompatible here is a concurrent drop, rename or restore: the next attempt reads the schema
            # as it is now, and either works or says what is missing.
            if classify(error) is Outcome.UNKNOWN:
                raise translate(error, asked) from error
        time.sleep(wait)
    raise _exhausted(asked, budget)


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
    properties = {ID: commit_id, AUTHOR: author(), OPERATION: asked, **properties}
    for attempts, wait in enumerate(budget.waits(), 1):
        with translated(asked):
            dataset = newest(table)
            operation = build(dataset)
        if operation is None:
            return None
        transaction = lance.Transaction(dataset.version, operation, transaction_properties=properties)
        version = _commit_once(table, transaction, commit_id, asked)
        if version is not None:
            return Committed(version, commit_id, attempts)
        time.sleep(wait)
    raise _exhausted(asked, budget)


def _commit_once(table: Location, transaction: Any, commit_id: str, asked: str) -> int | None:
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
        return int(version) if has_landed(table, version, files_of(transaction.operation)) else None


def has_landed(table: Location, version: int, files: frozenset[str]) -> bool:
    """Whether a commit that was reported as `version` is in the table's line of versions.

    The manifest alone proves nothing: a recycled number has one too. Its files must be in the newest version, or the
    version right after it has them, or took them away knowingly.
    """
    now = newest(table)
    if now.version == version or files & data_files(now):
        return True
    # Clean-up takes older versions first. So if ours is gone, it was one of the line; and if ours is there and the next
    # one is gone, ours was written after the clean-up, under a number that had been used before.
    if transaction_of(now, version) is None:
        return True
    try:
        following = now.checkout_version(version + 1)
    except (OSError, ValueError) as error:
        if classify(error) is not Outcome.GONE:
            raise
        return False
    return bool(files & data_files(following)) or _took_away(now, version, files)


def _took_away(dataset: Any, version: int, files: frozenset[str]) -> bool:
    """Whether the commit after `version` says itself that it replaced fragments with these files."""
    transaction = transaction_of(dataset, version + 1)
    if transaction is None:
        return False
    match operation := transaction.operation:
        case lance.LanceOperation.Rewrite():
            old = (fragment for group in operation.groups for fragment in group.old_fragments)
            return any(file.path in files for fragment in old for file in fragment.files)
        case lance.LanceOperation.Delete():
            gone = set(operation.deleted_fragment_ids)
        case lance.LanceOperation.Update():
            gone = set(operation.removed_fragment_ids)
        case _:
            return isinstance(operation, lance.LanceOperation.Overwrite | lance.LanceOperation.Restore)
    ours = dataset.checkout_version(version).get_fragments()
    return any(f.fragment_id in gone and any(file.path in files for file in f.data_files()) for f in ours)


def data_files(dataset: Any) -> frozenset[str]:
    """Return the paths of all data files of a version."""
    return frozenset(file.path for fragment in dataset.get_fragments() for file in fragment.data_files())


def files_of(operation: Any) -> frozenset[str]:
    """Return the data files that an append or a data replacement brings."""
    if hasattr(operation, "replacements"):
        return frozenset(group.new_file.path for group in operation.replacements)
    return frozenset(file.path for fragment in operation.fragments for file in fragment.files)


def find(table: Location, commit_id: str, after: int) -> int | None:
    """Return the version that a transaction became, looking at every version later than `after`, newest first."""
    dataset = newest(table)
    return next((v for v in range(dataset.version, after, -1) if id_of(dataset, v) == commit_id), None)


def id_of(dataset: Any, version: int) -> str | None:
    """Return our id of the transaction that made a version; None if it is not ours or cleaned up."""
    transaction = transaction_of(dataset, version)
    return (transaction.transaction_properties or {}).get(ID) if transaction else None


def transaction_of(dataset: Any, version: int) -> Any | None:
    """Return the transaction that made a version; None if the version was cleaned up."""
    try:
        return dataset.read_transaction(version)
    except (OSError, ValueError) as error:
        # Anything else, a store out of reach say, must not read as "was never committed".
        if classify(error) is Outcome.GONE:
            return None
        raise


def top_ids(dataset: Any) -> dict[str, int]:
    """Return Lance's id of each top-level column; ids are used again after a drop."""
    return {field.name(): int(field.id()) for field in dataset.lance_schema.fields()}


def stored_ids(dataset: Any) -> dict[str, frozenset[int]]:
    """Return the field ids data files may know each column by: a struct or list by its leaves, a blob by itself."""

    def below(field: Any) -> frozenset[int]:
        return frozenset({int(field.id())}).union(*(below(child) for child in field.children()))

    return {field.name(): below(field) for field in dataset.lance_schema.fields()}


def author() -> str:
    """Return who is writing: ``LAKEHOUSE_AUTHOR``, or the account's name."""
    try:
        return os.environ.get("LAKEHOUSE_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def _exhausted(asked: str, budget: Budget) -> ConflictError:
    return ConflictError(
        f"{asked}: other commits kept coming first for {budget.timeout_s:.0f} s; "
        "nothing staged is lost, call it again when the table is quieter"
    )


def new_nbytes(before: frozenset[str], after: Any) -> int:
    """Return the bytes of the data files that a version has and an earlier one, given by its files, has not."""
    files = (file for fragment in after.get_fragments() for file in fragment.data_files())
    return sum(file.file_size_bytes or 0 for file in files if file.path not in before)


def manifest_nbytes(dataset: Any) -> int:
    """Return the size of the manifest, which every commit writes anew; 0 where it cannot be told cheaply."""
    folder = Path(dataset.uri) / "_versions"
    sizes = [entry.stat().st_size for entry in folder.glob("*.manifest")] if folder.is_dir() else []
    return max(sizes, default=0)
