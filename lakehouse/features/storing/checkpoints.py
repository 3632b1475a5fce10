"""Computed values that are not committed yet, kept as Arrow IPC so that a killed job goes on from there.

A part is bound to the feature's token and generation, to the code that computed it, to the version it was computed
from, and to the fingerprint of the inputs of its fragment: the paths and column indices of their data files, which
never change once written. Where a fragment is not what it was (compacted, an input updated), its rows are found by
stable row id and their inputs are compared, then and now. Never pickle, never keyed by fragment and batch alone:
pylance's own checkpoint is, and stored 199 of 300 values of another function.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import commit, layout, storage
from lakehouse.schema.lineage import input_names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    import numpy as np
    import numpy.typing as npt

    from lakehouse.location import Location
    from lakehouse.schema.lineage import Feature
    from lakehouse.snapshot import Snapshot

ROW_ID, OFFSET, FAILED, ERROR, MESSAGE = "_row_id", "_offset", "_failed", "_error", "_message"
ATTEMPTS, COMPUTATION = "_attempts", "_computation"
_FAILURE = (  # not written where no row failed
    pa.field(FAILED, pa.bool_()),
    pa.field(ERROR, pa.string()),
    pa.field(MESSAGE, pa.string()),
    pa.field(ATTEMPTS, pa.uint8()),
    pa.field(COMPUTATION, pa.string()),  # by which failures that are recorded twice count once
)
_SUFFIX = ".arrow"
_MAPPED_NBYTES = 1 << 20  # opening a smaller one again costs more than it gives back
_SHARE = 0.05  # of the computing, what keeping may take beside


def fingerprint(fragment: Any, field_ids: Collection[int]) -> str:
    """Return what identifies the stored values of some fields of a fragment: free, read from the manifest.

    Parameters
    ----------
    fragment
        The Lance fragment.
    field_ids
        Ids as data files name them, see `commit.stored_ids`.
    """
    where = sorted(place for field, place in commit.stored_at(fragment).items() if field in field_ids)
    return hashlib.sha256(json.dumps([fragment.physical_rows, where]).encode()).hexdigest()[:32]


def input_ids(dataset: Any, feature: Feature) -> frozenset[int]:
    """Return the ids by which data files know a feature's inputs."""
    tops = commit.top_ids(dataset)
    names = input_names(feature, tops)
    stored = commit.stored_ids(dataset)
    return frozenset().union(*(stored[name] for name in names))


class Checkpoints:
    """The parts of one generation of one feature.

    Parameters
    ----------
    snapshot
        The version that values are computed from.
    feature
        What is computed.
    """

    def __init__(self, snapshot: Snapshot, feature: Feature) -> None:
        self._all = feature_folder(snapshot, feature)
        self._key = hashlib.sha256(f"{feature.generation} {feature.code_hash}".encode()).hexdigest()[:24]
        self._folder = self._all.child(self._key)
        self._version = snapshot.version

    def save(self, inputs: str, part: pa.Table) -> pa.Table:
        """Keep computed rows of the fragment with this input fingerprint; from here on a kill does not lose them.

        A power cut may; flushing to the disk each time costs more than a trivial function does.

        Returns
        -------
        pyarrow.Table
            The part; a large one memory-mapped where the lake is local, so that a fragment's vectors need no memory.
        """
        sink = pa.BufferOutputStream()
        told = part if _has_failures(part) else part.select(part.schema.names[: -len(_FAILURE)])
        with pa.ipc.new_file(sink, told.schema) as writer:
            writer.write_table(told)
        name = f"{inputs}/{self._version}-{uuid.uuid4().hex}{_SUFFIX}"
        self._folder.write_bytes(name, sink.getvalue(), durable=False)
        kept = self._open(name) if self._folder.is_local and part.nbytes >= _MAPPED_NBYTES else None
        return part if kept is None else kept

    def load(self, inputs: str, schema: pa.Schema, seen: set[str] | None = None) -> pa.Table:
        """Read what is kept for a fragment, memory-mapped where the lake is local.

        Parameters
        ----------
        inputs
            The fragment's input fingerprint.
        schema
            See `part_schema`; parts of another one are passed over.
        seen
            Files to leave out; those that are read are added.
        """
        parts = [part for _, part in self._parts(inputs, schema, set() if seen is None else seen)]
        return pa.concat_tables([schema.empty_table(), *parts])

    def stranded(self, known: Collection[str], schema: pa.Schema) -> Iterator[tuple[int, pa.Table]]:
        """Yield the parts of fragments that are not what they were, each with the version it was computed from.

        Parameters
        ----------
        known
            Input fingerprints of the fragments there are.
        schema
            See `part_schema`.
        """
        for inputs in self._folder.listdir():
            if inputs not in known:
                yield from self._parts(inputs, schema, set())

    def is_empty(self) -> bool:
        """Whether nothing is kept."""
        return not self._folder.listdir()

    def drop(self, inputs: str) -> None:
        """Forget a fragment whose values are committed."""
        self._folder.delete(inputs)

    def drop_all(self) -> None:
        """Forget the whole feature."""
        self._all.delete("")

    def drop_others(self) -> None:
        """Forget what other generations of the function left."""
        for key in self._all.listdir():
            if key != self._key:
                self._all.delete(key)

    def _parts(self, inputs: str, schema: pa.Schema, seen: set[str]) -> Iterator[tuple[int, pa.Table]]:
        for file in self._folder.listdir(inputs):
            part = self._open(f"{inputs}/{file}") if file.endswith(_SUFFIX) and file not in seen else None
            seen.add(file)
            if part is not None and part.schema.types == schema.types:
                yield int(file.partition("-")[0]), part.rename_columns(schema.names)  # the feature's name may be new

    def _open(self, name: str) -> pa.Table | None:
        try:
            if self._folder.is_local:
                part = pa.ipc.open_file(pa.memory_map(str(self._folder.path / name))).read_all()
            else:
                part = pa.ipc.open_file(pa.py_buffer(self._folder.read_bytes(name))).read_all()
        except pa.ArrowInvalid:  # cut short by a power failure
            return None
        return part if FAILED in part.schema.names else succeeded(part)


