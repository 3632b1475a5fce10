"""One statement on its own cursor: bound when it is asked, run once."""

from __future__ import annotations

import re
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import LakehouseError, QueryError, ResourceLimitError, translate, translated
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.scans.searches import SearchDataset
from lakehouse.sql.watch import Watch, pressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import duckdb

    from lakehouse.sql.functions import Calls
    from lakehouse.sql.scans.carried import Carried

__all__ = ["Execution", "Question"]

_BATCH_ROWS = 131_072  # 64 of DuckDB's vectors: few hand-overs, a few MB of plain columns


@dataclass(frozen=True, eq=False)
class Question:
    """A statement ready to run.

    Parameters
    ----------
    asked
        The statement in the user's words, shortened.
    text
        The statement with slots for tables.
    params
        Values of its parameters.
    tables
        What lies in each slot: a `SnapshotDataset` or what the caller handed in.
    carried
        Media columns that travel as row ids, by the field name of their struct.
    calls
        Its calls of media functions, if it has any.
    timeout_s
        Seconds it may compute; None means as long as it takes.
    progress
        None: a bar on a terminal, a log line a minute elsewhere, once it takes long; False for none.
    before
        Runs just before the statement, on its cursor: leaves rows of a table out by the keys of a small one.
    """

    asked: str
    text: str
    params: Mapping[str, Any]
    tables: Mapping[str, Any]
    carried: Mapping[str, Carried] = field(default_factory=dict)
    calls: Calls | None = None
    timeout_s: float | None = None
    progress: bool | None = None
    before: Callable[[duckdb.DuckDBPyConnection], None] | None = None

    def nbytes_read(self) -> int:
        """Return how much Lance read by the handles of these tables, ever."""
        handles = {id(t.snapshot): t.snapshot.dataset for t in self.tables.values() if isinstance(t, SnapshotDataset)}
        return sum(int(dataset.io_stats_snapshot().read_bytes) for dataset in handles.values())

    def interrupt(self) -> None:
        """Stop its media functions, which DuckDB waits for."""
        if self.calls is not None:
            self.calls.stopped = True

    def read_by_lance(self) -> list[str]:
        """Say what Lance does of the work, a line a table."""
        lines = []
        for slot, table in self.tables.items():
            if isinstance(table, SnapshotDataset | SearchDataset):
                late = [column.column for column in self.carried.values() if column.slot == slot]
                notes = table.notes() + ([f"read for the rows of the result: {', '.join(late)}"] if late else [])
                lines += [f"{table.name}: {'; '.join(notes)}"] if notes else []
        return lines


class _Held:
    """DuckDB's objects, apart from what may outlive them."""

    def __init__(
        self, question: Question, cursor: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation
    ) -> None:
        self._question = question
        self._cursor: duckdb.DuckDBPyConnection | None = cursor
        self.relation: duckdb.DuckDBPyRelation | None = relation
        self.reader: pa.RecordBatchReader | None = None
        before = question.nbytes_read()
        self.watch = Watch(
            question.asked,
            self._interrupt,
            question.timeout_s,
            progress=question.progress,
            nbytes_read=lambda: question.nbytes_read() - before,
        )

    def let_go(self) -> None:
        self.watch.end(self._close)

    def start(self, relation: duckdb.DuckDBPyRelation) -> tuple[pa.Schema, pa.RecordBatch | None]:
        """Begin, and return the first batch: a small answer takes one hand-over between threads."""
        if self._question.before is not None and self._cursor is not None:
            self._question.before(self._cursor)
        self.reader = relation.to_arrow_reader(_BATCH_ROWS)
        return self.reader.schema, self.next()

    def next(self) -> pa.RecordBatch | None:
        """Return the next batch, None after the last."""
        return next(self.reader, None) if self.reader is not None else None

    def _interrupt(self) -> None:
        self._question.interrupt()
        if self._cursor is not None:
            self._cursor.interrupt()

    def _close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        if self._cursor is not None:
            self._cursor.close()
        self._cursor = self.relation = self.reader = None


