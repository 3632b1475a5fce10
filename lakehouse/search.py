"""Vector and text search of one version: exact without an index, complete with one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
from pyarrow import types as pt

from lakehouse import reads, types
from lakehouse.errors import InvalidArgumentError, closest, translated
from lakehouse.index_kinds import DistanceType, distances_of, index_on, is_vector
from lakehouse.where import Where, render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy.typing as npt

    from lakehouse.snapshot import Snapshot

__all__ = ["QueryType", "search"]

QueryType: TypeAlias = Literal["vector", "fts"]

# Distances between quantized vectors are rough: on 20,000 clustered vectors of 128 numbers the ten nearest were
# found to 13 to 44 % without looking at the vectors of more candidates, to 98 to 100 % with ten times as many,
# in 4.5 ms instead of 1.
_REFINE_FACTOR = 10


def search(
    snapshot: Snapshot,
    query: Any,
    column: str | None = None,
    k: int = 10,
    where: Where | None = None,
    columns: Iterable[str] | None = None,
    query_type: QueryType | None = None,
    *,
    distance_type: DistanceType | None = None,
    nprobes: int | None = None,
    refine_factor: int | None = None,
) -> pa.Table:
    """Return the rows nearest to a vector, or those that fit a text best.

    Rows that are not in the index yet are searched too. NULL vectors are nowhere near.

    Parameters
    ----------
    snapshot
        The version to search.
    query
        A vector, shape ``(dim,)``; several, shape ``(num_queries, dim)``; or text.
    column
        Where to search; ``None`` if only one column can be meant.
    k
        Hits wanted (of each query), 1 or more.
    where
        A predicate of Lance's SQL: the hits are the `k` best among the rows that match.
    columns
        What to return of the hits; ``None`` means all but media and vectors.
    query_type
        ``"vector"`` or ``"fts"``; ``None`` means by the query.
    distance_type
        ``"l2"``, ``"cosine"``, ``"dot"``, ``"hamming"``; ``None`` means that of the index, else ``"l2"``
        (``"hamming"`` for ``uint8``). Another than the index has makes the search exact.
    nprobes
        Partitions of the index to look into; ``None`` leaves it to Lance.
    refine_factor
        Look at the true vectors of this many times `k` candidates; ``None`` means 10.

    Returns
    -------
    pyarrow.Table
        The columns, ``_rowid`` and ``_distance`` (smallest first) or ``_score`` (largest first); with several
        queries the column ``query_index`` comes first.

    Raises
    ------
    ColumnNotFoundError
        A column the table does not have.
    InvalidArgumentError
        A vector of another dimension or with NaN, no column or several that fit, ``k < 1``.
    FilterError
        A predicate that does not parse.
    """
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InvalidArgumentError(f"k is a whole number of 1 or more, not {k!r}")
    if query_type not in (None, *get_args(QueryType)):
        hint = closest(str(query_type), get_args(QueryType))
        raise InvalidArgumentError(f"query_type is 'vector' or 'fts', not {query_type!r}{hint}")
    names = _hit_columns(snapshot, columns)
    options = {"distance_type": distance_type, "nprobes": nprobes, "refine_factor": refine_factor}
    if (query_type or ("fts" if isinstance(query, str) else "vector")) == "fts":
        given = [name for name, value in options.items() if value is not None]
        if given:
            raise InvalidArgumentError(f"{given[0]} belongs to vector search; a text has none")
        hits = _text_hits(snapshot, query, column, int(k), render(where, snapshot.schema.names))
    else:
        hits = _vector_hits(snapshot, query, column, int(k), render(where, snapshot.schema.names), options)
    rows = reads.take_row_ids(snapshot, hits[reads.ROW_ID].to_numpy(), names) if names else None
    return _joined(hits, rows)


def _vector_hits(
    snapshot: Snapshot, query: Any, column: str | None, k: int, where: str | None, options: dict[str, Any]
) -> pa.Table:
    field = _chosen(snapshot, column, "vector", is_vector)
    index = index_on(snapshot.dataset, field.name, "vector")
    distance = _distance(field, options["distance_type"], index)
    vectors = _checked_query(query, field, distance)
    nearest: dict[str, Any] = {"column": field.name, "q": vectors, "k": k, "metric": distance}
    refine_factor = _positive("refine_factor", options["refine_factor"])
    if index is not None:
        nearest["refine_factor"] = refine_factor or _REFINE_FACTOR
    nprobes = _positive("nprobes", options["nprobes"])
    if nprobes is not None:
        nearest["nprobes"] = nprobes
    with translated(f"searching {field.name!r} of {snapshot.name!r}"):
        scanner = snapshot.dataset.scanner(
            columns=[reads.ROW_ID, "_distance"], nearest=nearest, filter=where, prefilter=True
        )
        hits = scanner.to_table()
    wanted = [reads.ROW_ID, "_distance"] if vectors.ndim == 1 else ["query_index", reads.ROW_ID, "_distance"]
    return hits.select(wanted)


def _text_hits(snapshot: Snapshot, query: Any, column: str | None, k: int, where: str | None) -> pa.Table:
    if not isinstance(query, str) or not query.strip():
        raise InvalidArgumentError(f"a text search needs words, not {query!r}")
    field = _chosen(snapshot, column, "fts", lambda field: pt.is_string(field.type) or pt.is_large_string(field.type))
    with translated(f"searching {field.name!r} of {snapshot.name!r}"):
        scanner = snapshot.dataset.scanner(
            columns=[reads.ROW_ID, "_score"],
            full_text_query={"query": query, "columns": [field.name]},
            limit=k,
            filter=where,
            prefilter=True,
        )
        hits = scanner.to_table()
    return hits.select([reads.ROW_ID, "_score"]).sort_by([("_score", "descending")])


def _chosen(
    snapshot: Snapshot, column: str | None, query_type: QueryType, fits: Callable[[pa.Field], bool]
) -> pa.Field:
    """Return the column to search: the one named, the only one that fits, or the only one of them indexed."""
    what = "vectors" if query_type == "vector" else "text"
    if column is not None:
        (column,) = snapshot.columns([column])
        field = snapshot.schema.field(column)
        if not fits(field):
            other = [each.name for each in snapshot.schema if fits(each)]
            there = f"; columns of {what}: {', '.join(other)}" if other else ""
            raise InvalidArgumentError(f"{column!r} holds no {what}, it is {types.meaning(field)}{there}")
        return field
    fitting = [field for field in snapshot.schema if fits(field)]
    if len(fitting) > 1:
        family: Literal["vector", "text"] = "vector" if query_type == "vector" else "text"
        fitting = [each for each in fitting if index_on(snapshot.dataset, each.name, family) is not None] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        there = ", ".join(snapshot.schema.names)
        raise InvalidArgumentError(f"{snapshot.name!r} has no column of {what} to search; it has {there}")
    raise InvalidArgumentError(f"several columns hold {what}; name one: {', '.join(each.name for each in fitting)}")


def _distance(field: pa.Field, asked: str | None, index: Any | None) -> str:
    can = distances_of(field)
    if asked is not None and asked not in can:
        raise InvalidArgumentError(f"{field.name!r} is measured by {' or '.join(can)}, not {asked!r}")
    # Lance 14 forgets the metric of an index without rows, such as LanceDB makes of a small table.
    return asked or (str(index.details["metric_type"]).lower() if index is not None else can[0])


def _checked_query(query: Any, field: pa.Field, distance: str) -> npt.NDArray[Any]:
    if isinstance(query, str):
        raise InvalidArgumentError(
            f"{field.name!r} holds vectors; turn the text into one with the model that made them"
        )
    dim = field.type.list_size
    try:
        vectors = np.asarray(
            query.to_pylist() if isinstance(query, pa.Array | pa.ChunkedArray) else query, dtype=np.float64
        )
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"a query is a vector of {dim} numbers or a batch of them: {error}") from error
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != dim or vectors.shape[0] == 0:
        raise InvalidArgumentError(
            f"the vectors of {field.name!r} have {dim} numbers; the query has shape {vectors.shape}"
        )
    stored = field.type.value_type.to_pandas_dtype()
    if not np.isfinite(vectors).all() or (
        np.issubdtype(stored, np.floating) and np.abs(vectors).max() > np.finfo(stored).max
    ):
        raise InvalidArgumentError(
            f"the query holds NaN, an infinity or a number too large for {field.type.value_type}"
        )
    if distance == "cosine" and not vectors.any(axis=-1).all():
        raise InvalidArgumentError("a query of zeros has no direction; cosine distance needs one")
    if stored == np.uint8 and ((vectors < 0) | (vectors > 255) | (vectors % 1 != 0)).any():
        raise InvalidArgumentError(f"{field.name!r} holds bytes; the query needs whole numbers from 0 to 255")
    return vectors.astype(stored)


def _positive(name: str, value: Any) -> int | None:
    if value is not None and (not isinstance(value, int | np.integer) or value < 1):
        raise InvalidArgumentError(f"{name} is a whole number of 1 or more, not {value!r}")
    return None if value is None else int(value)


def _hit_columns(snapshot: Snapshot, columns: Iterable[str] | None) -> Sequence[str]:
    if columns is not None:
        return snapshot.columns(columns)
    return [field.name for field in snapshot.schema if not types.is_media(field) and not is_vector(field)]


def _joined(hits: pa.Table, rows: pa.Table | None) -> pa.Table:
    first = [name for name in hits.column_names if name == "query_index"]
    last = [name for name in hits.column_names if name not in first]
    parts = [hits.select(first), *([] if rows is None else [rows]), hits.select(last)]
    fields = [field for part in parts for field in part.schema]
    return pa.table([column for part in parts for column in part.columns], schema=pa.schema(fields))
