"""One statement on its own cursor: bound when it is asked, run once."""

from __future__ import annotations

import re
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.errors import LakehouseError, QueryError, ResourceLimitError, translate, translated
from lakehouse.sql.scans.dataset import SnapshotDataset
from lakehouse.sql.scans.searches import SearchDataset
from lakehouse.sql.sources import Sources
from lakehouse.sql.statement.admission import without_settings
from lakehouse.sql.statement.dtypes import unheld
from lakehouse.sql.watch import Watch, pressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb

    from lakehouse.sql.functions import Calls
    from lakehouse.sql.scans.carried import Carried
    from lakehouse.sql.sources import Ask

__all__ = ["Execution", "Question"]

_TOGETHER_S = 0.02  # what is computed within it is handed over at once, where all rows are waited for


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
        Called just before the statement runs, with what answers other statements over the same tables: leaves rows of
        a table out by the keys of a small one.
    """

    asked: str
    text: str
    params: Mapping[str, Any]
    tables: Mapping[str, Any]
    carried: Mapping[str, Carried] = field(default_factory=dict)
    calls: Calls | None = None
    timeout_s: float | None = None
    progress: bool | None = None
    before: Callable[[Ask], None] | None = None

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
        self,
        question: Question,
        sources: Sources,
        relation: duckdb.DuckDBPyRelation | None,
    ) -> None:
        self._question = question
        self._sources: Sources | None = sources
        self._relation = relation
        self.reader: pa.RecordBatchReader | None = None
        self.ended = False
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

    @property
    def sources(self) -> Sources:
        """The tables."""
        if self._sources is None:
            raise QueryError("this result was closed before its rows were fetched; ask lake.sql(…) again")
        return self._sources

    @property
    def relation(self) -> duckdb.DuckDBPyRelation:
        """The statement, bound."""
        if self._relation is None:
            self._relation = self.sources.ask(self._question.text, self._question.params)
        return self._relation

    def start(self, sources: Sources, together_s: float) -> tuple[pa.Schema, list[pa.RecordBatch]]:
        """Begin, and return the first batches: a small answer takes one hand-over between threads."""
        if self._question.before is not None:
            self._question.before(sources.ask)
        self.reader = sources.run(self._question.text, self._question.params)
        return self.reader.schema, self.next(together_s)

    def next(self, together_s: float) -> list[pa.RecordBatch]:
        """Return the next rows, and more that come soon after them; none after the last."""
        found: list[pa.RecordBatch] = []
        end = time.monotonic() + together_s
        while self.reader is not None and (not found or time.monotonic() < end):
            batch = next(self.reader, None)
            if batch is None:
                self.ended = True
                break
            found += [batch] if batch.num_rows else []
        return found

    def _interrupt(self) -> None:
        self._question.interrupt()
        if self._sources is not None:
            self._sources.cursor.interrupt()

    def _close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        if self._sources is not None:
            self._sources.cursor.close()
        self._sources = self._relation = self.reader = None


class Execution:
    """A statement bound on a cursor, which it owns.

    Parameters
    ----------
    cursor
        The cursor.
    question
        The statement.
    kinds
        DuckDB's names of its columns' types, if it was bound before, over the same versions; to bind it again would
        tell nothing new.

    Raises
    ------
    QueryError
        The statement names what is not there, or its types do not fit.
    """

    def __init__(
        self, cursor: duckdb.DuckDBPyConnection, question: Question, kinds: Sequence[str] | None = None
    ) -> None:
        self._question = question
        relation = None
        with self._errors():
            sources = Sources(cursor, question.tables)
            if kinds is None:
                relation = sources.ask(question.text, question.params)
                _check_held(relation, question)
                kinds = [str(kind) for kind in relation.types]
        self.kinds: Sequence[str] = kinds
        # Its 128-bit integers, which sum() gives, come as decimals in Arrow; the places tell them apart.
        self.hugeints = [at for at, kind in enumerate(self.kinds) if kind in ("HUGEINT", "UHUGEINT")]
        # DuckDB complains about whatever of it is alive at exit, even in a stream that is only half read.
        self._held = _Held(question, sources, relation)
        self.close = weakref.finalize(self, self._held.let_go)

    @property
    def question(self) -> Question:
        """What is answered."""
        return self._question

    def hands_media_through(self) -> bool:
        """Whether media that travel as row ids come out as such, not inside of something computed."""
        whole = {f'STRUCT("{name}" UBIGINT)' for name in self._question.carried}
        return all(kind in whole or not any(name in kind for name in self._question.carried) for kind in self.kinds)

    def schema(self) -> pa.Schema:
        """Return the columns of the answer without computing it."""
        with self._errors():
            relation = self._held.relation
            schema = relation.limit(0).to_arrow_table().schema
        # LIMIT 0 makes a subquery, which gives two columns of one name different ones.
        names = relation.columns
        return pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])

    def batches(self, *, waited_for: bool = False) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """Run the statement; rows come as they are computed.

        Parameters
        ----------
        waited_for
            Whether somebody waits for all rows and wants to see how far they are; else only for the first.
        """
        sources, watch = self._held.sources, self._held.watch
        together_s = _TOGETHER_S if waited_for else 0.0
        try:
            with self._errors():
                schema, first = watch.call(lambda: self._held.start(sources, together_s))
        except BaseException:
            self.close()
            raise
        return schema, self._read(first, together_s)

    def _read(self, batches: list[pa.RecordBatch], together_s: float) -> Iterator[pa.RecordBatch]:
        watch = self._held.watch
        try:
            while batches:
                for batch in batches:
                    watch.count(batch.num_rows)
                    if not together_s:
                        watch.hide()
                    yield batch
                if self._held.ended:
                    return
                with self._errors():
                    batches = watch.call(lambda: self._held.next(together_s))
        finally:
            self.close()

    def explain(self, cursor: duckdb.DuckDBPyConnection) -> str:
        """Return DuckDB's plan, made on another cursor: this one may have rows under way."""
        with self._errors():
            sources = Sources(cursor, self._question.tables)
            ((_, plan),) = sources.ask(f"EXPLAIN {self._question.text}", self._question.params).fetchall()
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


def _check_held(relation: duckdb.DuckDBPyRelation, question: Question) -> None:
    for name, kind in zip(relation.columns, relation.types, strict=True):
        if other := unheld(kind):
            raise QueryError(
                f"{question.asked}: {name} is {kind}; there is no {other} in Arrow, select {name}::VARCHAR"
            )


# DuckDB's errors from an Arrow stream are an OSError or ArrowInvalid with DuckDB's words.
_FROM_STREAM = re.compile(r"^(?:\w+: )?((?:[A-Z][\w-]+ )+Error): ", re.IGNORECASE)
_FROM_TABLE = re.compile(r"reading the stream registered as '(\w+)' failed: (?:\w+: )?(.*)", re.DOTALL)
_ADVICE = re.compile(r"\n\n(?:LINE \d|Possible solutions|See also).*", re.DOTALL)


def _reworded(error: LakehouseError, question: Question) -> LakehouseError:
    cause = error.__cause__
    if cause is None:  # ours, of the clock, say
        return error
    text = without_settings(str(cause))
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