class Execution:
    """A statement bound on a cursor, which it owns.

    Raises
    ------
    QueryError
        The statement names what is not there, or its types do not fit.
    """

    def __init__(self, cursor: duckdb.DuckDBPyConnection, question: Question) -> None:
        self._question = question
        with self._errors():
            _register(cursor, question)
            relation = cursor.sql(question.text, params=dict(question.params))
        # Its 128-bit integers, which sum() gives, come as decimals in Arrow; the places tell them apart.
        self.hugeints = [at for at, kind in enumerate(relation.types) if str(kind) in ("HUGEINT", "UHUGEINT")]
        # DuckDB complains about whatever of it is alive at exit, even in a stream that is only half read.
        self._held = _Held(question, cursor, relation)
        self.close = weakref.finalize(self, self._held.let_go)

    @property
    def question(self) -> Question:
        """What is answered."""
        return self._question

    @property
    def _relation(self) -> duckdb.DuckDBPyRelation:
        if self._held.relation is None:
            raise QueryError("this result was closed before its rows were fetched; ask lake.sql(…) again")
        return self._held.relation

    def hands_media_through(self) -> bool:
        """Whether media that travel as row ids come out as such, not inside of something computed."""
        whole = {f'STRUCT("{name}" UBIGINT)' for name in self._question.carried}
        kinds = [str(kind) for kind in self._relation.types]
        return all(kind in whole or not any(name in kind for name in self._question.carried) for kind in kinds)

    def schema(self) -> pa.Schema:
        """Return the columns of the answer without computing it."""
        with self._errors():
            schema = self._relation.limit(0).to_arrow_table().schema
        # LIMIT 0 makes a subquery, which gives two columns of one name different ones.
        names = self._relation.columns
        return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])

    def batches(self, *, waited_for: bool = False) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the statement; rows come as they are computed.

        Parameters
        ----------
        waited_for
            Whether somebody waits for all rows and wants to see how far they are; else only for the first.
        """
        relation, watch = self._relation, self._held.watch
        try:
            with self._errors():
                schema, first = watch.call(lambda: self._held.start(relation))
        except BaseException:
            self.close()
            raise
        return schema, self._read(first, waited_for=waited_for)

    def _read(self, batch: pa.RecordBatch | None, *, waited_for: bool) -> Iterator[pa.RecordBatch]:
        watch = self._held.watch
        try:
            while batch is not None:
                if batch.num_rows:
                    watch.count(batch.num_rows)
                    if not waited_for:
                        watch.hide()
                    yield batch
                with self._errors():
                    batch = watch.call(self._held.next)
        finally:
            self.close()

    def explain(self, cursor: duckdb.DuckDBPyConnection) -> str:
        """Return DuckDB's plan, made on another cursor: this one may have rows under way."""
        with self._errors():
            _register(cursor, self._question)
            ((_, plan),) = cursor.execute(f"EXPLAIN {self._question.text}", dict(self._question.params)).fetchall()
        return str(plan)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors as ours: those of the tables as they were raised, DuckDB's without the text that was run."""
        try:
            with translated(self._question.asked):
                yield
        except LakehouseError as error:
            if pressed(error):
                raise KeyboardInterrupt from error
            if self._question.calls is not None and self._question.calls.error is not None:
                raise self._question.calls.error from error
            for table in self._question.tables.values():
                if isinstance(table, SnapshotDataset | SearchDataset) and table.error is not None:
                    raise table.error from error
            raise _reworded(error, self._question) from error.__cause__


def _register(cursor: duckdb.DuckDBPyConnection, question: Question) -> None:
    from lakehouse.sql.scans.handover import handed_over  # needs DuckDB

    for slot, table in question.tables.items():
        cursor.register(slot, handed_over(table))


# DuckDB's errors from an Arrow stream are an OSError or ArrowInvalid with DuckDB's words.
_FROM_STREAM = re.compile(r"^(?:\w+: )?((?:[A-Z][\w-]+ )+Error): ", re.IGNORECASE)
_FROM_TABLE = re.compile(r"reading the stream registered as '(\w+)' failed: (?:\w+: )?(.*)", re.DOTALL)
_ADVICE = re.compile(r"\n\n(?:LINE \d|Possible solutions|See also).*", re.DOTALL)


def _reworded(error: LakehouseError, question: Question) -> LakehouseError:
    cause = error.__cause__
    text = str(cause) if cause is not None else str(error)
    if found := _FROM_TABLE.search(text):
        table = question.tables.get(found[1])
        name = repr(table.name) if isinstance(table, SnapshotDataset | SearchDataset) else "a table of tables="
        return translate(OSError(found[2]), f"{question.asked}: reading {name}")
    if isinstance(error, ResourceLimitError) or "Out of Memory Error" in text:
        words = _ADVICE.sub("", text)
        return ResourceLimitError(
            f"{question.asked}: {words}; ask for less at a time, or raise memory_nbytes of the limits"
        )
    if isinstance(error, QueryError) or _FROM_STREAM.match(text):
        return QueryError(f"{question.asked}: {_ADVICE.sub('', text)}")
    return error
