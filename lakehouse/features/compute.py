"""Values for the rows of a fragment: by a function, or by Lance from an SQL expression."""

from __future__ import annotations

import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from lakehouse import reads, types
from lakehouse.errors import InvalidArgumentError, SchemaError, translated
from lakehouse.features import staging
from lakehouse.features.calls import call_rows
from lakehouse.features.expressions import renamed
from lakehouse.features.udf import UDF, as_udf, import_udf
from lakehouse.schema.lineage import input_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from lakehouse.features.calls import CellError
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

    RowIds: TypeAlias = npt.NDArray[np.uint64]
    Offsets: TypeAlias = npt.NDArray[np.int64]

_ROWS = 65_536  # read at a time, fewer where media are among the inputs
# What a kill can lose: a batch, which is a hundredth of a fragment and a second of work, whichever is less.
_SHARE, _LEAST_ROWS, _BATCH_S = 100, 64, 1.0
_FIRST_ROWS, _GROWTH = 16, 4  # nobody knows beforehand how slow a function is


class Compute(Protocol):
    """Computes rows of one feature, in parts small enough to lose."""

    worth_keeping: bool  # whether a checkpoint costs less than computing again
    saves: bool  # whether the parts come saved

    @property
    def hungry(self) -> bool:
        """Whether another fragment could be begun before those begun are done."""

    def run(
        self, snapshot: Snapshot, fragment: Any, ids: RowIds, offsets: Offsets, schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Yield tables of `checkpoints.part_schema` that cover the rows."""


@contextmanager
def compute_for(feature: Feature, udf: UDF | None) -> Iterator[Compute]:
    """Build what computes a feature, and take it down again.

    Raises
    ------
    SchemaError
        The function is not the one that was declared.
    """
    function = function_of(feature, udf)
    if function is None:
        yield Expression(feature)
        return
    with closing(function):
        yield Function(feature, function)


def function_of(feature: Feature, udf: UDF | None) -> UDF | None:
    """Return the function to compute a feature with; None for an SQL expression.

    Parameters
    ----------
    feature
        What is computed.
    udf
        The function, if the user passed it; else it is imported by the name it was declared with.

    Raises
    ------
    SchemaError
        The function is not the one that was declared.
    """
    if feature.kind == "sql":
        if udf is not None:
            raise InvalidArgumentError(f"{feature.name!r} is the SQL expression {feature.source!r}; leave udf out")
        return None
    function = as_udf(udf) if udf is not None else recorded(feature)
    if function.code_hash != feature.code_hash:
        raise SchemaError(
            f"{feature.name!r} was declared with {feature.source!r} as it was then (code {feature.code_hash[:12]}), "
            f"this one differs (code {function.code_hash[:12]}); alter_udf({feature.name!r}, …) makes the values "
            f"stale, accept({feature.name!r}, …) declares them right"
        )
    return function


def recorded(feature: Feature) -> UDF:
    """Import the function that a feature's record names, also from the folder the process was started in.

    Raises
    ------
    InvalidArgumentError
        It cannot be imported from here.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return import_udf(feature.source, feature.arguments)


class Expression:
    """An SQL expression, computed by Lance; cheaper to compute again than to keep."""

    worth_keeping = saves = hungry = False

    def __init__(self, feature: Feature) -> None:
        self._feature = feature

    def run(
        self, snapshot: Snapshot, fragment: Any, ids: RowIds, offsets: Offsets, schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Yield the values batch by batch."""
        if len(ids) == 0:
            return
        name, names = self._feature.name, input_names(self._feature, snapshot.field_ids)
        source = renamed(self._feature.source, dict(zip(self._feature.called, names, strict=True)))
        whole = len(ids) == fragment.count_rows()
        done = 0
        with translated(f"computing {name!r} as {source!r}"):
            batches = snapshot.dataset.scanner(
                columns={name: source},
                fragments=[fragment],
                with_row_address=True,
                batch_size=_read_rows(snapshot, names),
                scan_in_order=True,
            ).to_batches()
            for batch in batches:
                values = batch.column(name)
                if not whole:
                    at = staging.offsets_of(batch.column("_rowaddr"))
                    values = values.filter(pa.array(np.isin(at, offsets)))
                end = done + len(values)
                if len(values):
                    yield part_of(ids[done:end], offsets[done:end], [values], schema)
                done = end
                if done == len(ids):
                    return


class Function:
    """A Python function."""

    worth_keeping = True
    saves = hungry = False

    def __init__(self, feature: Feature, udf: UDF) -> None:
        self._feature = feature
        self._udf = udf

    def run(
        self, snapshot: Snapshot, fragment: Any, ids: RowIds, offsets: Offsets, schema: pa.Schema
    ) -> Iterator[pa.Table]:
        """Yield the values batch by batch."""
        pace = _Pace(fragment.count_rows(), self._udf.batch_size)
        start = 0
        for columns in self._read(snapshot, fragment, ids):
            num_rows, done = len(columns[0]), 0
            while done < num_rows:
                given = [column.slice(done, pace.num_rows) for column in columns]
                began = time.perf_counter()
                outcome = call_rows(self._udf, dict(zip(self._udf.inputs, given, strict=True)))
                count = len(outcome.failed)
                pace.took(count, time.perf_counter() - began)
                values = [outcome.arrays[output] for output in self._udf.outputs]
                rows = slice(start + done, start + done + count)
                yield part_of(ids[rows], offsets[rows], values, schema, outcome.failed, outcome.errors)
                done += count
            start += num_rows

    def _read(self, snapshot: Snapshot, fragment: Any, ids: RowIds) -> Iterator[list[pa.Array]]:
        """Yield the inputs of the rows: one scan where the whole fragment is asked for, reads by row id else."""
        names = input_names(self._feature, snapshot.field_ids)
        size, batch_size = _read_rows(snapshot, names), self._udf.batch_size
        if batch_size is not None:
            size = max(batch_size, size // batch_size * batch_size)
        if len(ids) == fragment.count_rows():
            for batch in reads.scan_fragment(snapshot, fragment, names, size):
                yield [batch.column(name) for name in names]
            return
        for start in range(0, len(ids), size):
            table = reads.take_row_ids(snapshot, ids[start : start + size], names, max_media_nbytes=None)
            yield [table[name].combine_chunks() for name in names]


def _read_rows(snapshot: Snapshot, names: Sequence[str]) -> int:
    has_media = any(types.is_bytes_media(snapshot.schema.field(name)) for name in names)
    return reads.rows_per_batch(snapshot, names) if has_media else _ROWS


class _Pace:
    """How many rows to hand to a function at a time."""

    def __init__(self, fragment_rows: int, batch_size: int | None) -> None:
        self._fixed = batch_size is not None
        self._most = max(_LEAST_ROWS, fragment_rows // _SHARE)
        self.num_rows = batch_size or _FIRST_ROWS

    def took(self, num_rows: int, seconds: float) -> None:
        """Learn from a batch how large the next one should be."""
        if not self._fixed:
            fitting = int(num_rows * _BATCH_S / max(seconds, 1e-9))
            self.num_rows = max(1, min(fitting, num_rows * _GROWTH, self._most))


def part_of(
    ids: RowIds,
    offsets: Offsets,
    values: list[pa.Array],
    schema: pa.Schema,
    failed: npt.NDArray[np.bool_] | None = None,
    errors: Sequence[CellError] = (),
) -> pa.Table:
    """Put computed rows into the form of a checkpoint part."""
    kinds, messages = pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.string())
    if errors:
        by_row = {error.row_index: error for error in errors}
        told = [by_row.get(row) for row in range(len(ids))]
        kinds = pa.array([each.error if each else None for each in told], pa.string())
        messages = pa.array([each.message if each else None for each in told], pa.string())
    failed = np.zeros(len(ids), dtype=bool) if failed is None else failed
    columns = [pa.array(ids), pa.array(offsets.astype(np.uint32)), *values, pa.array(failed), kinds, messages]
    return pa.Table.from_arrays([column.cast(f.type) for column, f in zip(columns, schema, strict=True)], schema=schema)


__all__ = ["Compute", "Expression", "Function", "compute_for", "function_of", "part_of", "recorded"]
