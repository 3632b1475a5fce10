"""The log of a table: what made each version, whose it was, and whether a commit is in the line of versions.

lance#3718: clean-up can recycle a version number under a stalled writer, which then gets a success for a commit that is
gone. So a success counts once the newest version, or the one right after, shows what the commit left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse import marks
from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify

if TYPE_CHECKING:
    from collections.abc import Callable

    from lakehouse.location import Location

ID = "lakehouse:id"
AUTHOR = "lakehouse:author"
OPERATION = "lakehouse:operation"  # the message, for people
AT = "lakehouse:at"  # ISO 8601 in UTC
JOB = "lakehouse:job"
RUN = "lakehouse:run"  # of the runs log
# Tokens of features, with a comma between: whose values the commit brings, puts back from `FROM_VERSION`, has reset
# because nobody could vouch for them, or declares right.
FILLED = "lakehouse:filled"
FROM_VERSION = "lakehouse:from_version"
RESET = "lakehouse:reset"
ACCEPTED = "lakehouse:accepted"
ACCEPTED_AT = "lakehouse:accepted_at"  # the version that was looked at: what others wrote later is not accepted


def newest(table: Location) -> Any:
    """Open the newest version of a table as a Lance dataset."""
    return lance.dataset(table.uri, storage_options=dict(table.storage_options) or None)


def transaction_of(dataset: Any, version: int) -> Any | None:
    """Return the transaction that made a version; None if the version was cleaned up."""
    try:
        return dataset.read_transaction(version)
    except (OSError, ValueError) as error:
        # Anything else, a store out of reach say, must not read as "was never committed".
        if classify(error) is Outcome.GONE:
            return None
        raise


def properties_of(table: Location, version: int, transaction: Any) -> dict[str, str]:
    """Return who made a version and why: what the transaction says, or our mark; nothing if others made it."""
    said = dict(transaction.transaction_properties or {})
    return said if ID in said else said | marks.read(table, version, transaction.uuid)


def find(table: Location, commit_id: str, after: int) -> int | None:
    """Return the version that a transaction became, looking at every version later than `after`, newest first."""
    dataset = newest(table)
    return next((v for v in range(dataset.version, after, -1) if id_of(dataset, v) == commit_id), None)


def id_of(dataset: Any, version: int) -> str | None:
    """Return our id of the transaction that made a version; None if it has none or was cleaned up."""
    transaction = transaction_of(dataset, version)
    return (transaction.transaction_properties or {}).get(ID) if transaction else None


_ROWS_ONLY = (
    lance.LanceOperation.Append,
    lance.LanceOperation.Delete,
    lance.LanceOperation.Update,
    lance.LanceOperation.DataReplacement,
    lance.LanceOperation.Rewrite,
)


@dataclass(frozen=True)
class Trace:
    """What a commit leaves in the versions after it.

    Parameters
    ----------
    files
        Data and deletion files it brings.
    gone
        Fragments it takes away whole.
    """

    files: frozenset[str] = frozenset()
    gone: frozenset[int] = frozenset()

    @classmethod
    def of(cls, operation: Any, read_from: Any) -> Trace:
        """Work it out for an operation that was built from the version `read_from`."""
        match operation:
            case lance.LanceOperation.DataReplacement():
                return cls(frozenset(path_of(group.new_file) for group in operation.replacements))
            case lance.LanceOperation.Rewrite():
                return cls(_names(fragment for group in operation.groups for fragment in group.new_fragments))
            case lance.LanceOperation.Append():
                return cls(_names(operation.fragments))
            case lance.LanceOperation.Delete():
                touched, gone = operation.updated_fragments, operation.deleted_fragment_ids
            case lance.LanceOperation.Update():
                touched = [*operation.updated_fragments, *operation.new_fragments]
                gone = operation.removed_fragment_ids
            case _:
                return cls()
        return cls(_names(touched) - files_of(read_from), frozenset(gone))

    def shows_in(self, dataset: Any) -> bool:
        """Whether a version has it; of several files any one, since the others may have been replaced."""
        if self.files:
            return bool(self.files & files_of(dataset))
        return not self.gone & {fragment.fragment_id for fragment in dataset.get_fragments()}

    def __bool__(self) -> bool:
        return bool(self.files or self.gone)


def has_landed(table: Location, version: int, left: Callable[[], Trace]) -> bool:
    """Whether a commit that was reported as `version` is in the table's line of versions.

    The manifest alone proves nothing: a recycled number has one too. Its files must be in the newest version, or the
    version right after it has them, or took them away knowingly.

    Parameters
    ----------
    table
        The table's folder.
    version
        What the commit is said to have become.
    left
        Works out what it left; asked only if others committed since.
    """
    now = newest(table)
    if now.version == version or ((trace := left()) and trace.shows_in(now)):
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
    if not trace:
        return _same_metadata(now, version, following)
    return trace.shows_in(following) or _took_away(now, version, trace)


def _same_metadata(dataset: Any, version: int, following: Any) -> bool:
    """Whether the version after a change of metadata alone shows it, or changed metadata itself."""
    transaction = transaction_of(dataset, version + 1)
    if transaction is None or not isinstance(transaction.operation, _ROWS_ONLY):
        return True
    return bool(dataset.checkout_version(version).schema.equals(following.schema, check_metadata=True))


def _took_away(dataset: Any, version: int, trace: Trace) -> bool:
    """Whether the commit after `version` says itself that it touched the fragments that showed it."""
    transaction = transaction_of(dataset, version + 1)
    if transaction is None:
        return False
    match operation := transaction.operation:
        case lance.LanceOperation.Rewrite():
            touched = {old.id for group in operation.groups for old in group.old_fragments}
        case lance.LanceOperation.Delete():
            touched = {*operation.deleted_fragment_ids, *(f.id for f in operation.updated_fragments)}
        case lance.LanceOperation.Update():
            touched = {*operation.removed_fragment_ids, *(f.id for f in operation.updated_fragments)}
        case lance.LanceOperation.DataReplacement():
            touched = {group.fragment_id for group in operation.replacements}
        case _:
            return isinstance(operation, lance.LanceOperation.Overwrite | lance.LanceOperation.Restore)
    ours = dataset.checkout_version(version).get_fragments()
    return any(f.fragment_id in touched and _names([f.metadata]) & trace.files for f in ours)


def files_of(dataset: Any) -> frozenset[str]:
    """Return the paths of all data files of a version, and of its deletion files."""
    return _names(fragment.metadata for fragment in dataset.get_fragments())


def _names(fragments: Any) -> frozenset[str]:
    found: set[str] = set()
    for fragment in fragments:
        found.update(path_of(file) for file in fragment.files)
        if fragment.deletion_file is not None:
            found.add(fragment.deletion_file.path(fragment.id))
    return frozenset(found)


def stored_at(fragment: Any) -> dict[int, tuple[str, int]]:
    """Return where each field of a fragment lies: the path of a data file and a column in it."""
    return {
        field: (path_of(file), index)
        for file in fragment.data_files()
        # Files of Lance's legacy format do not number their columns.
        for field, index in zip(file.fields, file.column_indices or range(len(file.fields)), strict=True)
        if field >= 0  # of a column that another file has by now
    }


def path_of(file: Any) -> str:
    """Return a data file's path; pylance 14.0.2 makes a new class, in 85 µs, each time `path` is asked for."""
    return str(file._path)  # noqa: SLF001 - what the property returns, without the class
