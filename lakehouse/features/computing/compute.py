"""Values for the rows of a fragment: by functions, or by Lance from an SQL expression."""

from __future__ import annotations

import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from lakehouse.errors import BackfillError, InvalidArgumentError, LakehouseError, SchemaError, translated
from lakehouse.features.computing import blocks
from lakehouse.features.storing import checkpoints, staging
from lakehouse.features.udfs.calls import call_rows
from lakehouse.features.udfs.expressions import renamed
from lakehouse.features.udfs.udf import UDF, as_udf, import_udf
from lakehouse.schema.lineage import input_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from lakehouse.features.computing.asked import Asked, Rows
    from lakehouse.features.udfs.calls import Outcome
    from lakehouse.features.udfs.inputs import Column
    from lakehouse.features.udfs.signature import InputKind
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

    Computed: TypeAlias = tuple[str, pa.Table | LakehouseError]

# What a kill can lose is a batch: a second of work, or a hundredth of the column, whichever is less, but not so few
# rows that the call costs more than they do.
_SHARE, _LEAST_ROWS, _BATCH_S = 100, 64, 1.0
_BATCH_NBYTES = 64 << 20  # of results
_FIRST_ROWS, _GROWTH = 16, 4  # nobody knows beforehand how slow a function is


class Compute(Protocol):
    """Computes rows of the features of a pass, in parts small enough to lose."""

    saves: bool  # whether the parts come saved

    @property
    def hungry(self) -> bool:
        """Whether another fragment could be begun before those begun are done."""

    def run(self, snapshot: Snapshot, fragment: Any, asked: Asked) -> Iterator[Computed]:
        """Yield, by the feature's token, tables of `checkpoints.part_schema` that cover what it wants, or its end."""

    def drop(self, token: str) -> None:
        """Compute nothing more of a feature."""


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

    saves = hungry = False

    def __init__(self, feature: Feature) -> None:
        self._feature = feature

    def run(self, snapshot: Snapshot, fragment: Any, asked: Asked) -> Iterator[Computed]:
        """Yield the values batch by batch."""
        name, names = self._feature.name, input_names(self._feature, snapshot.field_ids)
        source = renamed(self._feature.source, dict(zip(self._feature.called, names, strict=True)))
        schema = _part_schema(snapshot, self._feature.token)
        whole, done = asked.num_rows == fragment.count_rows(), 0
        with translated(f"computing {name!r} as {source!r}"):
            batches = snapshot.dataset.scanner(
                columns={name: source},
                fragments=[fragment],
                with_row_address=not whole,
                batch_size=blocks.num_rows(snapshot, names),
                scan_in_order=True,
            ).to_batches()
            for batch in batches:
                values = batch.column(name)
                if not whole:
                    at = staging.offsets_of(batch.column("_rowaddr"))
                    values = values.filter(pa.array(np.isin(at, asked.offsets)))
                rows = slice(done, done + len(values))
                if len(values):
                    yield self._feature.token, part_of(asked.row_ids[rows], asked.offsets[rows], [values], schema)
                done = rows.stop
                if done == asked.num_rows:
                    return

    def drop(self, token: str) -> None:
        """There is no other feature to go on with."""


