"""Values nobody vouches for become plainly stale: their stamps go back to "to do", in the table itself."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import commit, reads, storage
from lakehouse._lance import lance
from lakehouse.errors import SchemaError, translated
from lakehouse.features.records import audit
from lakehouse.features.records.rowids import RowIds, union
from lakehouse.features.storing import checkpoints, staging
from lakehouse.schema.lineage import TODO, features_of, input_names, upstream
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from lakehouse.features.records.suspicion import Suspicion
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

_ROUNDS = 10  # others may write again and again; what is left is told as unverified


def heal(snapshot: Snapshot, wanted: Collection[Feature]) -> Snapshot:
    """Reset the stamps of features where others may have made them untrue, so that these rows are filled again.

    What is computed from these is reset in turn by whoever fills them.

    Parameters
    ----------
    snapshot
        The newest version.
    wanted
        The features about to be filled.

    Returns
    -------
    Snapshot
        The version to plan from; the same one if there was nothing to reset.

    Raises
    ------
    SchemaError
        An input of a wanted feature was dropped by others, and another column may have its id.
    """
    for _ in range(_ROUNDS):
        found = audit.known(snapshot, remember=True)
        _check_inputs(snapshot, wanted, found)
        todo = {feature.token: rows for feature in wanted if (rows := found.rows(feature.token))}
        fragments = audit.holding(snapshot, union(todo.values())) if todo else []
        if not fragments:
            return snapshot
        for names, group in _groups(snapshot, todo, fragments).items():
            _reset(snapshot, names, group, todo)
        snapshot = open_snapshot(snapshot.lake, snapshot.name)
    return snapshot


def _check_inputs(snapshot: Snapshot, wanted: Iterable[Feature], found: Suspicion) -> None:
    features, ids = snapshot.features, snapshot.field_ids
    for feature in wanted:
        lost = [f for f in (feature, *upstream(features, ids, feature)) if f.token in found.lost]
        if lost:
            name, there = lost[0].name, ", ".join(input_names(lost[0], ids)) or "nothing"
            raise SchemaError(
                f"{name!r} was declared on {', '.join(lost[0].called)}, which others dropped or replaced; it would be "
                f"computed from {there} now. Drop it and declare it again, or accept({name!r}) if that is right"
            )


def _groups(snapshot: Snapshot, tokens: Collection[str], fragments: Iterable[Any]) -> dict[tuple[str, ...], list[Any]]:
    """Return the fragments by the columns to write: of a file's fields a fragment must have all or none."""
    stored = commit.stored_ids(snapshot.dataset)
    groups: dict[tuple[str, ...], list[Any]] = defaultdict(list)
    for fragment in fragments:
        there = {field for file in fragment.data_files() for field in file.fields}
        present, absent = [], []
        for feature in snapshot.features.values():
            if feature.token not in tokens:
                continue
            if stored[feature.stamp] & there:
                present.append(feature.stamp)
            elif any(stored[name] & there for name in feature.columns):
                absent.append(feature.stamp)
            else:
                absent += [*feature.columns, feature.stamp]
        for names in (present, absent):
            if names:
                groups[tuple(names)].append(fragment)
    return groups


def _reset(snapshot: Snapshot, names: tuple[str, ...], fragments: Sequence[Any], todo: Mapping[str, RowIds]) -> None:
    """Commit stamps of 0 in fragments where nobody wrote these columns meanwhile; else the next round looks again."""
    stamps = {feature.stamp: feature.token for feature in snapshot.features.values() if feature.stamp in names}
    ids = _ids(snapshot.dataset, names)
    before = {fragment.fragment_id: checkpoints.fingerprint(fragment, ids) for fragment in fragments}
    doubted = {stamp: todo[token] for stamp, token in stamps.items()}
    files = {
        fragment.fragment_id: staging.stage_rows(snapshot, names, fragment, _kept(snapshot, names, fragment, doubted))
        for fragment in fragments
    }

    def build(dataset: Any) -> Any:
        there = {feature.token for feature in features_of(dataset.schema).values()}
        if not there.issuperset(stamps.values()) or _ids(dataset, names) != ids:
            return None
        same = [f for f in dataset.get_fragments() if before.get(f.fragment_id) == checkpoints.fingerprint(f, ids)]
        new = [lance.LanceOperation.DataReplacementGroup(f.fragment_id, files[f.fragment_id].data_file) for f in same]
        return lance.LanceOperation.DataReplacement(new) if new else None

    properties = {commit.RESET: ",".join(stamps.values())}
    commit.commit_operation(snapshot.location, build, properties, f"resetting {', '.join(stamps)}: written by others")


def _kept(
    snapshot: Snapshot, names: Sequence[str], fragment: Any, doubted: Mapping[str, RowIds]
) -> Iterator[tuple[pa.Table, Any]]:
    """Yield the stamps that a fragment has, but for those nobody vouches for."""
    if list(names) != list(doubted):  # the columns are not there, so neither are stamps
        return
    with translated(f"reading {names[0]!r}"):
        scanner = snapshot.dataset.scanner(
            columns=list(names), fragments=[fragment], with_row_id=True, with_row_address=True, scan_in_order=True
        )
        for batch in scanner.to_batches():
            rows = batch[reads.ROW_ID]
            columns = [
                pc.if_else(pa.array(of.contains(rows)), TODO, batch[name]).cast(pa.int32())
                for name, of in doubted.items()
            ]
            yield (
                pa.table(columns, schema=storage.select(snapshot.physical, names)),
                staging.offsets_of(batch["_rowaddr"]),
            )


def _ids(dataset: Any, names: Iterable[str]) -> frozenset[int]:
    stored = commit.stored_ids(dataset)
    return frozenset().union(*(stored.get(name, frozenset()) for name in names))
