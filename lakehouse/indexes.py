"""Indexes: their build, upkeep and removal.

What the table cannot have is refused before anything is built. An index is one commit; if another one of those it
cannot stand beside comes first, it is built again on the newest version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import types as pt

from lakehouse import commit, reads, storage, types
from lakehouse.errors import (
    ColumnNotFoundError,
    IndexNotFoundError,
    InvalidArgumentError,
    closest,
    no_column,
    translated,
)
from lakehouse.index_kinds import (
    FTS,
    KINDS,
    Bitmap,
    BTree,
    Family,
    IndexOptions,
    IvfFlat,
    IvfPq,
    LabelList,
    distances_of,
    family_of,
    is_vector,
    kind_of,
    of_column,
    user_indexes,
)
from lakehouse.where import quoted

if TYPE_CHECKING:
    from lakehouse.snapshot import Snapshot

__all__ = [
    "FTS",
    "BTree",
    "Bitmap",
    "IndexOptions",
    "IvfFlat",
    "IvfPq",
    "LabelList",
    "create_index",
    "drop_index",
    "indexes",
    "optimize_indices",
]

# A product quantizer has 256 centroids a sub-vector. Lance 14 makes an empty index of fewer rows without a word,
# and forgets its metric with it.
_PQ_ROWS = 256


def create_index(snapshot: Snapshot, column: str, options: IndexOptions | None = None) -> int:
    """Build an index on a column; one of the same family that is there is replaced.

    Parameters
    ----------
    snapshot
        The newest version.
    column
        Its name. A column can have one index of each family: vector, scalar, text.
    options
        What kind; ``None`` chooses by the column's type: `IvfPq` for vectors (`IvfFlat` by Hamming distance for
        ``uint8``), `FTS` for text, `Bitmap` for booleans, `LabelList` for lists of strings, else `BTree`.

    Returns
    -------
    int
        The version that has the index.

    Raises
    ------
    ColumnNotFoundError
        There is no such column.
    InvalidArgumentError
        The column cannot have such an index, or has too few rows for it.
    ConflictError
        Others kept committing first.
    """
    (column,) = snapshot.columns([column])
    field = snapshot.schema.field(column)
    options = options if options is not None else _default(field)
    if type(options) not in KINDS:
        names = ", ".join(kind.__name__ for kind in KINDS)
        raise InvalidArgumentError(f"{options!r} is no index; options are {names}, as in lh.BTree()")
    arguments = _arguments(snapshot, field, options)
    asked = f"building {type(options).__name__} on {column!r} of {snapshot.name!r}"

    def attempt(dataset: Any) -> tuple[int, str]:
        if column not in dataset.schema.names:
            raise no_column(column, storage.logical_schema(dataset.schema).names)
        name = _name_for(dataset, column, family_of(KINDS[type(options)]))
        if isinstance(options, IvfPq | IvfFlat):
            dataset.create_index(column, KINDS[type(options)], name=name, replace=True, **arguments)
        else:
            dataset.create_scalar_index(column, KINDS[type(options)], name=name, replace=True, **arguments)
        return int(dataset.version), name

    version, name = commit.retrying(snapshot.location, attempt, asked)
    if name in drop_orphans(snapshot):
        raise ColumnNotFoundError(f"{asked}: the column was dropped meanwhile, and the index with it")
    return version


def drop_orphans(snapshot: Snapshot) -> list[str]:
    """Drop the indexes whose column is gone, and return their names.

    Lance 14 commits an index over the drop of its column, and from then on no filtered read of the table works, of
    whatever column. So whoever builds an index looks again.
    """
    dropped: list[str] = []

    def attempt(dataset: Any) -> None:
        there = {field_id for ids in commit.stored_ids(dataset).values() for field_id in ids}
        for index in dataset.describe_indices():
            if not set(index.fields) <= there:
                dataset.drop_index(index.name)
                dropped.append(index.name)

    commit.retrying(snapshot.location, attempt, f"dropping indexes of {snapshot.name!r} whose column is gone")
    return dropped


def drop_index(snapshot: Snapshot, name: str) -> int:
    """Remove an index, named by itself or by its column.

    Returns
    -------
    int
        The version that lacks it.

    Raises
    ------
    IndexNotFoundError
        There is none.
    InvalidArgumentError
        The column has several; name the index.
    """

    def attempt(dataset: Any) -> int:
        dataset.drop_index(_index_name(dataset, name, snapshot.name))
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"dropping the index {name!r} of {snapshot.name!r}")


def indexes(snapshot: Snapshot) -> pa.Table:
    """Return the indexes of a version.

    Returns
    -------
    pyarrow.Table
        ``name``, ``column``, ``kind``, ``distance_type`` (of vectors), ``num_rows_indexed``,
        ``num_rows_not_indexed`` (searched all the same, only slower), ``nbytes``.
    """
    rows = []
    with translated(f"reading the indexes of {snapshot.name!r}"):
        for index in user_indexes(snapshot.dataset):
            stats = snapshot.dataset.stats.index_stats(index.name)
            rows.append(
                {
                    "name": index.name,
                    "column": index.field_names[0],
                    "kind": kind_of(index),
                    "distance_type": (index.details.get("metric_type") or "").lower() or None,
                    "num_rows_indexed": stats["num_indexed_rows"],
                    "num_rows_not_indexed": stats["num_unindexed_rows"],
                    "nbytes": index.total_size_bytes,
                }
            )
    return pa.Table.from_pylist(rows, _TABLE)


_TABLE = pa.schema(
    [
        ("name", pa.string()),
        ("column", pa.string()),
        ("kind", pa.string()),
        ("distance_type", pa.string()),
        ("num_rows_indexed", pa.int64()),
        ("num_rows_not_indexed", pa.int64()),
        ("nbytes", pa.int64()),
    ]
)


def optimize_indices(snapshot: Snapshot) -> int:
    """Fold rows that came after an index was built into it, without training it again.

    Returns
    -------
    int
        The version whose indexes cover them.
    """

    def attempt(dataset: Any) -> int:
        dataset.optimize.optimize_indices()
        return int(dataset.version)

    return commit.retrying(snapshot.location, attempt, f"optimizing the indexes of {snapshot.name!r}")


def _default(field: pa.Field) -> IndexOptions:
    if is_vector(field):
        return IvfFlat(distance_type="hamming") if pt.is_uint8(field.type.value_type) else IvfPq()
    if types.media_kind(field) == "text":
        return FTS()
    if pt.is_boolean(field.type):
        return Bitmap()
    return LabelList() if _is_list(field.type) else BTree()


def _arguments(snapshot: Snapshot, field: pa.Field, options: IndexOptions) -> dict[str, Any]:
    """Check that the column can have such an index; return what Lance is told."""
    fits = {
        "vector": is_vector(field),
        "text": _is_string(field.type),
        "scalar": _is_list(field.type) if isinstance(options, LabelList) else _is_ordered(field),
    }
    kind, family = type(options).__name__, family_of(KINDS[type(options)])
    if not fits[family]:
        needs = _NEEDS.get(kind, "a column of numbers, strings, times or booleans")
        raise InvalidArgumentError(f"{kind} needs {needs}; {field.name!r} is {types.meaning(field)}")
    if isinstance(options, FTS):
        return dict(vars(options))
    if not isinstance(options, IvfPq | IvfFlat):
        return {}
    if options.distance_type not in distances_of(field):
        can = " or ".join(distances_of(field))
        raise InvalidArgumentError(f"{types.meaning(field)} is measured by {can}, not {options.distance_type}")
    _check_rows(snapshot, field.name, options)
    told: dict[str, Any] = {"metric": options.distance_type, "num_partitions": options.num_partitions}
    if isinstance(options, IvfPq):
        told |= {"num_bits": options.num_bits, "num_sub_vectors": _num_sub_vectors(field, options)}
    return told


_NEEDS = {
    "IvfPq": "a column of float vectors",
    "IvfFlat": "a column of vectors",
    "FTS": "a column of strings",
    "LabelList": "a column of lists of strings or numbers",
}


def _check_rows(snapshot: Snapshot, column: str, options: IvfPq | IvfFlat) -> None:
    num_rows = reads.count_rows(snapshot, f"{quoted(column)} IS NOT NULL")
    least = _PQ_ROWS if isinstance(options, IvfPq) else 1
    if num_rows < least:
        raise InvalidArgumentError(
            f"{type(options).__name__} needs at least {least} rows with a vector to train on; {column!r} has "
            f"{num_rows}. Search is exact and fast without an index at this size"
        )
    if options.num_partitions is not None and options.num_partitions > num_rows:
        raise InvalidArgumentError(f"num_partitions={options.num_partitions} is more than the {num_rows} vectors")


def _num_sub_vectors(field: pa.Field, options: IvfPq) -> int:
    dim = field.type.list_size
    if options.num_sub_vectors is None:
        return max(n for n in range(1, max(dim // 8, 1) + 1) if dim % n == 0)
    if dim % options.num_sub_vectors:
        near = min(
            (n for n in range(1, dim + 1) if dim % n == 0), key=lambda n: abs(n - (options.num_sub_vectors or 0))
        )
        raise InvalidArgumentError(
            f"num_sub_vectors must divide the dimension: {options.num_sub_vectors} does not divide {dim}, {near} does"
        )
    return options.num_sub_vectors


def _is_string(data_type: pa.DataType) -> bool:
    return bool(pt.is_string(data_type) or pt.is_large_string(data_type))


def _is_list(data_type: pa.DataType) -> bool:
    return bool(pt.is_list(data_type) or pt.is_large_list(data_type))


def _is_ordered(field: pa.Field) -> bool:
    # Lance 14 has no index over dictionaries; media would only be copied into one.
    return not (pt.is_nested(field.type) or pt.is_dictionary(field.type) or types.is_bytes_media(field))


def _name_for(dataset: Any, column: str, family: Family) -> str:
    for index in of_column(dataset, column):
        if family_of(kind_of(index)) == family:
            return str(index.name)
    taken = {index.name for index in dataset.describe_indices()}
    return f"{column}_idx" if f"{column}_idx" not in taken else f"{column}_{family}_idx"


def _index_name(dataset: Any, name: str, table: str) -> str:
    names = [index.name for index in user_indexes(dataset)]
    if name in names:
        return name
    on_column = [index.name for index in of_column(dataset, name)]
    if len(on_column) == 1:
        return str(on_column[0])
    if on_column:
        raise InvalidArgumentError(f"{name!r} has several indexes; name one of {', '.join(on_column)}")
    there = ", ".join(names) or "no indexes"
    raise IndexNotFoundError(f"no index {name!r} on {table!r}; it has {there}{closest(name, names)}")
