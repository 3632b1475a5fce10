"""Adding rows: one version or none, and after a kill the same call goes on where it was.

A source is spooled into finished fragments, files of the table that no version names yet. Each finished fragment is
an entry of a journal under ``_lakehouse/ingest``, with the items it covers; one append at the end makes all of them
a version. A journal left by a killed process is taken up by the next `add` of the same source.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import commit, failures, layout, storage
from lakehouse._lance import lance
from lakehouse.conform import conform, matching
from lakehouse.data import Source, as_source
from lakehouse.errors import (
    BadRowsError,
    DuplicateKeyError,
    InvalidArgumentError,
    SchemaError,
    translated,
)
from lakehouse.journal import Journal, Spooled
from lakehouse.leases import lease
from lakehouse.progress import Tracker, track
from lakehouse.schema.lineage import feature_columns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.location import Location
    from lakehouse.snapshot import Snapshot

OnBadRows = Literal["raise", "skip", "record"]
OnDuplicateKey = Literal["raise", "skip"]

# A fragment is the unit of resuming, and of every later column file at about 340 bytes each.
FRAGMENT_ROWS = 1 << 20
FRAGMENT_NBYTES = 512 << 20
_PAGE_NBYTES = 32 << 20  # of a batch: 120,000 vectors of 1,536 numbers handed over at once were a page of 737 MB


@dataclass(frozen=True)
class WriteResult:
    """What a write did.

    Parameters
    ----------
    version
        The version that holds it.
    num_rows
        Rows added, updated or deleted.
    num_failed
        Rows or files left out: bad ones, and with ``on_duplicate_key="skip"`` those whose key was there.
    nbytes_written
        Bytes added to the table's folder.
    num_resumed
        Rows found finished from a call that was killed.

    Examples
    --------
    >>> table = lh.connect(folder).create_table("pets", data=[{"x": 1}])
    >>> result = table.add([{"x": 2}, {"x": 3}], progress=False)
    >>> result.num_rows, result.num_failed, result.version == table.version
    (2, 0, True)
    """

    version: int
    num_rows: int
    num_failed: int
    nbytes_written: int
    num_resumed: int = 0


def add(
    snapshot: Snapshot,
    data: Any,
    *,
    on_bad_rows: OnBadRows = "raise",
    on_duplicate_key: OnDuplicateKey = "raise",
    progress: bool | None = None,
) -> WriteResult:
    """Add rows in one version.

    Parameters
    ----------
    snapshot
        The newest version.
    data
        See `lakehouse.data.as_source`.
    on_bad_rows
        ``"raise"`` at the first row or file that cannot be stored, ``"skip"`` and count, or ``"record"`` in `errors()`.
    on_duplicate_key
        ``"raise"`` or ``"skip"`` rows whose key is in the table or came before.
    progress
        See `lakehouse.progress.track`.

    Raises
    ------
    BadRowsError, DuplicateKeyError, SchemaError, ConflictError
    """
    _check_choice("on_bad_rows", on_bad_rows, ("raise", "skip", "record"))
    _check_choice("on_duplicate_key", on_duplicate_key, ("raise", "skip"))
    snapshot.check_writable()
    source = as_source(data, snapshot.schema)
    schema = matching(source.schema, snapshot.schema, feature_columns(snapshot.features))
    with _journal_of(snapshot, source) as journal:
        resumed = sum(entry.num_rows for entry in journal.entries)
        landed = _landed(snapshot, journal)
        with track(f"adding to {snapshot.name}", source.count(), enabled=progress, unit=_unit(source)) as tracker:
            if resumed:
                tracker.advance(sum(len(entry.items) for entry in journal.entries))
                tracker.note(f"{resumed:,} rows found finished")
            _Spooler(snapshot, schema, journal, on_bad_rows, on_duplicate_key).run(source, tracker)
        version = _commit(snapshot, journal)
        told = [failure for entry in journal.entries for failure in entry.failures]
        run = f"add-{journal.source}"
        failures.record_anew(snapshot.lake, snapshot.name, run, told, others=on_bad_rows == "record")
        journal.discard()
    return WriteResult(
        version=version or landed or snapshot.version,
        num_rows=sum(entry.num_rows for entry in journal.entries),
        num_failed=len(told) + sum(entry.num_skipped for entry in journal.entries),
        nbytes_written=sum(entry.nbytes for entry in journal.entries),
        num_resumed=resumed,
    )


@contextmanager
def _journal_of(snapshot: Snapshot, source: Source) -> Iterator[Journal]:
    """Open the source's journal, held so that nobody else adds the same source to the same table meanwhile."""
    if not source.fingerprint:
        yield Journal(None)
        return
    identity = (snapshot.physical.metadata or {}).get(b"lakehouse:id", snapshot.uri.encode())
    run = hashlib.sha256(identity + b"\0" + source.fingerprint.encode()).hexdigest()[:24]
    folder = layout.side(snapshot.lake).child("ingest").child(snapshot.name)
    with lease(folder, run, f"adding this source to {snapshot.name!r}"):
        journal = Journal(folder.child(run))
        journal.load(lambda fragment: _still_fits(snapshot, fragment))
        yield journal


