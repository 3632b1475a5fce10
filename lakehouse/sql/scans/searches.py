"""Searches as tables: ``lance_vector_search('pets', 'embedding', $q, k := 10)`` and ``lance_fts``.

Names, arguments and meaning are those of DuckDB's Lance extension; only the first argument is a table's name instead
of a path. A WHERE outside filters what the search found, unless ``prefilter := true`` has it filter before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse import reads
from lakehouse.errors import LakehouseError, QueryError, closest
from lakehouse.index_kinds import index_on, kind_of
from lakehouse.reads import ROW_ID
from lakehouse.search import search
from lakehouse.sql.scans.predicates import Scope, conjuncts, lance_part
from lakehouse.sql.statement.slots import ROW_ADDRESS, ROW_IDS
from lakehouse.sql.statement.syntax import SEARCHES, column_refs, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lakehouse.index_kinds import Family
    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.scans.comparisons import Part
    from lakehouse.sql.scans.dataset import SnapshotDataset
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Search", "SearchDataset", "check_reach", "prefilter", "read_call", "search_calls"]

_POSITIONAL = ("uri", "column", "query")
_OPTIONS = {"lance_vector_search": ("k", "prefilter", "nprobs", "refine_factor"), "lance_fts": ("k", "prefilter")}
_TYPES = {"k": int, "prefilter": bool, "nprobs": int, "refine_factor": int, "uri": str, "column": str}


@dataclass(frozen=True, eq=False)
class Search:
    """What a call of a search function asks for.

    Parameters
    ----------
    function
        Its name.
    table
        The table's name.
    column
        The column searched.
    query
        A vector or words.
    k
        Hits wanted.
    prefilter
        Whether the WHERE outside filters before the search.
    nprobs
        Partitions of the index to look into.
    refine_factor
        Candidates looked at again, in multiples of `k`.
    """

    function: str
    table: str
    column: str
    query: Any
    k: int = 10
    prefilter: bool = False
    nprobs: int | None = None
    refine_factor: int | None = None

    @property
    def score(self) -> str:
        """The name of the column that tells how near a hit is."""
        return "_distance" if self.function == "lance_vector_search" else "_score"

    def hits(self, snapshot: Snapshot, where: str | None) -> pa.Table:
        """Search: row ids and scores, the best first."""
        if self.function == "lance_fts":
            return search(snapshot, self.query, self.column, self.k, where, [], "fts")
        return search(
            snapshot,
            self.query,
            self.column,
            self.k,
            where,
            [],
            "vector",
            nprobes=self.nprobs,
            refine_factor=self.refine_factor,
        )


def search_calls(nodes: Iterable[Node]) -> list[Node]:
    """List the places that call a search function."""
    calls = [node for node in nodes if node.get("type") == "TABLE_FUNCTION"]
    return [node for node in calls if node["function"]["function_name"].lower() in SEARCHES]


def read_call(node: Node, compute: Callable[[Node], Any]) -> Search:
    """Read the arguments of a call.

    Raises
    ------
    QueryError
        Arguments that are missing, unknown or of another type.
    """
    function = node["function"]["function_name"].lower()
    given: dict[str, Any] = {}
    for place, argument in enumerate(node["function"]["arguments"]):
        name, expression = _named(argument, place)
        allowed = (*_POSITIONAL, *_OPTIONS[function])
        if name not in allowed:
            raise QueryError(
                f"{function} has no argument {name!r}; it has {', '.join(allowed)}{closest(name, allowed)}"
            )
        value = compute(expression)
        if name in _TYPES and type(value) is not _TYPES[name]:
            raise QueryError(f"{function}: {name} is a {_TYPES[name].__name__}, not {value!r:.60}")
        given[name] = value
    if missing := [name for name in _POSITIONAL if name not in given]:
        raise QueryError(f"{function}({', '.join(_POSITIONAL)}, k := 10, …) needs {missing[0]}")
    return Search(function, given.pop("uri"), **given)


def _named(argument: Node, place: int) -> tuple[str, Node]:
    """Read an argument as written: by place, as ``k := 10``, or as ``k = 10``, the extension's own way."""
    expression: Node = argument["expression"]
    if argument["name"]:
        return argument["name"].lower(), expression
    if expression["type"] == "COMPARE_EQUAL" and expression["left"].get("class") == "COLUMN_REF":
        return expression["left"]["column_names"][-1].lower(), expression["right"]
    return (_POSITIONAL[place] if place < len(_POSITIONAL) else f"number {place + 1}"), expression


