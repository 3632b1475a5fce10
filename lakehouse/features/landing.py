"""Staged files become a version, if the ground they were made for is still there.

`DataReplacement` takes a file only where all its fields are in a fragment's files or none is. Where some are, because
others appended the value without its stamp or added a dropped column again, the absent ones are covered with an
all-NULL file first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from lakehouse import commit
from lakehouse._lance import lance
from lakehouse.errors import BackfillError
from lakehouse.features import checkpoints, staging
from lakehouse.features.staging import Fields, Staged
from lakehouse.schema.lineage import Feature, features_of, input_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakehouse.snapshot import Snapshot


def check_same(dataset: Any, feature: Feature) -> Feature:
    """Return the feature as it is in a version, if it is still the one that is being filled.

    Field ids are used again after a drop: without the token, float bytes would land in somebody's new int column.

    Raises
    ------
    BackfillError
        It was dropped, lost a column or an input, or was given another function.
    """
    now = next((f for f in features_of(dataset.schema).values() if f.token == feature.token), None)
    if now is None:
        raise BackfillError(f"{feature.name!r} was dropped while it was being filled; nothing more is written")
    if now.generation != feature.generation or now.code_hash != feature.code_hash:
        raise BackfillError(
            f"{feature.name!r} was given another function while it was being filled; backfill again with the new one"
        )
    if len(now.columns) < now.num_columns:
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
    snapshot: Snapshot, feature: Feature, staged: Sequence[Staged], message: str
) -> tuple[int | None, list[Staged]]:
    """Commit column files whose ground is as it was when they were made.

    Returns
    -------
    tuple
        The version, or None if none could be committed; and the files that went into it.

    Raises
    ------
    BackfillError
        The feature is not what it was, see `check_same`.
    ConflictError
    """
    went_in: list[Staged] = []

    def build(dataset: Any) -> Any:
        now = check_same(dataset, feature)
        fields = Fields.of(dataset, now)
        inputs = checkpoints.input_ids(dataset, now)
        fragments = {fragment.fragment_id: fragment for fragment in dataset.get_fragments()}
        went_in[:] = [f for f in staged if _is_unmoved(f, fragments.get(f.fragment_id), inputs, fields)]
        if not went_in:
            return None
        groups = [lance.LanceOperation.DataReplacementGroup(file.fragment_id, file.data_file) for file in went_in]
        return lance.LanceOperation.DataReplacement(groups)

    properties = {"lakehouse:column": feature.name, "lakehouse:code_hash": feature.code_hash}
    done = commit.commit_operation(snapshot.location, build, properties, message)
    return (done.version, list(went_in)) if done else (None, [])


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
    files = {fragment.fragment_id: staging.stage_nothing(snapshot, names, fragment) for fragment in fragments}

    def build(dataset: Any) -> Any:
        now = Fields.of(dataset, check_same(dataset, feature))
        if now != before:
            return None
        same = [f for f in dataset.get_fragments() if lacking.get(f.fragment_id) == now.absent(f)]
        groups = [lance.LanceOperation.DataReplacementGroup(f.fragment_id, files[f.fragment_id]) for f in same]
        return lance.LanceOperation.DataReplacement(groups) if groups else None

    done = commit.commit_operation(snapshot.location, build, {}, f"making room for {', '.join(names)}")
    return done is not None
