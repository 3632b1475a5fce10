"""Values for the rows of a fragment: by a function, or by Lance from an SQL expression."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from lakehouse import reads, types
from lakehouse.errors import InvalidArgumentError, SchemaError, translated
from lakehouse.features import checkpoints, staging
from lakehouse.features.calls import call_rows
from lakehouse.features.udf import UDF, import_udf
from lakehouse.media import sizes
from lakehouse.schema.lineage import input_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

_INPUT_NBYTES = 8 << 20  # research/feasibility.md §7: media batches of 2 to 8 MB were fastest and bounded memory
_ROWS = 65_536
_SHARE = 100  # at most 1/100 of a fragment a batch: what a kill can lose


class Compute(Protocol):
    """Computes rows of one feature, in parts small enough to lose."""

    worth_keeping: bool

    def run(
        self,
        snapshot: Snapshot,
        fragment: Any,
        ids: np.ndarray[Any, Any],
        offsets: np.ndarray[Any, Any],
        schema: pa.Schema,
    ) -> Iterator[pa.Table]:
        """Yield tables of `checkpoints.part_schema` that cover the rows in order."""


@contextmanager
def compute_for(feature: Feature, udf: UDF | None) -> Iterator[Compute]:
    """Build what computes a feature, and take it down again.

    Raises
    ------
    SchemaError
        The function is not the one that was declared.
    """
    if feature.kind == "sql":
        if udf is not None:
            raise InvalidArgumentError(f"{feature.name!r} is the SQL expression {feature.source!r}; leave udf out")
        yield Expression(feature)
        return
    udf = udf or recorded(feature)
    if udf.code_hash != feature.code_hash:
        raise SchemaError(
            f"{feature.name!r} was declared with {feature.source!r} as it was then (code {feature.code_hash[:12]}), this one "
            f"differs (code {udf.code_hash[:12]}); alter_udf({feature.name!r}, …) makes the values stale, "
            f"accept({feature.name!r}, …) declares them right"
        )
    with closing(udf):
        yield Function(feature, udf)


def recorded(feature: Feature) -> UDF:
    """Import the function that a feature's record names, also from the folder the process was started in.

    Raises
    ------
    InvalidArgumentError
        It cannot be imported from here.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    return import_udf(feature.source, feature.arguments)


class Expression:
    """An SQL expression, computed by Lance; cheaper to compute again than to keep."""

    worth_keeping = False

    def __init__(self, feature: Feature) -> None:
        self._feature = feature

    def run(
        self,
        snapshot: Snapshot,
        fragment: Any,
        ids: np.ndarray[Any, Any],
        offsets: np.ndarray[Any, Any],
        schema: pa.Schema,
    ) -> Iterator[pa.Table]:
        """Yield the values batch by batch."""
        name = self._feature.name
        if len(ids) == 0:
            return
        with translated(f"computing {name!r} as {self._feature.source!r}"):
            batches = snapshot.dataset.scanner(
                columns={name: self._feature.source}, fragments=[fragment], with_row_address=True, batch_size=_ROWS
            ).to_batches()
            for batch in batches:
                at = staging.offsets_of(batch.column("_rowaddr"))
                wanted = np.isin(at, offsets)
                values = batch.column(name).filter(pa.array(wanted))
                these = ids[np.searchsorted(offsets, at[wanted])]
                yield part_of(these, at[wanted], [values], schema)


class Function:
    """A Python function."""

    worth_keeping = True

    def __init__(self, feature: Feature, udf: UDF) -> None:
        self._feature = feature
        self._udf = udf

    def run(
        self,
        snapshot: Snapshot,
        fragment: Any,
        ids: np.ndarray[Any, Any],
        offsets: np.ndarray[Any, Any],
        schema: pa.Schema,
    ) -> Iterator[pa.Table]:
        """Yield the values batch by batch, `batch_size` rows each."""
        names = input_names(self._feature, snapshot.field_ids)
        for start, rows in self._read(snapshot, fragment, names, ids):
            outcome = call_rows(self._udf, dict(zip(self._udf.inputs, rows, strict=True)))
            end = start + len(outcome.failed)
            values = [outcome.arrays[output] for output in self._udf.outputs]
            yield part_of(ids[start:end], offsets[start:end], values, schema, outcome.failed, outcome.errors)

    def _read(
        self, snapshot: Snapshot, fragment: Any, names: list[str], ids: np.ndarray[Any, Any]
    ) -> Iterator[tuple[int, list[pa.Array]]]:
        """Yield the inputs of the rows: one scan where the whole fragment is asked for, reads by row id else."""
        size = self._batch_rows(snapshot, names, len(ids))
        if len(ids) == fragment.count_rows():
            start = 0
            for batch in reads.scan_fragment(snapshot, fragment, names, size):
                yield start, [batch.column(name) for name in names]
                start += batch.num_rows
            return
        for start in range(0, len(ids), size):
            table = reads.take_row_ids(snapshot, ids[start : start + size], names)
            yield start, [table[name].combine_chunks() for name in names]

    def _batch_rows(self, snapshot: Snapshot, names: list[str], num_rows: int) -> int:
        if self._udf.batch_size is not None:
            return int(self._udf.batch_size)
        rows = min(_ROWS, max(64, num_rows // _SHARE))
        media = [name for name in names if types.is_bytes_media(snapshot.schema.field(name))]
        if media and snapshot.num_rows:
            mean = sum(sizes.mean_nbytes(snapshot, name) for name in media)
            rows = max(1, min(rows, int(_INPUT_NBYTES / max(mean, 1))))
        return rows


def part_of(
    ids: np.ndarray[Any, Any],
    offsets: np.ndarray[Any, Any],
    values: list[pa.Array],
    schema: pa.Schema,
    failed: np.ndarray[Any, Any] | None = None,
    errors: Any = (),
) -> pa.Table:
    """Put computed rows into the form of a checkpoint part."""
    names: list[str | None] = [None] * len(ids)
    messages: list[str | None] = [None] * len(ids)
    for error in errors:
        names[error.row_index], messages[error.row_index] = error.error, error.message
    failed = np.zeros(len(ids), dtype=bool) if failed is None else failed
    columns = [
        pa.array(ids, pa.uint64()),
        pa.array(offsets, pa.uint32()),
        *values,
        pa.array(failed),
        pa.array(names, pa.string()),
        pa.array(messages, pa.string()),
    ]
    return pa.Table.from_arrays([column.cast(f.type) for column, f in zip(columns, schema, strict=True)], schema=schema)


__all__ = ["Compute", "Expression", "Function", "checkpoints", "compute_for", "part_of", "recorded"]
