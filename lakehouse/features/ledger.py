"""Is a column true? How far is it filled, who made it, when, from what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lakehouse import failures, layout, reads
from lakehouse.errors import translated
from lakehouse.leases import holders
from lakehouse.schema.lineage import TODO, Feature, input_names, owner_of
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

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
    """The rows of a feature by what their stamp says."""

    num_rows: int
    done: int
    failed: int
    older: int  # values of an older generation of the function
    reset: int  # values whose inputs changed since

    @property
    def state(self) -> str:
        """The feature's state in one word."""
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


def todo(feature: Feature) -> str:
    """Return the predicate of rows that were never computed or whose inputs changed."""
    stamp = quoted(feature.stamp)
    return f"({stamp} IS NULL OR {stamp} = {TODO})"


def older(feature: Feature) -> str:
    """Return the predicate of rows made, or failed, by a generation that is no longer true."""
    stamp = quoted(feature.stamp)
    return f"({stamp} > {TODO} AND {stamp} < {feature.true_from})"


def failed(feature: Feature) -> str:
    """Return the predicate of rows whose function failed."""
    stamp = quoted(feature.stamp)
    return f"({stamp} >= {feature.true_from} AND {stamp} % 2 = 1)"


def counts(snapshot: Snapshot, feature: Feature) -> Counts:
    """Count a feature's rows by their stamps; of the values only the validity is read, where a stamp is 0."""
    by_stamp: Counter[int] = Counter()
    with translated(f"counting rows of {feature.name!r}"):
        for batch in snapshot.dataset.scanner(columns=[feature.stamp], scan_in_order=False).to_batches():
            found, numbers = np.unique(np.asarray(batch.column(0).fill_null(TODO)), return_counts=True)
            by_stamp.update(dict(zip(found.tolist(), numbers.tolist(), strict=True)))
    true = {stamp: count for stamp, count in by_stamp.items() if stamp >= feature.true_from}
    has_todo = by_stamp[TODO] > 0
    return Counts(
        num_rows=snapshot.num_rows,
        done=sum(count for stamp, count in true.items() if stamp % 2 == 0),
        failed=sum(count for stamp, count in true.items() if stamp % 2 == 1),
        older=sum(count for stamp, count in by_stamp.items() if TODO < stamp < feature.true_from),
        reset=reads.count_rows(snapshot, f"{todo(feature)} AND {quoted(feature.name)} IS NOT NULL") if has_todo else 0,
    )


def leases_of(snapshot: Snapshot) -> Location:
    """Return where it is written who is filling what."""
    return layout.side(snapshot.lake).child("leases").child(snapshot.name)


def features(snapshot: Snapshot) -> pa.Table:
    """Return what is known of every computed column.

    Returns
    -------
    pyarrow.Table
        ``column, state, coverage, num_failed, who, when, version, code_hash, inputs``; `version` counts the
        declarations of its function, `coverage` is the share of rows, 0 to 1.
    """
    rows = []
    running = holders(leases_of(snapshot))
    for feature in snapshot.features.values():
        counted = counts(snapshot, feature)
        rows += [
            {
                "column": name,
                "state": "running" if feature.token in running else counted.state,
                "coverage": counted.coverage,
                "num_failed": counted.failed,
                "who": feature.owner,
                "when": feature.declared_at,
                "version": feature.generation,
                "code_hash": feature.code_hash,
                "inputs": input_names(feature, snapshot.field_ids),
            }
            for name in feature.columns
        ]
    return pa.Table.from_pylist(rows, schema=LEDGER)


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
