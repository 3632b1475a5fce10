"""Which rows of a version, found from its manifest or by one scan a machine, and how often each comes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse import commit, reads, types
from lakehouse.errors import DataError, SchemaError, translated
from lakehouse.features.records.rowids import RowIds
from lakehouse.loader.rows.arrayfiles import ArrayFile, shared
from lakehouse.loader.rows.draws import Balanced, Draws, Weighted, draws_of
from lakehouse.loader.rows.selection import Selection
from lakehouse.snapshot import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakehouse.snapshot import Snapshot

    Found: TypeAlias = tuple[Selection, Draws | None]

__all__ = ["Choice", "all_row_ids", "made_by", "select"]

_SCAN_ROWS = 1 << 17  # 1 MB of row ids a batch
_FEW_ROWS = 1 << 17  # scanning these takes as long as finding what another process made of them


@dataclass(frozen=True)
class Choice:
    """Rows of a version.

    Parameters
    ----------
    predicate
        Lance's SQL, stamps included; None means all rows.
    without
        Rows that are left out, whatever the predicate says.
    weights, balance
        The column that says how often a row comes, or whose values come equally often.
    """

    predicate: str | None = None
    without: RowIds = field(default=RowIds())
    weights: str | None = None
    balance: str | None = None


def select(snapshot: Snapshot, choice: Choice) -> Found:
    """Find the rows, in table order, or class by class where these are balanced.

    Parameters
    ----------
    snapshot
        The version.
    choice
        Which rows of it.

    Returns
    -------
    Selection, Draws or None
        The rows, and how often each comes if not once.

    Raises
    ------
    FilterError
        The predicate does not parse or names what is not there.
    DataError
        A row has no weight, or no class.
    SchemaError
        Weights that are no numbers, or classes that are no words or whole numbers.
    """
    if choice == Choice():
        return Selection.of(all_row_ids(snapshot)), None
    if snapshot.num_rows <= _FEW_ROWS:
        return _of_file(_file(snapshot, choice))
    return _of_file(shared(_key(snapshot, choice), lambda: _file(snapshot, choice)))


def _of_file(file: ArrayFile) -> Found:
    return Selection.of_file(file), draws_of(file.arrays)


def _file(snapshot: Snapshot, choice: Choice) -> ArrayFile:
    if choice.weights is not None:
        selection, draws = _weighted(snapshot, choice, choice.weights)
    elif choice.balance is not None:
        selection, draws = _balanced(snapshot, choice, choice.balance)
    else:
        return Selection.of(ids for ids, _ in _matching(snapshot, choice)).file
    return ArrayFile(selection.file.record, {**selection.file.arrays, **draws.arrays})


def _weighted(snapshot: Snapshot, choice: Choice, column: str) -> tuple[Selection, Draws]:
    data_type = snapshot.schema.field(column).type
    if not (pa.types.is_integer(data_type) or pa.types.is_floating(data_type) or pa.types.is_boolean(data_type)):
        raise SchemaError(f"weights={column!r} is {data_type}; a weight is a number, how often a row comes in an epoch")
    weights = [np.empty(0)]

    def ids_of() -> Iterator[reads.RowIds]:
        for ids, values in _matching(snapshot, choice, column):
            weights.append(np.asarray(values.cast(pa.float64(), safe=False).fill_null(np.nan)))
            yield ids

    selection = Selection.of(ids_of())
    return selection, Weighted.of(np.concatenate(weights), column)


def _balanced(snapshot: Snapshot, choice: Choice, column: str) -> tuple[Selection, Draws]:
    field = snapshot.schema.field(column)
    value_type = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_floating(value_type) or pa.types.is_nested(value_type) or types.media_kind(field) is not None:
        raise SchemaError(f"balance={column!r} is {field.type}; classes are words, whole numbers or truth values")
    numbers: dict[Any, int] = {}  # of the classes, in the order in which they come
    ids, codes = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for each, values in _matching(snapshot, choice, column):
        if values.null_count:
            raise DataError(
                f"balance={column!r} is NULL in row id {each[np.argmax(values.is_null())]}, and perhaps in others; "
                f"such rows have no class; leave them out with where=\"{column} IS NOT NULL\" or on_missing='skip'"
            )
        coded = values if isinstance(values, pa.DictionaryArray) else pc.dictionary_encode(values)
        used = np.asarray(coded.indices)
        known = coded.dictionary.take(pa.array(np.unique(used))).to_pylist()
        number_of = np.zeros(len(coded.dictionary), np.int64)
        number_of[np.unique(used)] = [numbers.setdefault(value, len(numbers)) for value in known]
        ids.append(each)
        codes.append(number_of[used])
    classes = np.concatenate(codes)
    ends = np.cumsum(np.bincount(classes, minlength=len(numbers)))
    return Selection.of([np.concatenate(ids)[np.argsort(classes, kind="stable")]]), Balanced(ends)


def _matching(snapshot: Snapshot, choice: Choice, column: str | None = None) -> Iterator[tuple[reads.RowIds, pa.Array]]:
    """Give the ids of matching rows, and with each the value of a column."""
    for batch in _scanned(snapshot, columns=[] if column is None else [column], filter=choice.predicate):
        if choice.without:
            wanted = ~choice.without.contains(batch[reads.ROW_ID])
            batch = batch.filter(pa.array(wanted))  # noqa: PLW2901 - the rows of it that are wanted
        yield np.asarray(batch[reads.ROW_ID], np.uint64), batch.column(0)


def all_row_ids(snapshot: Snapshot) -> Iterator[reads.RowIds | range]:
    """Give all row ids of a version in order; where a fragment lost no row, from the manifest, and nothing is read."""
    fragments = snapshot.dataset.get_fragments()
    told = {fragment.fragment_id: _told(fragment.metadata) for fragment in fragments}
    for is_told, group in groupby(fragments, lambda fragment: told[fragment.fragment_id] is not None):
        if is_told:
            yield from (ids for fragment in group for ids in told[fragment.fragment_id] or ())
        else:
            for batch in _scanned(snapshot, columns=[], fragments=list(group)):
                yield np.asarray(batch[reads.ROW_ID], np.uint64)


def _scanned(snapshot: Snapshot, **which: Any) -> Iterator[pa.RecordBatch]:
    with translated(f"selecting rows of {snapshot.name!r}"):
        yield from snapshot.dataset.scanner(
            with_row_id=True, batch_size=_SCAN_ROWS, batch_readahead=4, scan_in_order=True, **which
        ).to_reader()


def _told(fragment: Any) -> list[range] | None:
    """Read the row ids of a fragment from its metadata; None if that does not tell them in a few bytes.

    They are a protobuf message, of Lance's table format since stable row ids came: segments (field 1), each one of
    five kinds, of which only the range (field 1, of start and end, fields 1 and 2) is known here.
    """
    if fragment.deletion_file is not None or fragment.row_id_meta is None:
        return None
    content = fragment.row_id_meta.asdict().get("Inline")
    if content is None:
        return None
    ranges = []
    for number, segment in _fields(bytes(content)):
        kinds = dict(_fields(segment)) if isinstance(segment, bytes) else {}
        if number != 1 or kinds.keys() != {1}:
            return None
        bounds = dict(_fields(kinds[1]))
        ranges.append(range(bounds.get(1, 0), bounds.get(2, 0)))
    return ranges if sum(map(len, ranges)) == fragment.physical_rows else None


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Read the fields of a protobuf message: numbers, and bytes that may be messages themselves."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value, at = _varint(message, at)
        if tag & 7 == 2:
            value, at = message[at : at + value], at + value  # type: ignore[assignment]  # bytes now
        yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (message[at] & 0x7F) << shift
        if not message[at] & 0x80:
            return value, at + 1
        at, shift = at + 1, shift + 7


def made_by(snapshot: Snapshot) -> str | None:
    """Return the id of the transaction that made a version: no version of another table has it."""
    # On a handle of its own: while a thread reads by one, Lance 14 lends it to no other here ("Already borrowed").
    own = open_snapshot(snapshot.lake, snapshot.name, snapshot.version)
    made = commit.transaction_of(own.dataset, own.version)
    return made and str(made.uuid)


def _key(snapshot: Snapshot, choice: Choice) -> str:
    """Name a selection for all processes of a machine, and no other table that is made under the name."""
    parts = [snapshot.uri, snapshot.version, made_by(snapshot), asdict(choice)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