def _landed(snapshot: Snapshot, journal: Journal) -> int | None:
    """Return the version that a killed call's commit became, if it became one."""
    if journal.sealed_at is None:
        return None
    version = commit.find(snapshot.location, journal.commit_id, journal.sealed_at)
    if version is not None:
        journal.reopen()
    return version


class _Spooler:
    """Writes fragments from a source; holds the keys seen so far."""

    def __init__(
        self,
        snapshot: Snapshot,
        schema: pa.Schema,
        journal: Journal,
        on_bad_rows: OnBadRows,
        on_duplicate_key: OnDuplicateKey,
    ) -> None:
        self._snapshot = snapshot
        self._schema = schema
        self._physical = storage.select(snapshot.physical, schema.names)
        self._journal = journal
        self._on_bad_rows = on_bad_rows
        self._on_duplicate_key = on_duplicate_key
        self.keys = self._keys_there() if snapshot.key else set()
        for entry in journal.entries:
            self.keys.update(entry.keys)

    def _keys_there(self) -> set[Any]:
        with translated(f"reading the keys of {self._snapshot.name!r}"):
            table = self._snapshot.dataset.to_table(columns=[self._snapshot.key])
        return set(table[0].to_pylist())

    def run(self, source: Source, tracker: Tracker) -> None:
        """Spool everything the journal does not cover."""
        done = frozenset(item for entry in self._journal.entries for item in entry.items)
        batches = self._batches(source, done, tracker)
        first = next(batches, None)
        while first is not None:
            first = self._write_fragment(first, batches)

    def _write_fragment(
        self, first: tuple[pa.RecordBatch, Spooled], batches: Iterator[tuple[pa.RecordBatch, Spooled]]
    ) -> tuple[pa.RecordBatch, Spooled] | None:
        """Write one fragment from `first` on; return the first batch that did not go in."""
        entry, nbytes = Spooled(), 0
        rest: tuple[pa.RecordBatch, Spooled] | None = first

        def until_full() -> Iterator[pa.RecordBatch]:
            nonlocal nbytes, rest
            while rest is not None:
                batch, part = rest
                entry.cover(part)
                nbytes += batch.nbytes
                yield from (storage.to_physical(few, self._physical) for few in _cut(batch))
                rest = next(batches, None)
                if entry.num_rows >= FRAGMENT_ROWS or nbytes >= FRAGMENT_NBYTES:
                    return

        location = self._snapshot.location
        with translated(f"writing rows of {self._snapshot.name!r}"):
            written = lance.fragment.write_fragments(
                pa.RecordBatchReader.from_batches(self._physical, until_full()),
                location.uri,
                schema=self._physical,
                mode="append",
                max_rows_per_file=2 * FRAGMENT_ROWS,
                data_storage_version=self._snapshot.dataset.data_storage_version,
                storage_options=dict(location.storage_options) or None,
                enable_stable_row_ids=True,
            )
        entry.fragments = [fragment.to_json() for fragment in written if fragment.physical_rows]
        entry.nbytes = sum(
            _stored_nbytes(location, file.path, file.file_size_bytes) for f in written for file in f.files
        )
        self._journal.append(entry)
        return rest

    def _batches(
        self, source: Source, done: frozenset[str], tracker: Tracker
    ) -> Iterator[tuple[pa.RecordBatch, Spooled]]:
        """Yield batches that fit the table, each with the journal's part of it."""
        row = 0
        for chunk in source.chunks(done):
            start = row

            def name(position: int, start: int = start, chunk: Any = chunk) -> str:
                uri = chunk.batch.schema.get_field_index("source_uri")
                return str(chunk.batch.column(uri)[position]) if uri >= 0 else f"row {start + position}"

            row += chunk.batch.num_rows
            batch, bad = conform(chunk.batch, self._schema, name)
            told = [replace(failure, computation=self._journal.run) for failure in (*chunk.failures, *bad)]
            if told and self._on_bad_rows == "raise":
                raise BadRowsError(
                    f"{told[0].source}: {told[0].message}; nothing was added. "
                    'on_bad_rows="skip" leaves such rows out, "record" also keeps them in errors()'
                )
            batch, skipped, keys = self._without_duplicates(batch, name)
            tracker.advance(len(chunk.items) or chunk.batch.num_rows, len(told), batch.nbytes)
            yield (
                batch,
                Spooled(
                    items=list(chunk.items), keys=keys, failures=told, num_rows=batch.num_rows, num_skipped=skipped
                ),
            )

    def _without_duplicates(self, batch: pa.RecordBatch, name: Any) -> tuple[pa.RecordBatch, int, list[Any]]:
        key = self._snapshot.key
        if key is None:
            return batch, 0, []
        if key not in batch.schema.names:
            raise SchemaError(f"the data lacks the key {key!r}; it has {', '.join(batch.schema.names)}")
        keep, keys = [], []
        for position, value in enumerate(batch.column(key).to_pylist()):
            fresh = value not in self.keys
            if not fresh and self._on_duplicate_key == "raise":
                raise DuplicateKeyError(
                    f"{name(position)}: the key {value!r} is in the table or came before; nothing was added. "
                    'on_duplicate_key="skip" leaves such rows out, merge_insert() updates them'
                )
            keep.append(fresh)
            if fresh:
                self.keys.add(value)
                keys.append(value)
        if len(keys) == batch.num_rows:
            return batch, 0, keys
        return batch.filter(pa.array(keep)), batch.num_rows - len(keys), keys


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Cut a large batch: Lance makes one page of a batch's column, and a scan holds a page whole."""
    if batch.num_rows:
        rows = max(1, batch.num_rows * _PAGE_NBYTES // max(batch.nbytes, 1))
        yield from (batch.slice(start, rows) for start in range(0, batch.num_rows, rows))


def _stored_nbytes(location: Location, path: str, file_nbytes: int | None) -> int:
    """Bytes of a data file and of its blobs, which lie in a folder of the file's name."""
    blobs = f"data/{path.removesuffix('.lance')}"
    return (file_nbytes or 0) + (location.nbytes(blobs) if location.exists(blobs) else 0)


def _commit(snapshot: Snapshot, journal: Journal) -> int | None:
    """Make the spooled fragments a version; None if there are none."""
    fragments = [lance.FragmentMetadata.from_json(json.dumps(f)) for entry in journal.pending for f in entry.fragments]
    if not fragments:
        return None
    mine = {key for entry in journal.pending for key in entry.keys}
    known = {fragment.fragment_id for fragment in snapshot.dataset.get_fragments()}

    def build(dataset: Any) -> Any:
        if snapshot.key:
            _check_added_meanwhile(dataset, known, mine, snapshot)
        return lance.LanceOperation.Append(fragments)

    journal.seal(snapshot.version)
    done = commit.commit_operation(
        snapshot.location, build, {}, f"adding rows to {snapshot.name!r}", commit_id=journal.commit_id
    )
    return done.version if done else None


def _check_added_meanwhile(dataset: Any, known: set[int], mine: set[Any], snapshot: Snapshot) -> None:
    """Rows others added while we spooled may have our keys; an append does not conflict with an append."""
    new = [fragment for fragment in dataset.get_fragments() if fragment.fragment_id not in known]
    if not new:
        return
    theirs = dataset.scanner(columns=[snapshot.key], fragments=new).to_table()[0]
    both = theirs.filter(pc.is_in(theirs, value_set=pa.array(list(mine), theirs.type)))
    if len(both):
        raise DuplicateKeyError(
            f"the key {both[0].as_py()!r} was added to {snapshot.name!r} by somebody else while this ran "
            f'({len(both)} such keys); nothing was added, call it again with on_duplicate_key="skip"'
        )


def _still_fits(snapshot: Snapshot, fragment: dict[str, Any]) -> bool:
    """Whether a spooled fragment can still be a part of the table: its files are there, its columns too."""
    ids = set(snapshot.field_ids.values()) | {f.id() for f in _all_fields(snapshot.dataset.lance_schema.fields())}
    return all(
        set(file["fields"]) <= ids and snapshot.location.exists(f"data/{file['path']}") for file in fragment["files"]
    )


def _all_fields(fields: list[Any]) -> Iterator[Any]:
    for each in fields:
        yield each
        yield from _all_fields(each.children())


def _unit(source: Source) -> str:
    return "files" if source.fingerprint else "rows"


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgumentError(f"{name}={value!r}; choose {', '.join(map(repr, choices))}")