class Upkeep:
    """Which computed rows are worth keeping: computing them again costs more than writing them down.

    All writing together takes at most a twentieth of the computing, but for the first tenth of a second. So a small
    column is kept in about a hundred parts however fast its function is; and of a function that does a million rows a
    second or more, what a kill costs is mostly what was computed since the last commit.

    Parameters
    ----------
    is_local
        Whether they are written to a disk of this machine.
    free_s
        What writing may take in any case; ``inf`` keeps every part, ``-inf`` none.
    """

    def __init__(self, *, is_local: bool, free_s: float = 0.1) -> None:
        # Of a file, its removal included: 0.3 to 1 ms on local disks, 20 to 100 ms in object stores.
        self._file_s, self._nbytes_per_s = (0.001, 5e8) if is_local else (0.1, 1e8)
        self._left_s = free_s

    def worth(self, nbytes: int, seconds: float) -> bool:
        """Decide about rows of so many bytes that are not kept yet, of which the newest took so long to compute."""
        self._left_s += _SHARE * seconds
        return self._expected_s(nbytes) <= self._left_s

    def took(self, nbytes: int, seconds: float) -> None:
        """Count the writing of so many bytes, by what it took or by what it takes on a quiet disk."""
        self._left_s -= max(self._expected_s(nbytes), seconds)

    def _expected_s(self, nbytes: int) -> float:
        return self._file_s + nbytes / self._nbytes_per_s


def feature_folder(snapshot: Snapshot, feature: Feature) -> Location:
    """Return where the parts of a feature lie, of whatever generation."""
    return layout.side(snapshot.lake).child("checkpoints").child(snapshot.name).child(feature.token)


def part_schema(feature: Feature, physical: pa.Schema) -> pa.Schema:
    """Return the columns of a part: where the row is, its values, and how it failed if it did."""
    values = [pa.field(name, storage.logical_field(physical.field(name)).type) for name in feature.columns]
    return pa.schema([pa.field(ROW_ID, pa.uint64()), pa.field(OFFSET, pa.uint32()), *values, *_FAILURE])


def succeeded(rows: pa.Table) -> pa.Table:
    """Say of computed rows, given by their ids, offsets and values, that none failed."""
    columns = [*rows.columns, *(column[: rows.num_rows] for column in _none_failed(rows.num_rows.bit_length()))]
    return pa.Table.from_arrays(columns, schema=pa.schema([*rows.schema, *_FAILURE]))


@lru_cache(maxsize=1)  # one after the other of the same size; filling them anew took a seventh of a fast column's time
def _none_failed(num_bits: int) -> list[pa.Array]:
    rows = 1 << num_bits
    none = pa.Array.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bytes(rows // 8 + 1))])
    return [none, *(pa.nulls(rows, field.type) for field in _FAILURE[1:])]


def chosen(rows: pa.Table, mask: npt.NDArray[np.bool_]) -> pa.Table:
    """Return some rows; chunks that are wanted whole are not copied, because a fragment's media fit no memory."""
    batches, start = [], 0
    for batch in rows.to_batches():
        wanted = mask[start : start + batch.num_rows]
        batches.append(batch if wanted.all() else batch.filter(pa.array(wanted)))
        start += batch.num_rows
    return pa.Table.from_batches(batches, rows.schema)


def _has_failures(part: pa.Table) -> bool:
    return bool(pc.any(part[FAILED]).as_py())
