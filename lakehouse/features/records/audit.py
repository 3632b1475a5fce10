"""Which features others made untrue without knowing: read from the log of the table, and what was read is remembered.

Every commit of ours says so in its transaction, or in a mark beside the table. What does not is looked at closely: its
fragments before and after are compared, file by file, which tells exactly the fields that were written.
"""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lakehouse import commit, layout, reads
from lakehouse._lance import lance
from lakehouse._messages import Outcome, classify
from lakehouse.errors import StorageError, translated
from lakehouse.features.records import suspicion
from lakehouse.features.records.rowids import RowIds, union
from lakehouse.features.records.suspicion import Changed, Step, Suspicion, Watched, is_touched
from lakehouse.schema.lineage import dependents, input_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from lakehouse.location import Location
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

_FILE = "known.json"
# A compaction moves values and stamps together.
_HARMLESS = (lance.LanceOperation.CreateIndex, lance.LanceOperation.Rewrite, lance.LanceOperation.UpdateConfig)
_EVERY_ROW = RowIds(((0, 2**63 - 1),))


def known(snapshot: Snapshot, *, remember: bool = False) -> Suspicion:
    """Return what is known of the features at a version.

    Parameters
    ----------
    snapshot
        The version.
    remember
        Whether to keep what was read of the log, so that nobody reads it again.
    """
    watched = _watched(snapshot)
    if not watched:
        return Suspicion(snapshot.version)
    with translated(f"reading the log of {snapshot.name!r}"):
        before = _remembered(snapshot)
        now = _Log(snapshot, watched).read(before or _nothing(watched))
    if remember and now != before:
        kept = json.dumps(suspicion.to_json(now) | {"transaction": _id(snapshot.dataset, now.version)})
        with suppress(StorageError):  # who may only read need not be told
            _folder(snapshot).write_bytes(_FILE, kept.encode(), durable=False)
    return now


def unverified(snapshot: Snapshot, found: Suspicion) -> dict[str, RowIds]:
    """Return, by token, the rows in which nobody vouches for a feature, or for what it is computed from."""
    doubted: dict[str, RowIds] = {}
    for feature in snapshot.features.values():
        rows = _EVERY_ROW if feature.token in found.lost else found.rows(feature.token)
        if rows:
            for each in (feature, *dependents(snapshot.features, snapshot.field_ids, feature.columns)):
                doubted[each.token] = doubted.get(each.token, RowIds()) | rows
    return doubted


def holding(snapshot: Snapshot, rows: RowIds) -> list[Any]:
    """Return the fragments that hold some rows."""
    found: set[int] = set()
    for batch in snapshot.dataset.scanner(columns=[], with_row_id=True, with_row_address=True).to_batches():
        addresses = np.asarray(batch["_rowaddr"])[rows.contains(batch[reads.ROW_ID])]
        found.update(np.unique(addresses >> np.uint64(32)).tolist())
    return [fragment for fragment in snapshot.dataset.get_fragments() if fragment.fragment_id in found]


class _Log:
    """The log of a table, read forward."""

    def __init__(self, snapshot: Snapshot, watched: Iterable[Watched]) -> None:
        self._snapshot = snapshot
        self._dataset = snapshot.dataset
        self._watched = tuple(watched)
        self._earlier = {0: _nothing(self._watched)}

    def read(self, start: Suspicion, until: int | None = None) -> Suspicion:
        """Fold every transaction after `start`."""
        until = self._snapshot.version if until is None else until
        now = start
        while now.version < until:
            version = now.version + 1
            transaction = commit.transaction_of(self._dataset, version)
            if transaction is None:
                version = self._after_gap(version, until)
                now = now.after(self._unknown(version), self._watched)
            elif isinstance(transaction.operation, lance.LanceOperation.Restore):
                now = replace(self._known_at(transaction.operation.version), version=version)
            else:
                now = self._one_more(now, version, transaction)
        tokens = frozenset(each.token for each in self._watched)
        suspects = {token: found for token, found in now.suspects.items() if token in tokens}
        return replace(now, tokens=tokens, suspects=suspects)

    def _known_at(self, version: int) -> Suspicion:
        """Return what is known at an earlier version, read once: a restored one may have been restored itself."""
        if version not in self._earlier:
            nearest = max(each for each in self._earlier if each < version)
            self._earlier[version] = self.read(self._earlier[nearest], version)
        return self._earlier[version]

    def _one_more(self, now: Suspicion, version: int, transaction: Any) -> Suspicion:
        said = commit.properties_of(self._snapshot.location, version, transaction)
        if commit.ID not in said:
            return now.after(self._foreign(version, transaction), self._watched)
        now = now.after(self._own(version, transaction, said), self._watched)
        if commit.FROM_VERSION in said:  # old values are back, and so is what nobody vouched for then
            then = self._known_at(int(said[commit.FROM_VERSION]))
            for token in _list(said, commit.FILLED):
                if rows := then.rows(token):
                    now = now.suspecting(token, rows)
        return now

    def _after_gap(self, version: int, until: int) -> int:
        """Return the first version from which on the log is whole."""
        for later in range(until, version, -1):
            if commit.transaction_of(self._dataset, later) is None:
                return min(later + 1, until)
        return version + 1 if version < until else until

    def _unknown(self, version: int) -> Step:
        return Step(version, everything=_row_ids(self._at(version)))

    def _at(self, version: int) -> Any:
        """Open a version; the one that is open already may have been cleaned up."""
        return self._dataset if version == self._snapshot.version else self._dataset.checkout_version(version)

    def _own(self, version: int, transaction: Any, said: dict[str, str]) -> Step:
        reset = _list(said, commit.RESET)
        rows = RowIds()
        if reset:
            rows = _row_ids(self._at(version), {group.fragment_id for group in transaction.operation.replacements})
        filled = _list(said, commit.FILLED) if commit.FROM_VERSION not in said else frozenset()
        return Step(
            version,
            int(said.get(commit.ACCEPTED_AT, transaction.read_version)),
            reset=dict.fromkeys(reset, rows),
            accepted=_list(said, commit.ACCEPTED),
            filled=dict.fromkeys(filled, (said.get(commit.AUTHOR, ""), said.get(commit.AT, ""))),
        )

    def _foreign(self, version: int, transaction: Any) -> Step:
        """Compare the fragments before and after, file by file."""
        if self._is_harmless(transaction.operation):
            return Step(version)
        try:
            before, after = self._at(version - 1), self._at(version)
        except (OSError, ValueError) as error:
            if classify(error) is not Outcome.GONE:
                raise
            return self._unknown(version)
        was, now = ({f.fragment_id: commit.stored_at(f) for f in of.get_fragments()} for of in (before, after))
        written = _written(transaction.operation)
        alike: dict[tuple[frozenset[int], frozenset[int] | None], set[int]] = defaultdict(set)
        for fragment, there in now.items():
            if fragment in was:
                alike[frozenset(field for field, _ in was[fragment].items() ^ there.items()), None].add(fragment)
            else:
                alike[written or frozenset(there), frozenset(there)].add(fragment)
        return Step(
            version,
            changed=tuple(
                Changed(fields, _row_ids(after, fragments), claims)
                for (fields, claims), fragments in alike.items()
                if self._matters(fields, claims)
            ),
            columns=_still_there(transaction.operation, commit.top_ids(before), commit.top_ids(after)),
        )

    def _matters(self, fields: frozenset[int], claims: frozenset[int] | None) -> bool:
        return any(is_touched(each, fields, claims) for each in self._watched)

    def _is_harmless(self, operation: Any) -> bool:
        """Whether an operation of others can be told to touch no feature without a look at the fragments."""
        if isinstance(operation, lance.LanceOperation.Append):
            fields = frozenset(field for each in operation.fragments for file in each.files for field in file.fields)
            return not self._matters(fields, fields)
        return isinstance(operation, _HARMLESS)


