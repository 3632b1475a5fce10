"""Which rows are meant: ids of all that match, of positions in the table, of keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakehouse.errors import DuplicateKeyError, InvalidArgumentError, RowNotFoundError, SchemaError, translated
from lakehouse.where import Where, any_of, render

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

RowIds = npt.NDArray[np.uint64]
ROW_ID = "_rowid"
_KEPT_ROW_IDS = 1 << 23  # 64 MB; a snapshot remembers the row ids of fragments it was asked about

_row_ids: WeakKeyDictionary[Snapshot, dict[int, RowIds]] = WeakKeyDictionary()


def row_ids(snapshot: Snapshot, where: Where | None = None) -> RowIds:
    """Return the ids of the rows that match, in table order; uint64, shape ``(num_rows,)``."""
    with translated(f"selecting rows of {snapshot.name!r}" + (f" where {where!r}" if where else "")):
        predicate = render(where, snapshot.schema.names)
        table = snapshot.dataset.scanner(columns=[], filter=predicate, with_row_id=True).to_table()
    return np.asarray(table[ROW_ID], dtype=np.uint64)


def row_addresses(snapshot: Snapshot, row_ids: RowIds) -> RowIds:
    """Return where rows lie in this version: fragment and offset in one number, as Lance has it."""
    with translated(f"looking up rows of {snapshot.name!r}"):
        table = snapshot.dataset._take_rows(row_ids, columns=["_rowaddr"])  # noqa: SLF001 - the only take by row id
    return np.asarray(table["_rowaddr"], dtype=np.uint64)


def row_ids_at(snapshot: Snapshot, offsets: Sequence[int] | npt.NDArray[np.int64]) -> RowIds:
    """Map positions in the table to row ids.

    The row ids of the touched fragments are read once a snapshot: after a delete that costs 15 to 30 ns a row.
    """
    at = whole_numbers(offsets, "offsets")
    outside = at[(at < 0) | (at >= snapshot.num_rows)]
    if len(outside):
        raise RowNotFoundError(
            f"no row at offset {outside[0]}; {snapshot.name!r} has {snapshot.num_rows} rows, counted from 0"
        )
    fragments = snapshot.dataset.get_fragments()
    ends = np.cumsum([fragment.count_rows() for fragment in fragments])
    owner = np.searchsorted(ends, at, side="right")
    found = np.empty(len(at), dtype=np.uint64)
    for number in np.unique(owner):
        start = 0 if number == 0 else ends[number - 1]
        inside = owner == number
        found[inside] = _fragment_row_ids(snapshot, fragments[number])[(at[inside] - start).astype(np.int64)]
    return found


def row_ids_of_keys(snapshot: Snapshot, keys: Sequence[Any]) -> RowIds:
    """Map keys to row ids, through the key's index where there is one."""
    key = snapshot.key
    if key is None:
        raise SchemaError(f"{snapshot.name!r} has no key; read by offset with take(), or by row id with take_row_ids()")
    if isinstance(keys, str | bytes) or not isinstance(keys, Sequence | np.ndarray | pa.Array | pa.ChunkedArray):
        raise InvalidArgumentError(f"get() takes a list of keys; for one row use t[{keys!r}]")
    wanted = _as_keys(keys, snapshot.schema.field(key))
    if len(wanted) == 0:
        return np.empty(0, dtype=np.uint64)
    with translated(f"looking up {len(wanted)} keys of {snapshot.name!r}"):
        found = snapshot.dataset.scanner(
            columns=[key], filter=any_of(key, wanted.unique().to_pylist()), with_row_id=True
        ).to_table()
    there = found[key].combine_chunks()
    if len(there) != len(there.unique()):
        raise DuplicateKeyError(
            f"{len(there) - len(there.unique())} of these keys are more than once in {snapshot.name!r}; "
            "t.to_arrow(where=…) shows them"
        )
    position = pc.index_in(wanted, value_set=there)
    if position.null_count:
        missing = wanted.filter(position.is_null()).unique().to_pylist()
        named = ", ".join(repr(k) for k in missing[:10]) + (" …" if len(missing) > 10 else "")
        raise RowNotFoundError(
            f"no row of {snapshot.name!r} has the key {named} ({len(missing)} of {len(wanted)} keys missing)"
        )
    ids: RowIds = np.asarray(found[ROW_ID], dtype=np.uint64)[np.asarray(position)]
    return ids


def whole_numbers(values: Any, what: str) -> npt.NDArray[Any]:
    """Return what a user gave as an array, shape ``(num_rows,)``.

    Raises
    ------
    InvalidArgumentError
        Something else than integers.
    """
    array = np.asarray(values).reshape(-1)
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise InvalidArgumentError(f"{what} are whole numbers, not {array.dtype}; for keys use get()")
    return array


def _as_keys(keys: Any, field: pa.Field) -> pa.Array:
    values = keys.to_pylist() if hasattr(keys, "to_pylist") else list(keys)
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise InvalidArgumentError(f"the key {field.name!r} is {field.type}: {error}") from error


def _fragment_row_ids(snapshot: Snapshot, fragment: Any) -> RowIds:
    kept = _row_ids.setdefault(snapshot, {})
    found = kept.get(fragment.fragment_id)
    if found is None:
        with translated(f"reading row ids of {snapshot.name!r}"):
            table = snapshot.dataset.scanner(columns=[], fragments=[fragment], with_row_id=True).to_table()
        found = np.asarray(table[ROW_ID], dtype=np.uint64)
        if sum(map(len, kept.values())) + len(found) <= _KEPT_ROW_IDS:
            kept[fragment.fragment_id] = found
    return found
