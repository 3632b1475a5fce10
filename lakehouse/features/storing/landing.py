"""Staged files become a version, if the ground they were made for is still there.

`DataReplacement` takes a file only where all its fields are in a fragment's files or none is. Where some are, because
others appended the value without its stamp or added a dropped column again, the absent ones are covered with an
all-NULL file first.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import BackfillError, CorruptTableError
from lakehouse.features.storing import checkpoints, staging
from lakehouse.features.storing.staging import Fields, Staged
from lakehouse.schema.lineage import Feature, features_of, input_names, with_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

logger = logging.getLogger("lakehouse")

_LOOKERS = 16  # a look at a bucket takes tens of milliseconds
# Every file was read back as it was staged. A job commits at least once a minute, so in a quiet one no file is read
# twice; one that waited through conflicts, or for a paused process, is.
_READ_AGAIN_AFTER_S = 60.0


def check_same(dataset: Any, feature: Feature) -> Feature:
    """Return the feature as it is in a version, if it is still the one that is being filled.

    Field ids are used again after a drop: without the token, float bytes would land in somebody's new int column.

    Raises
    ------
    BackfillError
        It was dropped, lost a column or an input, or was given another function.
    """
    now = with_token(features_of(dataset.schema), feature.token)
    if now is None:
        raise BackfillError(f"{feature.name!r} was dropped while it was being filled; nothing more is written")
    if now.generation != feature.generation or now.code_hash != feature.code_hash:
        raise BackfillError(
            f"{feature.name!r} was given another function while it was being filled; backfill again with the new one"
        )
    if len(now.columns) < now.num_columns and now.kind != "data":  # from data each column comes by itself
        raise BackfillError(
            f"{feature.name!r} was declared with {now.num_columns} columns and has {', '.join(now.columns)}; "
            "drop these and declare it again"
        )
    tops = commit.top_ids(dataset)
    if len(there := input_names(now, tops)) < len(now.inputs):
        raise BackfillError(
            f"{feature.name!r} is computed from {', '.join(now.called)}, of which {', '.join(there) or 'none'} is "
            "left; drop it and declare it again"
        )
    return now


def commit_staged(
    snapshot: Snapshot, feature: Feature, staged: Sequence[Staged], message: str, run: str | None = None
) -> tuple[int | None, list[Staged]]:
    """Commit column files whose ground is as it was when they were made, and that are whole.

    Parameters
    ----------
    snapshot
        Any version of the table.
    feature
        What was filled.
    staged
        Its files.
    message
        What is being done, for the history.
    run
        The id of the run that made them.

    Returns
    -------
    tuple
        The version, or None if none could be committed; and the files that went into it.

    Raises
    ------
    BackfillError
        The feature is not what it was, see `check_same`.
    CorruptTableError
        Files that were staged are gone or damaged, all of them.
    ConflictError
    """
    went_in: list[Staged] = []

    def build(dataset: Any) -> Any:
        now = check_same(dataset, feature)
        fields = Fields.of(dataset, now)
        inputs = checkpoints.input_ids(dataset, now)
        fragments = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
        unmoved = [f for f in staged if _is_unmoved(f, fragments.get(f.fragment_id), inputs, fields)]
        went_in[:] = whole(snapshot.location, feature.name, unmoved)
        if not went_in:
            return None
        groups = [lance.LanceOperation.DataReplacementGroup(file.fragment_id, file.data_file) for file in went_in]
        return lance.LanceOperation.DataReplacement(groups)

    properties = {
        "lakehouse:column": feature.name,
        "lakehouse:code_hash": feature.code_hash,
        commit.FILLED: feature.token,
        **({commit.RUN: run} if run else {}),
    }
    done = commit.commit_operation(snapshot.location, build, properties, message)
    return (done.version, list(went_in)) if done else (None, [])


def whole(table: Location, what: str, staged: Sequence[Staged]) -> list[Staged]:
    """Leave out files that are not what was written: Lance commits the name of a file that is not there, too.

    Parameters
    ----------
    table
        The table's folder.
    what
        What was filled, for messages.
    staged
        Files no version names yet.

    Raises
    ------
    CorruptTableError
        None is left: a store that loses all would have them staged again for ever.
    """
    with ThreadPoolExecutor(_LOOKERS) as pool:
        faults = list(pool.map(partial(_fault, table), staged))
    told = "; ".join(fault for fault in faults if fault)
    good = [file for file, fault in zip(staged, faults, strict=True) if not fault]
    if staged and not good:
        raise CorruptTableError(
            f"staged files of {what!r} were lost before they were committed: {told}. What was computed is kept, so run "
            "backfill again; and look for what removes files that no version names, or for a failing disk"
        )
    if told:
        logger.warning("staged files of %r were lost and are staged again: %s", what, told)
    return good


def _fault(table: Location, staged: Staged) -> str | None:
    """Say what is wrong with a file or one beside it.

    A bucket puts an object in place whole or not at all; on a disk there are sizes, and what has waited is read again.
    """
    for path, nbytes in staged.file.sizes.items():
        if not table.exists(f"data/{path}"):
            return f"{path} is gone"
        if table.is_local:
            file = table.path / "data" / path
            there = file.stat()
            if there.st_size != nbytes:
                return f"{path} has {there.st_size} bytes of {nbytes}"
            if time.time() - there.st_mtime > _READ_AGAIN_AFTER_S and _sha256(file) != staged.sha256[path]:
                return f"{path} does not hold what was written"
    return None


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _is_unmoved(file: Staged, fragment: Any, inputs: frozenset[int], fields: Fields) -> bool:
    return (
        fragment is not None
        and file.tokens == fields.tokens  # else a feature was declared on it meanwhile, whose stamp it does not reset
        and checkpoints.fingerprint(fragment, inputs) == file.inputs
        and checkpoints.fingerprint(fragment, fields.ids) == file.own
    )


def cover(snapshot: Snapshot, feature: Feature, fragments: Iterable[Any]) -> bool:
    """Make sure that fragments can be filled: of the fields of the file to come they have all or none.

    Returns
    -------
    bool
        Whether the table has a new version now; then look at it again.
    """
    fields = Fields.of(snapshot.dataset, feature)
    absent = {fragment: fields.absent(fragment) for fragment in fragments}
    lost = [fragment for fragment, names in absent.items() if lost_values(feature, names)]
    # Before lost values are covered their stamps go, or a kill in between would leave NULLs that are called true.
    done = bool(lost) and _commit_nothing(snapshot, feature, (feature.stamp,), lost)
    groups: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for fragment, names in absent.items():
        if 0 < len(names) < len(fields.stored):
            groups[names].append(fragment)
    for names, group in groups.items():  # all files of one transaction must have the same fields
        done |= _commit_nothing(snapshot, feature, names, group)
    return done


def lost_values(feature: Feature, absent: Sequence[str]) -> bool:
    """Whether a fragment that lacks these has stamps for values that are not there: a column was added again."""
    return feature.stamp not in absent and any(name in absent for name in feature.columns)


def _commit_nothing(snapshot: Snapshot, feature: Feature, names: tuple[str, ...], fragments: Sequence[Any]) -> bool:
    """Commit all-NULL files, with stamps of 0, for the fragments that still lack what they lacked."""
    before = Fields.of(snapshot.dataset, feature)
    lacking = {fragment.fragment_id: before.absent(fragment) for fragment in fragments}
    files = {f.fragment_id: staging.stage_rows(snapshot, names, f).data_file for f in fragments}

    def build(dataset: Any) -> Any:
        now = Fields.of(dataset, check_same(dataset, feature))
        if now != before:
            return None
        same = [f for f in dataset.get_fragments() if lacking.get(f.fragment_id) == now.absent(f)]
        groups = [lance.LanceOperation.DataReplacementGroup(f.fragment_id, files[f.fragment_id]) for f in same]
        return lance.LanceOperation.DataReplacement(groups) if groups else None

    done = commit.commit_operation(snapshot.location, build, {}, f"making room for {', '.join(names)}")
    return done is not None
