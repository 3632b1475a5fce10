"""Is a column true? How far is it filled, who made it, when, from what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import failures, reads
from lakehouse.features.records import audit
from lakehouse.features.records.counts import Stamps, stamps
from lakehouse.features.records.rowids import RowIds, union
from lakehouse.leases import holders, leases_of
from lakehouse.schema.lineage import TODO, Feature, input_names, owner_of, upstream
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lakehouse.snapshot import Snapshot

__all__ = [
    "LEDGER",
    "Counts",
    "counts",
    "doubted",
    "errors",
    "failed",
    "features",
    "older",
    "state",
]

LEDGER = pa.schema(
    [
        pa.field("column", pa.string()),
        pa.field("state", pa.string()),
        pa.field("coverage", pa.float64()),
        pa.field("num_failed", pa.int64()),
        pa.field("who", pa.string()),
        pa.field("when", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("code_hash", pa.string()),
        pa.field("inputs", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Counts:
    """The rows of a feature by what their stamp says, and whether anybody vouches for it."""

    num_rows: int
    done: int
    failed: int
    older: int  # values of an older generation of the function
    reset: int  # values whose inputs changed since
    unverified: int = 0  # values, or failures, where others wrote; in none of the numbers above

    @property
    def unsettled(self) -> int:
        """The rows that are neither filled nor failed as the function and its inputs are now."""
        return self.num_rows - self.done - self.failed

    @property
    def state(self) -> str:
        """The feature's state in one word."""
        if self.unverified:
            return "unverified"
        if self.older:
            return "stale(code)"
        if self.reset:
            return "stale(inputs)"
        if self.done == self.num_rows:
            return "fresh"
        return "partial" if self.done or self.failed else "declared"

    @property
    def coverage(self) -> float:
        """The share of rows that hold a true value, 0 to 1."""
        return self.done / self.num_rows if self.num_rows else 1.0


def older(feature: Feature) -> str:
    """Return the predicate of rows made, or failed, by a generation that is no longer true."""
    stamp = quoted(feature.stamp)
    return f"({stamp} > {TODO} AND {stamp} < {feature.true_from})"


def failed(feature: Feature) -> str:
    """Return the predicate of rows whose function failed."""
    stamp = quoted(feature.stamp)
    return f"({stamp} >= {feature.true_from} AND {stamp} % 2 = 1)"


def counts(snapshot: Snapshot, feature: Feature, *, remember: bool = False) -> Counts:
    """Count a feature's rows by their stamps, whoever wrote them."""
    return _told(feature, stamps(snapshot, [feature], remember=remember)[feature.token].values(), {})


def _told(feature: Feature, by_fragment: Iterable[Stamps], doubted: Mapping[int, int]) -> Counts:
    """Add up what the stamps of a feature say; where nobody vouches for a row its stamp says nothing."""
    total: Counter[str] = Counter()
    for found in by_fragment:
        total["num_rows"] += sum(found.by_stamp.values())
        total["reset"] += found.reset
        for stamp, count in found.by_stamp.items():
            total[_meaning(feature, stamp)] += count
    for stamp, count in doubted.items():
        total[_meaning(feature, stamp)] -= count
        total["unverified"] += count if stamp != TODO else 0
    return Counts(**{each.name: total[each.name] for each in fields(Counts)})


def _meaning(feature: Feature, stamp: int) -> str:
    if stamp == TODO:
        return "open"
    if stamp < feature.true_from:
        return "older"
    return "failed" if stamp % 2 else "done"


def features(snapshot: Snapshot, *, remember: bool = False) -> pa.Table:
    """Return what is known of every computed column.

    Parameters
    ----------
    snapshot
        The version.
    remember
        Whether to keep what was counted and read of the log, so that the next call reads only what is new.

    Returns
    -------
    pyarrow.Table
        ``column, state, coverage, num_failed, who, when, version, code_hash, inputs``; `who` filled it last, or
        declared it; `version` counts the declarations of its function, `coverage` is the share of rows, 0 to 1.
    """
    remember = remember and not snapshot.pinned
    running = holders(leases_of(snapshot))
    known = audit.known(snapshot, remember=remember)
    doubted = _doubted(snapshot, audit.unverified(snapshot, known))
    counted = stamps(snapshot, snapshot.features.values(), remember=remember)
    told = {
        feature: _told(feature, counted[feature.token].values(), doubted.get(feature.token, {}))
        for feature in snapshot.features.values()
    }
    rows = []
    for feature, now in told.items():
        above = [told[each] for each in upstream(snapshot.features, snapshot.field_ids, feature)]
        who, when = known.filled.get(feature.token, (feature.owner, feature.declared_at))
        rows += [
            {
                "column": name,
                "state": "running" if feature.token in running else state(now, above),
                "coverage": min(each.coverage for each in (now, *above)),
                "num_failed": now.failed,
                "who": who,
                "when": when,
                "version": feature.generation,
                "code_hash": feature.code_hash,
                "inputs": input_names(feature, snapshot.field_ids),
            }
            for name in feature.columns
        ]
    return pa.Table.from_pylist(rows, schema=LEDGER)


def doubted(snapshot: Snapshot) -> dict[str, int]:
    """Return how many rows of each feature, by token, bear a stamp nobody vouches for; a backfill computes them."""
    rows = audit.unverified(snapshot, audit.known(snapshot))
    return {token: sum(found.values()) - found[TODO] for token, found in _doubted(snapshot, rows).items()}


def _doubted(snapshot: Snapshot, rows: Mapping[str, RowIds]) -> dict[str, Counter[int]]:
    """Count the stamps of rows nobody vouches for, by token."""
    chosen = [feature for feature in snapshot.features.values() if feature.token in rows]
    found: dict[str, Counter[int]] = {feature.token: Counter() for feature in chosen}
    fragments = audit.holding(snapshot, union(rows.values())) if chosen else []
    if fragments:
        scanner = snapshot.dataset.scanner(
            columns=[feature.stamp for feature in chosen], fragments=fragments, with_row_id=True
        )
        for batch in scanner.to_batches():
            for feature in chosen:
                here = batch[feature.stamp].filter(pa.array(rows[feature.token].contains(batch[reads.ROW_ID])))
                found[feature.token].update(here.fill_null(TODO).to_pylist())
    return found


def state(now: Counts, above: Iterable[Counts]) -> str:
    """Return the state of a feature in one word, those that it is computed from considered.

    A changed function resets no stamp of what is computed from its column, and a column may be filled before the one it
    is computed from. Then some row is filled, and what it was computed from is not.
    """
    if now.state in ("fresh", "partial") and any(now.done + each.unsettled > now.num_rows for each in above):
        return "stale(inputs)"
    return now.state


def errors(snapshot: Snapshot, columns: Iterable[str] | None = None) -> pa.Table:
    """Return the rows and files that could not be stored or computed, and were not since.

    Parameters
    ----------
    snapshot
        The table.
    columns
        Only failures in these columns; any output of a feature stands for all of them. None means all.

    Raises
    ------
    ColumnNotFoundError
    """
    if columns is None:
        return failures.read(snapshot.lake, snapshot.name)
    owners = {name: owner_of(snapshot.features, name) for name in columns}
    snapshot.columns([name for name, owner in owners.items() if owner is None])
    told = [owner.name if owner else name for name, owner in owners.items()]
    return failures.read(snapshot.lake, snapshot.name, list(dict.fromkeys(told)))