def _written(operation: Any) -> frozenset[int]:
    """Return the fields that an update of rows wrote; the others it moved with their rows. Empty if it does not say so.

    Lance itself relies on it to keep rows that moved in the indices of all other fields.
    """
    is_update = isinstance(operation, lance.LanceOperation.Update) and operation.update_mode == "rewrite_rows"
    return frozenset(operation.fields_for_preserving_frag_bitmap if is_update else ())


def _still_there(operation: Any, before: Mapping[str, int], after: Mapping[str, int]) -> frozenset[int]:
    """Return the ids that mean the same column as before: an overwrite counts them anew."""
    if isinstance(operation, lance.LanceOperation.Overwrite):
        return frozenset(field_id for name, field_id in after.items() if before.get(name) == field_id)
    return frozenset(after.values())


def _row_ids(dataset: Any, fragments: Collection[int] | None = None) -> RowIds:
    """Read the ids of the rows of some fragments, or of all: no column is read for it."""
    chosen = [f for f in dataset.get_fragments() if fragments is None or f.fragment_id in fragments]
    if not chosen:
        return RowIds()
    scanner = dataset.scanner(columns=[], with_row_id=True, fragments=chosen)
    return union(RowIds.of(batch[reads.ROW_ID]) for batch in scanner.to_batches())


def _watched(snapshot: Snapshot) -> list[Watched]:
    stored = commit.stored_ids(snapshot.dataset)

    def one(feature: Feature) -> Watched:
        names = (*input_names(feature, snapshot.field_ids), *feature.columns, feature.stamp)
        inputs = frozenset(feature.inputs)
        everything = inputs.union(*(stored[name] for name in names))
        return Watched(feature.token, feature.since, inputs, everything, snapshot.field_ids[feature.stamp])

    return [one(feature) for feature in snapshot.features.values()]


def _nothing(watched: Iterable[Watched]) -> Suspicion:
    """Return what is known before the first feature was declared."""
    return Suspicion(min(each.since for each in watched))


def _remembered(snapshot: Snapshot) -> Suspicion | None:
    """Return what was kept, if it is of this table, of its past, and of all its features."""
    try:
        raw = json.loads(_folder(snapshot).read_bytes(_FILE) or "null")
    except FileNotFoundError:
        return None
    if raw is None or raw["version"] > snapshot.version:
        return None
    kept = suspicion.from_json(raw)
    if any(f.token not in kept.tokens and f.since < kept.version for f in snapshot.features.values()):
        return None
    # Another table under the name of a dropped one has other transactions. If it was cleaned up, the tokens told.
    is_same = _id(snapshot.dataset, kept.version) in (raw["transaction"], None)
    return kept if is_same else None


def _id(dataset: Any, version: int) -> str | None:
    transaction = commit.transaction_of(dataset, version)
    return transaction.uuid if transaction else None


def _list(said: dict[str, str], key: str) -> frozenset[str]:
    return frozenset(filter(None, said.get(key, "").split(",")))


def _folder(snapshot: Snapshot) -> Location:
    return layout.side(snapshot.lake).child("audit").child(snapshot.name)
