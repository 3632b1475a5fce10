"""Staged files become a version, if the ground they were made for is still there.

`DataReplacement` takes a file only where all its fields are in a fragment's files or none is (research/feasibility.md
§3, A). Where some are, because others appended the value without its stamp or added a dropped column again, the absent
ones are covered with an all-NULL file first.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from lakehouse import commit, storage
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
            f"{feature.name!r} was declared with {now.num_columns} columns and has {', '.join(now.columns)}; drop these "
            "and declare it again"
        )
    tops = {field.name(): int(field.id()) for field in dataset.lance_schema.fields()}
    if len(there := input_names(now, tops)) < len(now.inputs):
        raise BackfillError(
            f"{feature.name!r} is computed from {', '.join(now.called)}, of which {', '.join(there) or 'none'} is there "
            "still; drop it and declare it again"
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
    """Make sure that these fragments can be filled: of all fields of the file to come they have all or none.

    Returns
    -------
    bool
        Whether the table has a new version now.
    """
    done = False
    lost = {f.fragment_id for f in fragments if lacks_values(snapshot, feature, f)}
    if lost:  # the values are gone, so their stamps go first: a kill between the two must not leave a NULL called true
        done |= _commit_nothing(snapshot, feature, lost, lambda _: (feature.stamp,), f"resetting {feature.stamp}")
    ids = {fragment.fragment_id for fragment in fragments}
    names = Fields.of(snapshot.dataset, feature).names
    for absent in _by_absent(snapshot.dataset, names, ids):
        done |= _commit_nothing(
            snapshot,
            feature,
            ids,
            lambda now, absent=absent: absent if now == absent else (),  # type: ignore[misc]  # binds the loop variable
            f"covering {', '.join(absent)}",
        )
    return done
