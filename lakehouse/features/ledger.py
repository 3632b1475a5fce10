"""Is a column true? How far is it filled, who made it, when, from what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakehouse import reads
from lakehouse.schema.lineage import TODO, Feature, input_names
from lakehouse.where import quoted

if TYPE_CHECKING:
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
    """Return the predicate of rows made, or failed, by an older generation."""
    stamp = quoted(feature.stamp)
    return f"({stamp} > {TODO} AND {stamp} < {feature.done})"


def counts(snapshot: Snapshot, feature: Feature) -> Counts:
    """Count a feature's rows by their stamps; only the stamp column and the column's validity are read."""
    stamp = quoted(feature.stamp)

    def count(where: str) -> int:
        return reads.count_rows(snapshot, where)

    return Counts(
        num_rows=snapshot.num_rows,
        done=count(f"{stamp} = {feature.done}"),
        failed=count(f"{stamp} = {feature.failed}"),
        older=count(older(feature)),
        reset=count(f"{todo(feature)} AND {quoted(feature.name)} IS NOT NULL"),
    )


def features(snapshot: Snapshot) -> pa.Table:
    """Return what is known of every computed column.

    Returns
    -------
    pyarrow.Table
        ``column, state, coverage, num_failed, who, when, version, code_hash, inputs``; `version` counts the
        declarations of its function, `coverage` is the share of rows, 0 to 1.
    """
    rows = []
    for feature in snapshot.features.values():
        counted = counts(snapshot, feature)
        rows += [
            {
                "column": name,
                "state": counted.state,
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
