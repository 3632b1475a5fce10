"""How many rows of each fragment bear which stamp, read once: data files never change, so their counts are remembered.

A count belongs to the files that hold stamp and value of a fragment, and to its deletion file. Only fragments whose
files were not seen before are read; which those are is in the manifest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse import commit, layout
from lakehouse.errors import StorageError, translated
from lakehouse.reads import ROW_ID
from lakehouse.schema.lineage import TODO, Feature
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

_FILE = "stamps.json"


@dataclass(frozen=True)
class Stamps:
    """The rows of one fragment by what a feature's stamp says of them.

    Parameters
    ----------
    by_stamp
        Rows by stamp; a NULL counts as "to do".
    reset
        Rows "to do" that hold a value: their inputs changed.
    """

    by_stamp: Mapping[int, int] = field(default_factory=dict)
    reset: int = 0


def stamps(snapshot: Snapshot, features: Iterable[Feature], *, remember: bool = False) -> dict[str, dict[int, Stamps]]:
    """Count the stamps of features, by token and fragment; only the files that nobody counted before are read.

    Parameters
    ----------
    snapshot
        The version.
    features
        Which.
    remember
        Whether to keep these counts, and no others.
    """
    kept = _kept(snapshot)
    fragments = snapshot.dataset.get_fragments()
    places = {fragment.fragment_id: commit.stored_at(fragment) for fragment in fragments}
    deleted = {fragment.fragment_id: fragment.deletion_file() for fragment in fragments}
    stored = commit.stored_ids(snapshot.dataset)
    used: dict[str, Any] = {}
    found: dict[str, dict[int, Stamps]] = {}
    for feature in features:
        stamp, value = stored[feature.stamp], stored[feature.name]
        files = {
            number: _Files(_of(where, stamp), _of(where, value), deleted[number]) for number, where in places.items()
        }
        keys = {fragment_id: each.key for fragment_id, each in files.items() if each.stamp or each.value}
        unseen = [f for f in fragments if f.fragment_id in keys and keys[f.fragment_id] not in kept]
        counted = {fragment_id: _from_json(kept[key]) for fragment_id, key in keys.items() if key in kept}
        counted |= _counted(snapshot, feature, unseen, files)
        used |= {key: _to_json(counted[fragment_id]) for fragment_id, key in keys.items()}
        untouched = [f for f in fragments if f.fragment_id not in keys]
        found[feature.token] = counted | {f.fragment_id: Stamps({TODO: f.count_rows()}) for f in untouched}
    if remember and used.keys() != kept.keys():
        with suppress(StorageError):  # who may only read need not be told
            _folder(snapshot).write_bytes(_FILE, json.dumps(used).encode(), durable=False)
    return found


@dataclass(frozen=True)
class _Files:
    """Where a fragment has the stamp and the value of a feature, if it has them, and which rows are deleted."""

    stamp: tuple[tuple[str, int], ...]
    value: tuple[tuple[str, int], ...]
    deleted: str | None

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps([self.stamp, self.value, self.deleted]).encode()).hexdigest()[:20]


def _of(places: Mapping[int, tuple[str, int]], ids: frozenset[int]) -> tuple[tuple[str, int], ...]:
    return tuple(places[each] for each in sorted(ids & places.keys()))


def _counted(
    snapshot: Snapshot, feature: Feature, fragments: Sequence[Any], files: Mapping[int, _Files]
) -> dict[int, Stamps]:
    """Read the stamps of some fragments; of the values only the validity, where a stamp is "to do"."""
    stamped = [f for f in fragments if files[f.fragment_id].stamp]
    by_stamp = {f.fragment_id: Counter({TODO: f.count_rows()}) for f in fragments}
    by_stamp |= {f.fragment_id: Counter() for f in stamped}
    with translated(f"counting rows of {feature.name!r}"):
        for numbers, batch in _scan(snapshot, stamped, columns=[feature.stamp]):
            pairs = np.stack([numbers, np.asarray(batch[feature.stamp].fill_null(TODO), dtype=np.int64)])
            found, rows = np.unique(pairs, axis=1, return_counts=True)
            for fragment_id, stamp, count in zip(*found.tolist(), rows.tolist(), strict=True):
                by_stamp[fragment_id][stamp] += count
        open_ones = [f for f in fragments if by_stamp[f.fragment_id][TODO] and files[f.fragment_id].value]
        reset: Counter[int] = Counter()
        has_value = f"{todo(feature)} AND {quoted(feature.name)} IS NOT NULL"
        for numbers, _ in _scan(snapshot, open_ones, columns=[], filter=has_value):
            reset.update(numbers.tolist())
    return {fragment_id: Stamps(dict(+each), reset[fragment_id]) for fragment_id, each in by_stamp.items()}


def _scan(snapshot: Snapshot, fragments: Sequence[Any], **what: Any) -> Iterator[tuple[Any, pa.RecordBatch]]:
    """Yield batches, and the number of the fragment that each row is of."""
    if fragments:
        scanner = snapshot.dataset.scanner(fragments=fragments, with_row_address=True, scan_in_order=False, **what)
        for batch in scanner.to_batches():
            yield (np.asarray(batch["_rowaddr"]) >> np.uint64(32)).astype(np.int64), batch


def stamps_at(
    snapshot: Snapshot, feature: Feature, row_ids: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]:
    """Return which of some rows are there, by their ids in order, and their stamps; a NULL is "to do"."""
    with translated(f"looking up rows of {snapshot.name!r} at version {snapshot.version}"):
        found = snapshot.dataset._take_rows(row_ids, columns=[feature.stamp, ROW_ID])  # noqa: SLF001 - the only take by row id that leaves out those that are not there
    return np.asarray(found[ROW_ID]), np.asarray(found[feature.stamp].fill_null(TODO)).copy()


def todo(feature: Feature) -> str:
    """Return the predicate of rows that were never computed or whose inputs changed."""
    stamp = quoted(feature.stamp)
    return f"({stamp} IS NULL OR {stamp} = {TODO})"


def _to_json(each: Stamps) -> Any:
    return [list(each.by_stamp.items()), each.reset]


def _from_json(raw: Any) -> Stamps:
    return Stamps(dict(map(tuple, raw[0])), raw[1])


def _kept(snapshot: Snapshot) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(_folder(snapshot).read_bytes(_FILE) or "{}")
    except FileNotFoundError:
        return {}
    return kept


def _folder(snapshot: Snapshot) -> Location:
    return layout.side(snapshot.lake).child("counts").child(snapshot.name)