def check_reach(nodes: Iterable[Node], call: Node) -> None:
    """Refuse a prefilter that a WHERE stands over, but not beside.

    Raises
    ------
    QueryError
        The WHERE of an outer SELECT, or over an outer join, would filter after the search without a word.
    """
    selects = [node for node in nodes if node.get("type") == "SELECT_NODE" and node["where_clause"]]
    if any(inner is call for node in selects for inner in walk(node["from_table"])):
        raise QueryError("prefilter := true: put the search and its WHERE into one SELECT, without an outer join")


def prefilter(asked: Search, scope: Scope, alias: str, schema: pa.Schema, values: Mapping[str, Any]) -> Part | None:
    """Return the WHERE as Lance filters by it before the search.

    Raises
    ------
    QueryError
        A part of it that Lance cannot answer: the hits would be filtered after the search without a word.
    """
    for part in conjuncts(scope.where):
        names = list(column_refs(walk(part)))
        after = any(name[-1].casefold() == asked.score for name in names)
        elsewhere = not scope.alone and all(len(n) > 1 and n[0].casefold() != alias.casefold() for n in names)
        if not after and not elsewhere and lance_part(Scope(part, scope.alone), alias, schema, values) is None:
            columns = ", ".join(dict.fromkeys(".".join(name) for name in names)) or "no column"
            raise QueryError(
                f"prefilter := true: the condition on {columns} cannot be answered before the search; compare columns "
                "of the table with values, or leave prefilter out and ask for a larger k"
            )
    return lance_part(scope, alias, schema, values)


class SearchDataset:
    """The hits of a search as DuckDB reads them: the table's columns and the score; searched when first read.

    Parameters
    ----------
    table
        The version searched; its condition filters before the search.
    asked
        The search.
    """

    def __init__(self, table: SnapshotDataset, asked: Search) -> None:
        self._table = table
        self._asked = asked
        self._where = table.where.text if table.where else None
        self._hits: pa.Table | None = None
        self.error: LakehouseError | None = None

    @property
    def name(self) -> str:
        """The table's name."""
        return self._table.name

    @property
    def schema(self) -> pa.Schema:
        """The table's columns, ``_rowid`` first, and the score."""
        return self._table.schema.append(pa.field(self._asked.score, pa.float32()))

    @property
    def num_rows(self) -> int:
        """The most hits there can be."""
        return self._asked.k

    def read(self, columns: Sequence[str]) -> pa.RecordBatchReader:
        """Read columns of the hits."""
        try:
            rows = self._rows()
        except LakehouseError as error:
            self.error = error
            raise
        return rows.select(columns).to_reader()

    def _rows(self) -> pa.Table:
        if self._hits is None:
            hits = self._asked.hits(self._table.snapshot, self._where)
            ids = hits[ROW_ID].to_numpy()
            stored = [name for name in self._table.stored_columns() if name not in ROW_IDS]
            rows = reads.take_row_ids(self._table.snapshot, ids, stored)
            addresses = pa.array(reads.row_addresses(self._table.snapshot, ids))
            for name, values in ((ROW_ID, hits[ROW_ID]), (ROW_ADDRESS, addresses)):
                rows = rows.append_column(name, values)
            rows = rows.append_column(self._asked.score, hits[self._asked.score])
            self._hits = pa.Table.from_batches(self._table.shaped(rows.to_batches(), self.schema), self.schema)
        return self._hits

    def notes(self) -> list[str]:
        """Say which index the search uses."""
        family: Family = "text" if self._asked.function == "lance_fts" else "vector"
        index = index_on(self._table.snapshot.dataset, self._asked.column, family)
        how = f"from the index {index.name} ({kind_of(index)})" if index else "no index, every row is compared"
        before = [f"filtered before by {self._where}"] if self._where else []
        return [f"{self._asked.function} on {self._asked.column}: {how}", *before]
