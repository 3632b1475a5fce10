"""Computed values that are not committed yet, kept as Arrow IPC so that a killed job computes nothing twice.

A part is bound to the feature's token and generation, to the code that computed it, and to the fingerprint of the
inputs of its fragment: the paths and column indices of their data files, which never change once written. Values
are found again by stable row id. Never pickle, never keyed by fragment and batch alone: pylance's own checkpoint is,
and stored 199 of 300 values of another function (research/reliability.md e3b).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import layout

if TYPE_CHECKING:
    from collections.abc import Collection

    from lakehouse.location import Location
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

ROW_ID, OFFSET, FAILED, ERROR, MESSAGE = "_row_id", "_offset", "_failed", "_error", "_message"


def fingerprint(fragment: Any, field_ids: Collection[int]) -> str:
    """Return what identifies the stored values of some fields of a fragment: free, read from the manifest."""
    where = sorted(
        (file.path, index)
        for file in fragment.data_files()
        for field, index in zip(file.fields, file.column_indices, strict=True)
        if field in field_ids
    )
    return hashlib.sha256(json.dumps([fragment.physical_rows, where]).encode()).hexdigest()[:32]


class Checkpoints:
    """The parts of one generation of one feature."""

    def __init__(self, snapshot: Snapshot, feature: Feature) -> None:
        key = hashlib.sha256(f"{feature.token} {feature.generation} {feature.code_hash}".encode()).hexdigest()[:24]
        self._folder: Location = layout.side(snapshot.lake).child("checkpoints").child(snapshot.name).child(key)

    def save(self, inputs: str, part: pa.Table) -> None:
        """Keep computed rows of the fragment with this input fingerprint; from here on a kill does not lose them."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, part.schema) as writer:
            writer.write_table(part)
        self._folder.write_bytes(f"{inputs}/{uuid.uuid4().hex}.arrow", sink.getvalue().to_pybytes())

    def load(self, inputs: str, schema: pa.Schema) -> pa.Table:
        """Read what is kept for a fragment, memory-mapped where the lake is local."""
        parts = [self._open(f"{inputs}/{name}") for name in self._folder.listdir(inputs) if name.endswith(".arrow")]
        return pa.concat_tables([schema.empty_table(), *(part for part in parts if part.schema.equals(schema))])

    def drop(self, inputs: str) -> None:
        """Forget a fragment whose values are committed."""
        self._folder.delete(inputs)

    def drop_all(self) -> None:
        """Forget the whole generation."""
        self._folder.delete("")

    def nbytes(self) -> int:
        """Return the bytes kept."""
        return self._folder.nbytes() if self._folder.exists() else 0

    def _open(self, name: str) -> pa.Table:
        if self._folder.is_local:
            return pa.ipc.open_file(pa.memory_map(str(self._folder.path / name))).read_all()
        return pa.ipc.open_file(pa.py_buffer(self._folder.read_bytes(name))).read_all()


def part_schema(feature: Feature, physical: pa.Schema) -> pa.Schema:
    """Return the columns of a part: where the row is, its values, and how it failed if it did."""
    values = [pa.field(name, physical.field(name).type) for name in feature.columns]
    return pa.schema(
        [
            pa.field(ROW_ID, pa.uint64()),
            pa.field(OFFSET, pa.uint32()),
            *values,
            pa.field(FAILED, pa.bool_()),
            pa.field(ERROR, pa.string()),
            pa.field(MESSAGE, pa.string()),
        ]
    )
