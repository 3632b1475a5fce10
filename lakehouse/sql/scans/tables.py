"""What lies in the slots of one statement: versions of the lake's tables, and what the caller hands in."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as pads

from lakehouse.data import as_source
from lakehouse.errors import InvalidArgumentError, QueryError, TableNotFoundError, closest
from lakehouse.sql.scans.carried import Carried
from lakehouse.sql.scans.counts import CountDataset, counting, fill_count
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.scans.predicates import lance_part, scopes
from lakehouse.sql.scans.searches import Search, SearchDataset, check_reach, prefilter, read_call, search_calls
from lakehouse.sql.statement import catalog, planner, slots
from lakehouse.sql.statement.dtypes import duckdb_type
from lakehouse.where import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from lakehouse.snapshot import Snapshot
    from lakehouse.sql.scans.comparisons import Part
    from lakehouse.sql.scans.predicates import Scope
    from lakehouse.sql.scans.resident import Resident
    from lakehouse.sql.statement.cuts import Head
    from lakehouse.sql.statement.planner import Reference, TableName
    from lakehouse.sql.statement.syntax import Node

__all__ = ["Place", "Tables"]

_NO_HEADS: Mapping[str, Head] = {}


@dataclass(frozen=True, eq=False)
class Place:
    """What stands where a statement names a table: a version, and which of its rows can matter.

    Parameters
    ----------
    snapshot
        The version.
    alias
        The name its columns go by.
    where
        A condition that holds for every row that is wanted.
    search
        The search whose hits are wanted.
    """

    snapshot: Snapshot
    alias: str
    where: Part | None
    search: Search | None = None


class Tables:
    """Opens what a statement names, each version once, and puts slots in the statement.

    Parameters
    ----------
    prefix
        Beginning of the slots' names, one that no statement can know.
    resolve
        Opens a table of the lake.
    names
        Lists the lake's tables.
    handed
        What the caller hands in, by name; it goes before the lake's tables.
    described
        Gives DuckDB's names of a schema's columns and of their types.
    resident
        Holds columns between statements; None means nothing is held.
    """

    def __init__(
        self,
        prefix: str,
        resolve: Callable[[TableName], Snapshot],
        names: Callable[[], list[str]],
        handed: Mapping[str, Any],
        described: Callable[[pa.Schema], list[tuple[str, str]]],
        resident: Resident | None = None,
    ) -> None:
        self._prefix = prefix
        self._resolve = resolve
        self._names = names
        self._described = described
        self._resident = resident
        if not isinstance(handed, Mapping) or not all(isinstance(name, str) for name in handed):
            raise InvalidArgumentError(f"tables= is a {type(handed).__name__}; give names too: tables={{'name': …}}")
        self._handed = {name.casefold(): (name, value) for name, value in handed.items()}
        if len(self._handed) < len(handed):
            raise InvalidArgumentError(f"tables= has a name twice, SQL knows no case: {', '.join(handed)}")
        self._opened: dict[TableName, Snapshot] = {}
        self._places: dict[str, Place] = {}
        self._plain: dict[str, Any] = {}
        self._slots: dict[str, str] = {}

    @property
    def versions(self) -> dict[str, int]:
        """The version of each table of the lake, by its name in the statement."""
        return {str(name): snapshot.version for name, snapshot in self._opened.items()}

    def are_newest(self) -> bool:
        """Whether each table is still at the version that was opened."""
        return all(self._open(name) is snapshot for name, snapshot in self._opened.items())

    def are_kept(self) -> bool:
        """Whether all depends on the statement and the newest versions: nothing handed in, pinned or searched."""
        counts = all(isinstance(table, CountDataset) for table in self._plain.values())
        pinned = any(snapshot.pinned for snapshot in self._opened.values())
        return counts and not pinned and not any(place.search for place in self._places.values())

    def has(self, name: str) -> bool:
        """Whether a version of a table, or of a branch as in ``pets@exp``, was opened."""
        return any(snapshot.name == name for snapshot in self._opened.values())

    def fill(self, statement: Node, values: Mapping[str, Any], compute: Callable[[Node], Any]) -> None:
        """Put a slot in every place that names a table.

        Parameters
        ----------
        statement
            The statement; it is changed.
        values
            Values of its parameters.
        compute
            Gives the value of an expression; called for what stands in an AT clause.
        """
        nodes = planner.write_out(statement)
        references = planner.references(statement)
        for node, everything in planner.show_tables(nodes):
            slots.fill_plain(node, self._slot_of(catalog.ALL_TABLES) if everything else self._slot_of_names())
        for node, view in catalog.views(nodes):
            slots.fill_plain(node, self._slot_of(view))
        named = planner.named_row_ids(nodes)
        wheres, counts = scopes(nodes), counting(nodes)
        shown: dict[int, str] = {}
        for reference in references:
            if reference.name.casefold() in self._handed:
                slots.fill_plain(reference.node, self._slot_of_handed(reference, references))
                continue
            snapshot = self._snapshot(planner.table_name(reference, compute))
            where = wheres.get(id(reference.node))
            part = lance_part(where, reference.alias, snapshot.schema, values) if where else None
            slot = self._new_slot()
            query = counts.get(id(reference.node))
            if query is not None and (where is None or (part is not None and part.exact)):
                self._plain[slot] = CountDataset(snapshot, {}, where=part)
                fill_count(query, slot)
                continue
            self._places[slot] = Place(snapshot, reference.alias, part)
            shows = bool(named) and reference.shows_row_ids
            slots.fill(reference.node, reference.alias, slot, named if shows else ())
            if shows:
                shown[id(reference.node)] = reference.alias
        for node in search_calls(nodes):
            alias = node["alias"] or node["function"]["function_name"]
            asked, scope = read_call(node, compute), wheres.get(id(node))
            if asked.prefilter and scope is None:
                check_reach(nodes, node)
            slots.fill(node, alias, self._slot_of_search(asked, alias, scope, values), named)
            if named:
                shown[id(node)] = alias
        slots.hide_row_ids(nodes, shown, named)
        for schema in self.schemas().values():
            if len({name.casefold() for name in schema.names}) < len(schema.names):
                planner.check_case(nodes, schema.names, [name for name, _ in self._described(schema)])

    @property
    def places(self) -> Mapping[str, Place]:
        """What lies in the slots of the lake's tables."""
        return self._places

    def columns(self, test: Callable[[pa.Field], bool]) -> list[Carried]:
        """Return the columns of the lake's tables that pass a test, once for each place that names their table."""
        places = self._places.items()
        return [Carried(slot, p.snapshot, f.name) for slot, p in places for f in p.snapshot.schema if test(f)]

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the columns of each slot, ``_rowid`` left out."""
        schemas = {slot: table.schema for slot, table in self._plain.items()}
        for slot, place in self._places.items():
            found = place.snapshot.schema
            schemas[slot] = found.append(pa.field(place.search.score, pa.float32())) if place.search else found
        return schemas

    def num_rows(self, slot: str) -> int | None:
        """Count the rows in a slot, before any WHERE; None where they are not known."""
        if slot in self._places:
            return self._places[slot].snapshot.num_rows
        return getattr(self._plain.get(slot), "num_rows", None)

    def is_indexed(self, slot: str, column: str) -> bool:
        """Whether a column of a table of the lake has an index that conditions are answered from."""
        return quoted(column) in SnapshotDataset(self._places[slot].snapshot, {}).indexed

    def datasets(
        self, carried: Mapping[str, Carried], null_tested: Collection[str] = (), heads: Mapping[str, Head] = _NO_HEADS
    ) -> dict[str, Any]:
        """Return what DuckDB registers, by slot.

        Parameters
        ----------
        carried
            The columns that travel as row ids, by the field name of their struct.
        null_tested
            Those of them whose NULLs a statement looks at.
        heads
            The rows a LIMIT asks for, by slot.
        """
        datasets: dict[str, Any] = {
            slot: table.afresh() if isinstance(table, CountDataset) else table for slot, table in self._plain.items()
        }
        for slot, place in self._places.items():
            mine = {column.column: name for name, column in carried.items() if column.slot == slot}
            head = heads.get(slot)
            table = SnapshotDataset(
                place.snapshot,
                mine,
                where=place.where,
                limit=head.limit if head and head.exact else None,
                offset=head.offset if head else 0,
                stops_after=head.limit if head and not head.exact else None,
                null_tested=[column for column, name in mine.items() if name in null_tested],
                resident=self._resident,
            )
            datasets[slot] = SearchDataset(table, place.search) if place.search else table
        return datasets

    def _new_slot(self) -> str:
        return f"{self._prefix}_{len(self._places) + len(self._plain)}"

    def _slot_of_search(self, asked: Search, alias: str, scope: Scope | None, values: Mapping[str, Any]) -> str:
        name, at, branch = asked.table.partition("@")
        snapshot = self._snapshot(planner.TableName(name, branch=branch if at else None))
        where = prefilter(asked, scope, alias, snapshot.schema, values) if asked.prefilter and scope else None
        slot = self._new_slot()
        self._places[slot] = Place(snapshot, alias, where, search=asked)
        return slot

    def _snapshot(self, name: TableName) -> Snapshot:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _open(self, name: TableName) -> Snapshot:
        try:
            return self._resolve(name)
        except (TableNotFoundError, InvalidArgumentError) as error:  # the latter: 'a.parquet', no name of a table
            there = self._names()
            if name.name in there:
                raise
            same = [other for other in there if other.casefold() == name.name.casefold()]
            if len(same) == 1 and same[0] != name.name:  # SQL knows no case
                return self._resolve(planner.TableName(same[0], name.version, name.branch))
            handed = [original for original, _ in self._handed.values()]
            tables = ", ".join(there) or "no tables"
            given = f"; tables= hands in {', '.join(handed)}" if handed else ""
            raise TableNotFoundError(
                f"no table {name.name!r}; the lake has {tables}{given}{closest(name.name, [*there, *handed])}"
            ) from error

    def _slot_of_handed(self, reference: Reference, references: list[Reference]) -> str:
        key = reference.name.casefold()
        name, value = self._handed[key]
        if reference.at is not None:
            raise QueryError(f"{name!r} comes from tables=, which has no versions; leave AT out")
        if key not in self._slots:
            if any(other.casefold() == key for other in self._names()):
                warnings.warn(
                    f"the lake has a table {name!r} too; this statement reads the one of tables=",
                    stacklevel=6,  # _slot_of_handed, fill, Engine._query, Engine.query, Lake.sql, and who called that
                )
            times = sum(other.name.casefold() == key for other in references)
            self._slots[key] = slot = self._new_slot()
            self._plain[slot] = _as_arrow(name, value, once=times == 1)
        return self._slots[key]

    def _slot_of(self, view: str) -> str:
        snapshots = [self._snapshot(planner.TableName(name)) for name in sorted(self._names())]
        slot = self._new_slot()
        self._plain[slot] = catalog.describe(view, snapshots, self._described)
        return slot

    def _slot_of_names(self) -> str:
        names = sorted({*self._names(), *(name for name, _ in self._handed.values())})
        slot = self._new_slot()
        self._plain[slot] = pa.table({"name": pa.array(names, pa.string())})
        return slot


def _as_arrow(name: str, value: Any, *, once: bool) -> Any:
    """Return what DuckDB can scan: a table, a dataset, or a stream if it is read once."""
    if isinstance(value, pads.Dataset):
        return value
    if isinstance(value, pa.Table | pa.RecordBatch):
        table = pa.table(value)
        seen = _schema(table.schema)
        return table if seen == table.schema else table.cast(seen)
    try:
        source = as_source(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"tables= {name!r}: {error}") from error
    reader = pa.RecordBatchReader.from_batches(source.schema, (chunk.batch for chunk in source.chunks()))
    seen = _schema(source.schema)
    if seen != source.schema:  # Arrow casts no union, not even to itself
        reader = reader.cast(seen)
    return reader if once else reader.read_all()


def _schema(schema: pa.Schema) -> pa.Schema:
    return pa.schema([field.with_type(duckdb_type(field.type)) for field in schema])