class Functions:
    """Python functions, with their inputs read once and decoded once for all of them.

    Parameters
    ----------
    udfs
        By the feature's token.
    first_rows
        How many rows each is called with at first.
    """

    saves = hungry = False

    def __init__(self, udfs: Mapping[str, UDF], first_rows: int = _FIRST_ROWS) -> None:
        self._udfs = dict(udfs)
        self._hashes = {token: udf.code_hash for token, udf in udfs.items()}
        self._paces = {token: _Pace(udf.batch_size, first_rows) for token, udf in udfs.items()}

    def run(self, snapshot: Snapshot, fragment: Any, asked: Asked) -> Iterator[Computed]:
        """Yield the values batch by batch, of one feature after the other for the rows that are read at a time."""
        asked = asked.without({token for token in asked.tokens if token not in self._udfs})
        inputs = {token: input_names(feature_with(snapshot, token), snapshot.field_ids) for token in asked.tokens}
        schemas = {token: _part_schema(snapshot, token) for token in asked.tokens}
        takers = self._takers(inputs)
        batch_size = max((self._udfs[token].batch_size or 1 for token in asked.tokens), default=1)
        for block, columns in blocks.read(snapshot, fragment, asked, takers, batch_size):
            for token in block.tokens:
                mine = [columns[name] for name in inputs[token]]
                if (mask := block.masks[token]) is not None:
                    mine = [column.take(pa.array(np.flatnonzero(mask))) for column in mine]
                yield from self._computed(snapshot, token, block.rows(token), mine, schemas[token])

    def drop(self, token: str) -> None:
        """Call a function no more."""
        self._udfs.pop(token, None)

    def _computed(
        self, snapshot: Snapshot, token: str, rows: Rows, columns: Sequence[Column], schema: pa.Schema
    ) -> Iterator[Computed]:
        (ids, offsets), pace, done = rows, self._paces[token], 0
        while done < len(ids) and (udf := self._udfs.get(token)):
            batch = slice(done, done + pace.num_rows)
            try:
                outcome = pace.timed(udf, [column[batch] for column in columns], snapshot.num_rows)
                _check_unchanged(udf, self._hashes[token])
            except LakehouseError as error:
                self.drop(token)
                yield token, error
                return
            values = [outcome.arrays[output] for output in udf.outputs]
            yield token, part_of(ids[batch], offsets[batch], values, schema, outcome)
            done += len(outcome.failed)

    def _takers(self, inputs: Mapping[str, list[str]]) -> dict[str, list[InputKind]]:
        """Return, for each column, in which forms the functions take it."""
        takers: dict[str, list[InputKind]] = {}
        for token, names in inputs.items():
            for name, kind in dict(zip(names, self._udfs[token].input_kinds, strict=True)).items():
                takers.setdefault(name, []).append(kind)
        return takers


def feature_with(snapshot: Snapshot, token: str) -> Feature:
    """Return a feature by what does not change when it is renamed."""
    return next(feature for feature in snapshot.features.values() if feature.token == token)


def _part_schema(snapshot: Snapshot, token: str) -> pa.Schema:
    return checkpoints.part_schema(feature_with(snapshot, token), snapshot.physical)


def _check_unchanged(udf: UDF, code_hash: str) -> None:
    """Refuse values of a helper or a constant that was changed in this process meanwhile: 0.3 ms a batch."""
    if udf.code_hash != code_hash:
        raise BackfillError(
            f"{udf.name} was changed in this process while it was filling; what it computed before is kept. "
            "alter_udf() declares the changed function, or fill again with the one that was declared"
        )


class _Pace:
    """How many rows to hand to a function at a time."""

    def __init__(self, batch_size: int | None, first_rows: int) -> None:
        self._fixed = batch_size is not None
        self.num_rows = batch_size or first_rows

    def timed(self, udf: UDF, columns: Sequence[Column], table_rows: int) -> Outcome:
        """Call the function, and learn from it how many rows it should have next."""
        began = time.perf_counter()
        outcome = call_rows(udf, dict(zip(udf.inputs, columns, strict=True)))
        if not self._fixed:
            seconds = max(time.perf_counter() - began, 1e-9)
            nbytes = max(sum(array.nbytes for array in outcome.arrays.values()), 1)
            fitting = int(len(outcome.failed) * min(_BATCH_S / seconds, _BATCH_NBYTES / nbytes))
            most = max(_LEAST_ROWS, table_rows // _SHARE)
            self.num_rows = max(1, min(fitting, len(outcome.failed) * _GROWTH, most))
        return outcome


def part_of(
    ids: npt.NDArray[np.uint64],
    offsets: npt.NDArray[np.int64],
    values: Sequence[pa.Array],
    schema: pa.Schema,
    outcome: Outcome | None = None,
) -> pa.Table:
    """Put computed rows into the form of a checkpoint part, `outcome` saying which failed."""
    rows = [pa.array(ids), pa.array(offsets.astype(np.uint32)), *values]
    cast = [a if a.type == f.type else a.cast(f.type) for a, f in zip(rows, schema, strict=False)]
    part = checkpoints.succeeded(pa.Table.from_arrays(cast, schema=pa.schema(list(schema)[: len(cast)])))
    if outcome is None or not outcome.errors:
        return part
    by_row = {error.row_index: error for error in outcome.errors}
    told = [by_row.get(row) for row in range(len(ids))]
    failure = [
        pa.array(outcome.failed),
        pa.array([each.error if each else None for each in told], pa.string()),
        pa.array([each.message if each else None for each in told], pa.string()),
        pa.array([each.attempts if each else None for each in told], pa.uint8()),
        pa.repeat(uuid.uuid4().hex, len(ids)),
    ]
    return pa.Table.from_arrays([*cast, *failure], schema=schema)


__all__ = ["Compute", "Expression", "Functions", "feature_with", "function_of", "part_of", "recorded"]
